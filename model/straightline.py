"""From sympy expressions to straight-line Python that numba compiles well.

What depends on parameters and inputs alone changes only at the edges of a schedule. It is taken out of the
expressions (`Hoisted`) and computed once per subject and edge by a function of its own; what is left per
step is a fraction of the arithmetic, and no exponential of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Hoisted", "function_source", "needed", "on_pointers"]

Assignments = Sequence[tuple[str, Any]]


def needed(assignments: Assignments, results: Iterable[Any]) -> list[tuple[str, Any]]:
    """The assignments on which the results depend, directly or not, in their order."""
    table = dict(assignments)
    keep: set[str] = set()
    pending = [s.name for e in results for s in e.free_symbols]
    while pending:
        name = pending.pop()
        if name in table and name not in keep:
            keep.add(name)
            pending += [s.name for s in table[name].free_symbols]
    return [(n, e) for n, e in assignments if n in keep]


class Hoisted:
    """The constants of an edge: every largest subexpression of parameters and inputs alone.

    `rewrite` replaces them by symbols and remembers what each stands for; `definitions` lists them in
    the order in which they were met, which is that of the vector ``d`` of the generated code. `reciprocals`
    are values that move, named by the way.
    """

    def __init__(self, constant: Iterable[str], prefix: str = "c_") -> None:
        self._constant = set(constant)
        self._prefix = prefix
        self._symbol_of: dict[Any, Any] = {}
        self._memo: dict[Any, Any] = {}
        self._is_constant: dict[Any, bool] = {}
        self.definitions: dict[str, Any] = {}
        self.reciprocals: dict[str, Any] = {}

    def declare(self, name: str) -> None:
        """A named quantity that turned out to be constant."""
        self._constant.add(name)

    def constant(self, expression: Any) -> bool:
        """Whether `expression` is made of parameters, inputs and constant quantities alone."""
        known = self._is_constant.get(expression)
        if known is None:
            known = all(s.name in self._constant for s in expression.free_symbols)
            self._is_constant[expression] = known
        return known

    def _named(self, expression: Any) -> Any:
        import sympy as sp

        if expression.is_Number:
            return expression
        if expression not in self._symbol_of:
            name = f"{self._prefix}{len(self._symbol_of)}"
            self._symbol_of[expression] = sp.Symbol(name, real=True)
            self.definitions[name] = expression
        return self._symbol_of[expression]

    def rewrite(self, expression: Any) -> Any:
        """The expression with its constant parts named."""
        if self.constant(expression):
            return self._named(expression)
        if expression.is_Symbol:
            return expression
        if expression not in self._memo:
            self._memo[expression] = self._rewritten(expression)
        return self._memo[expression]

    def _rewritten(self, expression: Any) -> Any:
        if expression.is_Add or expression.is_Mul:
            still = [a for a in expression.args if self.constant(a)]
            moving = [self.rewrite(a) for a in expression.args if not self.constant(a)]
            if still:
                # A number alone is cheaper written out than read from memory.
                moving.append(self._named(expression.func(*still)))
            return expression.func(*moving)
        if expression.is_Pow and expression.exp.is_Integer and expression.exp < 0:
            return self._reciprocal(self.rewrite(expression.base)) ** (-expression.exp)
        if expression.is_Pow and not expression.exp.is_number and self.constant(expression.exp):
            return self._power(expression.base, expression.exp)
        if expression.func.__name__ == "Piecewise":
            return expression.func(*((self.rewrite(e), self._condition(c)) for e, c in expression.args))
        return expression.func(*(self.rewrite(a) for a in expression.args))

    def _reciprocal(self, base: Any) -> Any:
        """1/base, named: a division costs ten multiplications, and slopes hold the square of one."""
        import sympy as sp

        if base not in self._symbol_of:
            name = f"r_{len(self.reciprocals)}"
            self._symbol_of[base] = sp.Symbol(name, real=True)
            self.reciprocals[name] = 1 / base
        return self._symbol_of[base]

    def _power(self, base: Any, exponent: Any) -> Any:
        """base**exponent of a positive base as an exponential, and whole numbers in the exponent apart.

        The slope of x**c holds x**(c - 1): the same exponential, and products of powers need only one.
        """
        import sympy as sp

        whole = sum((a for a in sp.Add.make_args(exponent) if a.is_Integer), sp.Integer(0))
        power = sp.exp(self._named(exponent - whole) * sp.log(self.rewrite(base)))
        return power * self.rewrite(base**whole) if whole else power

    def _condition(self, condition: Any) -> Any:
        if condition.is_Relational:
            return condition.func(*(self.rewrite(a) for a in condition.args))
        return condition


def function_source(
    name: str,
    arguments: str,
    unpack: Sequence[tuple[str, Sequence[str]]],
    assignments: Assignments,
    results: Assignments,
    out: str,
) -> str:
    """One straight-line function.

    Parameters
    ----------
    unpack : sequence of (array, names)
        Names by position in each input array; only those used are read.
    assignments : sequence of (name, expression)
        Named intermediate values; those that nothing needs are dropped.
    results : sequence of (index, expression)
        What is written into the array `out`.
    """
    import sympy as sp

    kept = needed(assignments, [e for _, e in results])
    shared, reduced = sp.cse(
        [e for _, e in (*kept, *results)], symbols=sp.numbered_symbols("x_"), order="none"
    )
    used = {s.name for e in (*(v for _, v in shared), *reduced) for s in e.free_symbols}
    printer = _printer()
    lines = [f"def {name}({arguments}):"]
    for array, names in unpack:
        lines += [f"    {n} = {array}[{i}]" for i, n in enumerate(names) if n in used]
    lines += [f"    {target} = {printer.doprint(e)}" for target, e in _scheduled(shared, kept, reduced)]
    for (target, _), e in zip(results, reduced[len(kept) :], strict=True):
        lines.append(f"    {out}[{target}] = {printer.doprint(e)}")
    if len(lines) == 1:
        lines.append("    return")
    return "\n".join(lines) + "\n"


def _printer() -> Any:
    from sympy.printing.pycode import PythonCodePrinter

    return PythonCodePrinter(
        {
            "fully_qualified_modules": False,
            "user_functions": {"Excess": "excess_value", "ExcessSlope": "excess_slope"},
        }
    )


def _scheduled(shared: list[Any], kept: Assignments, reduced: list[Any]) -> list[tuple[str, Any]]:
    """Shared subexpressions and named values, each after what it needs."""
    table = {symbol.name: e for symbol, e in shared}
    table |= {name: e for (name, _), e in zip(kept, reduced, strict=False)}
    order: list[tuple[str, Any]] = []
    done: set[str] = set()
    for root in table:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if name in done:
                continue
            if ready:
                done.add(name)
                order.append((name, table[name]))
                continue
            stack.append((name, True))
            stack += [
                (s.name, False)
                for s in sorted(table[name].free_symbols, key=lambda s: s.name)
                if s.name in table and s.name not in done
            ]
    return order


def on_pointers(source: str, shape: Mapping[str, int]) -> str:
    """The same function of pointers to float64, as machine code calls it.

    shape : length of the array behind each argument.
    """
    head, body = source.split("\n", 1)
    lines = [f"    {name} = nb.carray({name}_, {size})" for name, size in shape.items()]
    arguments = ", ".join(f"{name}_" for name in shape)
    return "\n".join([f"{head.split('(')[0]}({arguments}):", *lines, body])
