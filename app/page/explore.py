"""The tab Explore: a patient and up to four arms, curves at once, bands that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.setup import DEFAULT, NO_CELLS, Setup
from mscrenal.app.report import render
from mscrenal.calibration import Draws
from mscrenal.scenarios import Scenario, compare
from mscrenal.scenarios.curves import Curves, curves
from mscrenal.scenarios.endpoints import endpoint
from mscrenal.scenarios.run import extrapolations, provenance_of
from mscrenal.scenarios.sources import draws_of
from mscrenal.scenarios.style import nice_unit

__all__ = ["DRAWS", "ENDPOINTS", "PANELS", "answer", "downloads"]

DRAWS, SEED = 100, 1
PARTS = (10, 30, 60)  # of the draws: a first band soon, then fewer and larger steps
# What each panel shows; the last is of one arm, by organ.
PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Kidney function", ("egfr",)),
    ("Albuminuria", ("uacr",)),
    ("Fibrosis", ("fibrosis_area",)),
    ("Inflammation: IL-6", ("il6_serum",)),
    ("Inflammation: TNF-α", ("tnfa_serum",)),
    ("Macrophages", ("m1m2_ratio",)),
    ("TGF-β1 in the kidney", ("tgfb1_kidney",)),
    ("Smad signalling in the kidney", ("psmad3_kidney",)),
    ("Cells per organ", ("cells_lung", "cells_liver", "cells_kidney", "cells_blood")),
)
OBSERVABLES = tuple(name for _, names in PANELS for name in names)
ENDPOINTS = (
    "egfr_change",
    "uacr_percent_change",
    "il6_percent_change",
    "tnfa_percent_change",
    "tgfb1_percent_change",
    "fibrosis_change",
)
MOST_DAYS = 70


@lru_cache(maxsize=1)
def shipped_draws() -> Draws:
    """The draws behind every band of the page."""
    return draws_of(DRAWS, SEED, "posterior")


@lru_cache(maxsize=1)
def middle() -> Mapping[str, float]:
    """The medians of the posterior, behind the curve that comes at once."""
    return shipped_draws().median()


def days_of(scenario: Scenario) -> NDArray[np.float64]:
    """Days at which curves are drawn: a regular grid, and the first days after doses, when cells come and go."""
    end = float(scenario.horizon_days)
    days = {float(d) for d in np.linspace(0, end, 49)} | {float(v) for v in scenario.visits}
    starts = sorted({d for arm in scenario.arms for d in arm.dose_days})
    after = (0.02, 0.1, 0.5, 1.0, 2.0, 4.0) if len(starts) <= 4 else (0.05, 1.0, 3.0)
    for day in starts[:12]:
        days |= {day + x for x in after} | {day}
    inside = sorted(round(d, 4) for d in days if 0 <= d < end)
    return np.array([*inside, end])


def warm() -> None:
    """Load or compile the model, and draw: what every first question waits for."""
    scenario = DEFAULT.scenario()
    curves(scenario, [middle()], days=days_of(scenario), observables=OBSERVABLES)


async def answer(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Curves of a set-up: of the posterior's middle first, then medians and bands of more and more draws.

    Parameters
    ----------
    payload : mapping
        `setup`: the fields of `Setup`; `view`: values, or difference from the arm without cells.
    """
    setup = Setup.model_validate(payload.get("setup"))
    view = payload.get("view", "values")
    if view not in ("values", "difference"):
        raise ValueError(f"view: given {str(view)[:40]!r}. Allowed: values, difference.")
    scenario, off = setup.scenario(), setup.knock_out
    days = days_of(scenario)

    def simulated(thetas: Sequence[Mapping[str, float]]) -> Curves:
        return curves(scenario, thetas, days=days, observables=OBSERVABLES, knock_out=off)

    # Quick enough to be done here: a thread would add its own wait.
    first = simulated([middle()])
    names = [NO_CELLS, *(name for name, _ in setup.named())]
    yield {
        "stage": "middle",
        "days": _short(days),
        "names": names,
        "curves": _curves(first, names, view),
        "rows": _rows(first, names),
        "query": [list(pair) for pair in setup.pairs()],
        "extrapolated": extrapolations(scenario, shipped_draws()),
        "provenance": _provenance(scenario),
    }
    drawn = list(shipped_draws())
    found: Curves | None = None
    start = 0
    for size in PARTS:
        part = await work(simulated, drawn[start : start + size])
        found = part if found is None else found.joined(part)
        start += size
        yield {
            "stage": "bands",
            "draws": found.n_draws,
            "of": DRAWS,
            "curves": _curves(found, names, view),
            "rows": _rows(found, names),
        }


