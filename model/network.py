"""Who acts on whom: the arrows between states, arms of action and the quantities that states share.

Read off the definition: stoichiometry says where matter goes, partial derivatives what raises or lowers what.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from mscrenal.model.build import Model
from mscrenal.model.declare import Effect, Quantity, State
from mscrenal.model.definition import model
from mscrenal.model.describe import factor_of, signals_of
from mscrenal.model.drugs import DRUGS
from mscrenal.model.processes.variability import RANDOM_EFFECTS

__all__ = ["Influence", "influences", "nodes", "quantities_at"]


@dataclass(frozen=True)
class Influence:
    """One arrow: `source` raises (+1) or lowers (-1) the rate of change of `target`; 0: either, as it comes.

    A ``transfer`` is matter that leaves one state for another.
    """

    source: str
    target: str
    sign: int
    transfer: bool = False


def _modified(value: float, effects: Iterable[Effect], values: Mapping[str, float]) -> float:
    for e in effects:
        value *= factor_of(e, values[e.size.name] * math.prod(values[name] for name in signals_of(e)))
    return value


def quantities_at(structure: Model, point: Mapping[str, float]) -> dict[str, float]:
    """Every quantity of the model at a point: values of all its states, parameters and inputs."""
    values = dict(point)
    for name, (_, terms, effects) in structure.quantities.items():
        values[name] = _modified(sum(term(values) for term in terms), effects, values)
    return {name: values[name] for name in structure.quantities}


def _directions(structure: Model, nodes: Sequence[str], point: Mapping[str, float]) -> dict[str, float]:
    """What drives each node at a point: the derivative of a state, the formula of a quantity.

    Quantities that are nodes keep the value given in `point`, if there is one: what lies behind them is their
    own arrow, not their reader's.
    """
    values = dict(point)
    out: dict[str, float] = {}
    for name, (_, terms, effects) in structure.quantities.items():
        found = _modified(sum(term(values) for term in terms), effects, values)
        if name in nodes:
            out[name] = found
        values.setdefault(name, found)
    out |= dict.fromkeys(structure.states, 0.0)
    for rate in structure.rates.values():
        speed = _modified(rate.term(values), rate.effects, values)
        for state, c in rate.stoichiometry.items():
            out[state] += speed * (values[c] if isinstance(c, str) else c)
    return out


def _points(structure: Model, count: int = 8) -> list[dict[str, float]]:
    """States around health and disease at which the signs of the arrows are read, the same every time."""
    draw = random.Random("mscrenal")
    points = []
    for _ in range(count):
        # An insult, a switch or an infusion that is 0 would hide the arrows behind it; what works through a
        # drug alone is no arrow of the network.
        point = {p.name: p.value or 0.3 for p in structure.parameters.values()}
        point |= {effect.name: effect.sd for effect in RANDOM_EFFECTS.values()}
        drugs = {d.level for d in DRUGS.values()}
        point |= {name: 0.0 if name in drugs else 0.3 for name in structure.inputs}
        for s in structure.states.values():
            point[s.name] = s.healthy * 2 ** draw.uniform(-0.5, 2.0) if s.healthy else draw.uniform(0.2, 2.0)
            if s.start == "anchor" and s.healthy:
                point[s.name] = draw.uniform(0.3, 0.9)
        points.append(point)
    return points


@cache
def nodes() -> dict[str, State | Quantity]:
    """What the picture shows: every state, and the quantities that declare a symbol and depend on states."""
    structure = model()
    found: dict[str, State | Quantity] = dict(structure.states)
    moving = set(structure.states)
    for name, (quantity, terms, _) in structure.quantities.items():
        if any(a in moving for term in terms for a in term.arguments.values()):
            moving.add(name)
            if quantity.symbol:
                found[name] = quantity
    return found


@cache
def influences() -> tuple[Influence, ...]:
    """Every direct influence between states, arms and the named quantities, with its sign.

    The sign is that of the partial derivative, by central differences at several states between health and
    disease; an influence whose sign differs between them is 0. What a state does to itself is left out.
    """
    structure, boxes = model(), nodes()
    signs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for point in _points(structure):
        full = point | {
            n: v for n, v in _directions(structure, list(boxes), point).items() if n not in structure.states
        }
        for source in boxes:
            step = 1e-4 * full[source] or 1e-6
            above = _directions(structure, list(boxes), full | {source: full[source] + step})
            below = _directions(structure, list(boxes), full | {source: full[source] - step})
            for target in boxes:
                slope = (above[target] - below[target]) / (2 * step)
                # 1e-9: a thousand times the rounding error of a difference of numbers of the order of one.
                if source != target and abs(slope) > 1e-9:
                    signs[source, target].add(1 if slope > 0 else -1)
    moved = {
        (a, b)
        for rate in structure.rates.values()
        for a, c in rate.stoichiometry.items()
        for b, d in rate.stoichiometry.items()
        if c == -1 and b != a and (isinstance(d, str) or d > 0)
    }
    return tuple(
        Influence(source, target, next(iter(found)) if len(found) == 1 else 0, (source, target) in moved)
        for (source, target), found in signs.items()
    )
