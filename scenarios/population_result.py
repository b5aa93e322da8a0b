"""What a large virtual population hands back: endpoints over patients, bands over time, failures counted.

Unlike in `mscrenal.scenarios.results`, where bands are over draws of the mean over patients, the spread here is that
between patients who each carry a draw: what varies between people and what is not known, together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mscrenal.scenarios.endpoints import CHRONIC_START_DAY, ESKD_LIMIT_YEARS, Endpoint
from mscrenal.scenarios.results import Result, describe_arm, plain, prob_better
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sketch import RELATIVE_ERROR
from mscrenal.scenarios.sources import origin_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BAND", "MOST_LISTED", "PopulationResult", "Spread", "spread_of"]

BAND = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN = (0.05, 0.5, 0.95)
MOST_LISTED = 300  # failures told in full; the others are counted


@dataclass(frozen=True)
class Spread:
    """Mean, SD and quantiles over the patients that gave a number."""

    mean: float
    sd: float
    q05: float
    q50: float
    q95: float
    n: int

    @property
    def record(self) -> dict[str, float]:
        """As tables and JSON have it, without the count."""
        return {"mean": self.mean, "sd": self.sd, "q05": self.q05, "q50": self.q50, "q95": self.q95}


def spread_of(values: NDArray[np.floating]) -> Spread:
    """Mean, SD and exact quantiles of the finite ones of `values` (n,).

    >>> spread_of(np.array([1.0, 2.0, 3.0, np.nan])).mean
    2.0
    """
    known = np.asarray(values[np.isfinite(values)], dtype=np.float64)
    if not known.size:
        nothing = math.nan
        return Spread(nothing, nothing, nothing, nothing, nothing, 0)
    sd = float(known.std(ddof=1)) if known.size > 1 else math.nan
    q05, q50, q95 = (float(q) for q in np.quantile(known, SHOWN))
    return Spread(float(known.mean()), sd, q05, q50, q95, known.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationResult(Result):
    """Arms over a population. Made by `mscrenal.scenarios.population`.

    Attributes
    ----------
    values : ndarray (n_endpoints, n_arms, n_patients)
        Endpoints of each patient; NaN where one failed or has none.
    failed : ndarray of bool (n_arms, n_patients)
    flags : dict of 'extrapolated', 'censored' to ndarray of int (n_endpoints, n_arms)
        How many of the values rest on what comes after the horizon, or had not come at the limit.
    statuses : dict of status to how many simulations ended so
    listed : tuple of dict
        The first `MOST_LISTED` failures in full.
    undefined : dict of endpoint to why nobody has it
    bands : xarray.Dataset
        Quantiles over patients of the observables, dims (arm, time, quantile).
    """

    scenario: Scenario
    endpoints: tuple[Endpoint, ...]
    values: np.ndarray
    failed: np.ndarray
    flags: Mapping[str, np.ndarray]
    statuses: Mapping[str, int]
    listed: tuple[Mapping[str, Any], ...]
    undefined: Mapping[str, str]
    bands: xr.Dataset

    @property
    def reference(self) -> str:
        """Name of the reference arm."""
        return self.scenario.reference

    @property
    def origin(self) -> str:
        """Whether the draws are the prior's or a posterior's."""
        return str(self.provenance["origin"])

    @property
    def n_patients(self) -> int:
        """Size of the population."""
        return int(self.failed.shape[1])

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed patients, at most `MOST_LISTED`; `statuses` counts them all."""
        return self.listed

    @property
    def n_failed(self) -> int:
        """How many simulations failed, over all arms."""
        return int(self.failed.sum())

    @property
    def data(self) -> xr.Dataset:
        """Quantiles over patients: one variable per observable, dims (arm, time [day], quantile)."""
        return self.bands

    @property
    def band_note(self) -> str:
        """What the bands are, for captions."""
        draws = self.provenance["draws"]
        return (
            f"medians and 90 % ranges over {self.n_patients:,} virtual patients, who share {draws:,} draws of the "
            f"{origin_words(self.provenance)}: the spread between people and what is not known, together"
        )

    @property
    def extrapolated(self) -> Sequence[str]:
        """Class priors and rodent-only knowledge, and event times beyond the horizon."""
        notes = list(super().extrapolated)
        for wanted, count, values in zip(
            self.endpoints, self.flags["extrapolated"], self.values, strict=True
        ):
            if count.sum():
                share = count.sum() / np.isfinite(values).sum()
                notes.append(
                    f"{wanted.name}: {share:.0%} of the patients' values lie beyond the horizon "
                    f"({self.scenario.horizon_days:g} days), in a simulation that goes on without further doses"
                )
        return tuple(notes)

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made, in sentences."""
        notes = [
            *super().assumptions,
            "Patient j carries parameter draw j modulo the number of draws, and meets every arm.",
            "Means, SDs and quantiles are over patients: the spread between people and what is not known, together.",
            "Differences from the reference are taken patient by patient; the share who do better counts ties half.",
            "A failed patient is left out of that arm, and with the partner out of the difference, and counted.",
            f"Endpoint quantiles are exact; those of trajectories err by at most {RELATIVE_ERROR:.1%} of their value.",
            f"Slopes: least squares over the visits, total from day 0, chronic from day {CHRONIC_START_DAY:g}.",
            f"Time to eGFR < 15: the simulation goes on beyond the horizon, to at most {ESKD_LIMIT_YEARS:g} years.",
        ]
        if self.values.dtype == np.float32:
            notes.append(
                "So many endpoints are kept in single precision: each errs by up to 6e-8 of its value."
            )
        return notes

    @cached_property
    def arms(self) -> tuple[dict[str, Any], ...]:
        """The arms: regimen, failures, and `endpoints`."""
        records = []
        for a, arm in enumerate(self.scenario.arms):
            record = describe_arm(arm, self.scenario.weight_kg) | {"is_reference": arm.name == self.reference}
            n_failed = int(self.failed[a].sum())
            record |= {"n_failed": n_failed, "share_failed": n_failed / self.n_patients}
            record["endpoints"] = {
                wanted.name: self._endpoint(i, a) for i, wanted in enumerate(self.endpoints)
            }
            records.append(record)
        return tuple(records)

    def _endpoint(self, i: int, a: int) -> dict[str, Any]:
        wanted = self.endpoints[i]
        partner = [arm.name for arm in self.scenario.arms].index(self.reference)
        own = spread_of(self.values[i, a])
        # In double precision: a difference of two numbers kept in single loses nothing more.
        beside = self.values[i, partner].astype(np.float64)
        difference = self.values[i, a] - beside
        versus = spread_of(difference)
        return {
            "unit": wanted.unit,
            **own.record,
            "n": own.n,
            "vs_reference": {
                **versus.record,
                "n": versus.n,
                "share_better": prob_better(difference, beside, wanted.better),
                "unit": wanted.difference_unit,
            },
            "label": wanted.label,
            "better": wanted.better,
            "share_extrapolated": float(self.flags["extrapolated"][i, a] / max(own.n, 1)),
            "share_censored": float(self.flags["censored"][i, a] / max(own.n, 1)),
            "note": self.undefined.get(wanted.name, "") or self._missing(wanted, a, own.n),
        }

    def _missing(self, wanted: Endpoint, a: int, n: int) -> str:
        """Patients who came through and have no value all the same: in words, if there are any."""
        missing = self.n_patients - int(self.failed[a].sum()) - n
        if not missing:
            return ""
        why = "the simulation beyond the horizon failed" if wanted.kind == "time_to" else "it is not defined"
        return f"{missing:,} patients have no value: {why} for them"

    @cached_property
    def _table(self) -> pd.DataFrame:
        rows = []
        for arm in self.arms:
            for name, numbers in arm["endpoints"].items():
                own = {
                    k: v for k, v in numbers.items() if k not in ("vs_reference", "label", "unit", "better")
                }
                beside = {f"vs_reference_{key}": value for key, value in numbers["vs_reference"].items()}
                rows.append(
                    {"arm": arm["name"], "endpoint": name}
                    | {key: numbers[key] for key in ("label", "unit", "better")}
                    | own
                    | beside
                    | {"n_failed": arm["n_failed"], "share_failed": arm["share_failed"]}
                )
        return pd.DataFrame(rows)

    @property
    def table(self) -> pd.DataFrame:
        """One row per arm and endpoint.

        mean, sd, q05, q50, q95 over the n patients who have it; ``vs_reference_…`` the same of the differences patient by
        patient, and the share who do better; n_failed and share_failed of the arm's patients.
        """
        return self._table.copy()

    @cached_property
    def _records(self) -> pd.DataFrame:
        frames = []
        for name in self.bands.data_vars:
            block = self.bands[name].transpose("arm", "time", "quantile").values
            arms, times = self.bands["arm"].values.astype(str), self.bands["time"].values
            columns: dict[str, Any] = {
                "arm": np.repeat(arms, times.size),
                "time_day": np.tile(times, arms.size),
                "name": str(name),
                "unit": str(self.bands[name].attrs["unit"]),
            }
            columns |= {f"q{round(100 * q):02d}": block[..., k].ravel() for k, q in enumerate(BAND)}
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Endpoints, bands of the trajectories, and the failures that are listed."""
        made = {"population": self.table, "trajectories": self._records.copy()}
        return made | ({"failures": pd.DataFrame(list(self.listed))} if self.listed else {})

    @property
    def summary(self) -> pd.DataFrame:
        """The table in words, for a terminal."""
        rows = []
        for arm in self.arms:
            for numbers in arm["endpoints"].values():
                beside = numbers["vs_reference"]
                unit = "" if numbers["unit"] == "1" else f" [{numbers['unit']}]"
                name = f"{numbers['label']}{unit}"
                row = {
                    "endpoint": name,
                    "arm": arm["name"],
                    "mean ± SD": _mean(numbers),
                    "median (5–95 %)": _range(numbers),
                }
                own = arm["is_reference"]
                row["difference (5–95 %)"] = "reference" if own else _range(beside)
                row["share better"] = "" if own else _digits(beside["share_better"])
                rows.append(row)
        # Side by side what is to be compared.
        order = {wanted.label: i for i, wanted in enumerate(self.endpoints)}
        place = [
            order[label] for arm in self.arms for label in (e["label"] for e in arm["endpoints"].values())
        ]
        return pd.DataFrame([rows[k] for k in np.argsort(place, kind="stable")])

    def plot(self) -> dict[str, Figure]:
        """Figure time_courses: medians and 5 to 95 % of the patients, arm by arm."""
        from mscrenal.scenarios import figures

        note = f"{self.band_note}; left out: {self.n_failed:,} failed" if self.n_failed else self.band_note
        return {
            "time_courses": figures.time_courses(
                self.bands,
                reference=self.reference,
                doses={arm.name: arm.dose_days for arm in self.scenario.arms},
                caption=figures.Caption(self.title, note),
            )
        }

    def to_json(self) -> dict[str, Any]:
        """`arms[]` and `records[]`, beside provenance, extrapolated and failures."""
        document = self._document() | {
            "command": self.command,
            "scenario": self.scenario.name,
            "title": self.title,
            "question": self.question,
            "source": self.scenario.source,
            "reference": self.reference,
            "horizon_days": self.scenario.horizon_days,
            "origin": self.origin,
            "n_draws": self.provenance["draws"],
            "n_patients": self.n_patients,
            "n_failed": self.n_failed,
            "failed_by_status": dict(self.statuses),
            "relative_error": RELATIVE_ERROR,
            "estimate": "mean, SD and quantiles over patients, each with a draw",
            "arms": list(self.arms),
            "records": self._records.to_dict("records"),
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned


def _digits(value: float) -> str:
    """Three significant digits, a dash where there is no number."""
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _mean(numbers: Mapping[str, float]) -> str:
    return f"{_digits(numbers['mean'])} ± {_digits(numbers['sd'])}" if math.isfinite(numbers["mean"]) else "–"


def _range(numbers: Mapping[str, float]) -> str:
    if not math.isfinite(numbers["q50"]):
        return "–"
    return f"{_digits(numbers['q50'])} ({_digits(numbers['q05'])}, {_digits(numbers['q95'])})"
