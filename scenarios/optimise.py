"""Which regimen to choose under limits, how sure that is, and what it would be worth to know more.

Three rounds, every regimen under the same draws and patients. A grid of dose, number and interval, for each product and
route, on few draws: the response surface. From its best points SciPy's differential evolution refines each product and
route on the same draws. What is best in any sense then meets all draws, at the tolerance of `compare`; what is said of
regimens, and of the value of knowing more, rests on this last round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mscrenal.calibration import Draws, stream
from mscrenal.model import OBSERVABLES, Patient, sampled_parameters
from mscrenal.model.crowd import simulate_people
from mscrenal.model.initial import InitialStateError
from mscrenal.model.people import People
from mscrenal.model.population import Below, Cohort
from mscrenal.model.readings import read
from mscrenal.model.simulate import prepare, products_of, simulate_subject
from mscrenal.model.solve import ATOL, POPULATION_ATOL, POPULATION_RTOL, RTOL
from mscrenal.model.text import parse_duration
from mscrenal.scenarios.decision import (
    FEWEST_DRAWS,
    expected_losses,
    pareto_front,
    prob_best,
    value_of_groups,
    value_of_parameters,
    value_of_perfect,
    value_of_study,
)
from mscrenal.scenarios.endpoints import (
    DAYS_PER_YEAR,
    ESKD_EGFR,
    ESKD_LIMIT_YEARS,
    Endpoint,
    evaluate,
    reached_on,
)
from mscrenal.scenarios.endpoints import endpoint as endpoint_of
from mscrenal.scenarios.executor import Executor, executor_for
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.optimise_result import (
    Failures,
    OptimiseResult,
    StudyValue,
    Surface,
    Tradeoff,
    group_of,
)
from mscrenal.scenarios.regimens import (
    Limits,
    Regimen,
    Space,
    Studied,
    limits_of,
    regimen_of,
    short,
    studied_in_people,
)
from mscrenal.scenarios.run import (
    CONTINUATION,
    Progress,
    RunError,
    _check_placement,
    _draws,
    _people,
    extrapolations,
    output_days,
    provenance_of,
)
from mscrenal.scenarios.scenario import Arm, Scenario
from mscrenal.scenarios.sensitivity import active_parameters
from mscrenal.scenarios.sobol import joined
from mscrenal.scenarios.sources import Source
from mscrenal.scenarios.virtual_patients import people_of, treatment_of

__all__ = ["optimise"]

DEFAULT_OBJECTIVE = "egfr_slope_total"
# The gain in eGFR slope that trials of kidney disease are planned to show: between 0.5 and 1.0 a year it predicts fewer
# kidney failures (Inker 2019, doi:10.1681/ASN.2019010007).
RELEVANT_SLOPE = 0.75
SCREENING_DRAWS = 40  # of all draws the first; enough to rank regimens that meet the same ones
SUBJECTS_PER_TASK, ARMS_PER_TASK = 16, 8  # some tenths of a second; how work is shared out can change nothing
POPULATION, GENERATIONS = 12, 5  # of the refinement of each product and route
MOST_SHORT = 20
MOST_FAILED = 0.2  # share of the simulations of a regimen that may fail before it is left out itself
MOST_PROBED = (
    3  # regimens in which a parameter is asked whether it has a say, each of another product or route
)
MOST_OFTEN = 3  # regimens that are the best of most draws, although not on average
RESIDUAL_PATIENTS = 200
STUDY_SIZES = (25, 50, 100, 200, 500)  # patients per arm
SENSITISATION = "sensitisation"  # the parameter whose zero is a host that never remembers
# Days after the last dose on which memory is read: it peaks some weeks after, as priming takes two to mature.
AFTER = (7.0, 14.0, 21.0, 28.0, 42.0, 56.0, 84.0, 112.0)


@dataclass(frozen=True)
class _Plan:
    """What all simulations share: patients, days and what is read off; the endpoint that counts comes first."""

    patients: tuple[Patient, ...]
    days: np.ndarray
    endpoints: tuple[Endpoint, ...]
    horizon: float
    visits: tuple[float, ...]
    tolerance: tuple[float, float]

    @property
    def followed(self) -> bool:
        """Whether patients are simulated beyond the horizon, until their kidneys fail."""
        return any(e.kind == "time_to" for e in self.endpoints) and self.patients[0].species == "human"


@dataclass(frozen=True)
class _Task:
    """Some arms under some draws: values (n_draws,) by parameter. `first_arm`, `first_draw`: their places in all."""

    plan: _Plan
    arms: tuple[Arm, ...]
    drawn: Mapping[str, np.ndarray]
    first_arm: int
    first_draw: int


@dataclass(frozen=True)
class _Done:
    """Endpoints (n_endpoints, n_arms, n_draws, n_patients), NaN where one failed; failures: arm, draw, patient, status,
    message, by their places in all; why there is no such endpoint.
    """

    task: _Task
    values: np.ndarray
    failures: list[tuple[int, int, int, str, str]]
    undefined: Mapping[str, str]


def optimise(
    scenario: str | Path | Scenario = "uc-dn-weekly",
    *,
    products: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    objective: str | None = None,
    gain: float | None = None,
    max_cells: str | None = None,
    max_visits: int | None = None,
    min_interval: str | None = None,
    min_dose: str | None = None,
    max_dose: str | None = None,
    max_risk: float | None = None,
    horizon: str | None = None,
    margin: float = 0.1,
    draws: int | Draws = 400,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    progress: Progress | None = None,
) -> OptimiseResult:
    """Search dose, number, interval, product and route of a regimen for the patient of a scenario.

    The value of a regimen is its gain over the reference arm in one endpoint, counted so that more is better. The
    recommended regimen has the largest expected gain over the draws; where none has any, no treatment is recommended.

    Parameters
    ----------
    scenario : str, path or Scenario
        Gives the patient, the reference arm, the horizon and the visits; its arms are compared with what is found.
    products, routes : sequence of str, optional
        Default: those of the scenario's arms.
    objective : str, optional
        An endpoint. Default: ``egfr_slope_total``, or the scenario's first where it does not ask for that.
    gain : float, optional
        Gain that matters to a patient, in the endpoint's unit. Default: 0.75 mL/min/1.73 m²/year in an eGFR slope, and
        what that makes by the horizon in an eGFR change; else none.
    max_cells : str, optional
        Largest total, such as ``6e6/kg`` or ``400e6``; of cells only.
    max_visits : int, optional
        Most days with a dose.
    min_interval : str, optional
        Shortest time between doses, such as ``1w``.
    min_dose, max_dose : str, optional
        Smallest and largest single dose; the unit says of what (``1e6/kg`` cells, ``100 ug/kg`` EV protein).
    max_risk : float, optional
        Largest median sensitisation of the host, 0 to 1: the rejection that a further dose of a donor's cells would
        meet, at its peak, as a share of the largest possible.
    horizon : str, optional
        When the endpoint is read, such as ``48w``, and before which the last infusion ends. Default: the scenario's.
    margin : float
        The sparing regimens are those with the least burden, and the fewest visits, whose expected gain falls short of
        the largest by no more than this share of it.
    draws : int or Draws
        Draws of the parameters. Under 40 nothing is said of the value of information.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from: the posterior that ships, the priors, or a posterior of one's own.
    workers : int, optional
        Threads on this machine; by default one per processor.
    cluster : str, optional
        Instead of threads: ``tcp://HOST:PORT`` of a dask.distributed scheduler, or its scheduler file.
    patients : int, optional
        Mean over a virtual population of this size, with random effects; by default one typical patient.
    progress : callable, optional
        Called with simulations done, all simulations (roughly), and a word.

    Returns
    -------
    OptimiseResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Raises
    ------
    RunError, ScenarioError, EndpointError
        For limits that contradict each other, unknown names, numbers out of range, or an endpoint not defined here.

    Examples
    --------
    >>> from mscrenal.scenarios import optimise
    >>> result = optimise("uc-dn-weekly", max_visits=3)      # doctest: +SKIP
    """
    given = _until(load_scenario(scenario), horizon)
    wanted = _objective(given, objective)
    relevant = _relevant(given, wanted, gain)
    if isinstance(margin, bool) or not 0 <= margin < 1:
        raise RunError(
            f"--margin must be from 0 to below 1, a share of the largest expected gain, got {margin!r}."
        )
    limits = limits_of(
        given, max_cells=max_cells, max_visits=max_visits, min_interval=min_interval, min_dose=min_dose,
        max_dose=max_dose, max_risk=max_risk,
    )  # fmt: skip
    space = Space.of(given, limits, products, routes)
    grid = list(space.grid())
    if not 1 <= len(grid) <= 5000:
        raise RunError(
            f"the limits leave {len(grid):,} regimens on the grid; 1 to 5,000 are allowed. "
            + ("Widen them." if not grid else "Choose fewer --products, --routes or --max-visits.")
        )
    drawn = _draws(draws, seed, source)
    people = [given.subject.patient()] if patients is None else _people(given, patients, seed)
    _check_placement(people, drawn)
    own = [
        r for a in given.arms
        if a.name != given.reference and (r := regimen_of(a, given.weight_kg)) is not None
        and (r.product, r.route) in space.pairs and limits.keeps(r)
    ]  # fmt: skip
    arms = (given.reference_arm, *(r.arm for r in (_one_of_each(grid))), *(r.arm for r in own))
    names = [n for n in active_parameters(given, arms) if n in drawn.values]
    with executor_for(workers, cluster) as executor:
        bench = _Bench(given, people, wanted, drawn, names, executor, progress)
        bench.expect(len(grid) + len(space.pairs) * POPULATION * (GENERATIONS + 1))
        few = min(len(drawn), SCREENING_DRAWS)
        screen = _Screen(bench, limits, few)
        screen.add("grid", grid)
        screen.add("grid", own)
        surface = screen.surface(space, grid)
        screen.refine(space, seed)
        short = screen.shortlist(space, own, margin)
        final = bench.final(short, limits)
        choice = _chosen(final)
        tradeoff = _tradeoff(bench, space, final, choice)
        spread = bench.residual_sd(seed)
        factors = joined(drawn, names)
        # With fewer draws nobody asks.
        moving = bench.moving(factors, final) if final.whole.sum() >= FEWEST_DRAWS else []
    return _result(
        given, wanted, relevant, margin, limits, space, drawn, seed, bench, screen, surface, final, choice, tradeoff,
        spread, factors, moving, own,
    )  # fmt: skip


def _until(scenario: Scenario, horizon: str | None) -> Scenario:
    """The scenario with another horizon, without arms that go on beyond it."""
    if horizon is None:
        return scenario
    days = parse_duration(horizon, what="--horizon")
    arms = tuple(a for a in scenario.arms if a.end_day < days or a.name == scenario.reference)
    visits = (*(v for v in scenario.visits if v < days), days) if days <= scenario.horizon_days else ()
    return scenario.replace(arms=arms, horizon_days=days, visits=visits)


def _objective(scenario: Scenario, name: str | None) -> Endpoint:
    default = DEFAULT_OBJECTIVE if DEFAULT_OBJECTIVE in scenario.endpoints else scenario.endpoints[0]
    return endpoint_of(name or default)


def _relevant(scenario: Scenario, wanted: Endpoint, gain: float | None) -> float | None:
    """The gain that matters, in the endpoint's unit."""
    if gain is not None:
        if isinstance(gain, bool) or not np.isfinite(gain) or gain <= 0:
            raise RunError(f"--gain must be a number above 0, in {wanted.difference_unit}, got {gain!r}.")
        return float(gain)
    if scenario.subject.species != "human":
        return None
    if wanted.kind in ("slope_total", "slope_chronic"):
        return RELEVANT_SLOPE
    if wanted.name in ("egfr_change", "mgfr_change"):
        return RELEVANT_SLOPE * float(scenario.horizon_days) / DAYS_PER_YEAR
    return None


