"""The posterior against published rows: those that no likelihood saw, and those that it did.

A row of a study that the fit never saw is predicted as one more study: the parameters from the posterior, how strongly
this study's cells act, its own level, and products without data drawn from what the fit learnt of studies and products;
then the residual. What was published is set against that distribution. Nothing here changes the posterior.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logsumexp, ndtri, stdtr, stdtrit

from mscrenal.calibration.observations import Datum, observe
from mscrenal.calibration.population import population_offset
from mscrenal.calibration.posterior import Posterior, PosteriorError
from mscrenal.calibration.predictions import ATOL, RTOL
from mscrenal.calibration.probability import HYPER, TAIL, Problem, level_of, row_distributions, student_log
from mscrenal.calibration.sampling import POTENCY, draws, stream
from mscrenal.calibration.studies import Study, held_out, studies
from mscrenal.calibration.unseen import AssessmentError
from mscrenal.model import OBSERVABLES, sampled_parameters
from mscrenal.model.population import simulate_cohort

__all__ = [
    "DRAWS",
    "LEAST_DRAWS",
    "Assessment",
    "AssessmentError",
    "Belief",
    "Checks",
    "RowDistributions",
    "Scores",
    "belief_of",
    "fitted_rows",
    "held_out_studies",
    "new_study_distributions",
    "predictive_checks",
    "published_interval",
    "row_table",
    "score",
    "validate",
]

DRAWS = 400
# Of the draws, the share that has to give a number; a row with fewer is skipped, as what is left is no random sample.
LEAST_DRAWS = 0.5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_FAILURES = 100


# --------------------------------------------------------------------------- what is believed


@dataclass(frozen=True)
class Belief:
    """Draws of everything that a prediction for a new study needs.

    Attributes
    ----------
    values : mapping of str to ndarray (n,)
        Sampled parameters, in the units declared.
    hyper : mapping of str to ndarray (n,)
        Hyper-parameters; those that are not here have their prior.
    centre : ndarray (n,) or None
        Standardised half-effective dose around which the studies' own lie; None: it does not vary between studies.
    middle : mapping of str to float
        Medians at which the means over virtual populations are worked out.
    """

    values: Mapping[str, np.ndarray]
    hyper: Mapping[str, np.ndarray]
    centre: np.ndarray | None = None
    middle: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def thetas(self, study: str, seed: int) -> list[dict[str, float]]:
        """The parameters of one study, draw by draw: those of all, with a potency of its own."""
        values = dict(self.values)
        between = self.hyper.get("between_studies")
        if self.centre is not None and between is not None:
            parameter = sampled_parameters()[POTENCY]
            sigma = float(getattr(parameter.prior, "sigma"))  # noqa: B009 (declared log-normal)
            own = stream(seed, "new study", study).standard_normal(len(self))
            z = self.centre + between / sigma * own
            values[POTENCY] = np.array([parameter.at(float(x)) for x in z])
        return [{name: float(v[k]) for name, v in values.items()} for k in range(len(self))]

    def coordinates(self, names: Sequence[str], seed: int) -> np.ndarray:
        """Standard normal coordinates of hyper-parameters, (n, len(names))."""
        columns = []
        for name in names:
            if name in self.hyper:
                columns.append(np.log(self.hyper[name] / HYPER[name].median) / HYPER[name].sigma)
            else:
                columns.append(stream(seed, "hyper", name).standard_normal(len(self)))
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0))


def belief_of(posterior: Posterior, n: int = DRAWS, seed: int = 1) -> Belief:
    """What a posterior believes of one more study.

    Calibrated parameters come jointly from its draws, the others from their priors, the secretion of products without
    data with the estimated spread between products: as of `mscrenal.calibration.draws`.
    """
    drawn = draws(n, seed, source=posterior)
    taken = _taken(posterior, n, seed)
    centre = None
    if POTENCY in posterior.parameters:
        centre = posterior.flat("z")[taken, posterior.parameters.index(POTENCY)]
    hyper = {name: posterior.hyper(name)[taken] for name in posterior.hyper_names if name in HYPER}
    return Belief(drawn.values, hyper, centre, posterior.median())


def _taken(posterior: Posterior, n: int, seed: int) -> np.ndarray:
    """Which draws of the posterior `mscrenal.calibration.draws` takes, so that what surrounds them is theirs."""
    order = stream(int(seed), "posterior").permutation(len(posterior))
    return np.asarray(order[np.arange(int(n)) % len(order)])


# --------------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class RowDistributions:
    """Of each row and draw a Student t (`TAIL` degrees of freedom), on the scale of the rows' values.

    Attributes
    ----------
    location, scale : ndarray (n, n_data)
        NaN where an arm could not be simulated with that draw.
    failures : tuple of dict
        study, arm, draw, status, message: up to `MOST_FAILURES`.
    n_failed : int
        All of them.
    """

    location: np.ndarray
    scale: np.ndarray
    failures: tuple[Mapping[str, Any], ...] = ()
    n_failed: int = 0


def new_study_distributions(
    data: Sequence[Datum],
    given: Mapping[str, Study],
    belief: Belief,
    *,
    simulated: Mapping[str, Study] | None = None,
    seed: int = 1,
    workers: int | None = None,
    shift: np.ndarray | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> RowDistributions:
    """Predict rows of studies as if each were new.

    Parameters
    ----------
    data : sequence of Datum
    given : mapping of str to Study
        Of every datum.
    simulated : mapping of str to Study, optional
        What to simulate in their place, such as the same studies without their cells.
    shift : ndarray (n, n_data), optional
        Added to the predictions, on the scale of the terms.
    workers : int, optional
        Threads; the numbers do not depend on it.
    """
    instead = given if simulated is None else simulated
    prediction, failures = _simulated(data, instead, belief, seed, workers, progress)
    if shift is not None:
        prediction = prediction + shift
    offset = population_offset(data, instead, belief.middle)
    problem = Problem(tuple(data), given, (), offset)
    level = [stream(seed, "new level", *key).standard_normal(len(belief)) for key in problem.levels]
    free = np.hstack(
        [np.array(level).reshape(len(level), len(belief)).T, belief.coordinates(problem.hyper, seed)]
    )
    blocks = {"level": slice(0, len(level)), "hyper": slice(len(level), free.shape[1])}
    with np.errstate(invalid="ignore"):
        location, scale = row_distributions(problem, free, prediction, blocks)
    scale = np.where(np.isfinite(location), scale, np.nan)
    return RowDistributions(location, scale, tuple(failures[:MOST_FAILURES]), len(failures))


def _simulated(
    data: Sequence[Datum],
    given: Mapping[str, Study],
    belief: Belief,
    seed: int,
    workers: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Predictions (n, n_data) without what the probability model adds, and what failed."""
    wanted: dict[tuple[str, str], set[tuple[float, str]]] = {}
    for datum in data:
        for term in datum.terms:
            wanted.setdefault((datum.study, term.arm), set()).add((float(term.day), term.observable))
    thetas = {study: belief.thetas(study, seed) for study in dict.fromkeys(s for s, _ in wanted)}
    n = len(belief)

    def run(key: tuple[str, str]) -> Any:
        arm = given[key[0]].arms[key[1]]
        days = sorted({day for day, _ in wanted[key]})
        names = sorted({name for _, name in wanted[key]})
        regimen = (arm.doses, arm.courses)
        cohort = simulate_cohort(
            [arm.patient] * n, thetas[key[0]], [(regimen,)] * n, np.array(days), names, rtol=RTOL, atol=ATOL
        )
        at = {(d, o): cohort.values[:, 0, days.index(d), names.index(o)] for d, o in wanted[key]}
        return cohort, at

    values: dict[tuple[str, str, float, str], np.ndarray] = {}
    failures: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, (key, (cohort, at)) in enumerate(zip(wanted, pool.map(run, wanted), strict=True), 1):
            values |= {(*key, day, name): column for (day, name), column in at.items()}
            failures += [
                {"study": key[0], "arm": key[1], "draw": j, "status": str(cohort.status[j, 0]),
                 "message": cohort.messages.get((j, 0), "")}
                for j in range(n) if cohort.status[j, 0] != "ok"
            ]  # fmt: skip
            if progress is not None:
                progress(done, len(wanted), f"{key[0]}: {key[1]}")
    return _combined(data, values, n), failures


