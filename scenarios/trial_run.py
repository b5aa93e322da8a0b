"""Virtual trials some at a time, for whoever watches them come: the trials of `trial`, and one of them patient by patient."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mscrenal.calibration import Draws
from mscrenal.scenarios.run import RunError
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sources import Source
from mscrenal.scenarios.trial import (
    LARGEST_OF_CURVE,
    _analysed,
    _Batch,
    _conduct,
    _curve,
    _Done,
    _enacted,
    _Failure,
    _first_event,
    _members,
    _planned,
    _power_of_each,
    _responds,
    _result,
    _Series,
    _tested,
)
from mscrenal.scenarios.trial_result import MOST_LISTED, TrialResult, decisions
from mscrenal.scenarios.trial_spec import TrialEndpoint, TrialSpec

__all__ = ["SERIES", "Finding", "OneTrial", "TrialRun"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SERIES = ("design", "fixed", "curve")
MOST_AT_ONCE = 10_000


@dataclass(frozen=True)
class Finding:
    """What a trial finds of one arm against the reference.

    Attributes
    ----------
    arm : str
    n_arm, n_reference, n_analysed : int
    effect, low, high : float
        Estimate and ends of its 95 % confidence interval, as printed (a ratio where the endpoint's effect is one).
    p : float
        Two-sided; NaN, as the estimate, where too few patients have data.
    truth : float
        True effect in the treated patients of this trial, as printed.
    in_favour, against : bool
        Whether the protocol's test rejects, and in which direction.
    """

    arm: str
    n_arm: int
    n_reference: int
    n_analysed: int
    effect: float
    low: float
    high: float
    p: float
    truth: float
    in_favour: bool
    against: bool


@dataclass(frozen=True, eq=False)
class OneTrial:
    """One virtual trial as its data base holds it, and what its analysis makes of it.

    Attributes
    ----------
    number : int
    draw : int
        Of the parameters, the world that it took place in; -1: the one of the medians.
    endpoint : TrialEndpoint
    arms : tuple of str
    arm : ndarray of int (n_patients,)
        Place of each patient's arm in `arms`, in the order of enrolment.
    days : ndarray (n_visits,)
    readings : ndarray (n_patients, n_visits)
        Of the endpoint's main observable, in its unit; NaN where there was no visit.
    reached : ndarray of bool (n_patients,) or None
        Who has an event, or responds, for endpoints of that kind.
    findings : tuple of Finding
        One of each arm but the reference.
    """

    number: int
    draw: int
    endpoint: TrialEndpoint
    arms: tuple[str, ...]
    arm: NDArray[np.int64]
    days: Array
    readings: Array
    reached: Mask | None
    findings: tuple[Finding, ...]

    def means(self, level: float = 0.95) -> Array:
        """Mean of each arm at each visit and the ends of its confidence interval, (n_arms, n_visits, 3).

        Of those with that visit, by the t distribution; geometric means where the endpoint's effect is a ratio. The ends
        are NaN with fewer than two patients.
        """
        log = self.endpoint.kind == "log_ratio"
        out = np.full((len(self.arms), len(self.days), 3), np.nan)
        for a in range(len(self.arms)):
            for v in range(len(self.days)):
                seen = self.readings[self.arm == a, v]
                seen = seen[np.isfinite(seen)]
                if not len(seen):
                    continue
                scaled = np.log(seen) if log else seen
                out[a, v, 0] = middle = scaled.mean()
                if len(seen) > 1:
                    reach = stats.t.isf((1 - level) / 2, len(seen) - 1) * stats.sem(scaled)
                    out[a, v, 1:] = middle - reach, middle + reach
        return np.exp(out) if log else out


class TrialRun:
    """The trials that `trial` runs, conducted some at a time.

    Series are 'design', trials of the design's size, each in a world of its own; 'fixed', the same in the one world of
    the medians; 'curve', large ones that are read at several sizes. May be used from several threads.

    Parameters
    ----------
    scenario : Scenario
        Its ``[trial]`` is the design.
    draws : int or Draws
        Parameter draws; trial k lives in draw k modulo their number.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from.
    most_of_curve : int
        Patients in the largest arm of the curve, or those of the design.

    Raises
    ------
    TrialError
        For a design that cannot be.
    RunError
        For numbers out of range.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        draws: int | Draws = 400,
        seed: int = 1,
        source: Source = "posterior",
        most_of_curve: int = LARGEST_OF_CURVE,
    ) -> None:
        self._plan = _planned(scenario, None, 20, None, None, None, None, draws, seed, source, None)
        spec = self._plan.spec
        parts = (*spec.looks, 1.0)
        self._series = {
            "design": _Series("design", spec.sizes, parts, 0),
            "fixed": _Series("fixed", spec.sizes, parts, 0, fixed=True),
            "curve": _curve(spec, 0, most_of_curve),
        }
        self._begun = dict.fromkeys(SERIES, 0)
        self._found: dict[tuple[str, int], _Done] = {}
        self._lock = threading.Lock()

    @property
    def spec(self) -> TrialSpec:
        """The design, everything filled in."""
        return self._plan.spec

    @property
    def endpoint(self) -> TrialEndpoint:
        """What is tested."""
        return self._plan.endpoint

    @property
    def scenario(self) -> Scenario:
        """Up to the visit at which the endpoint is read."""
        return self._plan.scenario

    def simulations(self, series: str) -> int:
        """Patients that one trial of a series simulates, the treated both ways: what it costs."""
        sizes = self._series[series].sizes
        return 2 * sum(sizes) - sizes[self.spec.arms.index(self.scenario.reference)]

    def done(self, series: str) -> int:
        """Trials of a series that are finished."""
        with self._lock:
            return sum(
                len(d.rows["trial"].unique()) for (name, _), d in self._found.items() if name == series
            )

    def conduct(self, series: str, n: int) -> None:
        """Conduct the next `n` trials of a series."""
        _bounded(n, 1)
        with self._lock:
            first = self._begun[series]
            self._begun[series] += n
        done = _conduct(_Batch(self._plan, self._series[series], first, n))
        with self._lock:
            self._found[series, first] = done

    def result(self) -> TrialResult:
        """What is known so far.

        Raises
        ------
        RunError
            Before the first trials of 'design' and of 'fixed' are finished.
        """
        with self._lock:
            found = {key: self._found[key] for key in sorted(self._found)}
        rows = {
            name: pd.concat([d.rows for (n, _), d in found.items() if n == name], ignore_index=True)
            for name in SERIES
            if any(n == name for n, _ in found)
        }
        if not {"design", "fixed"} <= set(rows):
            raise RunError("no result yet. Conduct trials of 'design' and of 'fixed' first.")
        statuses: Counter[str] = Counter()
        listed: list[_Failure] = []
        for (name, _), d in found.items():
            statuses.update(d.statuses)
            listed += [(name, *f) for f in d.failures[: MOST_LISTED - len(listed)]]
        return _result(self._plan, self.spec, rows, statuses, listed, None)

    def expected(self, sizes: Sequence[int]) -> pd.DataFrame:
        """Assurance by size as expected of the design's trials so far: arm, n_arm, assurance, mc_error, trials.

        A normal approximation, of the true effect in each trial's world and the standard error of its estimate, which
        shrinks with the root of the size. It is smooth where counts of few trials are not, and it is good where a
        counted share can be told from it.

        Parameters
        ----------
        sizes : sequence of int
            Patients in the treated arm.
        """
        rows = self.result().rows
        out = []
        for arm in self.spec.arms:
            mine = rows[(rows["series"] == "design") & (rows["arm"] == arm) & (rows["part"] == 1.0)]
            if mine.empty:
                continue
            own = int(mine["n_arm"].iloc[0])
            for size in sizes:
                each = _power_of_each(mine, size / own, self.endpoint.better, self.spec.alpha)
                n = len(each)
                out.append(
                    {
                        "arm": arm,
                        "n_arm": size,
                        "assurance": float(each.mean()) if n else np.nan,
                        "mc_error": float(each.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan,
                        "trials": n,
                    }
                )
        return pd.DataFrame(out)

    def some(self, first: int, n: int = 1, *, fixed: bool = False) -> list[OneTrial]:
        """Trials of the design, patient by patient: the same that are counted.

        Parameters
        ----------
        first, n : int
            Their numbers: from `first` on.
        fixed : bool
            In the one world of the medians, instead of each in its own.

        Raises
        ------
        RunError
            For numbers out of range.
        """
        _bounded(n, 1)
        _bounded(first, 0)
        batch = _Batch(self._plan, self._series["fixed" if fixed else "design"], first, n)
        enrolled, worlds = _enacted(batch)
        rows = _tested(batch, enrolled, worlds)
        spec, endpoint = self.spec, self.endpoint
        reference = spec.arms.index(self.scenario.reference)
        seen = worlds[0][0]
        found: list[list[Finding]] = [[] for _ in range(n)]
        for a, name in enumerate(spec.arms):
            if a == reference:
                continue
            who = _members(enrolled.arm, (reference, a), spec.sizes)
            estimates = _analysed(endpoint, spec, enrolled, seen, who, spec.sizes[a])
            low, high = estimates.interval()
            mine = rows[rows["arm"] == name]
            good = decisions(mine, endpoint, spec, null=False)
            any_way = decisions(mine, endpoint, spec, null=False, either=True)
            truth = mine[mine["part"] == 1.0].sort_values("trial")["truth"].to_numpy()
            for t in range(n):
                found[t].append(
                    Finding(
                        name,
                        spec.sizes[a],
                        spec.sizes[reference],
                        int(estimates.n[t]),
                        endpoint.printed(float(estimates.effect[t])),
                        endpoint.printed(float(low[t])),
                        endpoint.printed(float(high[t])),
                        float(estimates.p[t]),
                        endpoint.printed(float(truth[t])),
                        bool(good[t]),
                        bool(any_way[t] and not good[t]),
                    )
                )
        everybody = np.broadcast_to(np.arange(enrolled.arm.shape[1]), enrolled.arm.shape)
        reached = None
        if endpoint.kind == "event":
            reached = _first_event(endpoint, seen, everybody, enrolled.days)[1]
        elif endpoint.kind == "responder":
            reached = _responds(endpoint, seen, everybody)
        draws = rows.drop_duplicates("trial").set_index("trial")["draw"]
        return [
            OneTrial(
                int(number),
                int(draws[number]),
                endpoint,
                spec.arms,
                enrolled.arm[t],
                enrolled.days,
                seen.values[endpoint.observables[0]][t],
                None if reached is None else reached[t],
                tuple(found[t]),
            )
            for t, number in enumerate(enrolled.trials)
        ]


def _bounded(n: int, least: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or not least <= n <= MOST_AT_ONCE:
        raise RunError(f"trials: given {n!r}. Allowed: a whole number from {least} to {MOST_AT_ONCE:,}.")