def _one_of_each(regimens: Iterable[Regimen]) -> list[Regimen]:
    return list({(r.product, r.route): r for r in regimens}.values())


# --------------------------------------------------------------------------- simulations


@dataclass(frozen=True)
class _Final:
    """Regimens under all draws.

    Attributes
    ----------
    gains : ndarray (n_regimens, n_draws)
        Over the reference, more is better, mean over patients; NaN where nothing came through.
    endpoints : dict of name to ndarray (n_regimens, n_draws), difference from the reference as it is
    rejection, lost : ndarray (n_regimens, n_draws)
        Largest rejection until 16 weeks after the last dose; share of the last dose's cell-days that it takes.
    whole : ndarray of bool (n_draws,)
        Draws in which every regimen has a gain.
    nothing : float
        A gain below this is noise of the solver.
    dropped : dict of label to why
        Regimens that did not get as far as this.
    """

    regimens: tuple[Regimen, ...]
    gains: np.ndarray
    endpoints: Mapping[str, np.ndarray]
    rejection: np.ndarray
    lost: np.ndarray
    whole: np.ndarray
    nothing: float
    dropped: Mapping[str, str]


class _Bench:
    """Simulates regimens, counts what is done, and keeps the failures."""

    def __init__(
        self,
        scenario: Scenario,
        people: Sequence[Patient],
        wanted: Endpoint,
        drawn: Draws,
        names: Sequence[str],
        executor: Executor,
        progress: Progress | None,
    ) -> None:
        self.scenario, self.wanted, self.executor = scenario, wanted, executor
        self.people, self.progress = tuple(people), progress
        self.n_draws = len(drawn)
        self.columns = {n: np.asarray(drawn.values[n], dtype=float) for n in names}
        self.middle = drawn.median()
        self.days = output_days(scenario, dense=False)
        self.failures = Failures()
        self.done, self.total = 0, 0
        self.sign = 1.0 if wanted.better == "higher" else -1.0
        self._reference: dict[tuple[bool, int], np.ndarray] = {}
        self.executor.warm({1})

    def expect(self, screened: int) -> None:
        """Say roughly how much there is to do."""
        few = min(self.n_draws, SCREENING_DRAWS)
        self.total = len(self.people) * (screened * few + (2 * MOST_SHORT + 12) * self.n_draws)
        self._step("")

    def _step(self, word: str) -> None:
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done), word)

    def plan(self, *, exact: bool) -> _Plan:
        """What simulations share. The screen takes the tolerance of populations, and only the endpoint that counts."""
        others: list[Endpoint] = []
        if exact:
            # Whoever asks for the time to kidney failure waits for it; all other endpoints cost next to nothing.
            others = [
                e
                for e in map(endpoint_of, self.scenario.endpoints)
                if e.name != self.wanted.name and e.kind != "time_to"
            ]
        return _Plan(
            self.people, self.days, (self.wanted, *others), float(self.scenario.horizon_days), self.scenario.visits,
            (RTOL, ATOL) if exact else (POPULATION_RTOL, POPULATION_ATOL),
        )  # fmt: skip

    def endpoints_of(
        self, arms: Sequence[Arm], n_draws: int, stage: str, *, exact: bool, without: bool = False
    ) -> tuple[np.ndarray, tuple[Endpoint, ...]]:
        """Endpoints (n_endpoints, n_arms, n_draws, n_patients) under the first draws.

        `without`: in hosts that never remember an earlier dose.
        """
        plan = self.plan(exact=exact)
        out = np.full((len(plan.endpoints), len(arms), n_draws, len(self.people)), np.nan)
        undefined: dict[str, str] = {}
        for done in self.executor.map(_simulated, self._tasks(plan, arms, n_draws, without)):
            task = done.task
            n_arms, n = done.values.shape[1:3]
            out[:, task.first_arm : task.first_arm + n_arms, task.first_draw : task.first_draw + n] = (
                done.values
            )
            undefined |= done.undefined
            self.note(stage, [a.name for a in arms], done.failures)
            self.done += done.values[0].size
            self._step(stage)
        why = undefined.get(self.wanted.name)
        if why and not np.isfinite(out[0]).any():
            raise RunError(f"{self.wanted.name} is not defined here: {why}. Choose another --objective.")
        return out, plan.endpoints

    def _tasks(self, plan: _Plan, arms: Sequence[Arm], n_draws: int, without: bool) -> Iterator[_Task]:
        size = max(1, SUBJECTS_PER_TASK // len(self.people))
        for a in range(0, len(arms), ARMS_PER_TASK):
            for k in range(0, n_draws, size):
                stop = min(k + size, n_draws)
                drawn = {name: values[k:stop] for name, values in self.columns.items()}
                if without:
                    drawn[SENSITISATION] = np.zeros(stop - k)
                yield _Task(plan, tuple(arms[a : a + ARMS_PER_TASK]), drawn, a, k)

    def note(self, stage: str, arms: Sequence[str], found: Iterable[tuple[int, int, int, str, str]]) -> None:
        """Keep what failed."""
        for a, k, j, status, message in found:
            self.failures.add(
                {
                    "arm": arms[a],
                    "stage": stage,
                    "draw": k,
                    "patient": j,
                    "status": status,
                    "message": message,
                }
            )

    def reference(self, n_draws: int, *, exact: bool) -> np.ndarray:
        """Endpoints of the reference arm, (n_endpoints, n_draws, n_patients)."""
        key = (exact, n_draws)
        if key not in self._reference:
            found, _ = self.endpoints_of([self.scenario.reference_arm], n_draws, "reference", exact=exact)
            self._reference[key] = found[:, 0]
        return self._reference[key]

    def screened(self, regimens: Sequence[Regimen], n_draws: int, stage: str) -> np.ndarray:
        """Gains (n_regimens, n_draws), more is better, mean over the patients who came through both arms."""
        found, _ = self.endpoints_of([r.arm for r in regimens], n_draws, stage, exact=False)
        beside = self.reference(n_draws, exact=False)
        return self.sign * _mean(found[0] - beside[0])

    def sensitisation(
        self, regimens: Sequence[Regimen], n_draws: int, stage: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rejection at its largest, and the share of the last dose lost to it, (n_regimens, n_draws) each."""
        shape = (len(regimens), n_draws, len(self.people))
        rejection, lost = np.zeros(shape), np.zeros(shape)
        which = [i for i, r in enumerate(regimens) if r.immunogenic]
        arms = [regimens[i].arm for i in which]
        plan = self.plan(exact=False)
        for task, seen, share, failures in self.executor.map(
            _remembered, self._tasks(plan, arms, n_draws, False)
        ):
            rows = which[task.first_arm : task.first_arm + len(task.arms)]
            columns = slice(task.first_draw, task.first_draw + seen.shape[1])
            for i, row in enumerate(rows):
                rejection[row, columns], lost[row, columns] = seen[i], share[i]
            self.note(stage, [a.name for a in arms], failures)
            self.done += seen.size
            self._step(stage)
        return _mean(rejection), _mean(lost)

    def final(self, regimens: Sequence[Regimen], limits: Limits) -> _Final:
        """Regimens under all draws, as exactly as `compare` does."""
        found, endpoints = self.endpoints_of([r.arm for r in regimens], self.n_draws, "shortlist", exact=True)
        beside = self.reference(self.n_draws, exact=True)
        rejection, lost = self.sensitisation(regimens, self.n_draws, "sensitisation")
        dropped = self._unfit(regimens, found[0] - beside[0], rejection, limits)
        kept = [i for i, r in enumerate(regimens) if r.label not in dropped]
        if not kept:
            told = "; ".join(f"{name}: {why}" for name, why in list(dropped.items())[:3])
            raise RunError(
                f"no regimen of the shortlist keeps the limits under all draws ({told}). Allow more --max-risk, choose products "
                "that do not sensitise, or see with `mscrenal simulate` what fails."
            )
        found = found[:, kept]
        # The same patients for every regimen: those who came through all of them.
        everywhere = np.isfinite(found[0] - beside[0]).all(axis=0)
        difference = np.where(everywhere, found - beside[:, np.newaxis], np.nan)
        gains = self.sign * _mean(difference[0])
        reference = beside[0][np.isfinite(beside[0])]
        return _Final(
            tuple(regimens[i] for i in kept), gains,
            {e.name: _mean(difference[i]) for i, e in enumerate(endpoints)},
            rejection[kept], lost[kept], np.asarray(np.isfinite(gains).all(axis=0)),
            RTOL * max(1.0, float(np.abs(reference).max(initial=0.0))), dropped,
        )  # fmt: skip

    def _unfit(
        self, regimens: Sequence[Regimen], difference: np.ndarray, rejection: np.ndarray, limits: Limits
    ) -> dict[str, str]:
        """Regimens that break the limit on risk under all draws, or fail so often that they would take the others along."""
        out = {}
        usable = np.isfinite(difference).any(axis=0)
        for i, r in enumerate(regimens):
            median = _median(rejection[i])
            failed = 1 - float(np.isfinite(difference[i])[usable].mean()) if usable.any() else 1.0
            if failed > MOST_FAILED:
                out[r.label] = f"{failed:.0%} of its simulations failed"
            elif limits.risk is not None and r.immunogenic and not median <= limits.risk:
                out[r.label] = f"a median sensitisation of {median:.2f} under all draws"
        return out

    def moving(self, factors: Mapping[str, tuple[str, ...]], final: _Final) -> list[str]:
        """Parameters that change the gain of a regimen: each at its 5 % and its 95 %, all others at the middle of the draws.

        One that does not has no say, and would stand among those that may be worth knowing by chance alone.
        """
        best = np.argsort(-final.gains[:, final.whole].mean(axis=1), kind="stable")
        foremost: dict[tuple[str, str], Regimen] = {}
        for r in (final.regimens[i] for i in best):
            foremost.setdefault((r.product, r.route), r)
        shown = list(foremost.values())[:MOST_PROBED]
        arms = [self.scenario.reference_arm, *(r.arm for r in shown)]
        n = 1 + 2 * len(factors)
        points = {name: np.full(n, np.median(values)) for name, values in self.columns.items()}
        for i, (first, names) in enumerate(factors.items()):
            for name in names:
                points[name][1 + 2 * i : 3 + 2 * i] = np.quantile(self.columns[first], (0.05, 0.95))
        probe = replace(self.plan(exact=True), endpoints=(self.wanted,))
        values = np.full((len(arms), n), np.nan)
        size = max(1, SUBJECTS_PER_TASK // len(self.people))
        tasks = (
            _Task(probe, tuple(arms), {name: v[k : k + size] for name, v in points.items()}, 0, k)
            for k in range(0, n, size)
        )
        # A point that fails is no draw, and tells nothing against a parameter.
        for done in self.executor.map(_simulated, tasks):
            k = done.task.first_draw
            values[:, k : k + done.values.shape[2]] = _mean(done.values[0])
            self.done += done.values[0].size
            self._step("parameters")
        gains = values[1:] - values[0]
        change = np.abs(gains[:, 1:] - gains[:, :1]).reshape(len(shown), -1, 2)
        still = (change <= final.nothing).all(axis=(0, 2))
        return [first for first, idle in zip(factors, still, strict=True) if not idle]

    def residual_sd(self, seed: int) -> float | None:
        """SD of the objective between untreated patients as a trial measures it; None for a time to an event.

        From the model: virtual patients with their random effects at the median draw, and the residual error of the
        observable at every visit.
        """
        plan = replace(self.plan(exact=False), endpoints=(self.wanted,))
        observable = next(o for o in OBSERVABLES if o.name == self.wanted.observable)
        if self.wanted.kind == "time_to" or not observable.residual:
            return None
        people = people_of(self.scenario, seed, 0, RESIDUAL_PATIENTS)
        drawn = {name: np.full(len(people), self.middle[name]) for name in self.columns}
        cohort = simulate_people(
            people, drawn, [treatment_of(self.scenario.reference_arm, people)], self.days, (observable.name,)
        )
        seen = cohort.values[:, 0, :, 0]
        rng = stream(seed, "optimise", "residual")
        noisy = read(
            observable, seen, self.days, rng.standard_normal(seen.shape), rng.standard_normal(len(seen))
        )
        values = evaluate(
            self.wanted.name, noisy, self.days, horizon_days=plan.horizon, visits=plan.visits
        ).values  # fmt: skip
        values = values[np.isfinite(values)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the patients (last axis) who came through; NaN where nobody did."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    total = np.where(finite, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _simulated(task: _Task) -> _Done:
    """Every patient under every draw of the task, through each of its arms."""
    plan, n_patients = task.plan, len(task.plan.patients)
    n_draws = len(next(iter(task.drawn.values())))
    people = People.of(list(plan.patients) * n_draws)
    drawn = {name: np.repeat(values, n_patients) for name, values in task.drawn.items()}
    observables = tuple(dict.fromkeys(e.observable for e in plan.endpoints))
    below = Below("egfr", ESKD_EGFR, ESKD_LIMIT_YEARS * DAYS_PER_YEAR) if plan.followed else None
    cohort = simulate_people(
        people, drawn, [treatment_of(a, people) for a in task.arms], plan.days, observables, below=below,
        rtol=plan.tolerance[0], atol=plan.tolerance[1],
    )  # fmt: skip
    values = np.full((len(plan.endpoints), len(task.arms), n_draws, n_patients), np.nan)
    undefined = {}
    for i, wanted in enumerate(plan.endpoints):
        found, why = _read(plan, wanted, cohort, observables)
        values[i] = found.T.reshape(len(task.arms), n_draws, n_patients)
        if why:
            undefined[wanted.name] = why
    return _Done(task, values, _failed(task, cohort), undefined)


def _read(
    plan: _Plan, wanted: Endpoint, cohort: Cohort, observables: Sequence[str]
) -> tuple[np.ndarray, str]:
    """An endpoint of each subject in each arm, (n, n_arms), and why there is none."""
    if wanted.kind == "time_to" and plan.followed:
        ok = np.where(cohort.status == "ok", cohort.crossing, np.nan)
        return reached_on(ok, plan.horizon).values, ""
    rows = np.ascontiguousarray(cohort.values[..., observables.index(wanted.observable)])
    found = evaluate(wanted.name, rows, plan.days, horizon_days=plan.horizon, visits=plan.visits)
    return found.values, found.undefined


def _failed(task: _Task, cohort: Cohort) -> list[tuple[int, int, int, str, str]]:
    n = len(task.plan.patients)
    failed = [(a, row, str(cohort.status[row, a]), why) for (row, a), why in cohort.messages.items()]
    if task.plan.followed:
        lost = np.argwhere((cohort.status == "ok") & np.isnan(cohort.crossing)).tolist()
        failed += [(a, row, "continuation", CONTINUATION) for row, a in lost]
    return [
        (task.first_arm + a, task.first_draw + row // n, row % n, status, why)
        for a, row, status, why in sorted(failed)
    ]


def _remembered(task: _Task) -> tuple[_Task, np.ndarray, np.ndarray, list[tuple[int, int, int, str, str]]]:
    """The host's rejection at its largest, and the share of the last dose lost to it; (n_arms, n_draws, n_patients) each.

    Rejection is the model's own quantity, memory / (1 + memory), of an allogeneic product: 0 in a host that never met
    donor cells, 1 at most. It takes from a dose a share at once and shortens the life of the rest: what is lost are the
    cell-days of a dose that met the rejection of its day throughout.
    """
    plan, known = task.plan, sampled_parameters()
    n_draws = len(next(iter(task.drawn.values())))
    shape = (len(task.arms), n_draws, len(plan.patients))
    largest, lost = np.full(shape, np.nan), np.full(shape, np.nan)
    failures: list[tuple[int, int, int, str, str]] = []
    rtol, atol = plan.tolerance
    for k in range(n_draws):
        theta = {name: float(values[k]) for name, values in task.drawn.items()}
        at_once = theta.get("sensitised_loss", known["sensitised_loss"].value)
        faster = theta.get("sensitised_death", known["sensitised_death"].value)
        for j, patient in enumerate(plan.patients):
            for a, arm in enumerate(task.arms):
                doses = arm.doses(float(patient.weight_kg or 1.0))
                last = doses[-1].day
                # Beyond the horizon too: a dose near its end sensitises no less.
                days = {0.0, last, *(last + d for d in AFTER)}
                try:
                    kernels, subject = prepare(patient, products_of(doses), theta)
                except InitialStateError:
                    continue  # the main run says so, of the same subject
                run = simulate_subject(
                    kernels, subject, doses, (), np.array(sorted(days)), rtol=rtol, atol=atol
                )
                if run.status != "ok":
                    failures.append((task.first_arm + a, task.first_draw + k, j, run.status, run.message))
                    continue
                memory = run.state("memory")
                met = float(memory[run.times == last][0])
                largest[a, k, j] = float(np.max(memory / (1 + memory)))
                share = met / (1 + met)
                lost[a, k, j] = 1 - (1 - at_once * share) / (1 + faster * share)
    return task, largest, lost, failures


# --------------------------------------------------------------------------- screen and search


class _Screen:
    """Regimens met under few draws, each once."""

    def __init__(self, bench: _Bench, limits: Limits, n_draws: int) -> None:
        self.bench, self.limits, self.n_draws = bench, limits, n_draws
        self.gains: dict[Regimen, np.ndarray] = {}
        self.risks: dict[Regimen, float] = {}

    def add(self, stage: str, regimens: Iterable[Regimen]) -> None:
        """Simulate those not met yet."""
        new = [r for r in dict.fromkeys(regimens) if r not in self.gains]
        if not new:
            return
        found = self.bench.screened(new, self.n_draws, stage)
        self.gains |= dict(zip(new, found, strict=True))
        if self.limits.risk is not None:
            rejection, _ = self.bench.sensitisation(new, self.n_draws, stage)
            self.risks |= {r: _median(rejection[i]) for i, r in enumerate(new)}

    def allowed(self, regimen: Regimen) -> bool:
        """Whether its median risk keeps the limit; one that could not be simulated does not."""
        return self.limits.risk is None or self.risks[regimen] <= self.limits.risk

    def expected(self, regimen: Regimen) -> float:
        """Mean gain over the draws that came through; minus infinity for none."""
        values = self.gains[regimen]
        return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else -np.inf

    def ranked(self, pair: tuple[str, str] | None = None) -> list[Regimen]:
        """Allowed regimens, the best first; those with the smaller burden first where they are equal."""
        mine = [
            r
            for r in self.gains
            if self.allowed(r) and np.isfinite(self.expected(r)) and pair in (None, (r.product, r.route))
        ]
        return sorted(mine, key=lambda r: (-self.expected(r), r.burden, r.n_doses, r.label))

    def surface(self, space: Space, grid: Sequence[Regimen]) -> Surface:
        """Gains (product and route, dose, number, interval, draw) of the grid; NaN beyond the limits."""
        return Surface.of(space, {r: self.gains[r] for r in grid}, self.n_draws)

    def refine(self, space: Space, seed: int) -> None:
        """Search each product and route beyond the grid, from its best points: SciPy's differential evolution."""
        from scipy.optimize import differential_evolution

        for pair in space.pairs:
            most = space.most_doses(*pair)
            start = _first_generation(space, pair, self.ranked(pair), most, seed)
            differential_evolution(
                self._loss(space, pair), [(0.0, 1.0), (1.0, float(max(most, 1))), (0.0, 1.0)], init=start,
                integrality=[False, True, False], maxiter=GENERATIONS, polish=False, updating="deferred",
                vectorized=True, tol=0.0, rng=stream(seed, "optimise", *pair),
            )  # fmt: skip

    def _loss(self, space: Space, pair: tuple[str, str]) -> Callable[[np.ndarray], np.ndarray]:
        def loss(points: np.ndarray) -> np.ndarray:
            columns = points.reshape(3, -1).T
            regimens = [space.at(*pair, point) for point in columns.tolist()]
            self.add("search", regimens)
            # A large number, not infinity: generations are compared by their spread.
            found = [
                -value if self.allowed(r) and np.isfinite(value := self.expected(r)) else 1e12
                for r in regimens
            ]
            return np.array(found)

        return loss

    def shortlist(self, space: Space, own: Sequence[Regimen], margin: float) -> tuple[Regimen, ...]:
        """Regimens that meet all draws: whatever may turn out best in some sense."""
        ranked = self.ranked()
        if not ranked:
            raise RunError(
                "no regimen keeps the limits: "
                + (
                    f"the smallest median risk is {min(self.risks.values()):.2g}, --max-risk {self.limits.risk:g}. Allow more, "
                    "or choose products that do not sensitise (a patient's own cells, EVs)."
                    if self.risks and np.isfinite(list(self.risks.values())).any()
                    else "none of them could be simulated. `mscrenal simulate` with a few draws lists what fails."
                )
            )
        kept = dict.fromkeys(ranked[:1])
        kept |= dict.fromkeys(r for pair in space.pairs for r in self.ranked(pair)[:1])
        kept |= dict.fromkeys(self._most_often(ranked))
        kept |= dict.fromkeys(r for r in own if self.allowed(r))
        kept |= dict.fromkeys(self._sparing(ranked, margin))
        front = [r for r in self._front(ranked) if r not in kept]
        room = max(MOST_SHORT - len(kept), 0)
        at = np.unique(np.linspace(0, len(front) - 1, min(room, len(front))).round().astype(int))
        return tuple(kept | dict.fromkeys(front[i] for i in at))

    def _most_often(self, ranked: Sequence[Regimen]) -> list[Regimen]:
        table = np.array([self.gains[r] for r in ranked])
        whole = np.isfinite(table).all(axis=0)
        counts = Counter(np.argmax(table[:, whole], axis=0).tolist())
        return [ranked[i] for i, _ in counts.most_common(MOST_OFTEN)]

    def _sparing(self, ranked: Sequence[Regimen], margin: float) -> list[Regimen]:
        best = self.expected(ranked[0])
        near = [
            r for r in ranked if r.kind == ranked[0].kind and self.expected(r) >= best - margin * abs(best)
        ]
        return [min(near, key=lambda r: r.burden), min(near, key=lambda r: (r.n_doses, r.burden))]

    def _front(self, ranked: Sequence[Regimen]) -> list[Regimen]:
        """Regimens that no other of their kind beats in gain, burden and visits, by burden."""
        out: list[Regimen] = []
        for kind in dict.fromkeys(r.kind for r in ranked):
            mine = [r for r in ranked if r.kind == kind]
            front = pareto_front(
                [self.expected(r) for r in mine], [r.burden for r in mine], [r.n_doses for r in mine]
            )
            out += [r for r, on in zip(mine, front, strict=True) if on]
        return sorted(out, key=lambda r: (r.kind, r.burden, r.n_doses, r.label))


def _first_generation(
    space: Space, pair: tuple[str, str], ranked: Sequence[Regimen], most: int, seed: int
) -> np.ndarray:
    """Points (POPULATION, 3): half of them the best so far, the others spread evenly at random."""
    best = [space.place(r) for r in ranked[: POPULATION // 2]]
    rest = stream(seed, "optimise", "start", *pair).random((POPULATION - len(best), 3))
    rest[:, 1] = np.floor(rest[:, 1] * most) + 1
    return np.vstack([np.array(best).reshape(-1, 3), rest])


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


# --------------------------------------------------------------------------- decision


def _chosen(final: _Final) -> int | None:
    """The regimen with the largest expected gain; None if none gains anything."""
    if not final.whole.any():
        raise RunError(
            "in no draw could every regimen of the shortlist be simulated. `mscrenal simulate` with a few draws lists what fails."
        )
    mean = final.gains[:, final.whole].mean(axis=1)
    best = int(np.argmax(mean))
    return best if mean[best] > final.nothing else None


def _tradeoff(bench: _Bench, space: Space, final: _Final, choice: int | None) -> Tradeoff | None:
    """A dose given once, twice and so on, with and without sensitisation: the one that the limits let be repeated most.

    Of the recommended product and route, spread as long as the recommended course; of the best regimen of a donor's cells
    where that does not sensitise; None without any.
    """
    donor = [i for i, r in enumerate(final.regimens) if r.immunogenic]
    if not donor:
        return None
    mean = final.gains[:, final.whole].mean(axis=1)
    place = choice if choice in donor else max(donor, key=lambda i: mean[i])
    chosen = final.regimens[place]
    most = space.most_doses(chosen.product, chosen.route)
    dose = space.at(chosen.product, chosen.route, (1.0, most, 0.0)).dose
    interval = max(space.limits.interval_days, float(round(chosen.last_day / max(most - 1, 1))))
    rows = [
        replace(chosen, dose=dose, n_doses=n, interval_days=interval if n > 1 else 0.0)
        for n in range(1, most + 1)
    ]
    rows = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 8)).round().astype(int))]
    arms = [r.arm for r in rows]
    beside = bench.reference(bench.n_draws, exact=True)
    found = bench.endpoints_of(arms, bench.n_draws, "trade-off", exact=True)[0]
    spared = bench.endpoints_of(arms, bench.n_draws, "without sensitisation", exact=True, without=True)[0]
    rejection, lost = bench.sensitisation(rows, bench.n_draws, "trade-off")
    gains, free = (bench.sign * _mean(values[0] - beside[0]) for values in (found, spared))
    return Tradeoff(tuple(rows), gains, free, rejection, lost)


