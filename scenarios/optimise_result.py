"""What a search for regimens hands back: the shortlist under all draws, the front, the choice, and what knowing more is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mscrenal.model import sampled_parameters
from mscrenal.scenarios.decision import FEWEST_DRAWS, Information, pareto_front
from mscrenal.scenarios.endpoints import Endpoint
from mscrenal.scenarios.posterior_result import module_of
from mscrenal.scenarios.regimens import BURDEN_UNITS, Limits, Regimen, Space
from mscrenal.scenarios.results import TIE, Result, _band_note, _origin, plain, summarise
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sensitivity_result import MOST_LISTED, label_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Failures", "OptimiseResult", "StudyValue", "Surface", "Tradeoff", "group_of"]

MOST_PARAMETERS = 15  # in tables and JSON; of all the others the largest is told


def group_of(parameter: str) -> str:
    """The group whose joint value is asked: a product, or the module of the model that declares the parameter.

    >>> group_of("product.UC.homing"), group_of("memory_weight")
    ('product UC', 'effectors')
    """
    if parameter.startswith("product."):
        return f"product {parameter.split('.')[1]}"
    return module_of(parameter)


@dataclass
class Failures:
    """Simulations that failed: all are counted by status, the first `MOST_LISTED` told in full."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, failure: dict[str, Any]) -> None:
        """Count one: arm, stage, draw, patient, status, message."""
        self.statuses[str(failure["status"])] += 1
        if len(self.listed) < MOST_LISTED:
            self.listed.append(failure)

    @property
    def n(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class StudyValue:
    """What a next study is worth: its two arms in words, patients per arm, and the value in the unit of the gain."""

    study: str
    n_per_arm: int
    value: float


@dataclass(frozen=True)
class Surface:
    """The gain over dose, number and interval.

    Attributes
    ----------
    gains : xarray.DataArray
        Dims (pair, dose, n_doses, interval_days, draw); NaN beyond the limits, or where a simulation failed. `dose` is per
        kg in the unit of its kind (coordinate `unit` of `pair`); one dose stands at interval 0.
    """

    gains: xr.DataArray

    @classmethod
    def of(cls, space: Space, gains: Mapping[Regimen, np.ndarray], n_draws: int) -> Surface:
        """From the gain (n_draws,) of each regimen of the grid."""
        doses = sorted({r.dose for r in gains})
        numbers = sorted({r.n_doses for r in gains})
        intervals = sorted({r.interval_days for r in gains})
        pairs = list(space.pairs)
        values = np.full((len(pairs), len(doses), len(numbers), len(intervals), n_draws), np.nan)
        for r, gain in gains.items():
            values[
                pairs.index((r.product, r.route)), doses.index(r.dose), numbers.index(r.n_doses),
                intervals.index(r.interval_days),
            ] = gain  # fmt: skip
        kinds = {r.product: BURDEN_UNITS[r.kind] if r.kind != "ev" else "ug EV protein/kg" for r in gains}
        return cls(
            xr.DataArray(
                values,
                dims=("pair", "dose", "n_doses", "interval_days", "draw"),
                coords={
                    "pair": [f"{p} {w}" for p, w in pairs],
                    "dose": doses,
                    "n_doses": numbers,
                    "interval_days": intervals,
                    "draw": np.arange(n_draws),
                    "unit": ("pair", [kinds.get(p, "") for p, _ in pairs]),
                },
            )
        )

    @property
    def expected(self) -> xr.DataArray:
        """Mean over the draws that came through."""
        return self.gains.mean("draw", skipna=True)

    def table(self, relevant: float | None) -> pd.DataFrame:
        """Tidy: a row per regimen of the grid."""
        stacked = self.gains.stack(regimen=("pair", "dose", "n_doses", "interval_days")).transpose(
            "regimen", "draw"
        )
        values = stacked.values
        kept = np.isfinite(values).any(axis=1)
        index = stacked.indexes["regimen"][kept]
        rows = []
        for key, gain in zip(index, values[kept], strict=True):
            found, spread = gain[np.isfinite(gain)], summarise(gain)
            pair, dose, n, interval = key
            rows.append(
                {
                    "product": str(pair).split(" ")[0],
                    "route": str(pair).split(" ")[1],
                    "dose": float(dose),
                    "dose_unit": str(self.gains["unit"].sel(pair=pair).item()),
                    "n_doses": int(n),
                    "interval_days": float(interval) if n > 1 else np.nan,
                    "expected_gain": float(found.mean()),
                    "gain_low": spread.low,
                    "gain_high": spread.high,
                    "prob_relevant": np.nan if relevant is None else float(np.mean(found >= relevant)),
                    "n_draws": spread.n,
                }
            )
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Tradeoff:
    """One dose and interval, given once, twice and so on.

    Attributes
    ----------
    gains, free : ndarray (n_regimens, n_draws)
        Gain as it is, and in hosts that never remember an earlier dose.
    rejection, lost : ndarray (n_regimens, n_draws)
        As of `OptimiseResult`.
    """

    regimens: tuple[Regimen, ...]
    gains: np.ndarray
    free: np.ndarray
    rejection: np.ndarray
    lost: np.ndarray

    @property
    def table(self) -> pd.DataFrame:
        """A row per number of doses."""
        rows = []
        for i, r in enumerate(self.regimens):
            row: dict[str, Any] = {
                "product": r.product, "route": r.route, "dose": r.dose_text, "interval_days": r.interval_days or np.nan,
                "n_doses": r.n_doses,
            }  # fmt: skip
            kinds = {
                "gain": self.gains, "without_sensitisation": self.free, "taken_by_sensitisation": self.free - self.gains,
                "rejection": self.rejection, "last_dose_lost": self.lost,
            }  # fmt: skip
            for stem, values in kinds.items():
                found = summarise(values[i])
                row |= {f"{stem}_median": found.median, f"{stem}_low": found.low, f"{stem}_high": found.high}
            row["gain_mean"] = (
                float(np.nanmean(self.gains[i])) if np.isfinite(self.gains[i]).any() else np.nan
            )
            rows.append(row)
        return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimiseResult(Result):
    """The best regimens under limits. Made by `mscrenal.scenarios.optimise`.

    Attributes
    ----------
    regimens : tuple of Regimen, n
        The shortlist: what met all draws. `own`: those of them that are arms of the scenario.
    gains : ndarray (n, n_draws)
        Over the reference, more is better; mean over patients. NaN where nothing came through.
    endpoint_differences : dict of endpoint to ndarray (n, n_draws)
        Differences from the reference as they are.
    rejection : ndarray (n, n_draws)
        Sensitisation: the largest rejection until 16 weeks after the last dose, 0 to 1.
    lost : ndarray (n, n_draws)
        Share of the cell-days of the last dose that it costs.
    whole : ndarray of bool (n_draws,)
        Draws in which every regimen came through: on these rests the choice.
    nothing : float
        A gain below this is noise of the solver.
    choice : int or None
        The recommended regimen's place; None for no treatment.
    prob_best, losses : ndarray (n + 1,)
        Of each regimen and, at the end, no treatment.
    perfect : tuple of float
        Expected value of perfect information, and its standard error.
    information : dict of parameter to Information
        The value of knowing each, the largest first; empty with too few draws.
    grouped : dict of group to Information
        The value of knowing all parameters of a group; `groups`: how many each has.
    studies : tuple of StudyValue
    residual_sd : float or None
        SD of the endpoint between untreated patients as measured.
    screened : tuple of (Regimen, float)
        Every regimen that was tried, with its expected gain over the first draws.
    """

    scenario: Scenario
    endpoint: Endpoint
    relevant: float | None
    margin: float
    limits: Limits
    regimens: tuple[Regimen, ...]
    own: tuple[Regimen, ...]
    gains: np.ndarray
    endpoint_differences: Mapping[str, np.ndarray]
    rejection: np.ndarray
    lost: np.ndarray
    whole: np.ndarray
    nothing: float
    choice: int | None
    prob_best: np.ndarray
    losses: np.ndarray
    perfect: tuple[float, float]
    information: Mapping[str, Information]
    grouped: Mapping[str, Information]
    groups: Mapping[str, int]
    factors: Mapping[str, tuple[str, ...]]
    studies: tuple[StudyValue, ...]
    residual_sd: float | None
    screened: tuple[tuple[Regimen, float], ...]
    surface: Surface
    tradeoff: Tradeoff | None
    n_patients: int
    failed: Failures

    # ----------------------------------------------------------------- what it rests on

    @property
    def origin(self) -> str:
        """Whether the draws are the prior's or a posterior's."""
        return _origin(self.provenance)

    @property
    def unit(self) -> str:
        """Unit of a gain."""
        return self.endpoint.difference_unit

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed simulations: arm, stage, draw, patient, status, message; the first of them."""
        return tuple(self.failed.listed)

    @property
    def n_failed(self) -> int:
        """All failed simulations."""
        return self.failed.n

    @property
    def n_draws(self) -> int:
        """Draws behind the choice."""
        return int(self.whole.sum())

    @property
    def quantity(self) -> str:
        """What is gained, in words."""
        turned = "" if self.endpoint.better == "higher" else ", lower counted as gain"
        return f"gain in {self.endpoint.label} over {self.scenario.reference}{turned}"

    @property
    def band_note(self) -> str:
        """What the numbers are, for captions."""
        return f"{self.quantity}; {_band_note(self.provenance, self.n_draws, self.n_patients)}"

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made, in sentences."""
        screened, parameters = self.provenance["screened"], self.provenance["parameters"]
        notes = [
            *super().assumptions,
            f"{screened['regimens']} regimens were tried on the first {screened['draws']} draws: a grid, and from its best "
            "points differential evolution for each product and route. What is said of the shortlist rests on all "
            f"{self.n_draws} draws. The first draws chose the shortlist, so that the best of it looks a little better "
            "than it is.",
            "The recommended regimen has the largest expected gain; no treatment, which gains nothing, is one of the "
            "options. Costs, burden to the patient and harms that the model does not hold have no part in it: the front "
            "leaves them to the reader.",
            "Sensitisation: the rejection that a further dose of a donor's cells would meet, memory / (1 + memory) of the "
            "model, at its largest until 16 weeks after the last dose; 1 is full rejection. It is no antibody titre.",
            "Burden: cells/kg of all doses; vesicles and media bring no cells and are compared among themselves only.",
            "The value of knowing a parameter (EVPPI) is what choosing after knowing it would gain on average, by regression "
            "over the draws (Strong 2014, doi:10.1177/0272989X13505910); what permuted draws give by chance is taken off. "
            f"Asked were {parameters['with_a_say']} of {parameters['in_use']} parameters: the others, moved one at a time, change "
            "the gain of no product and route. One that the data tie to another is worth what it tells of that one, too. It "
            "holds for one patient treated once, in the unit of the gain.",
            "The value of a study (EVSI) takes its result as normal around the true difference, with the residual SD of "
            "virtual patients (random effects and measurement error of the model), and weighs the draws anew.",
        ]
        if len(self.whole) > self.n_draws:
            notes.append(
                f"{len(self.whole) - self.n_draws} of {len(self.whole)} draws are left out, in which a regimen of the "
                "shortlist could not be simulated."
            )
        for name, why in self.provenance["left_out"].items():
            notes.append(f"{name} is left out: {why}.")
        if not self.information:
            notes.append(
                f"Nothing is said of the value of knowing parameters: that takes {FEWEST_DRAWS} draws at least, and there "
                f"are {self.n_draws}."
            )
        missing = [name for name in self.groups if name not in self.grouped]
        if self.grouped and missing:
            notes.append(
                f"Nothing is said of the joint value of {', '.join(missing)}: too many parameters for {self.n_draws} draws."
            )
        return notes

    # ----------------------------------------------------------------- the shortlist

    @property
    def expected(self) -> np.ndarray:
        """Mean gain over the draws in which all came through, (n,)."""
        return np.asarray(self.gains[:, self.whole].mean(axis=1))

    @property
    def front(self) -> np.ndarray:
        """Which regimens no other of their kind beats in expected gain, burden and visits, (n,)."""
        on, mean = np.zeros(len(self.regimens), dtype=bool), self.expected
        usable = mean > self.nothing
        for kind in {r.kind for r in self.regimens}:
            mine = np.array(
                [i for i, r in enumerate(self.regimens) if r.kind == kind and usable[i]], dtype=int
            )
            if mine.size:
                on[mine] = pareto_front(
                    mean[mine],
                    [self.regimens[i].burden for i in mine],
                    [self.regimens[i].n_doses for i in mine],
                )
        return on

    @property
    def sparing(self) -> dict[str, int]:
        """The regimens of the recommended one's kind with the least burden and with the fewest visits whose expected gain
        is within the margin; empty without a recommendation.
        """
        if self.choice is None:
            return {}
        mean, chosen = self.expected, self.regimens[self.choice]
        near = [
            i
            for i, r in enumerate(self.regimens)
            if r.kind == chosen.kind and mean[i] >= (1 - self.margin) * mean[self.choice]
        ]
        by = self.regimens
        return {
            "least_burden": min(near, key=lambda i: (by[i].burden, by[i].n_doses, -mean[i])),
            "fewest_visits": min(near, key=lambda i: (by[i].n_doses, by[i].burden, -mean[i])),
        }

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """A record per regimen of the shortlist, the largest expected gain first."""
        mean, front = self.expected, self.front
        order = sorted(range(len(self.regimens)), key=lambda i: (-mean[i], self.regimens[i].burden))
        return tuple(self._record(i, float(mean[i]), bool(front[i])) for i in order)

    def _record(self, i: int, mean: float, on_front: bool) -> dict[str, Any]:
        r, gains = self.regimens[i], self.gains[i, self.whole]
        sd = float(np.std(gains, ddof=1)) if gains.size > 1 else float("nan")
        tied = np.abs(gains) <= self.nothing
        # Draw by draw: of two regimens under the same draws the difference is known far better than either.
        best = self.gains[int(np.argmax(self.expected)), self.whole] - gains
        spread = float(np.std(best, ddof=1)) if best.size > 1 else float("nan")
        sensitised: dict[str, Any] | None = (
            {
                "rejection": summarise(self.rejection[i]).record,
                "last_dose_lost": summarise(self.lost[i]).record,
            }
            if r.immunogenic
            else None
        )
        return {
            "regimen": r.record,
            "cells": r.cells_per_kg,
            "burden": {"value": r.burden, "unit": BURDEN_UNITS[r.kind]},
            "visits": r.n_doses,
            "expected_gain": mean,
            "se": sd / float(np.sqrt(max(gains.size, 1))),
            "short_of_best": {"mean": float(best.mean()), "se": spread / float(np.sqrt(max(best.size, 1)))},
            "gain": summarise(gains).record,
            "prob_gain": float(np.mean(np.where(tied, 0.5, gains > 0))),
            "prob_relevant": None if self.relevant is None else float(np.mean(gains >= self.relevant)),
            "prob_best": float(self.prob_best[i]),
            "expected_loss": float(self.losses[i]),
            "sensitisation": sensitised,
            "endpoints": {name: self._endpoint(name, i) for name in self.endpoint_differences},
            "pareto": on_front,
            "recommended": i == self.choice,
            "of_scenario": r in self.own,
        }

    def _endpoint(self, name: str, i: int) -> dict[str, Any]:
        from mscrenal.scenarios.endpoints import endpoint

        known = endpoint(name)
        values = self.endpoint_differences[name][i]
        finite = values[np.isfinite(values)]
        better = finite > 0 if known.better == "higher" else finite < 0
        chance = float(np.mean(np.where(np.abs(finite) <= TIE, 0.5, better))) if finite.size else float("nan")
        return {
            "unit": known.difference_unit,
            "label": known.label,
            "better": known.better,
            "vs_reference": summarise(values).record | {"prob_better": chance},
        }

    @cached_property
    def recommended(self) -> dict[str, Any]:
        """The recommendation: the record of the regimen, or why there is none; the sparing regimens."""
        if self.choice is None:
            return {
                "regimen": None,
                "reason": f"No regimen within the limits is expected to gain anything in {self.endpoint.label} over "
                f"{self.scenario.reference}: none is recommended.",
            }
        chosen = next(r for r in self.records if r["recommended"])
        low, high = chosen["gain"]["ci90"]
        reason = (
            f"Largest expected gain of {len(self.regimens)} regimens over {self.n_draws} draws: "
            f"{chosen['expected_gain']:.2g} {self.unit} (90 %: {low:.2g} to {high:.2g}); best in "
            f"{chosen['prob_best']:.0%} of them."
        )
        spare = {key: self.regimens[i].record for key, i in self.sparing.items()}
        # The draws that had no part in choosing the shortlist.
        unseen = self.gains[self.choice, int(self.provenance["screened"]["draws"]) :]
        unseen = unseen[np.isfinite(unseen)]
        beside = float(unseen.mean()) if unseen.size else None
        return chosen | {
            "reason": reason,
            "expected_gain_unseen_draws": beside,
            "margin": self.margin,
            "sparing": spare,
        }

    @cached_property
    def value_of_information(self) -> tuple[dict[str, Any], ...]:
        """`value_of_information[]` of the interface: perfect information, parameters, studies."""
        known = sampled_parameters()
        value, se = self.perfect
        out: list[dict[str, Any]] = [
            {"kind": "EVPI", "of": "everything unknown", "value": value, "se": se, "unit": self.unit}
        ]
        for name in list(self.information)[:MOST_PARAMETERS]:
            found = self.information[name]
            out.append(
                {
                    "kind": "EVPPI",
                    "of": name,
                    "label": label_of(self.factors[name]),
                    "parameter_unit": known[name].unit,
                    "same_number_as": list(self.factors[name][1:]),
                    "unit": self.unit,
                    **vars(found),
                }
            )
        for name, found in self.grouped.items():
            out.append(
                {"kind": "EVPPI of a group", "of": name, "n_parameters": self.groups[name], "unit": self.unit}
                | vars(found)
            )
        for study in self.studies:
            out.append(
                {
                    "kind": "EVSI", "of": study.study, "n_per_arm": study.n_per_arm, "value": study.value,
                    "residual_sd": self.residual_sd, "unit": self.unit,
                }
            )  # fmt: skip
        return tuple(out)

    # ----------------------------------------------------------------- tables

    @property
    def table(self) -> pd.DataFrame:
        """One row per regimen of the shortlist, the largest expected gain first; no treatment at the end."""
        rows = []
        for record in self.records:
            regimen = record["regimen"]
            row = {k: regimen[k] for k in ("name", "product", "route", "dose", "n_doses", "interval_days")}
            row |= {
                "burden": record["burden"]["value"],
                "burden_unit": record["burden"]["unit"],
                "visits": record["visits"],
                "endpoint": self.endpoint.name,
                "unit": self.unit,
                "expected_gain": record["expected_gain"],
                "se": record["se"],
                "short_of_best": record["short_of_best"]["mean"],
                "short_of_best_se": record["short_of_best"]["se"],
                "gain_median": record["gain"]["median"],
                "gain_low": record["gain"]["ci90"][0],
                "gain_high": record["gain"]["ci90"][1],
            }
            row |= {k: record[k] for k in ("prob_gain", "prob_relevant", "prob_best", "expected_loss")}
            risk = record["sensitisation"]
            for key in ("rejection", "last_dose_lost"):
                found: dict[str, Any] = risk[key] if risk else {"median": 0.0, "ci90": [0.0, 0.0]}
                row |= {
                    f"{key}_median": found["median"],
                    f"{key}_low": found["ci90"][0],
                    f"{key}_high": found["ci90"][1],
                }
            row |= {k: record[k] for k in ("pareto", "recommended", "of_scenario")}
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def information_table(self) -> pd.DataFrame:
        """Perfect information, every parameter, every study."""
        rows: list[dict[str, Any]] = [
            {"kind": "EVPI", "of": "everything unknown", "value": self.perfect[0], "se": self.perfect[1]}
        ]
        rows += [
            {"kind": "EVPPI", "of": name, "label": label_of(self.factors[name]), **vars(found)}
            for name, found in self.information.items()
        ]
        rows += [
            {"kind": "EVPPI of a group", "of": name, "n_parameters": self.groups[name], **vars(found)}
            for name, found in self.grouped.items()
        ]
        rows += [
            {"kind": "EVSI", "of": s.study, "n_per_arm": s.n_per_arm, "value": s.value} for s in self.studies
        ]
        return pd.DataFrame(rows).assign(unit=self.unit)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The shortlist, the response surface, the trade-off of repetition, the value of information, failures."""
        made = {"optimise": self.table, "response_surface": self.surface.table(self.relevant)}
        if self.tradeoff is not None:
            made["sensitisation"] = self.tradeoff.table
        made["value_of_information"] = self.information_table
        return made | ({"failures": pd.DataFrame(self.failed.listed)} if self.failed.listed else {})

    @property
    def data(self) -> xr.Dataset:
        """`gain`, `rejection`, `last_dose_lost` (regimen, draw), `whole` (draw); `surface` (pair, dose, n_doses,
        interval_days, screen_draw), with the gain of the grid on the first draws.
        """
        dims = ("regimen", "draw")
        surface = self.surface.gains.rename(draw="screen_draw").drop_vars("unit")
        return xr.Dataset(
            {
                "gain": (dims, self.gains, {"unit": self.unit}),
                "rejection": (dims, self.rejection, {"unit": "1"}),
                "last_dose_lost": (dims, self.lost, {"unit": "1"}),
                "whole": (("draw",), self.whole),
                "surface": surface.assign_attrs(unit=self.unit),
            },
            coords={
                "regimen": [r.label for r in self.regimens],
                "draw": np.arange(self.gains.shape[1]),
                "burden": ("regimen", [r.burden for r in self.regimens]),
                "visits": ("regimen", [r.n_doses for r in self.regimens]),
            },
        )

    def plot(self) -> dict[str, Figure]:
        """Figures shortlist, pareto, response_surface, sensitisation (of a donor's cells) and value_of_information."""
        from mscrenal.scenarios import optimise_figures as figures

        made = {
            "shortlist": figures.shortlist(self),
            "pareto": figures.pareto(self),
            "response_surface": figures.response_surface(self),
        }
        if self.tradeoff is not None:
            made["sensitisation"] = figures.sensitisation(self)
        made["value_of_information"] = figures.value_of_information(self)
        return made

    def to_json(self) -> dict[str, Any]:
        """`pareto[]`, `recommended`, `value_of_information[]` of the interface; `shortlist[]`, `limits`, `sensitisation[]`."""
        document = self._document() | {
            "command": self.command,
            "scenario": self.scenario.name,
            "title": self.title,
            "question": self.question,
            "source": self.scenario.source,
            "reference": self.scenario.reference,
            "objective": self.endpoint.name,
            "unit": self.unit,
            "better": self.endpoint.better,
            "relevant_gain": self.relevant,
            "horizon_days": self.scenario.horizon_days,
            "origin": self.origin,
            "n_draws": self.n_draws,
            "n_draws_left_out": len(self.whole) - self.n_draws,
            "n_patients": self.n_patients,
            "n_failed": self.n_failed,
            "failed_by_status": dict(sorted(self.failed.statuses.items())),
            "limits": self.limits.record,
            "screened": dict(self.provenance["screened"]),
            "estimate": "mean over patients in each draw; expectation, median and 90 % band over draws",
            "pareto": [r for r in self.records if r["pareto"]],
            "recommended": self.recommended,
            "no_treatment": {"prob_best": float(self.prob_best[-1]), "expected_loss": float(self.losses[-1])},
            "value_of_information": list(self.value_of_information),
            "shortlist": list(self.records),
            "sensitisation": [] if self.tradeoff is None else self.tradeoff.table.to_dict("records"),
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned
