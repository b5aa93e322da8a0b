"""What a command hands back: statistics over draws, tables, figures, files, JSON.

How numbers come about, for every result:

- The estimate of one draw is the **mean over the patients** of the run (a single patient is a population
  of one); medians and 90 % bands are over the draws.
- A comparison with the reference is made patient by patient within a draw (the same virtual patient met
  both arms), then averaged, then summarised over draws.
- A subject whose simulation failed is left out, together with its partner in the other arm, and counted.
  NaN never becomes a number: what is not defined is NaN in tables and null in JSON.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from importlib.metadata import entry_points
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from mscrenal.scenarios.endpoints import (
    CHRONIC_START_DAY,
    ESKD_LIMIT_YEARS,
    Endpoint,
    endpoint,
    evaluate,
    reached_on,
)
from mscrenal.scenarios.sources import origin_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "CompareResult",
    "CompareSeries",
    "ExplainResult",
    "OutputError",
    "Result",
    "ResultError",
    "RunLike",
    "RunResult",
    "ScenariosResult",
    "SimulateResult",
    "Summary",
    "check_output_folder",
    "compare_result",
    "compare_series",
    "describe_arm",
    "explain_result",
    "plain",
    "prob_better",
    "scenarios_result",
    "shapley",
    "simulate_result",
    "summarise",
    "to_json_text",
]

Array = NDArray[np.float64]
QUANTILES = (0.05, 0.5, 0.95)
MOST_FOREST = 9  # panels of a forest plot that stay legible on one printed page

# Two arms that differ by less than this, relative to the larger of 1 and the reference's value, are the
# same arm up to the solver's tolerance: such a draw counts half for either side.
TIE = 1e-6


class ResultError(ValueError):
    """A result cannot be computed from what was given."""


class OutputError(ValueError):
    """A result cannot be written where it should go."""


class RunLike(Protocol):
    """What results need of a run (`mscrenal.scenarios.run` makes it).

    data: dims (arm, draw, patient, time), one variable per observable with attributes unit and label,
    time in days. status: dims (arm, draw, patient), 'ok' or why not. provenance: holds 'origin', and
    may hold 'extrapolated' and 'assumptions' (lists of sentences).
    """

    @property
    def data(self) -> xr.Dataset: ...
    @property
    def status(self) -> xr.DataArray: ...
    @property
    def failures(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def scenario(self) -> Any: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...


# --------------------------------------------------------------------------- JSON without NaN


def plain(value: Any) -> Any:
    """The value as JSON knows it: NaN and infinity become None, NumPy types become Python's.

    >>> plain({"a": np.float64("nan"), "b": np.int64(2), "c": (1.5,)})
    {'a': None, 'b': 2, 'c': [1.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value)


def to_json_text(document: Any) -> str:
    """Strict JSON (RFC 8259), one document."""
    return json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=1)


# --------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class Summary:
    """Median and 90 % band over the draws that gave a number."""

    median: float
    low: float
    high: float
    n: int

    @property
    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"median": self.median, "ci90": [self.low, self.high]}


def summarise(draws: ArrayLike) -> Summary:
    """Median and 5 to 95 % quantiles of the finite ones of `draws` (n_draws,).

    >>> summarise([1.0, 2.0, 3.0, float("nan")]).median
    2.0
    """
    values = np.asarray(draws, dtype=float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Summary(math.nan, math.nan, math.nan, 0)
    low, median, high = np.quantile(values, QUANTILES)
    return Summary(float(median), float(low), float(high), int(values.size))


def _mean_over(values: Array, usable: NDArray[np.bool_], axis: int) -> Array:
    """Mean over the usable finite entries along one axis; NaN where there is none."""
    kept = usable & np.isfinite(values)
    count = kept.sum(axis=axis)
    total = np.where(kept, values, 0.0).sum(axis=axis)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def prob_better(difference: ArrayLike, reference: ArrayLike, better: str) -> float:
    """Share of draws in which an arm is better than the reference, ties counting half.

    difference: (n_draws,), arm minus reference; reference: (n_draws,), for the size of a tie; better:
    'higher' or 'lower'. NaN without a finite draw.
    >>> prob_better([-2.0, -1.0, 0.0, 1.0], [10.0, 10.0, 10.0, 10.0], "lower")
    0.625
    """
    values, beside = np.asarray(difference, dtype=float), np.asarray(reference, dtype=float)
    kept = np.isfinite(values)
    if not kept.any():
        return math.nan
    values = values[kept]
    scale = np.maximum(1.0, np.abs(np.nan_to_num(beside[kept])))
    tied = np.abs(values) <= TIE * scale
    wins = values > 0 if better == "higher" else values < 0
    return float(np.mean(np.where(tied, 0.5, wins)))


def shapley(values: Mapping[frozenset[str], ArrayLike]) -> dict[str, Array]:
    """Shapley values of the players in every coalition's value.

    values: the value of each of the 2^n coalitions, keyed by the set of its members (here the arms of
    action that are **not** knocked out), each (n_draws,) or a number. Returns each player's share,
    (n_draws,): its contribution on joining, averaged over all orders of joining. The shares sum to
    value(all) - value(none). Shapley 1953, in Contributions to the Theory of Games II, 307-317.
    Raises ResultError if a coalition is missing.
    >>> shapley({frozenset(): 0, frozenset("a"): 1, frozenset("b"): 2, frozenset("ab"): 5})["b"].item()
    3.0
    """
    players = sorted(frozenset().union(*values)) if values else []
    coalitions = [frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)]
    missing = [coalition for coalition in coalitions if coalition not in values]
    if not players or missing:
        first = ", ".join(sorted(missing[0])) if missing and missing[0] else "the empty one"
        raise ResultError(
            f"Shapley values of {len(players)} players need all {2 ** len(players)} coalitions, got "
            f"{len(values)}; missing, for one: {first}. Simulate every combination of knock-outs."
        )
    n = len(players)
    numbers = {coalition: np.asarray(values[coalition], dtype=float) for coalition in coalitions}
    share = {}
    for player in players:
        total = np.zeros_like(numbers[frozenset()])
        for coalition in coalitions:
            if player in coalition:
                continue
            size = len(coalition)
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            total = total + weight * (numbers[coalition | {player}] - numbers[coalition])
        share[player] = total
    return share