def _combined(
    data: Sequence[Datum], values: Mapping[tuple[str, str, float, str], np.ndarray], n: int
) -> np.ndarray:
    out = np.zeros((n, len(data)))
    for k, datum in enumerate(data):
        for term in datum.terms:
            column = values[datum.study, term.arm, float(term.day), term.observable]
            with np.errstate(divide="ignore", invalid="ignore"):
                out[:, k] += term.weight * (np.log(column) if term.log else column)
    return np.where(np.isfinite(out), out, np.nan)


# --------------------------------------------------------------------------- rows whose level is the study's own


def references(data: Sequence[Datum]) -> dict[int, int]:
    """For each row whose study's level is free, the row of the study that sets the level (itself, for that row).

    An untreated row of the first day, where there is one.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for k, datum in enumerate(data):
        if datum.only_contrasts:
            groups.setdefault(level_of(datum), []).append(k)
    first = {key: min(rows, key=lambda k: (data[k].treated, data[k].day, k)) for key, rows in groups.items()}
    return {k: first[key] for key, rows in groups.items() for k in rows}


def relative_to_references(
    data: Sequence[Datum], value: np.ndarray, found: RowDistributions
) -> tuple[RowDistributions, dict[int, str]]:
    """Compare rows whose study's level is free with the row that sets the level.

    Such a level is as wide as any number that a study could print, so that a row by itself tests nothing. Given the
    reference, the level is known up to the residuals of both rows; these add as variances do.

    Returns
    -------
    RowDistributions
    dict of int to str
        Rows that are used up, and why.
    """
    location, scale = found.location.copy(), found.scale.copy()
    used_up = {
        k: "a level of patients on day 0: the simulated patient is placed at it"
        for k, d in enumerate(data)
        if d.places
    }
    pairs = references(data)
    for k, at in pairs.items():
        if k == at:
            alone = sum(other == at for other in pairs.values()) == 1
            used_up[k] = (
                "only contrasts within the study count (scale = 'study'), and this is the only row of its kind"
                if alone
                else "sets the level that the study's other rows of this observable are compared with (scale = 'study')"
            )
            continue
        location[:, k] = found.location[:, k] + value[at] - found.location[:, at]
        scale[:, k] = np.hypot(found.scale[:, k], found.scale[:, at])
    return replace(found, location=location, scale=scale), used_up


# --------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Scores:
    """How published values lie in their predictive distributions.

    Attributes
    ----------
    quantiles : ndarray (n_data, 5)
        At `QUANTILES`, of the predictive distribution (all draws together).
    pit : ndarray (n_data,)
        Share of the predictive distribution below the value.
    z : ndarray (n_data,)
        The same as a standard normal score.
    log_density : ndarray (n_data,)
        Logarithm of the predictive density at the value.
    n_draws : ndarray of int (n_data,)
        Draws that gave a number; with too few (`LEAST_DRAWS`) all else is NaN.
    """

    quantiles: np.ndarray
    pit: np.ndarray
    z: np.ndarray
    log_density: np.ndarray
    n_draws: np.ndarray

    @property
    def inside50(self) -> np.ndarray:
        """Whether a value lies in the middle half."""
        return (self.pit >= 0.25) & (self.pit <= 0.75)

    @property
    def inside90(self) -> np.ndarray:
        """Whether a value lies between the 5 % and the 95 % quantile."""
        return (self.pit >= 0.05) & (self.pit <= 0.95)


def score(value: np.ndarray, location: np.ndarray, scale: np.ndarray) -> Scores:
    """Set values (n_data,) against mixtures of Student t distributions (n, n_data), exactly rather than by sampling."""
    n, m = location.shape
    count = np.isfinite(location).sum(axis=0)
    quantiles, pit, density = np.full((m, len(QUANTILES)), np.nan), np.full(m, np.nan), np.full(m, np.nan)
    for k in np.flatnonzero(count >= LEAST_DRAWS * n):
        good = np.isfinite(location[:, k])
        mean, sigma = location[good, k], scale[good, k]
        pit[k] = stdtr(TAIL, (value[k] - mean) / sigma).mean()
        density[k] = logsumexp(student_log(value[k], mean, sigma)) - math.log(len(mean))
        quantiles[k] = _mixture_quantiles(mean, sigma)
    tiny = np.finfo(float).tiny
    return Scores(quantiles, pit, ndtri(np.clip(pit, tiny, 1 - 1e-16)), density, count)


def _mixture_quantiles(mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    out = []
    for p in QUANTILES:
        each = mean + sigma * stdtrit(TAIL, p)
        low, high = float(each.min()), float(each.max())
        # A mixture's quantile lies between those of its parts.
        if high - low < 1e-9 * (1.0 + abs(high)):
            out.append(0.5 * (low + high))
            continue
        out.append(
            brentq(
                lambda x, p=p: stdtr(TAIL, (x - mean) / sigma).mean() - p,
                low - 1e-9 * (high - low), high + 1e-9 * (high - low), xtol=1e-7 * (high - low),
            )
        )  # fmt: skip
    return np.array(out)


# --------------------------------------------------------------------------- rows in words


def _shown(datum: Datum, numbers: np.ndarray) -> np.ndarray:
    """Numbers of the comparison on the scale on which they were published; quantiles stay quantiles."""
    if datum.measure == "share":
        return np.asarray(expit(numbers))
    return np.exp(numbers) if datum.log else numbers


def published_interval(datum: Datum, share: float = 0.9) -> tuple[float, float]:
    """Interval of a published number by its standard error, on the scale of the source; NaN where the source says none."""
    half = float(ndtri(0.5 + share / 2)) * datum.error
    low, high = _shown(datum, np.array([datum.value - half, datum.value + half]))
    return float(low), float(high)


def _unit(datum: Datum) -> str:
    if datum.measure == "smd":
        return "SD"
    if datum.measure == "share":
        return "share"
    if datum.measure in ("ratio", "fold"):
        return "ratio"
    if datum.only_contrasts:
        return "as published"
    unit = {o.name: o.unit for o in OBSERVABLES}[datum.observable]
    return f"{unit}/year" if datum.measure == "slope" else unit


def row_table(data: Sequence[Datum], value: np.ndarray, scores: Scores) -> pd.DataFrame:
    """One line a row: where it stands, what was published, and what was predicted.

    Numbers are on the scale of the source: of ratios and levels that are compared by logarithms as ratios and levels,
    of shares as shares. `z`, `pit` and `elpd` belong to the scale of the comparison.
    """
    lines = []
    for k, d in enumerate(data):
        shown = _shown(d, np.array([value[k], *scores.quantiles[k]]))
        lines.append(
            {
                "table": d.table, "row": d.line, "study": d.study, "endpoint": d.endpoint, "class": d.kind.name,
                "observable": d.observable, "measure": d.measure, "arm": d.arm, "against": d.against,
                "day": d.day, "species": d.species, "treated": d.treated, "benefit": d.benefit, "unit": _unit(d),
                "observed": shown[0], "predicted": shown[3], "low50": shown[2], "high50": shown[4],
                "low90": shown[1], "high90": shown[5], "z": scores.z[k], "pit": scores.pit[k],
                "inside50": bool(scores.inside50[k]), "inside90": bool(scores.inside90[k]),
                "elpd": scores.log_density[k], "draws": int(scores.n_draws[k]),
                "label": d.label,
            }
        )  # fmt: skip
    return pd.DataFrame(lines, columns=list(_COLUMNS))


_COLUMNS = (
    *("table", "row", "study", "endpoint", "class", "observable", "measure", "arm", "against", "day", "species", "treated"),
    *("benefit", "unit", "observed", "predicted", "low50", "high50", "low90", "high90", "z", "pit", "inside50", "inside90"),
    *("elpd", "draws", "label"),
)  # fmt: skip


# --------------------------------------------------------------------------- all of it


class Rival(Protocol):
    """Another account of the same rows, as `mscrenal.calibration.rivals.Rivals`."""

    def predict(
        self, data: Sequence[Datum], given: Mapping[str, Study], *, workers: int | None = None
    ) -> Mapping[str, RowDistributions]:
        """Distributions of some rows by the name of the account."""


@dataclass(frozen=True)
class Assessment:
    """Rows of studies set against their predictions as new studies.

    Attributes
    ----------
    rows : DataFrame
        As of `row_table`, with ``elpd_NAME`` for each rival.
    skipped : tuple of dict
        row, study, endpoint, reason: rows that could not be compared once they were predicted.
    failures : tuple of dict
        Simulations that failed, the first `MOST_FAILURES` of `n_failed`.
    """

    rows: pd.DataFrame
    skipped: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, Any], ...]
    n_failed: int

    @property
    def coverage50(self) -> float:
        """Share of rows inside the middle half; NaN without a row."""
        return float(self.rows["inside50"].mean()) if len(self.rows) else math.nan

    @property
    def coverage90(self) -> float:
        """Share of rows inside the 90 % interval."""
        return float(self.rows["inside90"].mean()) if len(self.rows) else math.nan

    @property
    def z_rms(self) -> float:
        """Root mean square z: 1 if predictions are as wide as they should be."""
        return float(np.sqrt(np.mean(self.rows["z"] ** 2))) if len(self.rows) else math.nan

    def elpd(self, name: str = "") -> float:
        """Sum of log predictive densities, of the model or a rival; NaN where there is none."""
        column = f"elpd_{name}" if name else "elpd"
        if column not in self.rows or not len(self.rows):
            return math.nan
        return float(self.rows[column].sum(min_count=len(self.rows)))


def validate(
    data: Sequence[Datum],
    given: Mapping[str, Study],
    posterior: Posterior,
    *,
    n: int = DRAWS,
    seed: int = 1,
    workers: int | None = None,
    rivals: Rival | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Assessment:
    """Set rows against what the posterior predicts for them as rows of new studies.

    Parameters
    ----------
    data : sequence of Datum
        Of `mscrenal.calibration.observations.observe` or `mscrenal.calibration.unseen.map_rows`.
    given : mapping of str to Study
        Of every datum.
    n : int
        Draws of the posterior.

    Raises
    ------
    AssessmentError
        For fewer than 20 draws: quantiles of 5 % would be read off a single one.
    """
    if n < 20:
        raise AssessmentError(f"draws must be 20 or more for a 90 % interval, got {n}.")
    if not data:
        return Assessment(
            row_table((), np.zeros(0), score(np.zeros(0), np.zeros((n, 0)), np.zeros((n, 0)))), (), (), 0
        )
    value = np.array([d.value for d in data])
    found = new_study_distributions(
        data, given, belief_of(posterior, n, seed), seed=seed, workers=workers, progress=progress
    )
    compared, used_up = relative_to_references(data, value, found)
    scores = score(value, compared.location, compared.scale)
    table = row_table(data, value, scores)
    if rivals is not None:
        for name, theirs in rivals.predict(data, given, workers=workers).items():
            beside, _ = relative_to_references(data, value, theirs)
            table[f"elpd_{name}"] = score(value, beside.location, beside.scale).log_density
    for k in np.flatnonzero(~np.isfinite(scores.pit)):
        used_up.setdefault(
            int(k),
            f"only {scores.n_draws[k]} of {n} draws could be simulated; half is the least that is read",
        )
    skipped = tuple(
        {"row": data[k].line, "study": data[k].study, "endpoint": data[k].endpoint, "reason": used_up[k]}
        for k in sorted(used_up)
    )
    kept = [k for k in range(len(data)) if k not in used_up]
    return Assessment(table.iloc[kept].reset_index(drop=True), skipped, found.failures, found.n_failed)


# --------------------------------------------------------------------------- rows that were fitted


def held_out_studies() -> dict[str, Study]:
    """The shipped studies that no likelihood saw, those with arms."""
    return {s.id: s for s in studies().values() if s.arms and s.id in held_out()}


def fitted_rows(posterior: Posterior) -> tuple[tuple[Datum, ...], dict[str, Study]]:
    """The rows behind a posterior, in its order, and their studies.

    Raises
    ------
    PosteriorError
        If it was fitted to a row that the evidence of the package does not hold.
    """
    known = {
        f"{d.table}:{d.line}": (d, study)
        for study in studies().values()
        if study.arms
        for d in observe([study])
    }
    names = [str(n) for n in posterior.data["row"].values]
    missing = [n for n in names if n not in known]
    if missing:
        raise PosteriorError(
            f"the posterior was fitted to {len(missing)} rows that the evidence of the package does not hold, the first "
            f"{missing[0]}. Run `mscrenal calibrate`, or give the posterior of this version."
        )
    found = [known[n] for n in names]
    return tuple(d for d, _ in found), {d.study: study for d, study in found}


@dataclass(frozen=True)
class Checks:
    """Posterior predictive checks of rows that were fitted.

    Attributes
    ----------
    rows : DataFrame
        As of `row_table`.
    """

    rows: pd.DataFrame

    def by(self, column: str) -> pd.DataFrame:
        """Rows, shares inside the 50 % and 90 % intervals and root mean square z, by class or study."""
        return coverage_by(self.rows, column)


def coverage_by(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows, shares inside the 50 % and 90 % intervals and root mean square z, by a column, the largest first."""
    grouped = rows.groupby(column, sort=False)
    out = pd.DataFrame(
        {
            "rows": grouped.size(),
            "inside50": grouped["inside50"].mean(),
            "inside90": grouped["inside90"].mean(),
            "z_rms": grouped["z"].agg(lambda z: float(np.sqrt(np.mean(z**2)))),
        }
    )
    return out.sort_values("rows", ascending=False, kind="stable").reset_index()