def _result(
    scenario: Scenario,
    wanted: Endpoint,
    relevant: float | None,
    margin: float,
    limits: Limits,
    space: Space,
    drawn: Draws,
    seed: int,
    bench: _Bench,
    screen: _Screen,
    surface: Surface,
    final: _Final,
    choice: int | None,
    tradeoff: Tradeoff | None,
    spread: float | None,
    factors: Mapping[str, tuple[str, ...]],
    moving: Sequence[str],
    own: Sequence[Regimen],
) -> OptimiseResult:
    """Everything that is said of the regimens of the shortlist."""
    # No treatment is an option too, and gains nothing.
    utility = np.column_stack([final.gains[:, final.whole].T, np.zeros(int(final.whole.sum()))])
    utility = np.where(np.abs(utility) <= final.nothing, 0.0, utility)
    rows = np.flatnonzero(final.whole)
    columns = {first: bench.columns[first][rows] for first in moving}
    information = value_of_parameters(utility, columns, seed=seed)
    groups: dict[str, list[np.ndarray]] = {}
    for first in moving:
        groups.setdefault(group_of(first), []).append(columns[first])
    grouped = value_of_groups(utility, groups, seed=seed)
    studies: tuple[StudyValue, ...] = ()
    if choice is not None and spread is not None and len(utility) >= FEWEST_DRAWS:
        studies = _studies(scenario, final, choice, utility, spread)
    arms = [final.regimens[choice].arm] if choice is not None else []
    everything = scenario.replace(
        arms=(scenario.reference_arm, *(a for a in _arms_of(final) if a not in arms), *arms)
    )
    provenance = provenance_of(scenario, drawn, seed, len(bench.people)) | {
        "extrapolated": [*extrapolations(everything, drawn), *_beyond_people(scenario, final.regimens)],
        "limits": limits.record,
        "screened": {"regimens": len(screen.gains), "draws": screen.n_draws},
        "simulations": bench.done,
        "left_out": dict(final.dropped),
        "parameters": {"in_use": len(factors), "with_a_say": len(moving)},
        "scipy": version("scipy"),
    }
    return OptimiseResult(
        command="optimise",
        title=f"{scenario.title}: the best regimens under limits",
        question=(
            f"Which regimen of {', '.join(space.products)} gains most in {wanted.label} over {scenario.reference}, how sure is "
            "that, and what would be worth knowing?"
        ),
        provenance=provenance,
        scenario=scenario,
        endpoint=wanted,
        relevant=relevant,
        margin=margin,
        limits=limits,
        regimens=final.regimens,
        own=tuple(r for r in own if r in final.regimens),
        gains=final.gains,
        endpoint_differences=final.endpoints,
        rejection=final.rejection,
        lost=final.lost,
        whole=final.whole,
        nothing=final.nothing,
        choice=choice,
        prob_best=prob_best(utility),
        losses=expected_losses(utility),
        perfect=value_of_perfect(utility),
        information=information,
        grouped=grouped,
        groups={name: len(members) for name, members in groups.items()},
        factors=factors,
        studies=studies,
        residual_sd=spread,
        screened=tuple((r, screen.expected(r)) for r in screen.gains),
        surface=surface,
        tradeoff=tradeoff,
        n_patients=len(bench.people),
        failed=bench.failures,
    )


