"""Short ways to write the declarations that recur in every module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mscrenal.model.declare import Assumed, LogNormal, Parameter, Process, Provenance

__all__ = ["gain", "half", "loss", "rate_constant", "renamed", "synthesis"]

# No table gives the strength of a single arrow of the network; the width lets it double or halve.
GAIN_SIGMA = 0.35


def rate_constant(name: str, value: float, sigma: float, meaning: str, source: Provenance) -> Parameter:
    """A first-order rate constant, 1/day, log-normal."""
    return Parameter(name, value, "1/day", meaning, source, LogNormal(sigma))


def gain(
    name: str, value: float, meaning: str, source: Provenance | None = None, sigma: float = GAIN_SIGMA
) -> Parameter:
    """The largest stimulation of a synthesis relative to the unstimulated rate, dimensionless."""
    why = "no evidence row isolates this arrow; of the size that gives the folds seen in diabetic kidneys"
    return Parameter(name, value, "1", meaning, source or Assumed(why), LogNormal(sigma))


def half(
    name: str, value: float, meaning: str, source: Provenance | None = None, sigma: float = 0.25
) -> Parameter:
    """The level of a driver (healthy = 1) with half of its effect, dimensionless."""
    why = "half-effect within the range of folds in which the driver moves in disease"
    return Parameter(name, value, "1", meaning, source or Assumed(why), LogNormal(sigma))


def synthesis(
    state: str, rate: Callable[..., Any], meaning: str, parameters: tuple[Parameter, ...], module: str
) -> Process:
    """Formation of a host state, healthy rate = its turnover."""
    return Process(f"{state}_synthesis", {state: +1}, rate, "1/day", meaning, parameters, module)


def loss(state: str, constant: Parameter, module: str, meaning: str = "") -> Process:
    """First-order loss of a host state; it owns the turnover constant."""

    def rate(**values: Any) -> Any:
        return values[constant.name] * values[state]

    # The argument names of a rate are its contract with the model; here they depend on the state.
    rate.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in (constant.name, state)]
    )
    return Process(
        f"{state}_loss", {state: -1}, rate, "1/day", meaning or f"loss of {state}", (constant,), module
    )


def renamed(function: Callable[..., Any], **new: str) -> Callable[..., Any]:
    """The same formula with some of its arguments under other names: one formula, several symbols."""
    names = list(inspect.signature(function).parameters)
    arguments = {name: new.get(name, name) for name in names}

    def formula(**values: Any) -> Any:
        return function(**{name: values[arguments[name]] for name in names})

    formula.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(arguments[name], inspect.Parameter.KEYWORD_ONLY) for name in names]
    )
    formula.__doc__ = function.__doc__
    return formula
