"""Which parameters the uncertainty of an endpoint comes from: `mscrenal.scenarios.sobol` on a scenario."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mscrenal.calibration import Draws
from mscrenal.model import DRUGS, Patient, model, sampled_parameters
from mscrenal.model.crowd import simulate_people
from mscrenal.model.initial import parameter_sources
from mscrenal.model.people import People
from mscrenal.model.population import Below, Cohort
from mscrenal.model.simulate import products_of
from mscrenal.model.solve import ATOL, RTOL
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
from mscrenal.scenarios.sensitivity_result import MOST_LISTED, SensitivityResult
from mscrenal.scenarios.sobol import joined, marginals, rows_needed, study
from mscrenal.scenarios.sources import Source
from mscrenal.scenarios.virtual_patients import treatment_of

__all__ = ["active_parameters", "sensitivity"]

DEFAULT_ENDPOINT = "egfr_change"
# Some tenths of a second of work, whoever does it: how points are shared out can change nothing.
SUBJECTS_PER_TASK = 64


@dataclass(frozen=True)
class _Plan:
    """What all points share: the patients, one or two arms (the reference first), and what is read off them."""

    patients: tuple[Patient, ...]
    arms: tuple[Arm, ...]
    days: np.ndarray
    endpoint: Endpoint
    horizon: float
    visits: tuple[float, ...]
    fixed: Mapping[str, float]

    @property
    def followed(self) -> bool:
        """Whether patients are simulated beyond the horizon, until their kidneys fail."""
        return self.endpoint.kind == "time_to" and self.patients[0].species == "human"


@dataclass(frozen=True)
class _Task:
    """Some points: values (n_points, n_names) of the parameters that move."""

    plan: _Plan
    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class _Done:
    """The endpoint (n_points, n_patients), of the arm or its difference from the reference; NaN where one failed.

    `failures`: point, patient, arm, status, message. `undefined`: why the design gives no such endpoint.
    """

    values: np.ndarray
    failures: list[tuple[int, int, str, str, str]]
    undefined: str


def sensitivity(
    scenario: str | Path | Scenario,
    *,
    arm: str | None = None,
    endpoint: str | None = None,
    absolute: bool = False,
    parameters: int = 15,
    samples: int = 1024,
    draws: int | Draws = 1000,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    progress: Progress | None = None,
) -> SensitivityResult:
    """Sobol indices and tornado of an endpoint of one arm, as its difference from the reference.

    Parameters
    ----------
    scenario : str, path or Scenario
        A name of the gallery, a TOML file, an event table, or a scenario.
    arm : str, optional
        Default: the first after the reference that gives a dose or adds a drug.
    endpoint : str, optional
        Default: ``egfr_change``, or the scenario's first where it does not ask for that.
    absolute : bool
        The endpoint of the arm itself, not its difference from the reference.
    parameters : int
        How many parameters get indices; the screen chooses them, all others stay at their medians.
    samples : int
        Blocks of Saltelli's design, a power of two. Each costs ``parameters + 2`` simulations of both arms.
    draws : int or Draws
        Draws of a posterior, whose empirical quantiles are the parameters' distributions; the prior's are exact.
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
        Called with points done, all points, and a word.

    Returns
    -------
    SensitivityResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Raises
    ------
    RunError
        For numbers out of range, an arm that is the reference, or an endpoint that is not defined or does not vary.

    Examples
    --------
    >>> from mscrenal.scenarios import sensitivity
    >>> result = sensitivity("uc-dn-weekly", samples=256)      # doctest: +SKIP
    """
    given = load_scenario(scenario)
    treated = _arm(given, arm, absolute)
    default = DEFAULT_ENDPOINT if DEFAULT_ENDPOINT in given.endpoints else given.endpoints[0]
    wanted = endpoint_of(endpoint or default)
    arms = (treated,) if absolute else (given.reference_arm, treated)
    drawn = _draws(draws, seed, source)
    people = [given.subject.patient()] if patients is None else _people(given, patients, seed)
    _check_placement(people, drawn)
    factors = joined(drawn, [n for n in active_parameters(given, arms) if n in drawn.values])
    known = marginals(drawn)
    plan = _Plan(
        tuple(people), arms, output_days(given, dense=False), wanted, float(given.horizon_days), given.visits,
        {n: known[first].median for first, names in factors.items() for n in names},
    )  # fmt: skip
    with executor_for(workers, cluster) as executor:
        points = _Points(
            plan, factors, executor, progress, rows_needed(len(factors), parameters, samples)
            if isinstance(parameters, int) and isinstance(samples, int) else 0,
        )  # fmt: skip
        found = study(
            points, {first: known[first] for first in factors}, keep=parameters, samples=samples, seed=seed
        )
    provenance = provenance_of(given, drawn, seed, len(people)) | {
        "extrapolated": extrapolations(given.replace(arms=_both(given, treated)), drawn),
        "samples": samples,
        "simulated_points": points.done,
        "salib": version("SALib"),
    }
    return SensitivityResult(
        command="sensitivity",
        title=f"{given.title}: what {wanted.label} of {treated.name} depends on",
        question=_question(given, treated, wanted, absolute),
        provenance=provenance,
        scenario=given,
        arm=treated.name,
        endpoint=wanted,
        absolute=absolute,
        study=found,
        factors=factors,
        n_patients=len(people),
        n_failed=points.n_failed,
        listed=tuple(points.failures),
    )


def _both(scenario: Scenario, arm: Arm) -> tuple[Arm, ...]:
    return (arm,) if arm.name == scenario.reference else (scenario.reference_arm, arm)


def _question(scenario: Scenario, arm: Arm, wanted: Endpoint, absolute: bool) -> str:
    what = f"{wanted.label} of {arm.name}"
    if absolute:
        return f"On which parameters does {what} depend?"
    return f"On which parameters does the difference in {wanted.label} between {arm.name} and {scenario.reference} depend?"


def _arm(scenario: Scenario, name: str | None, absolute: bool) -> Arm:
    """The arm asked for, or the first treated one."""
    treated = [a for a in scenario.arms if a.name != scenario.reference and (a.n_doses or a.drugs_added)]
    if name is None:
        if not treated and not absolute:
            raise RunError(
                f"scenario {scenario.name!r} has no treated arm beside the reference. Add one, or ask for the "
                "reference's own endpoint with --absolute."
            )
        return treated[0] if treated else scenario.reference_arm
    chosen = scenario.arm(name)
    if chosen.name == scenario.reference and not absolute:
        others = ", ".join(a.name for a in scenario.arms if a.name != scenario.reference)
        raise RunError(
            f"arm {name!r} is the reference, from which it differs by nothing. Choose one of {others or 'none'}; or "
            "--absolute, for the reference's own endpoint."
        )
    return chosen


def active_parameters(scenario: Scenario, arms: Sequence[Arm]) -> list[str]:
    """The sampled parameters that arms of a scenario use: those of its species, disease, products and drugs.

    Whether they matter is for the screen to say; a parameter that is not here cannot.
    """
    subject = scenario.subject.patient()
    drugs = {*subject.drugs, *(course.drug for a in arms for course in a.drugs_added)}
    absent = {e.size.name for name, drug in DRUGS.items() if name not in drugs for e in drug.effects}
    names: set[str] = set()
    given: set[str] = set()
    for a in arms:
        products = products_of(a.doses(float(subject.weight_kg or 1.0)))
        sources = parameter_sources(model(max(1, len(products))), subject.species, subject.disease, products)
        names |= {drawn for drawn, _ in sources.values()}
        given |= set(products)
    # An arm without cells carries the numbers of the reference product, and gives none of it.
    idle = {n for n in names if n.startswith("product.") and n.split(".", 2)[1] not in given}
    return sorted((names & set(sampled_parameters())) - absent - idle)


# --------------------------------------------------------------------------- many points


class _Points:
    """The function that `study` takes: simulates points, counts them, and keeps the failures."""

    def __init__(
        self,
        plan: _Plan,
        factors: Mapping[str, tuple[str, ...]],
        executor: Executor,
        progress: Progress | None,
        total: int,
    ) -> None:
        self.plan, self.factors, self.executor = plan, factors, executor
        self.progress, self.total = progress, total
        self.done, self.n_failed = 0, 0
        self.failures: list[dict[str, Any]] = []

    def __call__(self, stage: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The endpoint at these values (n,) by factor, (n, n_patients)."""
        if self.done == 0:
            weight = float(self.plan.patients[0].weight_kg or 1.0)
            self._step("")
            self.executor.warm({max(1, len(products_of(a.doses(weight)))) for a in self.plan.arms})
        names = tuple(name for first in values for name in self.factors[first])
        columns = np.column_stack([values[first] for first in values for _ in self.factors[first]])
        parts: list[np.ndarray] = []
        undefined = ""
        for part in self.executor.map(_simulated, self._tasks(names, columns)):
            undefined = part.undefined or undefined
            self._note(stage, sum(map(len, parts)), part)
            parts.append(part.values)
            self.done += len(part.values)
            self._step(stage)
        found = np.concatenate(parts)
        if undefined and not np.isfinite(found).any():
            raise RunError(
                f"{self.plan.endpoint.name} is not defined here: {undefined}. Choose another endpoint."
            )
        return found

    def _tasks(self, names: tuple[str, ...], values: np.ndarray) -> Iterator[_Task]:
        size = max(1, SUBJECTS_PER_TASK // len(self.plan.patients))
        for first in range(0, len(values), size):
            yield _Task(self.plan, names, values[first : first + size])

    def _note(self, stage: str, start: int, part: _Done) -> None:
        self.n_failed += len(part.failures)
        for point, patient, arm, status, message in part.failures[: MOST_LISTED - len(self.failures)]:
            self.failures.append(
                {"arm": arm, "stage": stage, "draw": start + point, "patient": patient, "status": status,
                 "message": message}
            )  # fmt: skip

    def _step(self, stage: str) -> None:
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done), WORDS.get(stage, stage))