def _arms_of(final: _Final) -> list[Arm]:
    return [r.arm for r in _one_of_each(final.regimens)]


def _studies(
    scenario: Scenario, final: _Final, choice: int, utility: np.ndarray, spread: float
) -> tuple[StudyValue, ...]:
    """Two next studies of several sizes: the recommended regimen against the reference, and against its best rival.

    What a study shows is the difference of two means of n patients, whose SD is that of untreated patients as they are
    measured.
    """
    mean = utility.mean(axis=0)
    chosen = final.regimens[choice]
    sizes = sorted({*STUDY_SIZES, *(a.n for a in scenario.arms if a.n is not None)})
    truths = [(f"{chosen.label} against {scenario.reference}", utility[:, choice])]
    # Of another product or route if there is one: a neighbour of the same course would be no study.
    others = [
        i
        for i, r in enumerate(final.regimens)
        if i != choice and (r.product, r.route) != (chosen.product, chosen.route)
    ]
    if others:
        rival = max(others, key=lambda i: mean[i])
        truths.append(
            (f"{chosen.label} against {final.regimens[rival].label}", utility[:, choice] - utility[:, rival])
        )
    return tuple(
        StudyValue(name, n, value_of_study(utility, truth, spread * float(np.sqrt(2 / n))))
        for name, truth in truths
        for n in sizes
    )


