"""Derive the unit of every formula of the model from the units of its symbols, and compare.

The model declares a unit for each state, parameter, input, quantity, process and observable. Here each
formula is walked symbol by symbol, so that a declared unit is checked and cannot rot. Pint and sympy are
needed, and nothing on the way to a simulation imports this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import pint
import sympy as sp

from mscrenal.model.build import Model
from mscrenal.model.codegen import Equations, equations
from mscrenal.model.declare import DeclarationError
from mscrenal.model.symbolic import Excess, ExcessSlope

__all__ = [
    "DIMENSIONLESS",
    "UnitError",
    "UnitReport",
    "check_units",
    "derive",
    "parse",
    "registry",
    "same",
    "symbol_units",
]

Unit = pint.Unit

# The registry has no plain numbers as units: GFR's conventional body surface gets a name instead.
BODY_SURFACE = "1.73m2"
DEFINITIONS = (
    "cell = [cells]",
    "Mcell = 1e6 * cell",
    "particle = [particles]",
    "Gparticle = 1e9 * particle",
    "standard_body_surface = 1.73 * meter ** 2",
)
_FACTOR = r"[\w.]+(\*\*[\d.]+)?"
SPELLING = re.compile(rf"{_FACTOR}([*/]{_FACTOR})*")
_DIMENSIONLESS_ONLY = (sp.exp, sp.log, Excess, ExcessSlope)


class UnitError(ValueError):
    """A formula adds, raises or exponentiates what its units forbid, or yields another unit than declared."""


@dataclass(frozen=True)
class UnitReport:
    """What the check of one declaration found.

    Attributes
    ----------
    kind : {'process', 'change', 'quantity', 'effect', 'observable'}
        ``change`` is one state changed by one process: the rate times its stoichiometry coefficient.
    name : str
        ``process -> state`` for a change, ``target: size`` for an effect.
    declared, derived : str
        `derived` is empty if the formula has no unit at all.
    problem : str
        Empty if the two agree.
    """

    kind: str
    name: str
    declared: str
    derived: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the declaration is consistent."""
        return not self.problem


@cache
def registry() -> pint.UnitRegistry:
    """Pint's registry with cells, particles and the body surface of GFR."""
    units: pint.UnitRegistry = pint.UnitRegistry()
    for line in DEFINITIONS:
        units.define(line)
    return units


@cache
def parse(text: str) -> Unit:
    """The unit that a declaration names.

    >>> str(parse("Gparticle/Mcell/day"))
    'Gparticle / Mcell / day'

    Raises
    ------
    UnitError
        If the text is no unit.
    """
    mend = "Write '1' for a bare number, else products and quotients of units, as 'Mcell/kg/day', 'mL/min/1.73m2'."
    if not SPELLING.fullmatch(text):
        raise UnitError(f"{text!r} is no unit. {mend}")
    spelled = "dimensionless" if text == "1" else text.replace(BODY_SURFACE, "standard_body_surface")
    if spelled.startswith("1/"):
        spelled = f"dimensionless{spelled[1:]}"
    try:
        return registry().Unit(spelled)
    except (pint.errors.PintError, AttributeError, ValueError, TypeError) as error:
        raise UnitError(f"{text!r} is no unit: {error}. {mend}") from error


def _factor(unit: Unit) -> float:
    return float((1 * unit).to_base_units().magnitude)


def same(one: Unit, other: Unit) -> bool:
    """Whether two units are the same size of the same thing: mg/g is neither 1 nor percent."""
    return one.dimensionality == other.dimensionality and math.isclose(
        _factor(one), _factor(other), rel_tol=1e-9
    )


DIMENSIONLESS: Unit = parse("1")


def _say(unit: Unit) -> str:
    return "1" if unit == DIMENSIONLESS else f"{unit:~}"


def _need_dimensionless(expression: sp.Expr, units: Mapping[str, Unit], where: sp.Expr) -> None:
    unit = derive(expression, units)
    if not same(unit, DIMENSIONLESS):
        raise UnitError(f"in {where}: {expression} must be a bare number (unit 1), it is in {_say(unit)}.")


def _need_equal(terms: tuple[sp.Expr, ...], units: Mapping[str, Unit], where: sp.Expr, verb: str) -> Unit:
    first = derive(terms[0], units)
    for term in terms[1:]:
        unit = derive(term, units)
        if not same(first, unit):
            raise UnitError(
                f"in {where}: cannot {verb} {terms[0]} in {_say(first)} and {term} in {_say(unit)}."
            )
    return first


def _power(expression: sp.Pow, units: Mapping[str, Unit]) -> Unit:
    base, exponent = expression.args
    unit = derive(base, units)
    if exponent.is_Number:
        return cast(Unit, unit ** float(exponent))
    _need_dimensionless(exponent, units, expression)
    if not same(unit, DIMENSIONLESS):
        raise UnitError(
            f"in {expression}: {base} in {_say(unit)} is raised to {exponent}, which is no number."
        )
    return DIMENSIONLESS