WORDS = {"screen": "screening", "all": "all parameters free", "tornado": "tornado", "sobol": "Sobol indices"}


def _simulated(task: _Task) -> _Done:
    """The endpoint at some points, every patient at each."""
    plan, n_points, n_patients = task.plan, len(task.values), len(task.plan.patients)
    people = People.of(list(plan.patients) * n_points)
    n = len(people)
    drawn = {name: np.full(n, value) for name, value in plan.fixed.items()}
    drawn |= {name: np.repeat(task.values[:, j], n_patients) for j, name in enumerate(task.names)}
    cohort = simulate_people(
        people, drawn, [treatment_of(a, people) for a in plan.arms], plan.days,
        (plan.endpoint.observable,), below=_below(plan), rtol=RTOL, atol=ATOL,
    )  # fmt: skip
    values, undefined = _read(plan, cohort)
    effect = values[-1] - values[0] if len(plan.arms) > 1 else values[0]
    return _Done(effect.reshape(n_points, n_patients), _failed(plan, cohort), undefined)


def _below(plan: _Plan) -> Below | None:
    return Below("egfr", ESKD_EGFR, ESKD_LIMIT_YEARS * DAYS_PER_YEAR) if plan.followed else None


def _read(plan: _Plan, cohort: Cohort) -> tuple[np.ndarray, str]:
    """The endpoint in each arm, (n_arms, n), and why there is none."""
    if plan.followed:
        ok = np.where(cohort.status == "ok", cohort.crossing, np.nan)
        return reached_on(ok, plan.horizon).values.T, ""
    found = evaluate(
        plan.endpoint.name, cohort.values[..., 0], plan.days, horizon_days=plan.horizon, visits=plan.visits
    )
    return found.values.T, found.undefined


def _failed(plan: _Plan, cohort: Cohort) -> list[tuple[int, int, str, str, str]]:
    """point, patient, arm, status, message of each simulation that failed, in the order of the points."""
    n = len(plan.patients)
    failed = [(j, a, str(cohort.status[j, a]), message) for (j, a), message in cohort.messages.items()]
    if plan.followed:
        lost = np.argwhere((cohort.status == "ok") & np.isnan(cohort.crossing)).tolist()
        failed += [(j, a, "continuation", CONTINUATION) for j, a in lost]
    return [(j // n, j % n, plan.arms[a].name, status, why) for j, a, status, why in sorted(failed)]
