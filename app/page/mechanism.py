"""The tab Mechanism: the network, what each box and arrow rests on, and what becomes of a patient without one."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.diagram import diagram_svg
from mscrenal.app.page.explore import DRAWS, days_of, middle, shipped_draws
from mscrenal.app.page.setup import NO_CELLS, Setup
from mscrenal.calibration import Draws
from mscrenal.model import ARM_MEANING, ARMS_OF_ACTION, OBSERVABLES
from mscrenal.model.network import influences
from mscrenal.model.picture import label, layout
from mscrenal.scenarios import Scenario
from mscrenal.scenarios.curves import curves
from mscrenal.scenarios.mechanism import arrow, cut, node
from mscrenal.scenarios.style import nice_unit

__all__ = ["SHOWN", "about", "knock_out", "picture"]

SHOWN = ("egfr", "uacr", "fibrosis_area", "il6_serum", "tnfa_serum", "tgfb1_kidney")
PARTS = (10, 40, 50)  # of the draws
ACTION = "effect_"  # how the boxes of the arms of action are called


# --------------------------------------------------------------------------- the picture


@lru_cache(maxsize=2)
def _picture(detail: Literal["states", "modules"]) -> str:
    return diagram_svg(detail, prefix=f"{detail}-")


@lru_cache(maxsize=1)
def _groups() -> dict[str, str]:
    """The module of each box of the picture of states; an arm of action is its own, as on the overview."""
    return {b.name: b.name if b.name.startswith(ACTION) else b.group for b in layout("states").boxes}


@lru_cache(maxsize=1)
def _arrows() -> list[Answer]:
    """Every arrow, with the modules that it leads from and to."""
    groups = _groups()
    return [
        {
            "source": a.source,
            "target": a.target,
            "sign": a.sign,
            "words": f"{label(a.source)} → {label(a.target)}",
            "from": groups[a.source],
            "to": groups[a.target],
        }
        for a in influences()
    ]


async def picture(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """The picture at a level of `detail`, and the arrows of the network by name."""
    detail = payload.get("detail", "modules")
    if detail not in ("modules", "states"):
        raise ValueError(f"detail: given {str(detail)[:40]!r}. Allowed: modules, states.")
    yield {
        "detail": detail,
        "picture": await work(_picture, detail),
        "arrows": await work(_arrows),
        "actions": {ACTION + name: ARM_MEANING[name] for name in ARMS_OF_ACTION},
    }


class _About(BaseModel):
    """A box, or an arrow between two."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(default=None, max_length=80)
    source: str | None = Field(default=None, max_length=80)
    target: str | None = Field(default=None, max_length=80)


async def about(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """What a box or an arrow rests on: `node`, or `source` and `target`."""
    asked = _About.model_validate(dict(payload))
    if asked.node is not None:
        yield {"node": (await work(node, asked.node)).to_json()}
    elif asked.source is not None and asked.target is not None:
        yield {"arrow": (await work(arrow, asked.source, asked.target)).to_json()}
    else:
        raise ValueError("given neither a node nor a source with a target. Allowed: one of them.")


# --------------------------------------------------------------------------- without it


class _KnockOut(BaseModel):
    """What is knocked out, in which arm of what is set up."""

    model_config = ConfigDict(extra="forbid")

    setup: Setup
    arm: int = Field(default=1, ge=0, le=4)
    source: str | None = Field(default=None, max_length=80)
    target: str | None = Field(default=None, max_length=80)
    action: str | None = Field(default=None, max_length=80)


async def knock_out(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """The course of an arm, intact and without an arrow (`source`, `target`) or an arm of action (`action`).

    The medians of the posterior first, then medians and bands over more and more draws. Arm 0 gets no cells.
    """
    asked = _KnockOut.model_validate(dict(payload))
    if asked.arm > len(asked.setup.arms):
        raise ValueError(f"arm: given {asked.arm}. Allowed: 0 (no cells) to {len(asked.setup.arms)}.")
    scenario = asked.setup.scenario()
    name = NO_CELLS if asked.arm == 0 else asked.setup.named()[asked.arm - 1][0]
    days = days_of(scenario)
    first, notes, lost = await work(_courses, asked, scenario, name, None, days)
    head = {
        "days": [float(f"{d:.5g}") for d in days.tolist()],
        "arm": name,
        "labels": {o.name: [o.label or o.name, nice_unit(o.unit)] for o in OBSERVABLES if o.name in SHOWN},
    }
    yield {**head, "stage": "middle", "bands": _bands(first), "notes": notes, "failed": lost}
    found: NDArray[np.float64] | None = None
    failed, start = 0, 0
    for size in PARTS:
        drawn = shipped_draws()
        part = dataclasses.replace(
            drawn, values={n: v[start : start + size] for n, v in drawn.values.items()}
        )
        more, _, lost = await work(_courses, asked, scenario, name, part, days)
        found = more if found is None else np.concatenate((found, more), axis=1)
        start, failed = start + size, failed + lost
        yield {
            "stage": "bands",
            "draws": start,
            "of": DRAWS,
            "bands": _bands(found),
            "notes": notes,
            "failed": failed,
        }


def _courses(
    asked: _KnockOut, scenario: Scenario, name: str, drawn: Draws | None, days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[str], int]:
    """Both courses (2, n_draws, n_days, n_observables), intact first; notes; how many draws failed."""
    if asked.action is not None:
        action = asked.action.removeprefix(ACTION)
        thetas = [middle()] if drawn is None else list(drawn)
        pair = scenario.replace(arms=tuple(a for a in scenario.arms if a.name in (name, NO_CELLS)))
        found = curves(pair, thetas, days=days, observables=SHOWN, knock_out={name: [action]})
        intact = found.variants.index((name, ()))
        courses = np.stack((found.values[intact], found.values[-1]))
        lost = np.isnan(courses).any(axis=(0, 2, 3))
        courses[:, lost] = np.nan
        note = f"The arm of action {label(asked.action)} is switched off from day 0: {ARM_MEANING[action]}."
        return courses, [note], int(lost.sum())
    if asked.source is None or asked.target is None:
        raise ValueError("given neither an action nor a source with a target. Allowed: one of them.")
    result = cut(
        scenario, (asked.source, asked.target), arm=name, draws=drawn, observables=SHOWN, days=days
    )
    return np.stack((result.intact, result.without)), list(result.notes), len({f["draw"] for f in result.failures})


def _bands(courses: NDArray[np.float64]) -> dict[str, Answer]:
    """For each observable the courses `intact`, `without` and their difference, draw by draw: median and 90 % band."""
    both = np.concatenate((courses, courses[1:] - courses[:1]))
    fine = np.isfinite(both).all(axis=(0, 2, 3))
    out: dict[str, Answer] = {}
    for i, name in enumerate(SHOWN):
        out[name] = {}
        for k, what in enumerate(("intact", "without", "difference")):
            kept = both[k, fine, :, i]
            if not len(kept):
                out[name][what] = {"mid": [None] * both.shape[2]}
                continue
            levels = np.quantile(kept, [0.5, 0.05, 0.95], axis=0)
            shown = {"mid": levels[0], "low": levels[1], "high": levels[2]} if len(kept) > 1 else {"mid": levels[0]}
            out[name][what] = {
                key: [float(f"{v:.5g}") for v in values.tolist()] for key, values in shown.items()
            }
    return out
