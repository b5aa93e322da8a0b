"""The model as DiffSL text, the language of the diffsol solvers.

Names in DiffSL have no underscores, so that states become ``y0 y1 ...``, parameters ``p0 p1 ...``, quantities
``q0 q1 ...``. Doses follow the way its manual gives for dosing protocols: the model index ``N`` says in which stretch
between dose edges we are, a stop condition for each edge leads to the next, and the reset leaves the state as it
is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import sympy as sp
from sympy.printing.str import StrPrinter

from mscrenal.model.build import Model
from mscrenal.model.codegen import equations
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.solve import Schedule
from mscrenal.model.symbolic import Excess

__all__ = ["diffsl_text"]


class _DiffSL(StrPrinter):
    """Expressions in DiffSL: no power sign, no branches, no named functions but the common ones."""

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return expr.name

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        base, exponent = self._print(expr.base), expr.exp
        if exponent == -1:
            return f"(1.0 / ({base}))"
        if exponent.is_Integer and 2 <= exponent <= 4:
            return "(" + " * ".join([f"({base})"] * int(exponent)) + ")"
        if exponent == sp.Rational(1, 2):
            return f"sqrt({base})"
        return f"pow({base}, {self._print(exponent)})"

    def _print_Mul(self, expr: sp.Mul) -> str:
        above, below = sp.fraction(expr, exact=True)
        over = " * ".join(f"({self._print(a)})" for a in sp.Mul.make_args(above))
        if below == 1:
            return over
        return f"({over}) / ({' * '.join(f'({self._print(a)})' for a in sp.Mul.make_args(below))})"

    def _print_Add(self, expr: sp.Add, order: Any = None) -> str:
        return "(" + " + ".join(f"({self._print(a)})" for a in expr.args) + ")"

    def _print_Integer(self, expr: sp.Integer) -> str:
        return f"{int(expr)}.0" if expr >= 0 else f"(-{-int(expr)}.0)"

    def _print_Float(self, expr: sp.Float) -> str:
        return _number(float(expr))

    def _print_Rational(self, expr: sp.Rational) -> str:
        return _number(float(expr))

    def _print_exp(self, expr: Any) -> str:
        return f"exp({self._print(expr.args[0])})"


def _number(value: float) -> str:
    """A number as the grammar has it: no sign, no capital E, no plus in the exponent."""
    text = (
        np.format_float_positional(value, trim="0")
        if 1e-6 <= abs(value) < 1e15 or value == 0
        else repr(value)
    )
    text = text.replace("e+", "e")
    return f"({text})" if value < 0 else text


class _Branchless:
    """Turns the model's two functions with a corner into tensors of their own."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, str]] = []
        self.known: dict[Any, sp.Symbol] = {}
        self.printer = _DiffSL()

    def __call__(self, expression: Any) -> Any:
        for corner in sp.ordered(expression.atoms(Excess, sp.Piecewise)):
            expression = expression.subs(corner, self._tensor(corner))
        return expression

    def _tensor(self, corner: Any) -> sp.Symbol:
        if corner not in self.known:
            name = f"b{len(self.known)}"
            if isinstance(corner, Excess):
                inner = self.printer.doprint(corner.args[0])
                # The positive part first: with the step outside the fraction, 0/0 could come of it.
                self.tensors.append((f"{name}d", inner))
                self.tensors.append((f"{name}m", f"{name}d * heaviside({name}d)"))
                text = f"{name}m * {name}m / ({name}m + {EXCESS_WIDTH})"
            else:
                text = self._minimum(corner, name)
            self.tensors.append((name, text))
            self.known[corner] = sp.Symbol(name, real=True)
        return self.known[corner]

    def _minimum(self, corner: sp.Piecewise, name: str) -> str:
        """Piecewise((f(x), x < 1), (f(1), True)), of which the model has min(x, 1) to a power and its like."""
        (below, condition), (above, _) = corner.args
        difference = self.printer.doprint(condition.lhs - condition.rhs)
        self.tensors.append((f"{name}s", f"heaviside({difference})"))
        return (
            f"({self.printer.doprint(above)}) * {name}s + ({self.printer.doprint(below)}) * (1.0 - {name}s)"
        )


def _renamed(structure: Model, expressions: dict[str, Any], short: dict[str, sp.Symbol]) -> dict[str, Any]:
    symbols = {sp.Symbol(name, real=True): symbol for name, symbol in short.items()}
    return {name: expression.xreplace(symbols) for name, expression in expressions.items()}


def _used(roots: Sequence[Any], table: dict[str, Any]) -> set[str]:
    """Names of the quantities on which the roots depend."""
    found: set[str] = set()
    pending = list(roots)
    while pending:
        for symbol in pending.pop().free_symbols:
            if symbol.name in table and symbol.name not in found:
                found.add(symbol.name)
                pending.append(table[symbol.name])
    return found