# --------------------------------------------------------------------------- arms and runs in words


def describe_arm(arm: Any, weight_kg: float) -> dict[str, Any]:
    """An arm's regimen as the tables and JSON show it.

    An arm without doses has product 'none' and no route, dose or interval. Totals count living cells,
    per kg at `weight_kg`: none for EVs and conditioned medium. `drugs_added` lists background drugs
    that only this arm gets.
    """
    given = arm.n_doses > 0
    return {
        "name": arm.name,
        "product": arm.product,
        "route": arm.route if given else None,
        "n_doses": int(arm.n_doses),
        "dose": arm.dose if given else None,
        "interval_days": arm.interval_days,
        "total_cells_per_kg": float(arm.total_cells_per_kg(weight_kg)),
        "drugs_added": [str(course.drug) for course in arm.drugs_added],
    }


def _dose_days(scenario: Any) -> dict[str, tuple[float, ...]]:
    return {arm.name: tuple(arm.dose_days) for arm in scenario.arms}


def _ok(run: RunLike) -> NDArray[np.bool_]:
    """Which subjects have a trajectory to count on, (arm, draw, patient)."""
    return np.asarray(run.status.transpose("arm", "draw", "patient").values == "ok")


def _values(run: RunLike, observable: str, of: str) -> Array:
    """Trajectories of an observable, (arm, draw, patient, time), NaN for failed subjects."""
    if observable not in run.data:
        raise ResultError(
            f"{of} needs the observable {observable!r}, which the run does not hold. "
            f"It holds: {', '.join(sorted(str(name) for name in run.data.data_vars))}."
        )
    values = run.data[observable].transpose("arm", "draw", "patient", "time").values.astype(float)
    return np.where(_ok(run)[..., np.newaxis], values, np.nan)


def _failures(run: RunLike) -> list[dict[str, Any]]:
    keys = ("arm", "draw", "patient", "status", "message")
    return [{key: plain(failure.get(key)) for key in keys} for failure in run.failures]


def _origin(provenance: Mapping[str, Any]) -> str:
    origin = provenance.get("origin")
    if origin not in ("prior", "posterior"):
        raise ResultError(f"The run's provenance says origin {origin!r}. Allowed: 'prior', 'posterior'.")
    return str(origin)


def _band_note(provenance: Mapping[str, Any], n_draws: int, n_patients: int) -> str:
    """The honest line under every figure's title."""
    mean = (
        f"; each draw is the mean over {n_patients} patients" if n_patients > 1 else "; one virtual patient"
    )
    _origin(provenance)
    words, _, of = origin_words(provenance).partition(" (")
    data = f"{of.removesuffix(')')}; " if of else ""
    return f"medians; bands: 90 % of {words} draws ({data}n={n_draws}){mean}"


def _conventions(run: RunLike) -> list[str]:
    """How the numbers are made, in sentences, for the report."""
    many = run.data.sizes["patient"] > 1
    return [
        "The estimate of a draw is the mean over its patients."
        if many
        else "One virtual patient: bands tell what is not known of the biology, not how patients differ.",
        "Medians and 90 % bands are over draws. The same draw and the same virtual patient meet every arm.",
        f"Slopes: least squares over the visits, total from day 0, chronic from day {CHRONIC_START_DAY:g} "
        "(Inker 2019, doi:10.1681/ASN.2019010007).",
        f"Time to eGFR < 15: the simulation goes on beyond the horizon, no further doses given, to at most {ESKD_LIMIT_YEARS:g} years.",
        "The chronic slope of a short trial also holds the waning of a passing gain: an arm that gains early "
        "and loses it again can end above the reference and still have the steeper slope.",
        "P(better) is the share of draws in which the arm beats the reference, ties counting half.",
        "Failed subjects are left out together with their partner in the reference arm, and listed.",
    ]


# --------------------------------------------------------------------------- files

