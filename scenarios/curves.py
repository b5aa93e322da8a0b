"""Curves of a scenario's arms while somebody waits: the middle of the posterior at once, bands in parts that follow.

Beside `mscrenal.scenarios.run.run`, which keeps every draw and patient of a finished run, this is for the page: one patient,
arms that may have arms of action switched off, and parts small enough that a newer question can take their place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mscrenal.model import ARMS_OF_ACTION
from mscrenal.model.declare import nearest
from mscrenal.model.population import simulate_cohort
from mscrenal.scenarios.endpoints import endpoint as endpoint_of
from mscrenal.scenarios.endpoints import evaluate
from mscrenal.scenarios.run import RunError
from mscrenal.scenarios.scenario import Scenario

__all__ = ["Curves", "curves"]

BAND = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Curves:
    """What some draws of the parameters make of one patient in each arm.

    Attributes
    ----------
    scenario : Scenario
    days : ndarray (n_days,)
    observables : tuple of str
    values : ndarray (n_variants, n_draws, n_days, n_observables)
        In the units of the observables; NaN where a simulation failed.
    variants : tuple of (arm, tuple of arms of action)
        What is switched off in which arm: each arm whole, then those with something switched off.
    messages : dict of (variant, draw) to str
        What happened to each that failed.
    """

    scenario: Scenario
    days: np.ndarray
    observables: tuple[str, ...]
    values: np.ndarray
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    messages: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        return int(self.values.shape[1])

    def joined(self, more: Curves) -> Curves:
        """These draws, and then those."""
        messages = self.messages | {(v, k + self.n_draws): m for (v, k), m in more.messages.items()}
        values = np.concatenate((self.values, more.values), axis=1)
        return Curves(self.scenario, self.days, self.observables, values, self.variants, messages)

    def less_the_first(self) -> Curves:
        """Differences from the first arm, draw by draw: what is due to treatment."""
        return replace(self, values=self.values - self.values[:1])

    def band(self, q: Sequence[float] = BAND) -> np.ndarray:
        """Quantiles over the draws that ended well, (len(q), n_variants, n_days, n_observables)."""
        fine = ~np.isnan(self.values).any(axis=(2, 3))
        found = np.full((len(q), *self.values.shape[:1], *self.values.shape[2:]), np.nan)
        for v in range(len(self.variants)):
            if fine[v].any():
                found[:, v] = np.quantile(self.values[v, fine[v]], q, axis=0)
        return found

    def endpoint(self, name: str) -> np.ndarray:
        """An endpoint at the horizon, (n_variants, n_draws), in its unit.

        Raises
        ------
        EndpointError
            For a name that there is not.
        RunError
            If its observable is not among these.
        """
        wanted = endpoint_of(name)
        if wanted.observable not in self.observables:
            raise RunError(
                f"endpoint {name!r} is read off {wanted.observable!r}, which was not simulated. Add it to the observables."
            )
        found = evaluate(
            name,
            self.values[..., self.observables.index(wanted.observable)],
            self.days,
            horizon_days=float(self.scenario.horizon_days),
            visits=self.scenario.visits,
        )
        return np.asarray(found.values)


def curves(
    scenario: Scenario,
    thetas: Iterable[Mapping[str, float]],
    *,
    days: np.ndarray,
    observables: Sequence[str],
    knock_out: Mapping[str, Collection[str]] | None = None,
) -> Curves:
    """Simulate the patient of a scenario in every arm, whole and with arms of action switched off.

    Parameters
    ----------
    scenario : Scenario
        With one patient.
    thetas : iterable of mapping
        Draws of the parameters, such as parts of `mscrenal.calibration.Draws`.
    days : ndarray (n_days,)
        Increasing.
    observables : sequence of str
    knock_out : mapping of arm to arms of action, optional
        What is switched off, in which arm.

    Raises
    ------
    RunError
        For a population, or an arm or arm of action that there is not.

    Notes
    -----
    The patient is placed once for each draw and meets all arms from there; a simulation that fails is NaN with a message.
    """
    if scenario.population is not None:
        raise RunError(f"scenario {scenario.name!r} has a population; curves are of one patient.")
    off = _checked(scenario, knock_out or {})
    drawn = list(thetas)
    patient = scenario.subject.patient()
    weight = float(patient.weight_kg or 1.0)
    regimens: list[Any] = [(tuple(a.doses(weight)), tuple(a.drugs_added), a.resets) for a in scenario.arms]
    names = [a.name for a in scenario.arms]
    variants = [(name, ()) for name in names] + [(name, off[name]) for name in names if name in off]
    values = np.full((len(variants), len(drawn), len(days), len(observables)), np.nan)
    messages: dict[tuple[int, int], str] = {}
    for switched in dict.fromkeys(switched for _, switched in variants):
        rows = [v for v, (_, s) in enumerate(variants) if s == switched]
        arms = tuple(regimens[names.index(variants[v][0])] for v in rows)
        cohort = simulate_cohort(
            [patient] * len(drawn), drawn, [arms] * len(drawn), days, observables, knock_out=switched
        )
        values[rows] = np.moveaxis(cohort.values, 1, 0)
        messages |= {(rows[a], k): message for (k, a), message in cohort.messages.items()}
    return Curves(scenario, days, tuple(observables), values, tuple(variants), messages)


def _checked(scenario: Scenario, knock_out: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """What is switched off in which arm, in the order of the arms of action; arms without are left out."""
    names = [a.name for a in scenario.arms]
    for arm, switched in knock_out.items():
        if arm not in names:
            raise RunError(f"knock_out: given for {arm!r}, which is no arm.{nearest(arm, names)}")
        for action in switched:
            if action not in ARMS_OF_ACTION:
                raise RunError(
                    f"knock_out: given {action!r}, which is no arm of action.{nearest(action, ARMS_OF_ACTION)}"
                )
    return {arm: tuple(a for a in ARMS_OF_ACTION if a in s) for arm, s in knock_out.items() if s}
