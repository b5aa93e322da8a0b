"""What the model predicts for the rows of the evidence, as a function of standardised parameters, with its Jacobian.

Every parameter stands on the scale on which its prior is standard normal, so that priors, draws and contraction read
alike. How strongly the cells of one study act is its own: the half-effective dose of each treated arm is named after
its study, and a study's deviation is one more coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from mscrenal.calibration.observations import Datum
from mscrenal.calibration.sampling import POTENCY
from mscrenal.calibration.simulated import Simulated, Simulations
from mscrenal.calibration.studies import Study
from mscrenal.model import nearest, sampled_parameters
from mscrenal.model.declare import HalfNormal, LogitNormal, LogNormal, Normal, Parameter

__all__ = ["POTENCY", "Coordinates", "Predicted", "Predictions", "study_potency"]

RTOL, ATOL = 1e-4, 1e-6


def study_potency(study: str) -> str:
    """Name of the half-effective dose of one study's cells."""
    return f"{POTENCY}, {study}"


@dataclass(frozen=True)
class Coordinates:
    """Standardised coordinates of some parameters.

    Attributes
    ----------
    names : tuple of str
        Of `sampled_parameters`, or `study_potency` of a study.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        known = sampled_parameters()
        for name in self.names:
            if name.split(", ")[0] not in known:
                raise KeyError(f"No sampled parameter {name!r}.{nearest(name, known)}")

    def parameter(self, name: str) -> Parameter:
        """The declaration behind a coordinate."""
        return sampled_parameters()[name.split(", ")[0]]

    def values(self, z: np.ndarray) -> np.ndarray:
        """Natural values of standardised ones, both (n_names,)."""
        return np.array([_value(self.parameter(n), float(x)) for n, x in zip(self.names, z, strict=True)])

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """Derivative of each natural value by its coordinate, (n_names,)."""
        return np.array([_slope(self.parameter(n), float(x)) for n, x in zip(self.names, z, strict=True)])


def _value(parameter: Parameter, z: float) -> float:
    try:
        return parameter.at(z)
    except OverflowError:
        return math.inf  # out of the parameter's range: the arms that need it fail, and say so


def _slope(parameter: Parameter, z: float) -> float:
    prior, value = parameter.prior, _value(parameter, z)
    if isinstance(prior, LogNormal):
        return prior.sigma * value
    if isinstance(prior, LogitNormal):
        return prior.sigma * value * (1 - value)
    if isinstance(prior, Normal):
        return prior.sd
    assert isinstance(prior, HalfNormal)
    # value = scale * sqrt(2) * erfinv(Phi(z)), so that dvalue/dz = phi(z) / (2 phi(value / scale) / scale).
    return (
        prior.scale * math.exp(0.5 * ((value / prior.scale) ** 2 - z**2)) / 2 if ndtr(z) < 1 - 1e-12 else 0.0
    )


@dataclass(frozen=True)
class Predicted:
    """Predictions (n_data,), their Jacobian by the coordinates (n_data, n_names), and what failed.

    Rows of an arm that failed are NaN. `failures` holds (arm, status, message).
    """

    values: np.ndarray
    jacobian: np.ndarray
    failures: tuple[tuple[str, str, str], ...]


class Predictions:
    """The functionals behind some evidence rows as one function of standardised parameters.

    Parameters
    ----------
    data : sequence of Datum
    studies : mapping of str to Study
        Of every datum.
    names : sequence of str
        The coordinates: parameters, and `study_potency` of the studies that have a potency of their own; all other
        treated arms share the parameter itself.
    blind : mapping of str to collection of str, optional
        For each arm ("study: arm") the coordinates whose derivatives are left out.
    workers, rtol, atol
        As of `mscrenal.calibration.simulated.Simulations`.
    """

    def __init__(
        self,
        data: Sequence[Datum],
        studies: Mapping[str, Study],
        names: Sequence[str],
        *,
        theta: Mapping[str, float] | None = None,
        blind: Mapping[str, Iterable[str]] | None = None,
        workers: int | None = None,
        rtol: float = RTOL,
        atol: float = ATOL,
    ) -> None:
        self.data, self.studies = tuple(data), dict(studies)
        self.coordinates = Coordinates(tuple(names))
        own = {n.split(", ")[1] for n in names if ", " in n}
        self.arms = tuple(
            replace(arm, blind_to=frozenset((blind or {}).get(arm.name, ())))
            for arm in _arms(self.data, self.studies, own)
        )
        self.simulations = Simulations(
            self.arms, self.coordinates.names, theta=theta, workers=workers, rtol=rtol, atol=atol
        )
        self._rows, self._columns, self._weights, self._log = self._matrix()

    @property
    def names(self) -> tuple[str, ...]:
        return self.coordinates.names

    def _matrix(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        at = {label: k for k, label in enumerate(self.simulations.labels)}
        rows, columns, weights, logs = [], [], [], []
        for k, datum in enumerate(self.data):
            for term in datum.terms:
                rows.append(k)
                columns.append(at[f"{datum.study}: {term.arm}", float(term.day), term.observable])
                weights.append(term.weight)
                logs.append(term.log)
        return np.array(rows), np.array(columns), np.array(weights), np.array(logs)

    def __call__(self, z: Sequence[float] | np.ndarray) -> Predicted:
        """Predict every row.

        Parameters
        ----------
        z : array-like (n_names,)
            Standardised.
        """
        z = np.asarray(z, dtype=np.float64)
        found = self.simulations(self.coordinates.values(z))
        out = self._combine(found.values)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(self._log, 1.0 / found.values[self._columns], 1.0) * self._weights
        jacobian = np.zeros((len(self.data), len(self.names)))
        np.add.at(jacobian, self._rows, factor[:, None] * found.jacobian[self._columns])
        with np.errstate(invalid="ignore"):
            jacobian *= self.coordinates.slopes(z)
        failures = tuple(
            (arm, status, message)
            for arm, status, message in zip(
                self.simulations.arm_names, found.status, found.messages, strict=True
            )
            if status != "ok"
        )
        return Predicted(out, jacobian, failures)

    def _combine(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(len(self.data))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(self._log, np.log(values[self._columns]), values[self._columns])
        np.add.at(out, self._rows, self._weights * terms)
        return out


def _arms(data: Sequence[Datum], studies: Mapping[str, Study], own: set[str]) -> list[Simulated]:
    """One simulation for each arm that some row needs, with the days and observables that it needs."""
    wanted: dict[tuple[str, str], tuple[set[float], set[str]]] = {}
    for datum in data:
        for term in datum.terms:
            days, names = wanted.setdefault((datum.study, term.arm), (set(), set()))
            days.add(float(term.day))
            names.add(term.observable)
    out = []
    for (study, name), (days, observables) in wanted.items():
        arm = studies[study].arms[name]
        treated = bool(arm.doses)
        known_as = {POTENCY: study_potency(study)} if treated and study in own else {}
        out.append(
            Simulated(
                arm.patient, arm.doses, arm.courses, tuple(sorted(days)), tuple(sorted(observables)),
                name=f"{study}: {name}", known_as=known_as,
            )
        )  # fmt: skip
    return out
