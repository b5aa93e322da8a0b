"""The compiled kernels compute what the definition says, and so do their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mscrenal.model import RANDOM_EFFECTS
from mscrenal.model.build import Model, slot_name
from mscrenal.model.codegen import Equations, equations
from mscrenal.model.definition import model
from mscrenal.model.functions import (
    EXCESS_WIDTH,
    excess,
    excess_slope,
    excess_value,
    exponential,
    inhibited,
    power_above,
    power_below,
    saturating,
    stimulated,
)
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.species import SPECIES, Species
from mscrenal.model.symbolic import Excess, ExcessSlope

SEEDS = range(4)
SLOTS = pytest.mark.parametrize("slots", [1, 2])

Point = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_point(structure: Model, seed: int) -> Point:
    """States, parameters and inputs in the range in which patients move, none of them special."""
    rng = np.random.default_rng(seed)
    y = np.array(
        [
            s.healthy * np.exp(rng.normal(0.2, 0.4)) if s.healthy else rng.uniform(0.05, 2.0)
            for s in structure.states.values()
        ]
    )
    p = np.array(
        [
            RANDOM_EFFECTS[q.name].sd * rng.normal()
            if q.name in RANDOM_EFFECTS
            else q.at(rng.normal(0.0, 0.7))
            if q.sampled
            else q.value + (rng.uniform(0.1, 0.5) if q.value == 0 else 0.0)
            for q in structure.parameters.values()
        ]
    )
    # No subject has more nephrons than this; far beyond, the compensation for lost ones turns negative.
    y[structure.index["nephrons"]] = rng.uniform(0.05, 1.5)
    return y, p, rng.uniform(0.05, 1.0, len(structure.inputs))


def run(kernel: Any, point: Point, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape)
    kernel(*point, out)
    return out


def rhs(code: Compiled, point: Point) -> np.ndarray:
    return run(code.rhs, point, (len(code.model.states),))


def named(structure: Model, point: Point) -> dict[str, float]:
    tables = (structure.state_names, structure.parameter_names, structure.input_names)
    return {
        n: float(v)
        for table, array in zip(tables, point, strict=True)
        for n, v in zip(table, array, strict=True)
    }


def by_lambdify(eq: Equations, values: dict[str, float], wanted: dict[str, sp.Expr]) -> dict[str, float]:
    """The same formulas through sympy's own code printer, quantities first."""
    modules = [{"Excess": excess_value, "ExcessSlope": excess_slope}, "math"]

    def evaluate(expression: sp.Expr) -> float:
        symbols = sorted(expression.free_symbols, key=lambda s: s.name)
        return float(sp.lambdify(symbols, expression, modules=modules)(*(values[s.name] for s in symbols)))

    for name, expression in eq.quantities.items():
        values[name] = evaluate(expression)
    return {name: evaluate(expression) for name, expression in wanted.items()}


# ------------------------------------------------------------------ values


@SLOTS
@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_hand_side_is_that_of_sympy(slots: int, seed: int) -> None:
    code = compiled(slots)
    point = random_point(code.model, seed)
    eq = equations(code.model)
    expected = by_lambdify(eq, named(code.model, point), eq.derivatives)
    scale = np.abs(np.array(list(expected.values()))) + 1e-6
    assert np.max(np.abs(rhs(code, point) - np.array(list(expected.values()))) / scale) < 1e-9


@SLOTS
@pytest.mark.parametrize("seed", SEEDS)
def test_observables_are_those_of_sympy(slots: int, seed: int) -> None:
    code = compiled(slots)
    point = random_point(code.model, seed)
    eq = equations(code.model)
    expected = by_lambdify(eq, named(code.model, point), eq.observables)
    assert run(code.observe, point, (len(expected),)) == pytest.approx(list(expected.values()), rel=1e-10)


@SLOTS
def test_formulas_give_the_same_on_numbers_as_compiled(slots: int) -> None:
    code = compiled(slots)
    point = random_point(code.model, 11)
    values = named(code.model, point)
    eq = equations(code.model)
    by_lambdify(eq, values, {})
    for i, (name, (_, term)) in enumerate(code.model.observables.items()):
        found = run(code.observe, point, (len(code.model.observables),))[i]
        assert term(values) == pytest.approx(found, rel=1e-10), name


# ------------------------------------------------------------------ derivatives


