"""The few functional forms of which the rates are made, usable on symbols and on numbers.

`stimulated` and `inhibited` are the stimulation and inhibition of synthesis of indirect-response
models, normalised so that a healthy driver (1) gives a healthy rate (1): the healthy subject is then
a steady state by construction, and no rate can turn negative.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = [
    "excess",
    "exponential",
    "inhibited",
    "power_above",
    "power_below",
    "saturating",
    "skewed",
    "stimulated",
]

# Below this width (relative to healthy = 1) an excess is rounded off, so that the right-hand side has
# a continuous derivative and the stiff solver no corner to trip over.
EXCESS_WIDTH = 0.02


def excess_value(d: float) -> float:
    """`Excess` of a number: d²/(d + width) for d > 0, else 0."""
    return d * d / (d + EXCESS_WIDTH) if d > 0.0 else 0.0


def excess_slope(d: float) -> float:
    """The derivative of `excess_value`."""
    return d * (d + 2.0 * EXCESS_WIDTH) / (d + EXCESS_WIDTH) ** 2 if d > 0.0 else 0.0


def excess(x: Any) -> Any:
    """How far `x` lies above its healthy value 1 (0 at and below it)."""
    if _symbolic(x):
        from mscrenal.model.symbolic import Excess

        return Excess(x - 1)
    return excess_value(x - 1.0)


def exponential(x: Any) -> Any:
    """e to the power of `x`."""
    if _symbolic(x):
        import sympy

        return sympy.exp(x)
    return math.exp(x)


def _symbolic(x: Any) -> bool:
    # Asked of the value, not of sympy: importing the model must not cost the import of sympy.
    return hasattr(x, "free_symbols")


def saturating(x: Any, half: Any) -> Any:
    """x / (half + x): 0 to 1, a half at `half`."""
    return x / (half + x)


def skewed(x: Any, skew: Any) -> Any:
    """(e^(skew x) - 1)/skew: `x` near 0, further out above than below (Box and Cox, read backwards)."""
    return (exponential(skew * x) - 1) / skew


def stimulated(x: Any, gain: Any, half: Any) -> Any:
    """A synthesis that `x` stimulates: 1 at the healthy x = 1, rising with x, bounded.

    (1 + gain·x/(half + x)) over its value at x = 1; `gain` is the largest stimulation relative to
    the unstimulated rate, `half` the x of half of it.
    """
    return (1 + gain * x / (half + x)) / (1 + gain / (half + 1))


def inhibited(x: Any, depth: Any, half: Any) -> Any:
    """A synthesis that `x` inhibits: 1 at the healthy x = 1, falling with x, never negative.

    `depth` in (0, 1) is the largest inhibition, `half` the x of half of it.
    """
    return (1 - depth * x / (half + x)) / (1 - depth / (half + 1))


def power_below(x: Any, exponent: Any) -> Any:
    """min(x, 1) to the power of `exponent`, as the CKD-EPI equation has it."""
    return _minimum(x) ** exponent


def power_above(x: Any, exponent: Any) -> Any:
    """max(x, 1) to the power of `exponent`."""
    return (x / _minimum(x)) ** exponent


def _minimum(x: Any) -> Any:
    if _symbolic(x):
        import sympy

        return sympy.Piecewise((x, x < 1), (1, True))
    return x if x < 1 else 1.0