def _piecewise(expression: sp.Piecewise, units: Mapping[str, Unit]) -> Unit:
    for _, condition in expression.args:
        for relation in condition.atoms(sp.core.relational.Relational):
            _need_equal(relation.args, units, relation, "compare")
    return _need_equal(tuple(branch for branch, _ in expression.args), units, expression, "choose between")


def derive(expression: Any, units: Mapping[str, Unit]) -> Unit:
    """The unit of a sympy expression.

    Parameters
    ----------
    expression
        Sums, products, powers, exp, log, Piecewise and the functions of `mscrenal.model.symbolic`.
    units
        The unit of each symbol, by name.

    Raises
    ------
    UnitError
        Naming the sub-expression and both units: a sum of unlike terms, a power whose exponent has a unit
        or whose base has one and whose exponent is no number, a function of something with a unit, a symbol
        without a unit, or a function that the check does not know.
    """
    e = sp.sympify(expression)
    if e.is_Number or e.is_NumberSymbol:
        return DIMENSIONLESS
    if e.is_Symbol:
        if e.name not in units:
            raise UnitError(f"symbol {e.name} has no unit.")
        return units[e.name]
    if e.is_Add:
        return _need_equal(e.args, units, e, "add")
    if e.is_Mul:
        product = DIMENSIONLESS
        for factor in e.args:
            product = product * derive(factor, units)
        return product
    if isinstance(e, _DIMENSIONLESS_ONLY):
        _need_dimensionless(e.args[0], units, e)
        return DIMENSIONLESS
    if e.is_Pow:
        return _power(e, units)
    if isinstance(e, sp.Piecewise):
        return _piecewise(e, units)
    raise UnitError(
        f"{e}: the unit of {type(e).__name__} is not known; teach mscrenal.model.units.derive about it."
    )


# --------------------------------------------------------------------------- the whole model


def symbol_units(model: Model) -> dict[str, Unit]:
    """The declared unit of every symbol of a model, by name."""
    declared: dict[str, Any] = {**model.states, **model.parameters, **model.inputs}
    declared |= {name: quantity for name, (quantity, _, _) in model.quantities.items()}
    return {name: parse(item.unit) for name, item in declared.items()}


def _compare(kind: str, name: str, declared: str, expression: Any, units: Mapping[str, Unit]) -> UnitReport:
    try:
        wanted, found = parse(declared), derive(expression, units)
    except UnitError as error:
        return UnitReport(kind, name, declared, "", str(error))
    # A share times the number 100 is that share in per cent; nothing else turns a bare number into per cent.
    if declared == "percent" and sp.sympify(expression).as_coeff_Mul()[0] == 100:
        found = found * wanted
    agree = same(wanted, found)
    problem = "" if agree else f"{name} is declared in {declared}, its formula yields {_say(found)}."
    return UnitReport(kind, name, declared, _say(found), problem)


def _rate_reports(model: Model, eq: Equations, units: Mapping[str, Unit]) -> Iterator[UnitReport]:
    for name, rate in model.rates.items():
        yield _compare("process", name, rate.declaration.unit, eq.rates[name], units)
        for state, coefficient in rate.stoichiometry.items():
            factor = eq.symbols[coefficient] if isinstance(coefficient, str) else sp.nsimplify(coefficient)
            per_day = "1/day" if model.states[state].unit == "1" else f"{model.states[state].unit}/day"
            yield _compare("change", f"{name} -> {state}", per_day, factor * eq.rates[name], units)


def check_units(model: Model) -> list[UnitReport]:
    """Compare declared with derived units: rates, what they change, quantities, effects, observables.

    Returns
    -------
    list of UnitReport
        One for each comparison, in the order of the model; those with a `problem` are inconsistent.

    Raises
    ------
    UnitError
        If a symbol's declared unit cannot be read at all.
    """
    eq = equations(model)
    units = symbol_units(model)
    reports = list(_rate_reports(model, eq, units))
    owners = [(n, rate.effects) for n, rate in model.rates.items()]
    for name, (quantity, _, effects) in model.quantities.items():
        reports.append(_compare("quantity", name, quantity.unit, eq.quantities[name], units))
        owners.append((name, effects))
    for target, effects in owners:
        for effect in effects:
            multiplied = eq.symbols[effect.size.name] * eq.symbols[effect.signal]
            if effect.modulated_by:
                multiplied *= eq.symbols[effect.modulated_by]
            reports.append(_compare("effect", f"{target}: {effect.size.name}", "1", multiplied, units))
    for name, (observable, _) in model.observables.items():
        reports.append(_compare("observable", name, observable.unit, eq.observables[name], units))
    return reports


def require_consistent(model: Model) -> None:
    """Raise a DeclarationError that lists every inconsistent unit; nothing if there is none."""
    problems = [f"{r.kind} {r.problem}" for r in check_units(model) if not r.ok]
    if problems:
        raise DeclarationError("Units disagree:\n  " + "\n  ".join(problems))