def predictive_checks(posterior: Posterior) -> Checks:
    """Set each fitted row against what the posterior predicts for that row of that study, its own level and potency known.

    Needs no simulation: the posterior holds its predictions.
    """
    data, given = fitted_rows(posterior)
    location, scale = fitted_distributions(posterior, data, given)
    value = np.array([d.value for d in data])
    return Checks(row_table(data, value, score(value, location, scale)))


def fitted_distributions(
    posterior: Posterior, data: Sequence[Datum], given: Mapping[str, Study]
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of each fitted row in each draw, (n_draws, n_data)."""
    problem = Problem(tuple(data), given, posterior.parameters, posterior.data["offset"].values)
    at = {str(n): k for k, n in enumerate(posterior.data["level_name"].values)}
    missing = [h for h in problem.hyper if h not in posterior.hyper_names]
    missing += [" | ".join(key) for key in problem.levels if " | ".join(key) not in at]
    if missing:
        raise PosteriorError(
            f"the posterior holds no {missing[0]!r}: it was fitted with other maps of the evidence. Run `mscrenal calibrate`."
        )
    level = posterior.flat("level")[:, [at[" | ".join(key)] for key in problem.levels]]
    hyper = np.stack(
        [np.log(posterior.hyper(h) / HYPER[h].median) / HYPER[h].sigma for h in problem.hyper], axis=1
    )
    free = np.hstack([level, hyper])
    blocks = {"level": slice(0, level.shape[1]), "hyper": slice(level.shape[1], free.shape[1])}
    return row_distributions(problem, free, posterior.flat("prediction"), blocks)
