"""The sympy side of `mscrenal.model.functions`: functions that keep their meaning when differentiated."""

from __future__ import annotations

from typing import Any

import sympy as sp

from mscrenal.model.functions import excess_slope, excess_value

__all__ = ["Excess", "ExcessSlope"]


class ExcessSlope(sp.Function):
    """The derivative of `Excess`."""

    nargs = 1

    @classmethod
    def eval(cls, x: sp.Expr) -> sp.Expr | None:
        return sp.Float(excess_slope(float(x))) if x.is_Number else None


class Excess(sp.Function):
    """How far `x` lies above zero, and zero below, with a continuous first derivative."""

    nargs = 1

    @classmethod
    def eval(cls, x: sp.Expr) -> sp.Expr | None:
        if x.is_Number:
            return sp.Float(excess_value(float(x)))
        return None

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return ExcessSlope(self.args[0])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        body = rf"\left[{printer._print(self.args[0])}\right]_+"
        return body if exp is None else rf"{body}^{{{exp}}}"
