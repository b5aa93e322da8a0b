"""The vocabulary in which the model is written: states, parameters, processes, effects.

Everything here is data, frozen and checked once when it is made. A declaration holds its name, unit,
meaning, value, prior and source side by side, so that a number can never be read without where it
comes from. `mscrenal.model.build` assembles declarations into a model.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy.special import erfinv, ndtr

__all__ = [
    "Assumed",
    "DeclarationError",
    "Effect",
    "Fitted",
    "Fixed",
    "HalfNormal",
    "Input",
    "LogNormal",
    "LogitNormal",
    "Normal",
    "Observable",
    "Parameter",
    "Prior",
    "Process",
    "Provenance",
    "Quantity",
    "Source",
    "State",
    "nearest",
]

# Beyond this many names a list hides the hint that stands before it.
MOST_NAMES = 40

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class DeclarationError(ValueError):
    """A declaration contradicts itself or the rest of the model."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, the nearest names first: the tail of an error message."""
    names = sorted(allowed)
    lowered = {name.lower(): name for name in names}
    close = [lowered[n] for n in difflib.get_close_matches(str(given).lower(), lowered, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
    if len(names) > MOST_NAMES:
        return hint or f" There are {len(names)} to choose from, none of them near."
    return f"{hint} Allowed: {', '.join(names)}."


# --------------------------------------------------------------------------- where a number comes from


@dataclass(frozen=True)
class Source:
    """A row (or rows) of the evidence tables, or a DOI, from which a number was read."""

    study_id: str
    locator: str = ""

    def __str__(self) -> str:
        return f"{self.study_id} ({self.locator})" if self.locator else self.study_id


@dataclass(frozen=True)
class Fitted:
    """A number calibrated on published estimates by a script of the package, never by hand."""

    to: tuple[str, ...]
    how: str

    def __str__(self) -> str:
        return f"fitted to {', '.join(self.to)} by {self.how}"


@dataclass(frozen=True)
class Assumed:
    """A number that nobody measured; the reason says what it rests on."""

    why: str

    def __str__(self) -> str:
        return f"assumed: {self.why}"


Provenance = Source | Fitted | Assumed | tuple[Source, ...]


# --------------------------------------------------------------------------- how well a number is known
# Every prior is a monotone map of one standard normal variable z, with z = 0 at its median. Draws,
# the transforms of NUTS and quantiles all use the same map.


@dataclass(frozen=True)
class Fixed:
    """A definition or a number whose uncertainty does not matter: it is not sampled."""

    def at(self, median: float, z: float) -> float:
        return median


@dataclass(frozen=True)
class LogNormal:
    """Positive; `sigma` is the SD of the logarithm. ``LogNormal.from_range`` reads a 95 % range."""

    sigma: float

    def __post_init__(self) -> None:
        _positive(self.sigma, "LogNormal sigma")

    @staticmethod
    def from_cv(cv: float) -> LogNormal:
        return LogNormal(math.sqrt(math.log1p(cv**2)))

    @staticmethod
    def from_range(low: float, high: float) -> LogNormal:
        """The log-normal whose central 95 % spans `low` to `high`."""
        if not 0 < low < high:
            raise DeclarationError(f"a 95 % range needs 0 < low < high, got {low!r} to {high!r}.")
        return LogNormal(math.log(high / low) / (2 * 1.959964))

    def at(self, median: float, z: float) -> float:
        return median * math.exp(self.sigma * z)


@dataclass(frozen=True)
class LogitNormal:
    """Between 0 and 1; `sigma` is the SD of the logit."""

    sigma: float

    def __post_init__(self) -> None:
        _positive(self.sigma, "LogitNormal sigma")

    def at(self, median: float, z: float) -> float:
        return 1.0 / (1.0 + (1.0 - median) / median * math.exp(-self.sigma * z))


@dataclass(frozen=True)
class Normal:
    """Any sign."""

    sd: float

    def __post_init__(self) -> None:
        _positive(self.sd, "Normal sd")

    def at(self, median: float, z: float) -> float:
        return median + self.sd * z


@dataclass(frozen=True)
class HalfNormal:
    """Zero or more, zero being the most likely: for mechanisms that may not exist."""

    scale: float

    def __post_init__(self) -> None:
        _positive(self.scale, "HalfNormal scale")

    @property
    def median(self) -> float:
        return self.scale * math.sqrt(2.0) * float(erfinv(0.5))

    def at(self, median: float, z: float) -> float:
        return self.scale * math.sqrt(2.0) * float(erfinv(min(float(ndtr(z)), 1 - 1e-12)))


Prior = Fixed | LogNormal | LogitNormal | Normal | HalfNormal


def _positive(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise DeclarationError(f"{what} must be a positive number, got {value!r}.")


def _named(name: str, what: str) -> None:
    if not NAME.match(name):
        raise DeclarationError(f"{what} name {name!r}: use letters, digits and underscores, a letter first.")


# --------------------------------------------------------------------------- the parts of the model


@dataclass(frozen=True)
class Parameter:
    """A constant of one simulation.

    `value` is the prior's median. `scope` says who sets it: ``biology`` (shared, sampled),
    ``species``, ``patient`` (covariates and random effects), ``product`` (one value per product,
    one symbol per product slot), ``insult``, ``drug``, ``arm`` (switches).
    """

    name: str
    value: float
    unit: str
    meaning: str
    source: Provenance
    prior: Prior = field(default_factory=Fixed)
    scope: Literal["biology", "species", "patient", "product", "insult", "drug", "arm"] = "biology"

    def __post_init__(self) -> None:
        _named(self.name, "Parameter")
        if not math.isfinite(self.value):
            raise DeclarationError(f"Parameter {self.name!r}: value must be finite, got {self.value!r}.")
        if not self.meaning:
            raise DeclarationError(f"Parameter {self.name!r}: say what it means.")
        if isinstance(self.prior, LogNormal) and self.value <= 0:
            raise DeclarationError(
                f"Parameter {self.name!r}: a log-normal median must be positive, got {self.value!r}."
            )
        if isinstance(self.prior, LogitNormal) and not 0 < self.value < 1:
            raise DeclarationError(
                f"Parameter {self.name!r}: a logit-normal median lies in (0, 1), got {self.value!r}."
            )
        if isinstance(self.prior, HalfNormal) and not math.isclose(
            self.value, self.prior.median, rel_tol=1e-6
        ):
            raise DeclarationError(
                f"Parameter {self.name!r}: a half-normal of scale {self.prior.scale} has median "
                f"{self.prior.median:.6g}, the value given is {self.value!r}. Use HalfNormal(scale).median."
            )

    @property
    def sampled(self) -> bool:
        return not isinstance(self.prior, Fixed)

    def at(self, z: float) -> float:
        """The value at `z` standard normal deviations from the median."""
        return self.prior.at(self.value, z)


@dataclass(frozen=True)
class State:
    """A quantity that the model integrates.

    `start` says how a patient's initial value is found: ``steady`` (quasi-steady given the slow
    ones), ``history`` (a slow state that has been approaching its steady value, at the rate named
    by `history_rate`, for as long as the disease has lasted), ``anchor`` (placed so that a
    covariate is met) or ``zero`` (exposure: nothing has been given yet).
    """

    name: str
    unit: str
    meaning: str
    module: str
    healthy: float = 1.0
    start: Literal["steady", "history", "anchor", "zero"] = "steady"
    history_rate: str = ""
    symbol: str = ""
    per_slot: bool = False

    def __post_init__(self) -> None:
        _named(self.name, "State")
        if (self.start == "history") != bool(self.history_rate):
            raise DeclarationError(
                f"State {self.name!r}: start='history' goes with a history_rate, and only it."
            )


@dataclass(frozen=True)
class Process:
    """A rate and what it changes. The argument names of `rate` are looked up in the model.

    A `paced` process runs on the biological time of the species: the model multiplies its rate by
    the allometric time scale. Exposure (cells, EVs) is not paced: its half-lives were measured in
    rodents and people alike.
    """

    name: str
    stoichiometry: Mapping[str, float | str]
    rate: Callable[..., Any]
    unit: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    module: str = ""
    per_slot: bool = False
    paced: bool = True

    def __post_init__(self) -> None:
        _named(self.name, "Process")
        if not self.stoichiometry:
            raise DeclarationError(f"Process {self.name!r} changes no state.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.rate).parameters)


@dataclass(frozen=True)
class Quantity:
    """An algebraic function of states: something that several rates share (a pressure, a load).

    With `sum_slots` the formula is written for one product slot and added over the slots in use.
    """

    name: str
    unit: str
    meaning: str
    formula: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    module: str = ""
    per_slot: bool = False
    sum_slots: bool = False
    symbol: str = ""

    def __post_init__(self) -> None:
        _named(self.name, "Quantity")
        if self.per_slot and self.sum_slots:
            raise DeclarationError(
                f"Quantity {self.name!r}: either one value per slot or the sum over slots."
            )

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.formula).parameters)


@dataclass(frozen=True)
class Observable:
    """What somebody measures: a function of states and quantities, with its residual error.

    `residual` holds the SDs of a combined error model: proportional (log scale) and additive (in
    `unit`). `residual_iiv` says how the size of the errors differs between people (SD of its logarithm, and the Box-Cox
    skewness of that), `residual_memory` over how many days the errors of one person resemble one another
    (exponentially; 0: not at all).
    """

    name: str
    unit: str
    meaning: str
    formula: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    residual: Mapping[str, float] = field(default_factory=dict)
    residual_source: Provenance | None = None
    better: Literal["higher", "lower", "neither"] = "neither"
    label: str = ""
    residual_iiv: tuple[float, float] = (0.0, 1.0)
    residual_memory: float = 0.0
    memory_source: Provenance | None = None

    def __post_init__(self) -> None:
        _named(self.name, "Observable")

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.formula).parameters)


@dataclass(frozen=True)
class Input:
    """Something given from outside, constant between events: an infusion rate, a drug's level."""

    name: str
    unit: str
    meaning: str
    per_slot: bool = False

    def __post_init__(self) -> None:
        _named(self.name, "Input")


@dataclass(frozen=True)
class Effect:
    """A signal between 0 and 1 that multiplies a process or a quantity.

    ``inhibit``: times (1 - size * signal), `size` in (0, 1). ``stimulate``: times (1 + size * signal).
    ``scale``: times exp(size * signal), any sign. The signal is a drug's level, an arm of action or
    an insult's intensity; `modulated_by` names a quantity or parameter that multiplies it (a drug that
    works through glucose does less where there is little).
    """

    on: str
    kind: Literal["inhibit", "stimulate", "scale"]
    size: Parameter
    signal: str = ""
    modulated_by: str = ""