ReportWriter = Callable[["Result"], str]


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Refuse, before anything is computed, a folder that cannot take a result.

    A new or an empty folder will do. Returns its path. Raises OutputError otherwise.
    """
    folder = Path(path).expanduser()
    given = f"Output folder {str(folder)!r}"
    try:
        if folder.is_symlink() or folder.exists():
            if not folder.is_dir():
                raise OutputError(f"{given} is a file, not a folder. Nothing was overwritten.")
            if any(folder.iterdir()):
                raise OutputError(
                    f"{given} exists and is not empty. Nothing was overwritten. Choose another or empty it."
                )
        parent = folder.absolute().parent
        while not parent.exists():
            parent = parent.parent
        # Trying is surer than asking: permission bits say nothing of read-only or full file systems.
        os.rmdir(tempfile.mkdtemp(prefix=".mscrenal-", dir=parent))
    except OSError as error:
        raise OutputError(
            f"{given} cannot be written: {error.strerror or error}. Choose a folder that you may write to."
        ) from error
    return folder


def _installed_report() -> ReportWriter | None:
    """The report writer that the application registers, if it is installed (group 'mscrenal.report').

    An entry point, because this room must not import the application, which stands to its right.
    """
    for point in entry_points(group="mscrenal.report"):
        writer: ReportWriter = point.load()
        return writer
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(ABC):
    """What every command hands back; each kind fills in its tables, figures and JSON."""

    command: str
    title: str
    question: str
    provenance: Mapping[str, Any]

    @property
    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The main table, tidy."""

    @property
    @abstractmethod
    def data(self) -> xr.Dataset:
        """The numbers behind it, labelled."""

    @abstractmethod
    def plot(self) -> dict[str, Figure]:
        """Figures by file name."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The document that the command prints with ``--json``."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by file name."""
        return {self.command: self.table}

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed subjects: arm, draw, patient, status, message."""
        return ()

    @property
    def extrapolated(self) -> Sequence[str]:
        """What rests on class priors, on rodents only, or on a continuation beyond the horizon."""
        return tuple(self.provenance.get("extrapolated", ()))

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made, in sentences."""
        return tuple(self.provenance.get("assumptions", ()))

    def save(self, folder: str | os.PathLike[str], *, report: ReportWriter | None = None) -> Path:
        """Write tables (CSV, Parquet), figures (SVG, PNG), result.json, provenance.json, report.html.

        All is written beside `folder` first and renamed at the end: a half-written result never
        stands under the final name. `report` turns the result into HTML; by default the one that the
        application registers. Raises OutputError if the folder is taken or cannot be written.
        """
        target = check_output_folder(folder)
        writer = report or _installed_report()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.absolute().parent))
        except OSError as error:
            raise OutputError(
                f"Output folder {str(target)!r} cannot be written: {error.strerror or error}."
            ) from error
        try:
            partial.chmod(0o777 & ~_umask())
            self._write(partial, writer)
            if target.is_dir():
                target.rmdir()
            partial.rename(target)
        except OSError as error:
            raise OutputError(
                f"Output folder {str(target)!r} cannot be written: {error.strerror or error}."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def _write(self, folder: Path, report: ReportWriter | None) -> None:
        for name, table in self.tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
            table.to_parquet(folder / f"{name}.parquet", index=False)
        figures = self.plot()
        if figures:
            from mscrenal.scenarios.style import house_style

            with house_style():
                for name, figure in figures.items():
                    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
                    figure.savefig(folder / f"{name}.png", dpi=150)
        (folder / "result.json").write_text(to_json_text(self.to_json()) + "\n", encoding="utf-8")
        (folder / "provenance.json").write_text(to_json_text(self.provenance) + "\n", encoding="utf-8")
        if report is not None:
            (folder / "report.html").write_text(report(self), encoding="utf-8")

    def _document(self) -> dict[str, Any]:
        """What every JSON document carries."""
        return {
            "provenance": plain(self.provenance),
            "extrapolated": list(self.extrapolated),
            "failures": [dict(failure) for failure in self.failures],
        }


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


# --------------------------------------------------------------------------- compare


def _headed(command: str, run: RunLike) -> dict[str, Any]:
    """The heading of a result that comes from a run."""
    return {
        "command": command,
        "title": str(run.scenario.title),
        "question": str(run.scenario.question),
        "provenance": run.provenance,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult(Result):
    """A result that shows a run: what compare and simulate share."""

    run: RunLike

    @property
    def scenario(self) -> Any:
        """The scenario that was run."""
        return self.run.scenario

    @property
    def reference(self) -> str:
        """Name of the reference arm."""
        return str(self.run.scenario.reference)

    @property
    def origin(self) -> str:
        """Whether the draws are the prior's or a posterior's."""
        return _origin(self.provenance)

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed subjects."""
        return _failures(self.run)

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made."""
        return (*self.provenance.get("assumptions", ()), *_conventions(self.run))

    @property
    def band_note(self) -> str:
        """What the bands are, for captions."""
        sizes = self.run.data.sizes
        return _band_note(self.provenance, sizes["draw"], sizes["patient"])

    def _document(self) -> dict[str, Any]:
        scenario, sizes = self.run.scenario, self.run.data.sizes
        return super()._document() | {
            "command": self.command,
            "scenario": scenario.name,
            "title": self.title,
            "question": self.question,
            "source": scenario.source,
            "reference": self.reference,
            "horizon_days": scenario.horizon_days,
            "origin": self.origin,
            "n_draws": sizes["draw"],
            "n_patients": sizes["patient"],
            "estimate": "mean over patients in each draw; median and 90 % band over draws",
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class CompareResult(RunResult):
    """Arms of a scenario side by side. Made by `compare_result`."""

    endpoints: tuple[Endpoint, ...]
    endpoint_data: xr.Dataset
    undefined: Mapping[str, str]

    @property
    def data(self) -> xr.Dataset:
        """`value`, flags (endpoint, arm, draw, patient); `estimate`, `difference` (endpoint, arm, draw)."""
        return self.endpoint_data

    @property
    def extrapolated(self) -> Sequence[str]:
        """Class priors and rodent-only knowledge of the run, and event times beyond the horizon."""
        notes = list(self.run.provenance.get("extrapolated", ()))
        for wanted in self.endpoints:
            part = self.endpoint_data.sel(endpoint=wanted.name)
            share = _share(part["extrapolated"].values, part["value"].values)
            if share > 0:
                notes.append(
                    f"{wanted.name}: {share:.0%} of the subjects' values lie beyond the horizon "
                    f"({self.run.scenario.horizon_days:g} days), in a simulation that goes on without further doses"
                )
        return tuple(notes)

    @cached_property
    def arms(self) -> tuple[dict[str, Any], ...]:
        """The arms as the interface has them: regimen and `endpoints`."""
        records = []
        for arm in self.run.scenario.arms:
            record = describe_arm(arm, self.scenario.weight_kg) | {"is_reference": arm.name == self.reference}
            record["n_failed"] = int((self.run.status.sel(arm=arm.name) != "ok").sum())
            record["endpoints"] = {wanted.name: self._endpoint(arm.name, wanted) for wanted in self.endpoints}
            records.append(record)
        return tuple(records)

    def _endpoint(self, arm: str, wanted: Endpoint) -> dict[str, Any]:
        part = self.endpoint_data.sel(endpoint=wanted.name)
        own = summarise(part["estimate"].sel(arm=arm).values)
        difference = part["difference"].sel(arm=arm).values
        beside = part["estimate"].sel(arm=self.reference).values
        note = self.undefined.get(wanted.name, "")
        values = part["value"].sel(arm=arm).values
        return {
            "unit": wanted.unit,
            **own.record,
            "vs_reference": {
                **summarise(difference).record,
                "prob_better": prob_better(difference, beside, wanted.better),
                "unit": wanted.difference_unit,
            },
            "label": wanted.label,
            "better": wanted.better,
            "n_draws": own.n,
            "share_extrapolated": _share(part["extrapolated"].sel(arm=arm).values, values),
            "share_censored": _share(part["censored"].sel(arm=arm).values, values),
            "note": note,
        }

    @cached_property
    def _table(self) -> pd.DataFrame:
        rows = []
        for record in self.arms:
            regimen = {
                key: value for key, value in record.items() if key not in ("endpoints", "name", "drugs_added")
            }
            for name, numbers in record["endpoints"].items():
                beside = numbers["vs_reference"]
                rows.append(
                    {
                        "arm": record["name"],
                        "endpoint": name,
                        "label": numbers["label"],
                        "unit": numbers["unit"],
                    }
                    | {"better": numbers["better"]}
                    | _flat("", numbers)
                    | _flat("vs_reference_", beside)
                    | {"vs_reference_unit": beside["unit"], "prob_better": beside["prob_better"]}
                    | {"n_draws": numbers["n_draws"]}
                    | {key: numbers[key] for key in ("share_extrapolated", "share_censored", "note")}
                    | regimen
                    | {"drugs_added": ", ".join(record["drugs_added"]), "origin": self.origin}
                )
        return pd.DataFrame(rows)

    @property
    def table(self) -> pd.DataFrame:
        """One row per arm and endpoint."""
        return self._table.copy()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The comparison, the trajectories' bands, and every draw's estimate."""
        draws = self.endpoint_data[["estimate", "difference"]].to_dataframe().reset_index()
        bands = _records(self.run)
        return {"compare": self.table, "trajectories": bands, "draws": draws} | _failure_table(self)

    def plot(self) -> dict[str, Figure]:
        """Figures time_courses, cells, forest (forest_2 … for more endpoints than fit a page) and, for a grid of doses,
        dose_frequency.
        """
        from mscrenal.scenarios import figures

        caption = figures.Caption(self.title, self.band_note)
        made = _time_figures(self.run, caption, self._foremost())
        names = [wanted.name for wanted in self.endpoints]
        pages = math.ceil(len(names) / MOST_FOREST)
        each = 3 * math.ceil(len(names) / pages / 3)  # whole rows of panels, as many on each page
        for page in range(pages):
            part = self.table[self.table["endpoint"].isin(names[page * each : (page + 1) * each])]
            if len(part):
                made["forest" if page == 0 else f"forest_{page + 1}"] = figures.forest(
                    part, reference=self.reference, caption=caption
                )
        grid = _dose_grid(self)
        if grid is not None:
            draws = self.run.data.sizes["draw"]
            note = f"median difference from {self.reference}, and P(better); {self.origin} draws (n={draws})"
            made["dose_frequency"] = figures.dose_grid(
                grid, reference=self.reference, caption=figures.Caption(self.title, note)
            )
        return made

    def _foremost(self) -> list[str]:
        """The arms that do best on the first endpoint: those that a crowded figure brings out."""
        if not self.endpoints:
            return []
        first = self.table[self.table["endpoint"] == self.endpoints[0].name]
        ranked = first.sort_values("vs_reference_median", ascending=self.endpoints[0].better == "lower")
        return [arm for arm in ranked["arm"] if arm != self.reference][:5]

    def to_json(self) -> dict[str, Any]:
        """`arms[]` of the interface, beside provenance, extrapolated, failures and origin."""
        cleaned: dict[str, Any] = plain(self._document() | {"arms": list(self.arms)})
        return cleaned


def _flat(stem: str, numbers: Mapping[str, Any]) -> dict[str, float]:
    low, high = numbers["ci90"]
    return {f"{stem}median": numbers["median"], f"{stem}low": low, f"{stem}high": high}


def _share(flags: NDArray[np.bool_], values: Array) -> float:
    """Share of the defined values that carry a flag."""
    defined = np.isfinite(values)
    return float((flags & defined).sum() / max(int(defined.sum()), 1))


def _failure_table(result: Result) -> dict[str, pd.DataFrame]:
    return {"failures": pd.DataFrame(list(result.failures))} if result.failures else {}


def compare_result(run: RunLike, endpoints: Sequence[str] | None = None) -> CompareResult:
    """Endpoints of every arm and their differences from the reference.

    `endpoints` defaults to the scenario's. Raises EndpointError for an unknown one, ResultError if the
    run lacks an observable or its provenance does not say where the draws are from.
    """
    scenario = run.scenario
    wanted = tuple(endpoint(name) for name in dict.fromkeys(endpoints or scenario.endpoints))
    if not wanted:
        raise ResultError("No endpoint given. Name at least one, such as 'egfr_change'.")
    _origin(run.provenance)
    days = run.data["time"].values.astype(float)
    arms = [str(arm) for arm in run.data["arm"].values]
    partner = arms.index(scenario.reference)
    ok = _ok(run)
    both = ok & ok[partner]
    parts: dict[str, list[NDArray[Any]]] = {
        key: [] for key in ("value", "extrapolated", "censored", "estimate", "difference")
    }
    undefined = {}
    for item in wanted:
        trajectories = _values(run, item.observable, f"Endpoint {item.name!r}")
        eskd_days = getattr(run, "eskd_days", None)
        if item.kind == "time_to" and eskd_days is not None:
            simulated = eskd_days.transpose("arm", "draw", "patient").values
            found = reached_on(np.where(ok, simulated, np.nan), float(scenario.horizon_days))
        else:
            found = evaluate(
                item.name,
                trajectories,
                days,
                horizon_days=float(scenario.horizon_days),
                visits=scenario.visits,
            )
        if found.undefined:
            undefined[item.name] = found.undefined
        parts["value"].append(found.values)
        parts["extrapolated"].append(found.extrapolated)
        parts["censored"].append(found.censored)
        parts["estimate"].append(_mean_over(found.values, ok, axis=2))
        parts["difference"].append(_mean_over(found.values - found.values[partner], both, axis=2))
    full, reduced = ("endpoint", "arm", "draw", "patient"), ("endpoint", "arm", "draw")
    data = xr.Dataset(
        {k: (reduced if k in ("estimate", "difference") else full, np.stack(v)) for k, v in parts.items()},
        coords={"endpoint": [item.name for item in wanted]}
        | {dim: run.data[dim].values for dim in ("arm", "draw", "patient")}
        | {"unit": ("endpoint", [item.unit for item in wanted])},
    )
    return CompareResult(
        **_headed("compare", run), run=run, endpoints=wanted, endpoint_data=data, undefined=undefined
    )


def _dose_grid(result: CompareResult) -> pd.DataFrame | None:
    """The table of a dose x frequency heat map, or None if the arms are no such grid."""
    cells = []
    for arm, record in zip(result.scenario.arms, result.arms, strict=True):
        if record["is_reference"] or len(arm.courses) != 1 or not record["n_doses"]:
            continue
        interval = record["interval_days"]
        if interval is None and record["n_doses"] > 1:
            continue  # an irregular schedule has no place on an axis of intervals
        schedule = (
            f"{record['n_doses']} ×" if record["n_doses"] == 1 else f"{record['n_doses']} × {interval:g} d"
        )
        size = arm.doses(result.scenario.weight_kg)[0].amount
        cells.append(
            (
                f"{record['product']} {record['route']}",
                record,
                size,
                schedule,
                (record["n_doses"], interval or 0),
            )
        )
    by_product: dict[str, list[tuple[Any, ...]]] = {}
    for cell in cells:
        by_product.setdefault(cell[0], []).append(cell)
    grids = {
        product: group
        for product, group in by_product.items()
        if len({c[2] for c in group}) > 1
        and len({c[3] for c in group}) > 1
        and len(group) >= 4
        and len({(c[2], c[3]) for c in group}) == len(group)
    }
    if not grids:
        return None
    schedules = sorted({c[4] for group in grids.values() for c in group})
    rows = [
        {
            "panel": product if len(grids) > 1 else "",
            "label": numbers["label"],
            "unit": numbers["vs_reference"]["unit"],
            "better": numbers["better"],
            "dose": record["dose"],
            "dose_order": size,
            "schedule": schedule,
            "schedule_order": schedules.index(order),
            "value": numbers["vs_reference"]["median"],
            "prob_better": numbers["vs_reference"]["prob_better"],
        }
        for product, group in grids.items()
        for _, record, size, schedule, order in group
        for numbers in record["endpoints"].values()
        if math.isfinite(numbers["vs_reference"]["median"])
    ]
    return pd.DataFrame(rows) if rows else None


# --------------------------------------------------------------------------- several scenarios


@dataclass(frozen=True, kw_only=True, eq=False)
class CompareSeries(Result):
    """Several comparisons, one after the other. Made by `compare_series`."""

    results: tuple[CompareResult, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The tables on top of each other, with a column `scenario`."""
        return pd.concat([r.table.assign(scenario=r.scenario.name) for r in self.results], ignore_index=True)

    @property
    def data(self) -> xr.Dataset:
        """The first scenario's data; the others are in `results` (their arms differ)."""
        return self.results[0].data

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The joint table, and each scenario's own."""
        each = {f"{r.scenario.name}_{name}": t for r in self.results for name, t in r.tables.items()}
        return {"compare": self.table} | each

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed subjects of all scenarios, each with its scenario."""
        return tuple({"scenario": r.scenario.name, **failure} for r in self.results for failure in r.failures)

    @property
    def extrapolated(self) -> Sequence[str]:
        """Of all scenarios, each once."""
        return tuple(dict.fromkeys(note for result in self.results for note in result.extrapolated))

    @property
    def assumptions(self) -> Sequence[str]:
        """Of all scenarios, each once."""
        return tuple(dict.fromkeys(note for result in self.results for note in result.assumptions))

    def plot(self) -> dict[str, Figure]:
        """Each scenario's figures, the scenario's name in front."""
        return {f"{r.scenario.name}_{name}": f for r in self.results for name, f in r.plot().items()}

    def to_json(self) -> dict[str, Any]:
        """`arms[]` of all scenarios, each with its `scenario`; whole documents in `results`."""
        documents = [result.to_json() for result in self.results]
        arms = [arm | {"scenario": doc["scenario"]} for doc in documents for arm in doc["arms"]]
        return self._document() | {"command": self.command, "arms": arms, "results": documents}


def compare_series(results: Sequence[CompareResult]) -> CompareResult | CompareSeries:
    """Several comparisons as one result; a single one stays what it is."""
    if not results:
        raise ResultError("No comparison given. Run at least one scenario.")
    if len(results) == 1:
        return results[0]
    return CompareSeries(
        command="compare",
        title="; ".join(result.title for result in results),
        question="",
        provenance={str(result.scenario.name): dict(result.provenance) for result in results},
        results=tuple(results),
    )


# --------------------------------------------------------------------------- simulate


def _bands(run: RunLike) -> xr.Dataset:
    """Per observable (arm, time, quantile): quantiles over draws of the mean over patients."""
    return _quantiles(run, lambda values: _mean_over(values, np.isfinite(values), axis=2))


def _patient_bands(run: RunLike) -> xr.Dataset:
    """Per observable (arm, time, quantile): quantiles over patients, the median draw of each."""

    def across(values: Array, q: float) -> Array:
        found = _finite_quantile(np.moveaxis(values, 2, 0), q)
        return found

    parts = {}
    for name in run.data.data_vars:
        values = _values(run, str(name), "A band")
        stacked = [_finite_quantile(np.moveaxis(across(values, q), 1, 0), 0.5) for q in QUANTILES]
        parts[str(name)] = (
            ("arm", "time", "quantile"),
            np.stack(stacked, axis=-1),
            dict(run.data[name].attrs),
        )
    return _labelled(run, parts)


def _finite_quantile(values: Array, q: float) -> Array:
    """Quantile over the first axis, of the finite entries; NaN where there is none."""
    finite = np.isfinite(values)
    if finite.all():
        return np.asarray(np.quantile(values, q, axis=0))
    ordered = np.sort(np.where(finite, values, np.inf), axis=0)
    count = finite.sum(axis=0)
    place = q * np.maximum(count - 1, 0)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below = np.take_along_axis(ordered, low[np.newaxis], axis=0)[0]
    above = np.take_along_axis(ordered, high[np.newaxis], axis=0)[0]
    usable = count > 0
    below, above = np.where(usable, below, 0.0), np.where(usable, above, 0.0)
    return np.where(usable, below + (place - low) * (above - below), np.nan)


def _quantiles(run: RunLike, per_draw: Callable[[Array], Array]) -> xr.Dataset:
    parts = {}
    for name in run.data.data_vars:
        estimate = per_draw(_values(run, str(name), "A band"))
        stacked = [_finite_quantile(np.moveaxis(estimate, 1, 0), q) for q in QUANTILES]
        parts[str(name)] = (
            ("arm", "time", "quantile"),
            np.stack(stacked, axis=-1),
            dict(run.data[name].attrs),
        )
    return _labelled(run, parts)


def _labelled(run: RunLike, parts: Mapping[str, Any]) -> xr.Dataset:
    coords = {dim: run.data[dim].values for dim in ("arm", "time")}
    return xr.Dataset(dict(parts), coords=coords | {"quantile": list(QUANTILES)})


def _records(run: RunLike) -> pd.DataFrame:
    """Tidy bands: arm, time_day, name, unit, q05, q50, q95, and of the patients where there are several."""
    several = run.data.sizes["patient"] > 1
    kinds = {"": _bands(run)} | ({"patients_": _patient_bands(run)} if several else {})
    frames = []
    for name in run.data.data_vars:
        columns = {}
        for stem, bands in kinds.items():
            block = bands[name].transpose("arm", "time", "quantile").values
            for place, short in enumerate(("q05", "q50", "q95")):
                columns[f"{stem}{short}"] = block[..., place].ravel()
        arms, times = run.data["arm"].values.astype(str), run.data["time"].values.astype(float)
        frames.append(
            pd.DataFrame(
                {
                    "arm": np.repeat(arms, times.size),
                    "time_day": np.tile(times, arms.size),
                    "name": str(name),
                    "unit": str(run.data[name].attrs.get("unit", "")),
                }
                | columns
            )
        )
    return pd.concat(frames, ignore_index=True)


def _time_figures(run: RunLike, caption: Any, highlight: Sequence[str] | None) -> dict[str, Figure]:
    from mscrenal.scenarios import figures

    common: dict[str, Any] = {
        "reference": str(run.scenario.reference),
        "doses": _dose_days(run.scenario),
        "caption": caption,
        "highlight": highlight,
    }
    made = {"time_courses": figures.time_courses(_bands(run), **common)}
    cells = figures.cells_per_organ(_bands(run), **common)
    return made | ({"cells": cells} if cells is not None else {})


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulateResult(RunResult):
    """Trajectories with bands. Made by `simulate_result`."""

    @cached_property
    def _table(self) -> pd.DataFrame:
        return _records(self.run)

    @property
    def table(self) -> pd.DataFrame:
        """Tidy: arm, time_day, name, unit, q05, q50, q95 (over draws, of the mean over patients).

        With several patients also patients_q05, patients_q50, patients_q95: the spread between
        patients, each the median over draws.
        """
        return self._table.copy()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The bands, and failed subjects."""
        return {"simulate": self.table} | _failure_table(self)

    @property
    def data(self) -> xr.Dataset:
        """The whole run: one variable per observable, dims (arm, draw, patient, time)."""
        return self.run.data

    def plot(self) -> dict[str, Figure]:
        """Figures time_courses, cells and, for a population, patients."""
        from mscrenal.scenarios import figures

        sizes = self.run.data.sizes
        note = _band_note(self.run.provenance, sizes["draw"], sizes["patient"])
        made = _time_figures(self.run, figures.Caption(self.title, note), None)
        if sizes["patient"] > 1:
            between = (
                f"bands: 5 to 95 % of the {sizes['patient']} patients; "
                f"each quantile is the median of {sizes['draw']} {self.origin} draws"
            )
            made["patients"] = figures.time_courses(
                _patient_bands(self.run),
                reference=str(self.run.scenario.reference),
                doses=_dose_days(self.run.scenario),
                caption=figures.Caption(self.title, between),
            )
        return made

    def to_json(self) -> dict[str, Any]:
        """`records[]` of the interface, beside provenance, extrapolated, failures and origin."""
        cleaned: dict[str, Any] = plain(self._document() | {"records": self._table.to_dict("records")})
        return cleaned


def simulate_result(run: RunLike) -> SimulateResult:
    """Trajectories of a run. Raises ResultError if its provenance does not say where the draws are from."""
    _origin(run.provenance)
    return SimulateResult(**_headed("simulate", run), run=run)


# --------------------------------------------------------------------------- explain


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainResult(Result):
    """How much of an effect each arm of action carries. Made by `explain_result`.

    shares, losses: (n_draws,) per arm of action; total, residual: (n_draws,).
    """

    scenario: Any
    arm: str
    endpoint: Endpoint
    shares: Mapping[str, Array]
    losses: Mapping[str, Array]
    total: Array
    residual: Array
    failed: tuple[Mapping[str, Any], ...] = ()

    @property
    def origin(self) -> str:
        """Whether the draws are the prior's or a posterior's."""
        return _origin(self.provenance)

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed subjects, among all coalitions."""
        return self.failed

    @property
    def assumptions(self) -> Sequence[str]:
        """What a Shapley value is, beside the run's own assumptions."""
        return (
            *self.provenance.get("assumptions", ()),
            "Shapley value: an arm of action's contribution when it joins the others, averaged over all "
            "orders of joining; the shares and the residual sum to the total.",
            "Residual: the difference from the reference that stays with all six arms of action knocked out.",
            "A draw in which any combination of knock-outs failed is left out.",
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per arm of action, the largest share first, then residual and total."""
        nothing = np.full_like(self.total, np.nan)
        rows = {arm: (self.shares[arm], self.losses[arm]) for arm in self.shares}
        order = sorted(rows, key=lambda arm: -abs(np.nan_to_num(summarise(rows[arm][0]).median)))
        records = []
        ends = {"residual": (self.residual, nothing), "total": (self.total, nothing)}
        for name, (share, loss) in [*((arm, rows[arm]) for arm in order), *ends.items()]:
            head: dict[str, Any] = {"name": name, "endpoint": self.endpoint.name}
            records.append(
                head
                | {"unit": self.endpoint.difference_unit}
                | _flat("shapley_", summarise(share).record)
                | _flat("knock_out_", summarise(loss).record)
            )
        return pd.DataFrame(records)

    @property
    def data(self) -> xr.Dataset:
        """`shapley`, `knock_out` (arm_of_action, draw), `total`, `residual` (draw)."""
        names = list(self.shares)
        return xr.Dataset(
            {
                "shapley": (("arm_of_action", "draw"), np.stack([self.shares[n] for n in names])),
                "knock_out": (("arm_of_action", "draw"), np.stack([self.losses[n] for n in names])),
                "total": (("draw",), self.total),
                "residual": (("draw",), self.residual),
            },
            coords={"arm_of_action": names},
            attrs={"unit": self.endpoint.difference_unit},
        )

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The attribution, and failed subjects."""
        return {"explain": self.table} | _failure_table(self)

    def plot(self) -> dict[str, Figure]:
        """Figure attribution."""
        from mscrenal.scenarios import figures

        used = summarise(self.total).n
        better = self.endpoint.better
        note = (
            f"{self.endpoint.label}, difference from {self.scenario.reference} ({better} is better); "
            f"bars: medians, lines: 90 % of {self.origin} draws (n={used})"
        )
        figure = figures.attribution(
            self.table,
            unit=self.endpoint.difference_unit,
            label=f"difference in {self.endpoint.label}",
            caption=figures.Caption(self.title, note),
        )
        return {"attribution": figure}

    def to_json(self) -> dict[str, Any]:
        """`attribution`, `total`, `residual` of the interface, and `knock_out` (the loss of each alone)."""
        document = {
            "command": self.command,
            "scenario": self.scenario.name,
            "title": self.title,
            "arm": self.arm,
            "reference": self.scenario.reference,
            "endpoint": self.endpoint.name,
            "unit": self.endpoint.difference_unit,
            "better": self.endpoint.better,
            "origin": self.origin,
            "n_draws": summarise(self.total).n,
            "attribution": {name: summarise(share).record for name, share in self.shares.items()},
            "knock_out": {name: summarise(loss).record for name, loss in self.losses.items()},
            "total": summarise(self.total).record,
            "residual": summarise(self.residual).record,
        }
        cleaned: dict[str, Any] = plain(document | self._document())
        return cleaned


def explain_result(
    scenario: Any,
    *,
    arm: str,
    endpoint_name: str,
    coalitions: Mapping[frozenset[str], ArrayLike],
    reference: ArrayLike,
    provenance: Mapping[str, Any],
    failures: Sequence[Mapping[str, Any]] = (),
) -> ExplainResult:
    """Attribute an arm's effect to the arms of action.

    coalitions: endpoint of the arm, (n_draws,), keyed by the set of arms of action that are **active**
    (the others knocked out), all 2^n of them; reference: endpoint of the reference arm, (n_draws,).
    total = all active - reference; residual = none active - reference; shares sum to total - residual.
    A draw that lacks any of them is left out. Raises ResultError if a coalition is missing.
    """
    wanted = endpoint(endpoint_name)
    _origin(provenance)
    values = {key: np.atleast_1d(np.asarray(v, dtype=float)) for key, v in coalitions.items()}
    beside = np.atleast_1d(np.asarray(reference, dtype=float))
    complete = np.isfinite(beside)
    for value in values.values():
        if value.shape != beside.shape:
            raise ResultError(
                f"Coalitions have {value.shape} draws, the reference {beside.shape}: give the same."
            )
        complete &= np.isfinite(value)
    values = {key: np.where(complete, value, np.nan) for key, value in values.items()}
    shares = shapley(values)
    everyone = frozenset(shares)
    total = values[everyone] - beside
    losses = {name: values[everyone] - values[everyone - {name}] for name in shares}
    label = scenario.reference
    return ExplainResult(
        command="explain",
        title=f"{scenario.title}: what carries the effect of {arm}",
        question=f"Which arms of action carry the difference in {wanted.label} between {arm} and {label}?",
        provenance=provenance,
        scenario=scenario,
        arm=arm,
        endpoint=wanted,
        shares=shares,
        losses=losses,
        total=total,
        residual=values[frozenset()] - beside,
        failed=tuple(dict(failure) for failure in failures),
    )


# --------------------------------------------------------------------------- the gallery


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenariosResult(Result):
    """The gallery. Made by `scenarios_result`."""

    scenarios: tuple[Any, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per scenario."""
        return pd.DataFrame(
            [
                {
                    "name": scenario.name,
                    "title": scenario.title,
                    "source": scenario.source,
                    "arms": len(scenario.arms),
                    "horizon_days": scenario.horizon_days,
                }
                for scenario in self.scenarios
            ]
        )

    @property
    def data(self) -> xr.Dataset:
        """The table, labelled by name."""
        return xr.Dataset.from_dataframe(self.table.set_index("name"))

    def plot(self) -> dict[str, Figure]:
        """A list has no figure."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """`scenarios[]` of the interface."""
        listed = [
            {
                "name": scenario.name,
                "title": scenario.title,
                "source": scenario.source,
                "arms": [arm.name for arm in scenario.arms],
                "horizon_days": scenario.horizon_days,
                "reference": scenario.reference,
            }
            for scenario in self.scenarios
        ]
        cleaned: dict[str, Any] = plain(self._document() | {"command": self.command, "scenarios": listed})
        return cleaned


def scenarios_result(
    scenarios: Iterable[Any], provenance: Mapping[str, Any] | None = None
) -> ScenariosResult:
    """The gallery as a result."""
    return ScenariosResult(
        command="scenarios",
        title="Scenarios",
        question="Which scenarios ship?",
        provenance=dict(provenance or {}),
        scenarios=tuple(scenarios),
    )