def central_differences(code: Compiled, point: Point) -> np.ndarray:
    """Fourth-order central differences of the right-hand side, (n_states, n_states)."""
    y, p, u = point
    columns = []
    for j in range(len(y)):
        slopes = []
        for h in (1e-3 * y[j], 5e-4 * y[j]):
            step = np.zeros_like(y)
            step[j] = h
            slopes.append((rhs(code, (y + step, p, u)) - rhs(code, (y - step, p, u))) / (2 * h))
        columns.append((4 * slopes[1] - slopes[0]) / 3)
    return np.array(columns).T


@SLOTS
@pytest.mark.parametrize("seed", SEEDS)
def test_the_jacobian_is_the_derivative_of_the_right_hand_side(slots: int, seed: int) -> None:
    code = compiled(slots)
    point = random_point(code.model, seed)
    n = len(code.model.states)
    exact, differences = run(code.jac, point, (n, n)), central_differences(code, point)
    # Rows differ by six orders of magnitude; a difference quotient knows each only up to its own largest entry.
    scale = np.abs(differences).max(axis=1, keepdims=True) + 1e-12
    error = np.abs(exact - differences) / scale
    i, j = np.unravel_index(error.argmax(), error.shape)
    names = code.model.state_names
    assert error.max() < 1e-6, f"d({names[i]})/d({names[j]}): {exact[i, j]} is not {differences[i, j]}"


@SLOTS
def test_quantities_come_after_those_they_need(slots: int) -> None:
    structure = model(slots)
    seen: set[str] = set()
    for name, (_, terms, effects) in structure.quantities.items():
        needed = {a for term in terms for a in term.arguments.values()} | {
            s for e in effects for s in (e.signal, e.modulated_by)
        }
        assert needed & set(structure.quantities) <= seen, name
        seen.add(name)


# ------------------------------------------------------------------ health, and products side by side


@pytest.mark.parametrize("species", SPECIES.values(), ids=lambda s: s.name)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_health_stands_still_whatever_is_drawn(species: Species, seed: int) -> None:
    code = compiled(1)
    rng = np.random.default_rng(seed)
    table = dict(code.model.parameters) | {p.name: p for p in species.sets}
    p = np.array(
        [
            # What a disease, a patient or the knock-out of an arm sets stays as it is in health.
            q.at(rng.normal()) if q.sampled and q.scope not in ("insult", "patient", "arm") else q.value
            for q in table.values()
        ]
    )
    healthy = np.array([s.healthy for s in code.model.states.values()])
    point = (healthy, p, np.zeros(len(code.model.inputs)))
    # Rates are up to 1440 a day, so their difference rounds off at 1e-13 of that.
    assert np.max(np.abs(rhs(code, point))) < 1e-12