def diffsl_text(
    structure: Model,
    schedule: Schedule,
    observed: Sequence[str],
    last: float,
    *,
    parameters: np.ndarray,
    state: np.ndarray,
    free: Collection[int] | None = None,
    share: bool = False,
) -> str:
    """The model with its doses.

    Parameters
    ----------
    observed : sequence of str
        Observables to output, in this order.
    last : float
        Day of the last output; edges after it are left out.
    parameters, state : ndarray
        Numbers of what is no input, and the defaults of what is.
    free : collection of int, optional
        Parameters that are inputs; all of them, followed by the initial state, if None. Every input is
        a parameter of forward sensitivities, hence the choice. With a choice, what is given from outside is
        written as steps of time, of which diffsol derives right sensitivities, and else looked up by ``N``.
    share : bool
        Write common subexpressions once, as `mscrenal` does for itself.
    """
    eq = equations(structure)
    everything = free is None
    names: dict[str, str] = {n: f"y{i}" for i, n in enumerate(structure.states)}
    names |= {n: f"p{i}" for i, n in enumerate(structure.parameters)}
    names |= {n: f"v{i}" for i, n in enumerate(structure.inputs)}
    names |= {n: f"q{i}" for i, n in enumerate(structure.quantities)}
    short = {n: sp.Symbol(s, real=True) for n, s in names.items()}
    wanted = {name: eq.observables[name] for name in observed}
    needed = _used([*eq.derivatives.values(), *wanted.values()], eq.quantities)
    quantities = _renamed(structure, {n: e for n, e in eq.quantities.items() if n in needed}, short)
    derivatives = _renamed(structure, eq.derivatives, short)
    outputs = _renamed(structure, wanted, short)

    free = range(len(parameters)) if free is None else free
    lines = ["in_i {", *(f"  p{i} = {_number(parameters[i])}," for i in free)]
    if everything:
        lines += [f"  s{i} = {_number(x)}," for i, x in enumerate(state)]
    lines += ["}"]
    lines += [f"p{i} {{ {_number(x)} }}" for i, x in enumerate(parameters) if i not in set(free)]
    lines += _inputs(structure, schedule, last, by_index=everything)
    starts = [f"s{i}" if everything else _number(x) for i, x in enumerate(state)]
    lines += ["u_i {", *(f"  y{i} = {start}," for i, start in enumerate(starts)), "}"]
    lines += _body(quantities, derivatives, outputs, short, share)
    edges = [float(e) for e in schedule.edges[1:] if e < last]
    if edges:
        # The first is never met: nothing leads back to the stretch before the first edge.
        lines += ["stop_i {", "  1.0,", *(f"  t - {_number(edge)}," for edge in edges), "}"]
        lines += ["reset_i {", *(f"  y{i}," for i in range(len(state))), "}"]
    return "\n".join(lines) + "\n"


def _inputs(structure: Model, schedule: Schedule, last: float, *, by_index: bool) -> list[str]:
    """What is given from outside: constants, and what changes at edges."""
    rows = [u for edge, u in zip(schedule.edges, schedule.inputs, strict=True) if edge < last]
    lines = []
    for i, name in enumerate(structure.inputs):
        levels = [float(row[structure.input_index[name]]) for row in rows]
        if all(level == levels[0] for level in levels):
            lines.append(f"v{i} {{ {_number(levels[0])} }}")
        elif by_index:
            lines.append(f"w{i}_i {{ {', '.join(_number(x) for x in levels)} }}")
            lines.append(f"v{i} {{ w{i}_i[N] }}")
        else:
            steps = [
                f"{_number(after - before)} * heaviside(t - {_number(float(edge))})"
                for before, after, edge in zip(levels, levels[1:], schedule.edges[1:], strict=False)
                if after != before
            ]
            lines.append(f"v{i} {{ {' + '.join([_number(levels[0]), *steps])} }}")
    return lines


def _body(
    quantities: dict[str, Any],
    derivatives: dict[str, Any],
    outputs: dict[str, Any],
    short: dict[str, sp.Symbol],
    share: bool,
) -> list[str]:
    branchless, printer = _Branchless(), _DiffSL()
    lines: list[str] = []

    def flush() -> None:
        lines.extend(f"{name} {{ {text} }}" for name, text in branchless.tensors)
        branchless.tensors.clear()

    for name, expression in quantities.items():
        plain = branchless(expression)
        flush()
        lines.append(f"{short[name].name} {{ {printer.doprint(plain)} }}")
    for letter, title, block in (("x", "F_i", derivatives), ("z", "out_i", outputs)):
        plain_block = [branchless(e) for e in block.values()]
        flush()
        if share:
            common, plain_block = sp.cse(plain_block, symbols=sp.numbered_symbols(letter), order="none")
            lines += [f"{symbol.name} {{ {printer.doprint(e)} }}" for symbol, e in common]
        lines += [f"{title} {{", *(f"  {printer.doprint(e)}," for e in plain_block), "}"]
    return lines
