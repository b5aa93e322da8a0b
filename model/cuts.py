"""What it means to cut one arrow of the network, derived from the definition.

An arrow is cut by parameters that are set to zero. They are found from the symbolic rates: with them at zero the
derivative of the target by the source is zero identically, and the target changes as if the source were at its value in
health (nothing given, for cells and arms of action), whatever the state. That leaves every other arrow alone, but for
those that share the parameter; these are named. A flow of matter is cut by a parameter without which the flow is zero:
what would have flowed stays where it is. An arrow without such a parameter cannot be cut, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

from mscrenal.model.codegen import equations
from mscrenal.model.declare import DeclarationError, Quantity, nearest
from mscrenal.model.definition import model
from mscrenal.model.drugs import DRUGS
from mscrenal.model.network import directions, influences, nodes, sample_points
from mscrenal.model.processes.effectors import ARM_EFFECTS

__all__ = ["ArrowName", "Cut", "acting", "carriers", "cut_of", "cuts", "healthy_point"]

ArrowName = tuple[str, str]
# Between numbers of the order of one that ought to be equal; their rounding errors are a thousandth of it.
SAME = 1e-10


@dataclass(frozen=True)
class Cut:
    """How an arrow is cut, or why not.

    Attributes
    ----------
    source, target : str
    parameters : tuple of str
        Set to zero; empty if the arrow cannot be cut.
    also : tuple of (source, target)
        Other arrows that these parameters cut with it.
    still_in_health : bool
        Whether a healthy subject without cells stands still under the cut.
    at_once : bool
        Whether the target is computed from states, so that it jumps when the arrow is cut; states bend.
    why_not : str
        Empty if the arrow can be cut.
    """

    source: str
    target: str
    parameters: tuple[str, ...] = ()
    also: tuple[ArrowName, ...] = ()
    still_in_health: bool = True
    at_once: bool = False
    why_not: str = ""

    @property
    def possible(self) -> bool:
        """Whether the arrow can be cut."""
        return bool(self.parameters)


# --------------------------------------------------------------------------- symbols


@cache
def _symbolic() -> tuple[Any, dict[str, Any]]:
    """The equations, and the quantities that are no box, written out in boxes, parameters and inputs."""
    eq = equations(model())
    inner: dict[str, Any] = {}
    for name, expression in eq.quantities.items():
        if name not in nodes():
            inner[name] = expression.xreplace({eq.symbols[n]: e for n, e in inner.items()})
    return eq, {eq.symbols[n]: e for n, e in inner.items()}


@cache
def _written_out(kind: str, name: str) -> Any:
    """A rate, or the formula of a quantity, in boxes, parameters and inputs, without drugs."""
    eq, inner = _symbolic()
    expression = (eq.rates if kind == "rate" else eq.quantities)[name].xreplace(inner)
    return expression.xreplace({eq.symbols[d.level]: 0 for d in DRUGS.values()})


@cache
def carriers(target: str) -> tuple[tuple[str, str, float | str], ...]:
    """Kind ('rate' or 'quantity'), name and weight of what makes up a box: rates of a state, the formula of a quantity."""
    structure = model()
    if isinstance(nodes()[target], Quantity):
        return (("quantity", target, 1.0),)
    return tuple(
        ("rate", name, rate.stoichiometry[target])
        for name, rate in structure.rates.items()
        if target in rate.stoichiometry
    )


@cache
def acting(source: str, target: str) -> tuple[tuple[str, str], ...]:
    """Kind and name of the rates, or of the quantity, through which a box acts on another."""
    return tuple(key for key, _ in _sloping(source, target))


@cache
def _sloping(source: str, target: str) -> tuple[tuple[tuple[str, str], Any], ...]:
    """Rates or quantity, and the derivative by the source of what each adds to the target, where it is not zero."""
    import sympy as sp

    eq, _ = _symbolic()
    found = []
    for kind, name, weight in carriers(target):
        factor = eq.symbols[weight] if isinstance(weight, str) else weight
        slope = sp.diff(factor * _written_out(kind, name), eq.symbols[source])
        if slope != 0:
            found.append(((kind, name), slope))
    return tuple(found)


def _slopes(source: str, target: str) -> tuple[Any, ...]:
    return tuple(slope for _, slope in _sloping(source, target))


def _vanishes(source: str, target: str, parameters: Iterable[str]) -> bool:
    """Whether the target does not depend on the source, identically, with these parameters at zero."""
    import sympy as sp

    eq, _ = _symbolic()
    zeros = {eq.symbols[p]: sp.Integer(0) for p in parameters}
    return all(_is_zero(slope.xreplace(zeros), zeros) for slope in _slopes(source, target))


def _is_zero(expression: Any, zeros: Mapping[Any, Any]) -> bool:
    # Functions do not simplify on replacement alone; substitution evaluates them.
    return expression == 0 or (len(expression.args) < MOST_TERMS and expression.subs(zeros) == 0)


MOST_TERMS = 40


# --------------------------------------------------------------------------- numbers


@cache
def healthy_point() -> Mapping[str, float]:
    """States, quantities, parameters and inputs of a healthy subject to whom nothing was given, by name."""
    structure = model()
    values = {p.name: p.value for p in structure.parameters.values()} | dict.fromkeys(structure.inputs, 0.0)
    values |= {name: s.healthy for name, s in structure.states.items()}
    return values | {
        n: v for n, v in directions(structure, list(nodes()), values).items() if n not in structure.states
    }


@cache
def _points() -> tuple[dict[str, float], ...]:
    structure = model()
    return tuple(
        point
        | {n: v for n, v in directions(structure, list(nodes()), point).items() if n not in structure.states}
        for point in sample_points(structure, 4)
    )


def _towards(values: Mapping[str, float]) -> dict[str, float] | None:
    """What drives each box; None where a formula has no value."""
    try:
        found = directions(model(), list(nodes()), values)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    return found if all(math.isfinite(v) for v in found.values()) else None


@cache
def _driven() -> tuple[dict[str, float], ...]:
    return tuple(directions(model(), list(nodes()), point) for point in _points())


def _differ(a: float, b: float) -> bool:
    return abs(a - b) > SAME * max(1.0, abs(a), abs(b))


@cache
def _without(parameters: tuple[str, ...]) -> tuple[dict[str, float], ...] | None:
    """What drives each box at every point with these parameters at zero."""
    found = [_towards(point | dict.fromkeys(parameters, 0.0)) for point in _points()]
    return tuple(f for f in found if f is not None) if None not in found else None


# --------------------------------------------------------------------------- the search


@cache
def _arrows() -> dict[ArrowName, bool]:
    """Every arrow, and whether it is a flow of matter."""
    return {(a.source, a.target): a.transfer for a in influences()}


@cache
def _into(target: str) -> tuple[str, ...]:
    return tuple(s for s, t in _arrows() if t == target)


@cache
def _observing() -> frozenset[str]:
    """Parameters of what is measured: with them at zero the measurement would change, not the subject."""
    return frozenset(a for _, term in model().observables.values() for a in term.arguments.values())


@cache
def _effects(parameters: tuple[str, ...], flow: bool) -> tuple[tuple[ArrowName, ...] | None, str]:
    """Arrows that are cut by these parameters; or None and what else would change."""
    after = _without(parameters)
    if after is None:
        return None, "leaves the formula without a value"
    cut: list[ArrowName] = []
    touched = [t for t in nodes() if any(_differ(a[t], b[t]) for a, b in zip(after, _driven(), strict=True))]
    moving = _flows_without(parameters) if flow else frozenset()
    for target in touched:
        gone = [s for s in _into(target) if _vanishes(s, target, parameters)]
        cut += [(s, target) for s in gone]
        neutral = {s: healthy_point()[s] for s in gone}
        for point, found in zip(_points(), after, strict=True):
            rest = _towards(point | neutral)
            if rest is None or _differ(rest[target], found[target]):
                # Matter that does not flow is missing here and stays there; that is what cutting a flow means.
                if target in moving:
                    break
                return None, f"changes {target} in other ways, too"
    return tuple(cut), ""


@cache
def _flows_without(parameters: tuple[str, ...]) -> frozenset[str]:
    """States between which matter ceases to move with these parameters at zero."""
    out: set[str] = set()
    for name, rate in model().rates.items():
        if not any(p in _all_arguments(name) for p in parameters):
            continue
        taken = [s for s, c in rate.stoichiometry.items() if c == -1]
        if len(rate.stoichiometry) > 1 and taken and _dries(name, parameters):
            out |= set(rate.stoichiometry)
    return frozenset(out)


@cache
def _all_arguments(rate: str) -> frozenset[str]:
    return frozenset(s.name for s in _written_out("rate", rate).free_symbols)


@cache
def _dries(rate: str, parameters: tuple[str, ...]) -> bool:
    import sympy as sp

    eq, _ = _symbolic()
    zeros = {eq.symbols[p]: sp.Integer(0) for p in parameters}
    return _is_zero(_written_out("rate", rate).xreplace(zeros), zeros)


@cache
def cut_of(source: str, target: str) -> Cut:
    """How to cut an arrow.

    Raises
    ------
    DeclarationError
        If there is no such arrow.
    """
    if (source, target) not in _arrows():
        ends = [t for s, t in _arrows() if s == source]
        names = ends or [s for s, _ in _arrows()]
        given = target if ends else source
        raise DeclarationError(f"No arrow from {source!r} to {target!r}.{nearest(given, names)}")
    flow = _arrows()[source, target]
    in_slopes = {s.name for slope in _slopes(source, target) for s in slope.free_symbols}
    usable = sorted((in_slopes & set(model().parameters)) - _observing())
    singles: list[tuple[str, ...]] = [(p,) for p in usable if _vanishes(source, target, (p,))]
    found = _best(source, target, singles, flow)
    if found is None:
        # An arm acts on some boxes in two ways, with a size for each.
        sizes = [e.size.name for e in ARM_EFFECTS if e.signal == source]
        pairs = [p for p in combinations(sizes or usable, 2) if _vanishes(source, target, p)]
        pairs = [p for p in pairs if sizes or not singles]
        found = _best(source, target, pairs, flow)
    quantity = isinstance(nodes()[target], Quantity)
    if found is not None:
        parameters, cut = found
        also = tuple(sorted(set(cut) - {(source, target)}))
        return Cut(source, target, parameters, also, _still(parameters), quantity)
    return Cut(source, target, at_once=quantity, why_not=_reason(source, target, singles, flow))


def _best(
    source: str, target: str, candidates: Iterable[tuple[str, ...]], flow: bool
) -> tuple[tuple[str, ...], tuple[ArrowName, ...]] | None:
    """The candidate that cuts the fewest other arrows; of equals one without which the formula has a value everywhere (a
    gain, not the level of half effect).
    """
    found = []
    for parameters in candidates:
        cut, _ = _effects(parameters, flow)
        if cut is not None and (source, target) in cut:
            bare = _towards(_points()[0] | dict.fromkeys((*parameters, source), 0.0))
            found.append((len(cut), bare is None, parameters, cut))
    _, _, parameters, cut = min(found, default=(0, False, (), ()))
    return (parameters, cut) if parameters else None


def _still(parameters: tuple[str, ...]) -> bool:
    after = _towards({**healthy_point(), **dict.fromkeys(parameters, 0.0)})
    states = model().states
    return after is not None and all(abs(after[s]) < SAME for s in states)


def _reason(source: str, target: str, singles: list[tuple[str, ...]], flow: bool) -> str:
    if not singles:
        return (
            f"no parameter makes {target} independent of {source}: the dependence is in the form of the equation, "
            "not in a number"
        )
    _, why = _effects(singles[0], flow)
    names = " or ".join(p for (p,) in singles)
    return f"{names} would cut it, but at zero {why}"


def cuts() -> tuple[Cut, ...]:
    """`cut_of` every arrow, in the order of `influences`."""
    return tuple(cut_of(s, t) for s, t in _arrows())