def _beyond_people(scenario: Scenario, regimens: Sequence[Regimen]) -> list[str]:
    """Where the shortlist goes beyond what people were given, in sentences."""
    if scenario.subject.species != "human":
        return []
    known, out = studied_in_people(), []
    for product, route in dict.fromkeys((r.product, r.route) for r in regimens):
        mine = [r for r in regimens if (r.product, r.route) == (product, route)]
        seen = known.get((product, route))
        if seen is None:
            out.append(
                f"{product} {route}: no study of the evidence gave it to people; its doses and repetitions are extrapolated."
                + _by_that_route(route, known)
            )
            continue
        most, often = max(r.dose for r in mine), max(r.n_doses for r in mine)
        if most > seen.dose * (1 + 1e-9):
            out.append(
                f"{product} {route}: single doses up to {short(most)}/kg; people got {short(seen.dose)}/kg at most in the evidence."
            )
        if often > seen.n_doses:
            told = "one dose" if seen.n_doses == 1 else f"{seen.n_doses} doses"
            out.append(
                f"{product} {route}: up to {often} doses; people got {told} in a course at most in the evidence."
            )
    return out


def _by_that_route(route: str, known: Mapping[tuple[str, str], Studied]) -> str:
    """What people got of other products by a route."""
    others = [f"{p} up to {short(s.dose)}/kg" for (p, way), s in known.items() if way == route]
    return f" By this route people got {', '.join(others)}." if others else ""