def _short(values: NDArray[np.float64], digits: int = 5) -> list[float | None]:
    """Numbers as JSON has them, to five significant digits; None for NaN."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values.tolist()]


def _curves(found: Curves, names: Sequence[str], view: str) -> list[Answer]:
    """A record for each arm: its curve as set up and, if something is switched off, the whole one."""
    band = (found.less_the_first() if view == "difference" else found).band()
    out = []
    for name in names:
        variants = [v for v, (arm, _) in enumerate(found.variants) if arm == name]
        # With something switched off the last variant is the arm as set up, the first the whole one.
        shown, whole = variants[-1], variants[0] if len(variants) > 1 else None
        lost = sorted(k for v, k in found.messages if v == shown)
        out.append(
            {
                "name": name,
                "values": _bands(found, band, shown),
                "whole": None if whole is None else _bands(found, band, whole),
                "failed": len(lost),
                "message": found.messages[shown, lost[0]] if lost else "",
            }
        )
    return out


def _bands(found: Curves, band: NDArray[np.float64], variant: int) -> dict[str, Answer]:
    return {
        name: {
            "mid": _short(band[1, variant, :, i]),
            **(
                {"low": _short(band[0, variant, :, i]), "high": _short(band[2, variant, :, i])}
                if found.n_draws > 1
                else {}
            ),
        }
        for i, name in enumerate(found.observables)
    }


def _rows(found: Curves, names: Sequence[str]) -> list[Answer]:
    """Endpoints of each arm: its own change, the difference from the arm without cells, and what a knock-out loses."""
    table = {name: found.endpoint(name) for name in ENDPOINTS}
    place = {variant: v for v, variant in enumerate(found.variants)}
    out = []
    for name in names:
        variants = [v for (arm, _), v in place.items() if arm == name]
        shown, whole = variants[-1], variants[0]
        cells = {}
        for label, values in table.items():
            reference = values[place[NO_CELLS, ()]]
            cells[label] = {
                "value": _summary(values[shown]),
                "difference": None if name == NO_CELLS else _summary(values[shown] - reference),
                "whole": None if whole == shown else _summary(values[whole] - reference),
                "lost": None if whole == shown else _summary(values[whole] - values[shown]),
            }
        out.append({"name": name, "endpoints": cells})
    return out


def _summary(values: NDArray[np.float64]) -> list[float | None]:
    """Median and, of several draws, the ends of the 90 % band."""
    fine = values[np.isfinite(values)]
    if not len(fine):
        return [None]
    if len(values) == 1:
        return _short(fine)
    return _short(np.quantile(fine, [0.5, 0.05, 0.95]))


def _provenance(scenario: Scenario) -> Answer:
    """What brings the same numbers back; `run` makes the record of every result."""
    full = provenance_of(scenario, shipped_draws(), SEED, 1)
    keys = ("package", "version", "scenario_hash", "origin", "seed", "draws", "parameters_hash", "model_hash", "evidence_hash")  # fmt: skip
    return {key: full[key] for key in keys}


def endpoint_words() -> dict[str, Answer]:
    """Label and units of the endpoints in the table."""
    out = {}
    for name in ENDPOINTS:
        e = endpoint(name)
        out[name] = {
            "label": e.label,
            "unit": nice_unit(e.unit),
            "difference_unit": nice_unit(e.difference_unit),
            "better": e.better,
        }
    return out


async def downloads(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Files made of a set-up: `scenario`, a TOML file for the command line, or `report`, a page of its comparison.

    Parameters
    ----------
    payload : mapping
        `setup`, and `kind`.
    """
    setup, kind = Setup.model_validate(payload.get("setup")), payload.get("kind")
    if kind == "scenario":
        yield {"file": "scenario.toml", "type": "application/toml", "text": setup.toml()}
    elif kind == "report":
        scenario = setup.scenario()
        if setup.knock_out:
            raise ValueError(
                "a report compares whole arms, and arms of action are switched off. Switch them on, or download the data."
            )
        result = await work(compare, scenario, draws=DRAWS, seed=SEED)
        yield {"file": "report.html", "type": "text/html", "text": await work(render, result)}
    else:
        raise ValueError(f"kind: given {str(kind)[:40]!r}. Allowed: scenario, report.")
