"""What a sensitivity analysis hands back: indices with intervals, a tornado, the screen, and what it left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mscrenal.model import DRUGS, sampled_parameters
from mscrenal.scenarios.endpoints import Endpoint
from mscrenal.scenarios.results import Result, _origin, plain
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sobol import LEVEL, RESAMPLES, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_LISTED", "SensitivityResult", "label_of"]

MOST_LISTED = 300  # failures told in full; the others are counted


def label_of(names: Sequence[str]) -> str:
    """What a parameter means, in words, whose it is in front; of several names that are one number, all owners.

    >>> label_of(["product.UC.homing"])
    'UC: affinity for the injured kidney and passage to it, relative to bone-marrow MSC'
    """
    owners = []
    for name in names:
        if name.startswith(("product.", "insult.")):
            owners.append(name.split(".")[1])
        else:
            owners += [d.title for d in DRUGS.values() if any(e.size.name == name for e in d.effects)]
    owner = f"{', '.join(dict.fromkeys(owners))}: " if owners else ""
    return owner + sampled_parameters()[names[0]].meaning


@dataclass(frozen=True, kw_only=True, eq=False)
class SensitivityResult(Result):
    """Which parameters an endpoint depends on. Made by `mscrenal.scenarios.sensitivity`.

    Attributes
    ----------
    arm : str
    absolute : bool
        The arm's own endpoint, not its difference from the reference.
    study : Study
        Indices, tornado, screen, and the share that the screen left out.
    factors : dict of str to tuple of str
        The names that are one number with each parameter, itself the first.
    n_failed : int
        Simulations that failed; `listed` holds the first `MOST_LISTED`.
    """

    scenario: Scenario
    arm: str
    endpoint: Endpoint
    absolute: bool
    study: Study
    factors: Mapping[str, tuple[str, ...]]
    n_patients: int
    n_failed: int
    listed: tuple[Mapping[str, Any], ...]

    @property
    def origin(self) -> str:
        """Whether the parameters' distributions are the prior's or a posterior's."""
        return _origin(self.provenance)

    @property
    def unit(self) -> str:
        """Unit of the endpoint, or of its difference from the reference."""
        return self.endpoint.unit if self.absolute else self.endpoint.difference_unit

    @property
    def quantity(self) -> str:
        """What is attributed, in words."""
        beside = "" if self.absolute else f", difference from {self.scenario.reference}"
        return f"{self.endpoint.label}{beside}"

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed simulations: arm, stage, draw (the row of that stage's design), patient, status, message."""
        return self.listed

    @property
    def blocks(self) -> int:
        """Blocks of the design behind the indices."""
        return len(self.study.indices.values)

    @property
    def band_note(self) -> str:
        """What the numbers are, for captions."""
        found = self.study
        who = f"mean over {self.n_patients} patients" if self.n_patients > 1 else "one typical patient"
        low, high = found.left_out_ci
        return (
            f"{len(found.names)} of {len(found.screen)} parameters, each varied over its {self.origin} independently of "
            f"the others; {self.blocks:,} blocks; {who}; intervals: {LEVEL:.0%} bootstrap; the parameters left at their "
            f"medians carry {found.left_out:.0%} ({max(low, 0):.0%} to {high:.0%}) of the variance"
        )

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made, in sentences."""
        notes = [
            *super().assumptions,
            "First-order index: the share of the variance that would go if this parameter alone were known. Total index: "
            "the share that would stay if all others were known; beyond the first it holds interactions.",
            "Sobol indices take the parameters as independent. "
            + (
                "Each is drawn from its own prior; numbers that two products share are one parameter."
                if self.origin == "prior"
                else "Each is drawn from its own posterior distribution; the correlations of the posterior are lost, so "
                "that parameters which the data tie together can seem to matter more than they do."
            ),
            f"A screen of all {len(self.study.screen)} parameters that the arms use chose those with indices; the others "
            "stay at their medians. What that leaves out is their total index as a group, all parameters free.",
            f"Intervals: percentiles of {RESAMPLES} bootstrap samples of the design's blocks. An index near 0 can come "
            "out below 0.",
            "Tornado: one parameter at its 5 % and 95 % quantile, the others at their medians.",
        ]
        for stage, (dropped, of) in self.study.dropped.items():
            if dropped:
                what = "of the indices" if stage == "sobol" else "with all parameters free"
                notes.append(
                    f"{dropped} of {of} blocks {what} are left out, since a simulation in them failed: what is said "
                    "holds for the part of the distribution that can be simulated."
                )
        return notes

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """`indices[]` of the interface, the largest total index first."""
        found, known = self.study, sampled_parameters()
        indices, tornado = found.indices, found.tornado
        return tuple(
            {
                "parameter": name,
                "label": label_of(self.factors[name]),
                "unit": known[name].unit,
                "first": float(indices.first[i]),
                "total": float(indices.total[i]),
                "ci": {"first": indices.first_ci[i].tolist(), "total": indices.total_ci[i].tolist()},
                "same_number_as": list(self.factors[name][1:]),
                "tornado": {
                    "q05": float(tornado.low[i]),
                    "q95": float(tornado.high[i]),
                    "endpoint_at_q05": float(tornado.at_low[i]),
                    "endpoint_at_q95": float(tornado.at_high[i]),
                },
            }
            for i, name in enumerate(found.names)
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per parameter kept: indices with intervals, quantiles, and the endpoint at them."""
        rows = []
        for record in self.records:
            row = {key: record[key] for key in ("parameter", "label", "unit")}
            for kind in ("first", "total"):
                low, high = record["ci"][kind]
                row |= {kind: record[kind], f"{kind}_low": low, f"{kind}_high": high}
            rows.append(
                row | record["tornado"] | {"endpoint": self.endpoint.name, "endpoint_unit": self.unit}
            )
        return pd.DataFrame(rows)

    @property
    def screen_table(self) -> pd.DataFrame:
        """Every parameter that the arms use, with its total index as the screen saw it, and whether it was kept."""
        known = sampled_parameters()
        return pd.DataFrame(
            {
                "parameter": name,
                "label": label_of(self.factors[name]),
                "unit": known[name].unit,
                "screened_total": total,
                "kept": name in self.study.names,
            }
            for name, total in self.study.screen.items()
        )

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The indices, the screen, and the failures that are listed."""
        made = {"sensitivity": self.table, "screen": self.screen_table}
        return made | ({"failures": pd.DataFrame(list(self.listed))} if self.listed else {})

    @property
    def data(self) -> xr.Dataset:
        """`first`, `total` (parameter), `first_ci`, `total_ci` (parameter, bound), `endpoint` (block, row)."""
        found = self.study.indices
        rows = ["base", *self.study.names, "other"]
        return xr.Dataset(
            {
                "first": (("parameter",), found.first),
                "total": (("parameter",), found.total),
                "first_ci": (("parameter", "bound"), found.first_ci),
                "total_ci": (("parameter", "bound"), found.total_ci),
                "endpoint": (("block", "row"), found.values, {"unit": self.unit}),
            },
            coords={"parameter": list(self.study.names), "bound": ["low", "high"], "row": rows},
        )

    def plot(self) -> dict[str, Figure]:
        """Figures indices and tornado."""
        from mscrenal.scenarios import figures

        caption = figures.Caption(self.title, self.band_note)
        base = (
            f"each parameter at its 5 % and its 95 % {self.origin} quantile (right), the others at their medians; "
            f"{self.endpoint.better} is better"
        )
        return {
            "indices": figures.sobol_bars(self.table, caption=caption),
            "tornado": figures.tornado(
                self.table,
                base=self.study.tornado.base,
                label=self.quantity,
                unit=self.unit,
                caption=figures.Caption(self.title, base),
            ),
        }

    def to_json(self) -> dict[str, Any]:
        """`indices[]` of the interface, `left_out`, `screen[]`, beside provenance, extrapolated and failures."""
        found = self.study
        document = self._document() | {
            "command": self.command,
            "scenario": self.scenario.name,
            "title": self.title,
            "question": self.question,
            "source": self.scenario.source,
            "arm": self.arm,
            "reference": None if self.absolute else self.scenario.reference,
            "endpoint": self.endpoint.name,
            "unit": self.unit,
            "better": self.endpoint.better,
            "absolute": self.absolute,
            "horizon_days": self.scenario.horizon_days,
            "origin": self.origin,
            "n_patients": self.n_patients,
            "samples": self.provenance["samples"],
            "blocks": self.blocks,
            "blocks_dropped": found.indices.dropped,
            "n_failed": self.n_failed,
            "ci_level": LEVEL,
            "indices": list(self.records),
            "sum_first": float(np.sum(found.indices.first)),
            "at_medians": found.tornado.base,
            "sd": {"all_free": found.sd_all, "kept_free": found.indices.sd},
            "left_out": {
                "share": found.left_out,
                "ci": list(found.left_out_ci),
                "n_parameters": len(found.screen) - len(found.names),
                "blocks_dropped": found.dropped["all"][0],
            },
            "screen": [
                {"parameter": name, "total": total, "kept": name in found.names}
                for name, total in found.screen.items()
            ],
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned
