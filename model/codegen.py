"""Write the numerical code of the model from its symbolic form.

Right-hand side, sparse Jacobian, its static LU factorisation, the observables and the derivatives of all of these
by the parameters, as straight-line Python for numba. `mscrenal.model.kernels` compiles it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mscrenal.model.build import Model, Rate
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.sparse import plan
from mscrenal.model.straightline import Hoisted, function_source, on_pointers

__all__ = ["Equations", "Sparse", "chain", "derivative", "equations", "generate"]


@dataclass(frozen=True)
class Equations:
    """The symbolic model: quantities in order, the derivative of each state, observables."""

    symbols: dict[str, Any]
    quantities: dict[str, Any]
    rates: dict[str, Any]
    derivatives: dict[str, Any]
    observables: dict[str, Any]


def _modified(expression: Any, effects: tuple[Any, ...], symbols: dict[str, Any]) -> Any:
    import sympy as sp

    for effect in effects:
        signal, size = symbols[effect.signal], symbols[effect.size.name]
        if effect.modulated_by:
            signal *= symbols[effect.modulated_by]
        if effect.kind == "inhibit":
            expression *= 1 - size * signal
        elif effect.kind == "stimulate":
            expression *= 1 + size * signal
        else:
            expression *= sp.exp(size * signal)
    return expression


def _paced(rate: Rate, expression: Any, symbols: dict[str, Any]) -> Any:
    return symbols["time_scale"] * expression if rate.paced else expression


def equations(structure: Model) -> Equations:
    """The model in sympy, quantities left as symbols of their own."""
    import sympy as sp

    names = [*structure.states, *structure.parameters, *structure.inputs, *structure.quantities]
    symbols = {name: sp.Symbol(name, real=True) for name in names}
    quantities = {
        name: _modified(sum((term(symbols) for term in terms), sp.Integer(0)), effects, symbols)
        for name, (_, terms, effects) in structure.quantities.items()
    }
    rates = {
        name: _paced(rate, _modified(sp.sympify(rate.term(symbols)), rate.effects, symbols), symbols)
        for name, rate in structure.rates.items()
    }
    derivatives = {name: sp.Integer(0) for name in structure.states}
    for name, rate in structure.rates.items():
        for state, coefficient in rate.stoichiometry.items():
            factor = symbols[coefficient] if isinstance(coefficient, str) else sp.nsimplify(coefficient)
            derivatives[state] = derivatives[state] + factor * rates[name]
    observables = {name: sp.sympify(term(symbols)) for name, (_, term) in structure.observables.items()}
    return Equations(symbols, quantities, rates, derivatives, observables)


# --------------------------------------------------------------------------- derivatives


@dataclass(frozen=True)
class Sparse:
    """Non-zero derivatives: ``entries`` maps (row, column) to an expression, in sorted order."""

    entries: dict[tuple[int, int], Any]

    @property
    def pattern(self) -> tuple[tuple[int, int], ...]:
        """The positions, sorted."""
        return tuple(self.entries)


def chain(eq: Equations, columns: Mapping[str, int], prefix: str) -> dict[str, dict[str, Any]]:
    """Total derivative of each quantity with respect to each variable it depends on, by the chain rule.

    The entries refer to quantities and to one another by symbols ``<prefix>_<quantity>_<variable>``.
    """
    import sympy as sp

    total: dict[str, dict[str, Any]] = {}
    for name, expression in eq.quantities.items():
        total[name] = _row(expression, columns, total, prefix, sp)
    return total


def _row(
    expression: Any, columns: Mapping[str, int], total: Mapping[str, Mapping[str, Any]], prefix: str, sp: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for symbol in sorted(expression.free_symbols, key=lambda s: s.name):
        if symbol.name in columns:
            row[symbol.name] = row.get(symbol.name, 0) + sp.diff(expression, symbol)
        elif total.get(symbol.name):
            partial = sp.diff(expression, symbol)
            for variable in total[symbol.name]:
                slope = sp.Symbol(f"{prefix}_{symbol.name}_{variable}", real=True)
                row[variable] = row.get(variable, 0) + partial * slope
    return {variable: value for variable, value in row.items() if value != 0}


def derivative(
    rows: Mapping[str, Any], columns: Mapping[str, int], total: Mapping[str, Mapping[str, Any]], prefix: str
) -> Sparse:
    """Non-zero derivatives of each expression in `rows` with respect to the variables in `columns`."""
    import sympy as sp

    entries = {
        (i, columns[variable]): value
        for i, expression in enumerate(rows.values())
        for variable, value in _row(expression, columns, total, prefix, sp).items()
    }
    return Sparse(dict(sorted(entries.items())))


# --------------------------------------------------------------------------- writing code

HEADER = '''"""Generated by mscrenal.model.codegen from the model's definition; do not edit."""

from math import exp, inf, log, sqrt

import numba as nb


@nb.njit
def excess_value(d):
    return d * d / (d + {width}) if d > 0.0 else 0.0


@nb.njit
def excess_slope(d):
    return d * (d + 2 * {width}) / (d + {width}) ** 2 if d > 0.0 else 0.0