def spread(one: Model, two: Model, point: Point, rng: np.random.Generator) -> Point:
    """A point of the one-product model in the two-product model, the second product declared but not given."""
    tables = (
        (one.state_names, two.state_names),
        (one.parameter_names, two.parameter_names),
        (one.input_names, two.input_names),
    )
    arrays = []
    for (small, large), values in zip(tables, point, strict=True):
        known = dict(zip(small, values, strict=True))
        empty = rng.uniform(0.2, 0.9, len(large)) if large is two.parameter_names else np.zeros(len(large))
        arrays.append(np.array([known.get(name, e) for name, e in zip(large, empty, strict=True)]))
    return arrays[0], arrays[1], arrays[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_empty_second_slot_changes_nothing(seed: int) -> None:
    one, two = compiled(1), compiled(2)
    point = random_point(one.model, seed)
    both = spread(one.model, two.model, point, np.random.default_rng(seed))
    alone, beside = rhs(one, point), rhs(two, both)
    for i, name in enumerate(one.model.states):
        assert beside[two.model.index[name]] == pytest.approx(alone[i], rel=1e-10, abs=1e-13), name
    second = [i for name, i in two.model.index.items() if name not in one.model.index]
    assert np.all(beside[second] == 0.0)
    n = len(one.model.observables)
    assert run(two.observe, both, (n,)) == pytest.approx(run(one.observe, point, (n,)), rel=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_two_products_does_not_matter(seed: int) -> None:
    one, two = model(1), compiled(2)

    def exchanged(names: tuple[str, ...], values: np.ndarray) -> np.ndarray:
        twins = {slot_name(n, 2): n for n in names if slot_name(n, 2) in names}
        twins |= {n: t for t, n in twins.items()}
        place = {n: i for i, n in enumerate(names)}
        return values[[place[twins.get(n, n)] for n in names]]

    y, p, u = random_point(two.model, seed)
    names = two.model.state_names, two.model.parameter_names, two.model.input_names
    swapped = (exchanged(names[0], y), exchanged(names[1], p), exchanged(names[2], u))
    assert any(name not in one.states for name in names[0])
    straight = exchanged(names[0], rhs(two, (y, p, u)))
    assert rhs(two, swapped) == pytest.approx(straight, rel=1e-10, abs=1e-12)


# ------------------------------------------------------------------ the functional forms

LEVEL = st.floats(1e-3, 1e3)
GAIN = st.floats(0.01, 50)
HALF = st.floats(0.01, 50)
DEPTH = st.floats(0.01, 0.99)


@given(GAIN, HALF, DEPTH)
def test_stimulation_and_inhibition_are_one_in_health(gain: float, half: float, depth: float) -> None:
    assert stimulated(1.0, gain, half) == pytest.approx(1.0, rel=1e-12)
    assert inhibited(1.0, depth, half) == pytest.approx(1.0, rel=1e-12)


@given(LEVEL, st.floats(1.001, 10), GAIN, HALF)
def test_stimulation_rises_and_is_bounded(x: float, fold: float, gain: float, half: float) -> None:
    low, high = stimulated(x, gain, half), stimulated(x * fold, gain, half)
    floor, ceiling = 1 / (1 + gain / (half + 1)), (1 + gain) / (1 + gain / (half + 1))
    assert 0 < floor <= low <= high <= ceiling * (1 + 1e-12)
    assert stimulated(3.0, gain, half) > stimulated(2.0, gain, half)


@given(LEVEL, st.floats(1.001, 10), DEPTH, HALF)
def test_inhibition_falls_and_stays_positive(x: float, fold: float, depth: float, half: float) -> None:
    high, low = inhibited(x, depth, half), inhibited(x * fold, depth, half)
    floor, ceiling = (1 - depth) / (1 - depth / (half + 1)), 1 / (1 - depth / (half + 1))
    assert 0 < floor * (1 - 1e-12) <= low <= high <= ceiling
    assert inhibited(3.0, depth, half) < inhibited(2.0, depth, half)


@given(HALF)
def test_saturation_is_a_half_at_its_half(half: float) -> None:
    assert saturating(half, half) == pytest.approx(0.5)
    assert saturating(0.0, half) == 0.0


@given(st.floats(0, 1))
def test_nothing_is_in_excess_up_to_health(x: float) -> None:
    assert excess(x) == 0.0


@given(st.floats(1e-6, 1e3))
def test_an_excess_is_the_distance_less_at_most_its_rounding(d: float) -> None:
    assert d - EXCESS_WIDTH <= excess(1 + d) <= d * (1 + 1e-9)


@given(st.floats(-0.5, 5).filter(lambda d: abs(d) > 1e-4))
def test_the_slope_of_an_excess_is_its_derivative(d: float) -> None:
    h = 1e-6
    assert excess_slope(d) == pytest.approx((excess_value(d + h) - excess_value(d - h)) / (2 * h), abs=1e-6)


@given(st.floats(1e-9, 1e-3))
def test_the_slope_of_an_excess_starts_at_zero_and_is_continuous(d: float) -> None:
    assert excess_slope(-d) == 0.0
    assert 0.0 < excess_slope(d) <= 2 * d / EXCESS_WIDTH


def test_the_symbolic_excess_differentiates_to_its_slope_and_evaluates_to_the_number() -> None:
    x = sp.Symbol("x", real=True)
    assert sp.diff(Excess(x - 1), x) == ExcessSlope(x - 1)
    assert float(excess(x).subs(x, 1.7)) == pytest.approx(excess(1.7))
    assert float(ExcessSlope(x).subs(x, 0.3)) == pytest.approx(excess_slope(0.3))


@given(st.floats(0.05, 20), st.floats(-2, 2))
def test_powers_below_and_above_split_a_power_at_one(x: float, exponent: float) -> None:
    assert power_below(x, exponent) * power_above(x, exponent) == pytest.approx(x**exponent)
    assert power_below(max(x, 1.0), exponent) == 1.0
    assert power_above(min(x, 1.0), exponent) == 1.0


@pytest.mark.parametrize("x", [0.3, 1.0, 2.5])
def test_forms_give_the_same_on_symbols_as_on_numbers(x: float) -> None:
    s = sp.Symbol("s", real=True)
    forms = (
        lambda v: stimulated(v, 2.0, 3.0),
        lambda v: inhibited(v, 0.4, 3.0),
        lambda v: saturating(v, 2.0),
        lambda v: power_below(v, -0.3),
        lambda v: power_above(v, -1.2),
        excess,
        exponential,
    )
    for form in forms:
        assert float(form(s).subs(s, x)) == pytest.approx(form(x))
