"""Assemble the declarations into one model, checking every name both ways.

A `Model` is structure only (names, order, who depends on whom); the symbolic form is made on demand,
so that a warm start needs no sympy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mscrenal.model.declare import (
    DeclarationError,
    Effect,
    Input,
    Observable,
    Parameter,
    Process,
    Quantity,
    State,
    nearest,
)

__all__ = ["Model", "Rate", "Term", "build"]


def slot_name(name: str, slot: int) -> str:
    """The name of a per-slot symbol in a product slot; slot 1 carries the plain name."""
    return name if slot == 1 else f"{name}_{slot}"


@dataclass(frozen=True)
class Term:
    """A formula with its arguments bound to names of the model: one product slot's copy of it."""

    function: Callable[..., Any]
    arguments: Mapping[str, str]

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self.function(**{a: values[n] for a, n in self.arguments.items()})


@dataclass(frozen=True)
class Rate:
    """One process of one slot: what it changes, its rate, and the effects that modify it."""

    name: str
    declaration: Process
    stoichiometry: Mapping[str, float | str]
    term: Term
    effects: tuple[Effect, ...]
    paced: bool


@dataclass(frozen=True)
class Model:
    """The assembled model: ordered names and the terms that belong to them.

    Attributes
    ----------
    states, inputs : dict of str to declaration
        In the order of the state vector and of the input vector.
    parameters : dict of str to Parameter
        In the order of the parameter vector; product parameters appear once per slot.
    quantities : dict of str to (Quantity, list of Term, tuple of Effect)
        In an order in which each can be computed from those before it.
    rates : dict of str to Rate
    observables : dict of str to (Observable, Term)
    slots : int
        How many products one arm may mix.
    """

    states: dict[str, State]
    inputs: dict[str, Input]
    parameters: dict[str, Parameter]
    quantities: dict[str, tuple[Quantity, tuple[Term, ...], tuple[Effect, ...]]]
    rates: dict[str, Rate]
    observables: dict[str, tuple[Observable, Term]]
    slots: int

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        return tuple(self.states)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    @cached_property
    def observable_names(self) -> tuple[str, ...]:
        return tuple(self.observables)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each state in the state vector."""
        return {name: i for i, name in enumerate(self.states)}

    @cached_property
    def parameter_index(self) -> dict[str, int]:
        """Position of each parameter in the parameter vector."""
        return {name: i for i, name in enumerate(self.parameters)}

    @cached_property
    def input_index(self) -> dict[str, int]:
        """Position of each input in the input vector."""
        return {name: i for i, name in enumerate(self.inputs)}


@dataclass
class _Namespace:
    """Which names exist, and which of them come once per product slot."""

    slots: int
    per_slot: set[str]
    declared: dict[str, str]

    def claim(self, name: str, what: str) -> None:
        if name in self.declared:
            raise DeclarationError(f"{what} {name!r}: the name is taken by a {self.declared[name]}.")
        self.declared[name] = what

    def bind(
        self, owner: str, function: Callable[..., Any], arguments: Iterable[str], slot: int | None
    ) -> Term:
        bound = {}
        for argument in arguments:
            if argument not in self.declared and argument not in self.per_slot:
                raise DeclarationError(
                    f"{owner}: argument {argument!r} is not declared.{nearest(argument, self.declared)}"
                )
            if argument in self.per_slot:
                if slot is None:
                    raise DeclarationError(
                        f"{owner}: {argument!r} exists once per product slot; say which, or sum the slots."
                    )
                bound[argument] = slot_name(argument, slot)
            else:
                bound[argument] = argument
        return Term(function, bound)


def _unique(items: Iterable[Any], what: str) -> list[Any]:
    """Drop repeats of one and the same declaration; refuse two of one name."""
    seen: dict[str, Any] = {}
    for item in items:
        if item.name in seen and seen[item.name] is not item:
            raise DeclarationError(f"{what} {item.name!r} is declared twice.")
        seen[item.name] = item
    return list(seen.values())


def build(
    *,
    states: Iterable[State],
    inputs: Iterable[Input],
    processes: Iterable[Process],
    quantities: Iterable[Quantity],
    observables: Iterable[Observable],
    effects: Iterable[Effect],
    parameters: Iterable[Parameter] = (),
    slots: int = 1,
) -> Model:
    """Assemble a model.

    Parameters
    ----------
    parameters
        Those that no process, quantity, observable or effect owns (products, species, patients).
    slots
        How many products one arm may mix: per-slot states, inputs, quantities, processes and product
        parameters are copied that often.

    Raises
    ------
    DeclarationError
        For a name declared twice, an argument that nothing declares, a declaration that nothing
        uses, an effect on an unknown target, or quantities that depend on each other in a circle.
    """
    if slots < 1:
        raise DeclarationError(f"slots must be 1 or more, got {slots!r}.")
    states, inputs = list(states), list(inputs)
    processes, quantities, observables, effects = (
        list(processes),
        list(quantities),
        list(observables),
        list(effects),
    )
    parts: list[Process | Quantity | Observable] = [*processes, *quantities, *observables]
    owned = [p for part in parts for p in part.parameters]
    all_parameters = _unique([*owned, *(e.size for e in effects), *parameters], "Parameter")
    repeated: list[State | Input | Quantity] = [*states, *inputs, *quantities]
    per_slot = {x.name for x in repeated if x.per_slot}
    per_slot |= {p.name for p in all_parameters if p.scope == "product"}

    space = _Namespace(slots, per_slot, {})
    copies = range(1, slots + 1)

    def expand(items: Iterable[Any], what: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for item in items:
            for slot in copies if item.name in per_slot else (1,):
                name = slot_name(item.name, slot)
                space.claim(name, what)
                out[name] = item
        return out

    state_table = expand(_unique(states, "State"), "state")
    input_table = expand(_unique(inputs, "Input"), "input")
    parameter_table = expand(all_parameters, "parameter")
    for q in _unique(quantities, "Quantity"):
        for slot in copies if q.per_slot else (1,):
            space.claim(slot_name(q.name, slot), "quantity")

    modifiers = _modifiers(effects, processes, quantities, space)
    quantity_table: dict[str, tuple[Quantity, tuple[Term, ...], tuple[Effect, ...]]] = {}
    for q in quantities:
        for slot in copies if q.per_slot else (1,):
            over = copies if q.sum_slots else ((slot,) if q.per_slot else (None,))
            terms = tuple(space.bind(f"Quantity {q.name!r}", q.formula, q.arguments, s) for s in over)
            quantity_table[slot_name(q.name, slot)] = (q, terms, modifiers.get(q.name, ()))
    rates = {}
    for process in _unique(processes, "Process"):
        for slot in copies if process.per_slot else (1,):
            rate = _rate(process, slot, space, modifiers.get(process.name, ()))
            if rate.name in rates:
                raise DeclarationError(f"Process {process.name!r} is declared twice.")
            rates[rate.name] = rate
    observable_table = {
        o.name: (o, space.bind(f"Observable {o.name!r}", o.formula, o.arguments, None))
        for o in _unique(observables, "Observable")
    }
    model = Model(
        state_table, input_table, parameter_table, _ordered(quantity_table), rates, observable_table, slots
    )
    _check_all_used(model)
    return model


def _modifiers(
    effects: list[Effect], processes: list[Process], quantities: list[Quantity], space: _Namespace
) -> dict[str, tuple[Effect, ...]]:
    targets = {p.name for p in processes} | {q.name for q in quantities}
    out: dict[str, tuple[Effect, ...]] = {}
    for effect in effects:
        if effect.on not in targets:
            raise DeclarationError(
                f"Effect of {effect.signal!r}: no process or quantity {effect.on!r}.{nearest(effect.on, targets)}"
            )
        if effect.signal not in space.declared:
            raise DeclarationError(
                f"Effect on {effect.on!r}: no signal {effect.signal!r}.{nearest(effect.signal, space.declared)}"
            )
        if effect.modulated_by and effect.modulated_by not in space.declared:
            raise DeclarationError(
                f"Effect on {effect.on!r}: no modulator {effect.modulated_by!r}.{nearest(effect.modulated_by, space.declared)}"
            )
        out[effect.on] = (*out.get(effect.on, ()), effect)
    return out


def _rate(process: Process, slot: int, space: _Namespace, effects: tuple[Effect, ...]) -> Rate:
    owner = f"Process {process.name!r}"
    within = slot if process.per_slot else None
    stoichiometry: dict[str, float | str] = {}
    for state, coefficient in process.stoichiometry.items():
        kind = space.declared.get(state)
        if kind != "state":
            states = [n for n, k in space.declared.items() if k == "state"]
            raise DeclarationError(f"{owner}: changes {state!r}, which is no state.{nearest(state, states)}")
        if isinstance(coefficient, str) and coefficient not in space.declared:
            raise DeclarationError(
                f"{owner}: stoichiometry {coefficient!r} is not declared.{nearest(coefficient, space.declared)}"
            )
        stoichiometry[slot_name(state, slot) if state in space.per_slot else state] = coefficient
    term = space.bind(owner, process.rate, process.arguments, within)
    return Rate(slot_name(process.name, slot), process, stoichiometry, term, effects, process.paced)


def _ordered(table: dict[str, tuple[Quantity, tuple[Term, ...], tuple[Effect, ...]]]) -> dict[str, Any]:
    """Sort quantities so that each comes after those it needs."""
    needs = {
        name: {a for term in terms for a in term.arguments.values() if a in table}
        | {n for e in effects for n in (e.signal, e.modulated_by) if n in table}
        for name, (_, terms, effects) in table.items()
    }
    out: dict[str, Any] = {}
    while len(out) < len(table):
        ready = [name for name in table if name not in out and needs[name] <= out.keys()]
        if not ready:
            circle = sorted(set(table) - set(out))
            raise DeclarationError(f"Quantities depend on each other in a circle: {', '.join(circle)}.")
        for name in ready:
            out[name] = table[name]
    return out


def _check_all_used(model: Model) -> None:
    used: set[str] = {"time_scale"}
    for _, terms, effects in model.quantities.values():
        used |= {a for term in terms for a in term.arguments.values()}
        used |= {n for e in effects for n in (e.signal, e.modulated_by, e.size.name)}
    for rate in model.rates.values():
        used |= set(rate.term.arguments.values()) | {
            c for c in rate.stoichiometry.values() if isinstance(c, str)
        }
        used |= {n for e in rate.effects for n in (e.signal, e.modulated_by, e.size.name)}
    for _, term in model.observables.values():
        used |= set(term.arguments.values())
    for what, names in (
        ("Parameter", model.parameters),
        ("Input", model.inputs),
        ("Quantity", model.quantities),
    ):
        unused = sorted(set(names) - used)
        if unused:
            raise DeclarationError(
                f"{what} declared and never used: {', '.join(unused)}. Use it in a formula, or delete it."
            )
    changed = {state for rate in model.rates.values() for state in rate.stoichiometry}
    still = sorted(set(model.states) - changed)
    if still:
        raise DeclarationError(f"State that no process changes: {', '.join(still)}.")