'''


class _Writer:
    """Writes the kernels of one model; constants of an edge are shared by all of them."""

    def __init__(self, structure: Model) -> None:
        self.structure = structure
        self.eq = eq = equations(structure)
        self.hoisted = Hoisted([*structure.parameters, *structure.inputs])
        self.fixed: list[tuple[str, Any]] = []  # assignments of `derive`
        self.moving: list[tuple[str, Any]] = []
        for name, e in eq.quantities.items():
            self.assign(name, e)

    def assign(self, name: str, expression: Any) -> None:
        """Place a named value: with the constants of an edge, or with what moves."""
        if self.hoisted.constant(expression):
            self.hoisted.declare(name)
            self.fixed.append((name, expression))
        else:
            self.moving.append((name, self.hoisted.rewrite(expression)))

    def slopes(self, columns: Mapping[str, int], prefix: str) -> dict[str, dict[str, Any]]:
        """The chain rule through the quantities, assigned by name."""
        total = chain(self.eq, columns, prefix)
        for quantity, row in total.items():
            for variable, e in row.items():
                self.assign(f"{prefix}_{quantity}_{variable}", e)
        return total

    def rewritten(self, expressions: Iterable[Any]) -> list[tuple[str, Any]]:
        """Results by position."""
        return [(str(k), self.hoisted.rewrite(e)) for k, e in enumerate(expressions)]


def _kernel(
    writer: _Writer, name: str, results: list[tuple[str, Any]], names: Sequence[str], sizes: tuple[int, int]
) -> str:
    """A kernel name(y, d, out); sizes: of d and out."""
    unpack = (("y", tuple(writer.structure.states)), ("d", names))
    moving = [*writer.hoisted.reciprocals.items(), *writer.moving]
    shape = {"y": len(writer.structure.states), "d": sizes[0], "out": sizes[1]}
    return "\n\n" + on_pointers(function_source(name, "y, d, out", unpack, moving, results, "out"), shape)


def _derive(writer: _Writer, name: str, names: Sequence[str], first: int = 0) -> str:
    """The function that fills the constants of an edge, from position `first` on."""
    table, structure = writer.hoisted.definitions, writer.structure
    results = [(str(first + k), table[n]) for k, n in enumerate(names)]
    unpack = (("p", tuple(structure.parameters)), ("u", tuple(structure.inputs)))
    shape = {"p": len(structure.parameters), "u": len(structure.inputs), "d": first + len(names)}
    return "\n\n" + on_pointers(function_source(name, "p, u, d", unpack, writer.fixed, results, "d"), shape)


def _constants(**table: Any) -> str:
    return "\n\n" + "\n".join(f"{name} = {value!r}" for name, value in table.items()) + "\n"


def generate(structure: Model) -> tuple[str, Callable[[], str]]:
    """Source of the kernels of a model, and a function that writes that of its sensitivities.

    The kernels work on pointers to float64: ``derive(p, u, d)`` fills the constants of an edge, ``rates(y, d, out)`` the
    time derivatives, ``slopes`` the Jacobian's non-zeros in the order of ``JAC_PATTERN``, ``observe_at`` the
    observables, ``observe_slopes`` their derivatives in the order of ``SEEN_PATTERN``; ``factor(w)`` and ``back_solve(w, b)``
    are those of `mscrenal.model.sparse.StaticLU`. The second source adds ``derive_more``, ``rates_by_parameter`` and
    ``observe_by_parameter``.
    """
    writer = _Writer(structure)
    eq, n = writer.eq, len(structure.states)
    rhs = writer.rewritten(eq.derivatives.values())
    seen = writer.rewritten(eq.observables.values())
    total = writer.slopes(structure.index, "d")
    jacobian = derivative(eq.derivatives, structure.index, total, "d")
    jac = writer.rewritten(jacobian.entries.values())
    observed = derivative(eq.observables, structure.index, total, "d")
    seen_jac = writer.rewritten(observed.entries.values())
    names = list(writer.hoisted.definitions)
    lu = plan(n, jacobian.pattern)
    size = len(names)
    core = [
        HEADER.format(width=EXCESS_WIDTH),
        _constants(N_CONSTANTS=size, JAC_PATTERN=jacobian.pattern, SEEN_PATTERN=observed.pattern),
        _derive(writer, "derive", names),
        _kernel(writer, "rates", rhs, names, (size, n)),
        _kernel(writer, "slopes", jac, names, (size, len(jac))),
        _kernel(writer, "observe_at", seen, names, (size, len(seen))),
        _kernel(writer, "observe_slopes", seen_jac, names, (size, len(seen_jac))),
        "\n\n" + on_pointers(lu.factor_source("factor"), {"w": len(lu.entries) + 1}),
        "\n\n" + on_pointers(lu.solve_source("back_solve"), {"w": len(lu.entries) + 1, "b": n}),
    ]
    return "".join(core), lambda: _sensitivities(writer, names)


def _sensitivities(writer: _Writer, names: list[str]) -> str:
    structure, eq = writer.structure, writer.eq
    total = writer.slopes(structure.parameter_index, "g")
    by_rate = derivative(eq.derivatives, structure.parameter_index, total, "g")
    by_seen = derivative(eq.observables, structure.parameter_index, total, "g")
    rates, seen = writer.rewritten(by_rate.entries.values()), writer.rewritten(by_seen.entries.values())
    # The constants of the kernels come first, so that both read the same vector.
    everything = list(writer.hoisted.definitions)
    size = len(everything)
    parts = [
        HEADER.format(width=EXCESS_WIDTH),
        _constants(N_ALL_CONSTANTS=size, BY_RATE_PATTERN=by_rate.pattern, BY_SEEN_PATTERN=by_seen.pattern),
        _derive(writer, "derive_more", everything[len(names) :], len(names)),
        _kernel(writer, "rates_by_parameter", rates, everything, (size, len(rates))),
        _kernel(writer, "observe_by_parameter", seen, everything, (size, len(seen))),
    ]
    return "".join(parts)
