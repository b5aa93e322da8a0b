"""Events mean what NONMEM says that they mean: every combination of records against closed-form solutions.

The model is linear, two compartments and a depot, so that its course is a sum of matrix exponentials, which is written
here from the definition of each record and shares no line with the package.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from mscrenal.model import Patient
from mscrenal.model.build import build
from mscrenal.model.declare import Assumed, Input, Observable, Parameter, Process, State
from mscrenal.model.events import (
    Event,
    EventError,
    EventSolution,
    exposure_states,
    schedule_of_events,
    simulate_events,
)
from mscrenal.model.gradient import Seeds, gradient_of_subject
from mscrenal.model.initial import Subject
from mscrenal.model.kernels import Compiled, cache_folder, compile_model
from mscrenal.model.solve import solve

RATES = {"absorption": 1.1, "elimination": 0.35, "out": 0.6, "back": 0.25}
VALUES = {**RATES, "largest": 0.0, "half": 1.0, "volume": 2.5}
HELD = ("depot", "central", "peripheral")
INITIAL = np.array([0.2, 0.3, 0.1, 0.0])  # and nothing eliminated
TIGHT = {"rtol": 1e-9, "atol": 1e-12}

Array = np.ndarray


def _constant(name: str) -> Parameter:
    return Parameter(name, VALUES[name], "1/day", f"{name}, of the test", Assumed("a test"))


@pytest.fixture(scope="module")
def pk() -> Compiled:
    """Depot, central and peripheral compartment, linear but for an elimination that saturates, whose rate is 0 here."""

    def process(name: str, change: dict[str, int], rate: Callable[..., Any], *own: str) -> Process:
        return Process(name, change, rate, "1/day", name, tuple(map(_constant, own)), paced=False)

    structure = build(
        states=[State(n, "1", n, "pk", 0.0, "zero") for n in (*HELD, "eliminated")],
        inputs=[Input("to_depot", "1/day", "into the depot"), Input("to_central", "1/day", "into blood")],
        processes=[
            process("given_depot", {"depot": 1}, lambda to_depot: to_depot * 1),
            process("given_central", {"central": 1}, lambda to_central: to_central * 1),
            process(
                "absorb",
                {"depot": -1, "central": 1},
                lambda depot, absorption: absorption * depot,
                "absorption",
            ),
            process(
                "eliminate",
                {"central": -1, "eliminated": 1},
                lambda central, elimination: elimination * central,
                "elimination",
            ),
            process(
                "saturable",
                {"central": -1, "eliminated": 1},
                lambda central, largest, half: largest * central / (half + central),
                "largest",
                "half",
            ),
            process("leave", {"central": -1, "peripheral": 1}, lambda central, out: out * central, "out"),
            process(
                "return",
                {"peripheral": -1, "central": 1},
                lambda peripheral, back: back * peripheral,
                "back",
            ),
        ],
        quantities=[],
        observables=[
            Observable(
                "concentration",
                "1",
                "in blood",
                lambda central, volume: central / volume,
                (_constant("volume"),),
            ),
            Observable("tissue", "1", "in tissue", lambda peripheral: peripheral * 1),
        ],
        effects=[],
        parameters=[Parameter("time_scale", 1.0, "1", "pace", Assumed("a test"))],
    )
    # Where the integrator has been compiled already.
    cache_folder().mkdir(parents=True, exist_ok=True)
    return compile_model(structure, cache_folder(), gradient=True)


def parameters(pk: Compiled, **changes: float) -> Array:
    values = {**VALUES, "time_scale": 1.0, **changes}
    return np.array([values[name] for name in pk.model.parameters])


def run(pk: Compiled, events: list[Event], times: Any, **options: Any) -> EventSolution:
    initial = options.pop("initial", INITIAL)
    p = options.pop("parameters", parameters(pk))
    return simulate_events(pk, p, initial, events, np.asarray(times, dtype=float), **{**TIGHT, **options})


# --------------------------------------------------------------------------- closed forms


def matrix(rates: dict[str, Any] | None = None) -> Array:
    """x' = A x of (depot, central, peripheral)."""
    k = {**RATES, **(rates or {})}
    return np.array(
        [
            [-k["absorption"], 0, 0],
            [k["absorption"], -k["elimination"] - k["out"], k["back"]],
            [0, k["out"], -k["back"]],
        ]
    )


@dataclass(frozen=True)
class Part:
    """What one thing given does to the amounts at t, from `since` until it is forgotten."""

    since: float
    amounts: Callable[[Array, float], Array]
    forgotten: float = math.inf


INTO = {"to_depot": np.array([1.0, 0, 0]), "to_central": np.array([0, 1.0, 0])}


def start_of(since: float) -> Part:
    # At time 0 it was there already.
    return Part(since or -math.inf, lambda a, t: expm(a * (t - since)) @ INITIAL[:3])


def bolus(since: float, amount: float, into: str) -> Part:
    return Part(since, lambda a, t: expm(a * (t - since)) @ INTO[into] * amount)


def infusion(since: float, length: float, amount: float, into: str) -> Part:
    def amounts(a: Array, t: float) -> Array:
        over = expm(a * (t - since)) - expm(a * (t - min(t, since + length)))
        return np.linalg.solve(a, over @ INTO[into]) * (amount / length)

    return Part(since, amounts)


def endless(since: float, length: float, amount: float, into: str, interval: float) -> Part:
    """Doses at since, since - interval, since - 2 interval, …: those over as a geometric series, the others one by one."""

    def amounts(a: Array, t: float) -> Array:
        e, one = INTO[into], np.eye(3)
        over = max(0, math.ceil((since + length - t) / interval - 1e-12))
        row = np.linalg.inv(one - expm(a * interval))
        if not length:
            return expm(a * (t - since)) @ row @ e * amount
        whole = np.linalg.solve(a, (expm(a * length) - one) @ e) * (amount / length)
        out = expm(a * (t - since + over * interval - length)) @ row @ whole
        for k in range(over):
            running = expm(a * (t - since + k * interval)) - one
            out = out + np.linalg.solve(a, running @ e) * (amount / length)
        return out

    return Part(since, amounts)


def exact(parts: list[Part], times: Array, rates: dict[str, Any] | None = None) -> Array:
    """Amounts (n_times, 3); an output at the time of an event shows what was before it."""
    a = matrix(rates)
    out = np.zeros((len(times), 3), dtype=a.dtype)
    for row, t in enumerate(times):
        for part in parts:
            if part.since < t <= part.forgotten:
                out[row] += part.amounts(a, t)
    return out


def forget(parts: list[Part], day: float) -> list[Part]:
    """All that began before a day is forgotten on it."""
    return [replace(p, forgotten=min(p.forgotten, day)) if p.since < day else p for p in parts]


def agree(found: EventSolution, parts: list[Part], times: Array) -> None:
    assert (found.status, found.message) == ("ok", "")
    expected = exact(parts, times)
    np.testing.assert_allclose(found.states[:, :3], expected, rtol=0, atol=1e-7 * expected.max())


# --------------------------------------------------------------------------- the grid

FIRST, RESET, HORIZON, II = 3.0, 6.5, 14.0, 2.0
TIMES = np.array([0, 0.25, 1, 2.9, FIRST, 3.1, 4, 4.25, 5, 6.0, RESET, 6.6, 7.3, 9, 9.5, 11, HORIZON])
# amount, length and what the record says of it; the last is longer than the interval
FORMS = {
    "bolus": (2.0, 0.0, {}),
    "rate": (2.0, 1.25, {"rate": 1.6}),
    "dur": (2.0, 1.25, {"dur": 1.25}),
    "overlapping": (2.0, 5.0, {"dur": 5.0}),
}
REPEATS = {
    "single": {},
    "addl": {"addl": 3, "ii": II},
    "ss1": {"ss": 1, "ii": II, "addl": 1},
    "ss2": {"ss": 2, "ii": II},
}


def part_of(since: float, length: float, amount: float, into: str) -> Part:
    return infusion(since, length, amount, into) if length else bolus(since, amount, into)


def course(form: str, repeat: str, reset: str, into: str) -> tuple[list[Event], list[Part]]:
    """The records, and what they amount to."""
    amount, length, said = FORMS[form]
    other = "to_depot" if into == "to_central" else "to_central"
    # Something is there already, and an infusion is running, as the dose in question comes.
    events = [
        Event(0.0, 1.0, "to_central"),
        Event(0.5, 3.0, "to_depot", dur=9.0),
        Event(FIRST, amount, into, **said, **REPEATS[repeat]),
        Event(FIRST, 0.4, other),
        Event(FIRST + 1, 0.7, into, rate=0.2),
        Event(HORIZON, 50.0, into),
        Event(5.0, evid=0),
        Event(5.5, evid=2),
    ]
    parts = [start_of(0.0), bolus(0.0, 1.0, "to_central"), infusion(0.5, 9.0, 3.0, "to_depot")]
    if repeat == "ss1":
        parts = forget(parts, FIRST)
    if repeat.startswith("ss"):
        parts.append(endless(FIRST, length, amount, into, II))
    else:
        parts.append(part_of(FIRST, length, amount, into))
    more = [FIRST + k * II for k in range(1, REPEATS[repeat].get("addl", 0) + 1)]
    parts += [part_of(day, length, amount, into) for day in more if reset == "none" or day < RESET]
    parts += [bolus(FIRST, 0.4, other), infusion(FIRST + 1, 3.5, 0.7, into)]
    if reset != "none":
        parts = [*forget(parts, RESET), start_of(RESET)]
        events.append(Event(RESET, evid=3))
    if reset == "evid4":
        events[-1] = Event(RESET, 1.5, into, evid=4, dur=0.7, addl=1, ii=2.5)
        parts += [infusion(RESET, 0.7, 1.5, into), infusion(RESET + 2.5, 0.7, 1.5, into)]
    return events, parts


GRID = list(product(FORMS, REPEATS, ("none", "evid3", "evid4"), ("to_central", "to_depot")))


@pytest.mark.parametrize(("form", "repeat", "reset", "into"), GRID)
def test_every_combination_of_records_has_the_course_of_its_closed_form(pk, form, repeat, reset, into):
    events, parts = course(form, repeat, reset, into)
    agree(run(pk, events, TIMES), parts, TIMES)


@pytest.mark.parametrize(("form", "repeat", "reset", "into"), GRID[::5])
def test_the_order_of_the_records_changes_not_a_bit(pk, form, repeat, reset, into):
    events, _ = course(form, repeat, reset, into)
    # Sums of three differ in the last bit by their order.
    events += [Event(FIRST, x, into, dur=0.3) for x in (0.1, 0.2, 0.7)]
    shuffled = random.Random(form + repeat).sample(events, len(events))
    one, other = run(pk, events, TIMES), run(pk, shuffled, TIMES)
    assert np.array_equal(one.states, other.states)
    assert np.array_equal(one.observables, other.observables)


# --------------------------------------------------------------------------- doses at edges


def test_a_dose_at_time_zero_shows_after_the_output_of_time_zero(pk):
    found = run(pk, [Event(0.0, 2.0, "to_central")], [0.0, 1e-9])
    assert found.states[0].tolist() == INITIAL.tolist()
    assert found.states[1, 1] == pytest.approx(INITIAL[1] + 2.0)


def test_a_dose_at_the_horizon_shows_nowhere(pk):
    with_it, without = (run(pk, e, [0.0, 3.0]) for e in ([Event(3.0, 2.0, "to_central")], []))
    assert np.array_equal(with_it.states, without.states)
    assert np.array_equal(with_it.final, without.final)


def test_a_steady_state_at_the_horizon_shows_nowhere_and_is_not_sought(pk):
    found = run(pk, [Event(3.0, 2.0, "to_central", ss=1, ii=1.0)], [0.0, 3.0])
    assert found.jumps == ()
    assert np.array_equal(found.states, run(pk, [], [0.0, 3.0]).states)


def test_several_doses_at_one_time_are_one_dose_of_their_sum(pk):
    apart = run(pk, [Event(1.0, 0.5, "to_depot"), Event(1.0, 1.5, "to_depot")], TIMES)
    assert np.array_equal(apart.states, run(pk, [Event(1.0, 2.0, "to_depot")], TIMES).states)


def test_output_times_between_do_not_change_those_that_are_asked_for(pk):
    events, _ = course("overlapping", "ss1", "evid4", "to_depot")
    few = run(pk, events, [0.0, 5.0, HORIZON])
    many = run(pk, events, TIMES)
    np.testing.assert_allclose(few.states, many.states[np.isin(TIMES, [0.0, 5.0, HORIZON])], atol=1e-9)


def test_a_dose_with_a_record_of_its_own_at_a_reset_is_given_and_an_additional_one_is_not(pk):
    additional = run(pk, [Event(1.0, 1.0, "to_central", addl=1, ii=2.0), Event(3.0, evid=3)], [3.0, 4.0])
    explicit = run(pk, [Event(3.0, 1.0, "to_central"), Event(3.0, evid=3)], [3.0, 4.0])
    afresh = [start_of(3.0)]
    np.testing.assert_allclose(additional.states[1, :3], exact(afresh, [4.0])[0], rtol=1e-7)
    np.testing.assert_allclose(
        explicit.states[1, :3], exact([*afresh, bolus(3.0, 1.0, "to_central")], [4.0])[0], rtol=1e-7
    )


def test_a_reset_after_a_steady_state_goes_back_to_the_initial_state(pk):
    events = [Event(1.0, 1.0, "to_central", ss=1, ii=1.0), Event(2.0, evid=3)]
    found = run(pk, events, [2.0, 5.0])
    np.testing.assert_allclose(found.states[1, :3], exact([start_of(2.0)], [5.0])[0], rtol=1e-7)


@pytest.mark.parametrize("ss", [1, 2])
def test_reset_and_steady_state_in_one_record_come_in_this_order(pk, ss):
    events = [Event(0.0, 5.0, "to_central"), Event(2.0, 1.0, "to_central", evid=4, ss=ss, ii=3.0)]
    parts = [endless(2.0, 0.0, 1.0, "to_central", 3.0)] + ([start_of(2.0)] if ss == 2 else [])
    np.testing.assert_allclose(run(pk, events, [0.0, 4.0]).states[1, :3], exact(parts, [4.0])[0], rtol=1e-7)


def test_two_steady_states_at_one_time_add_up_if_the_second_says_so(pk):
    events = [
        Event(2.0, 0.5, "to_depot", ss=2, ii=1.5, dur=0.5),
        Event(2.0, 1.0, "to_central", ss=1, ii=3.0),
    ]
    parts = [endless(2.0, 0.0, 1.0, "to_central", 3.0), endless(2.0, 0.5, 0.5, "to_depot", 1.5)]
    np.testing.assert_allclose(run(pk, events, [0.0, 4.0]).states[1, :3], exact(parts, [4.0])[0], rtol=1e-7)


@pytest.mark.parametrize("length", [0.0, 0.5, 2.0, 4.0, 4.7])
@pytest.mark.parametrize("into", INTO)
def test_an_infusion_at_steady_state_may_be_shorter_than_its_interval_as_long_or_longer(pk, length, into):
    event = Event(0.0, 2.0, into, dur=length, ss=1, ii=2.0)
    times = np.array([0.1, 0.7, 1.9, 2.5, 4.0, 4.8, 6.0])
    agree(run(pk, [event], times), [endless(0.0, length, 2.0, into, 2.0)], times)


@pytest.mark.parametrize("interval", [0.01, 30.0])
def test_a_steady_state_is_met_however_long_it_takes_to_build_up(pk, interval):
    found = run(pk, [Event(0.0, interval, "to_depot", ss=1, ii=interval)], [interval / 2, interval])
    parts = [endless(0.0, 0.0, interval, "to_depot", interval)]
    expected = exact(parts, np.array([interval / 2, interval]))
    np.testing.assert_allclose(found.states[:, :3], expected, atol=1e-7 * expected.max())


def test_the_steady_state_of_a_constant_infusion_ends_with_its_record(pk):
    found = run(pk, [Event(1.0, 0.0, "to_depot", rate=0.8, ss=1)], [1.0, 1.0 + 1e-9, 3.0])
    level = np.linalg.solve(matrix(), -0.8 * INTO["to_depot"])
    np.testing.assert_allclose(found.states[1, :3], level, rtol=1e-7)
    np.testing.assert_allclose(found.states[2, :3], expm(matrix() * 2.0) @ level, rtol=1e-7)


def test_what_is_given_beside_the_events_goes_on_through_all_of_them(pk):
    events, _ = course("bolus", "ss2", "none", "to_central")
    background = np.array([0.0, 0.3])
    found, alone = run(pk, events, TIMES, background=background), run(pk, events, TIMES)

    def settled(a: Array, t: float) -> Array:
        return expm(a * (t - FIRST)) @ np.linalg.solve(a, -0.3 * INTO["to_central"])

    # It adds what it would alone; and it belongs to the steady state, which is added where ss is 2.
    beside = exact([infusion(0.0, 1e3, 300.0, "to_central"), Part(FIRST, settled)], TIMES)
    np.testing.assert_allclose(found.states[:, :3], alone.states[:, :3] + beside, atol=1e-6)


# --------------------------------------------------------------------------- bookkeeping


def test_what_was_eliminated_starts_at_zero_with_a_steady_state_and_the_mass_balance_counts_what_that_brought(
    pk,
):
    events = [Event(0.0, 5.0, "to_central"), Event(2.0, 1.0, "to_central", ss=1, ii=3.0, addl=2)]
    found = run(pk, events, [0.0, 12.0])
    (jump,) = found.jumps
    assert (jump.time, jump.replaces, jump.brought[3]) == (2.0, True, 0.0)
    assert found.final.sum() == pytest.approx(jump.brought.sum() + 3.0, rel=1e-8)


def test_a_steady_state_that_adds_leaves_the_bookkeeping_alone(pk):
    events = [Event(0.0, 5.0, "to_central"), Event(2.0, 1.0, "to_central", ss=2, ii=3.0)]
    found = run(pk, events, [0.0, 12.0])
    assert found.final.sum() == pytest.approx(
        INITIAL.sum() + 5.0 + found.jumps[0].brought.sum() + 1.0, rel=1e-8
    )


def test_without_product_slots_all_states_are_exposure(pk):
    assert exposure_states(pk.model) == (*HELD, "eliminated")


def test_states_that_are_no_exposure_are_held_and_stay(pk):
    # With the periphery held at what it is, it is a constant source of the other two.
    found = run(pk, [Event(0.0, 1.0, "to_depot", ss=1, ii=1.0)], [0.0, 1e-9], exposure=("depot", "central"))
    a = matrix()
    inner, source = a[:2, :2], np.array([0.0, RATES["back"] * INITIAL[2]])
    cycle = expm(inner)
    drift = np.linalg.solve(inner, (cycle - np.eye(2)) @ source)
    trough = np.linalg.solve(np.eye(2) - cycle, cycle @ np.array([1.0, 0.0]) + drift)
    np.testing.assert_allclose(found.jumps[0].brought[:2], trough, rtol=1e-8)
    assert found.states[1, 2] == pytest.approx(INITIAL[2])


# --------------------------------------------------------------------------- not linear, and no steady state


def test_a_steady_state_under_saturable_elimination_is_that_of_very_many_doses(pk):
    p = parameters(pk, elimination=0.0, largest=1.5)
    options = {"parameters": p, "initial": np.zeros(4), "max_steps": 10**6}
    settled = run(pk, [Event(0.0, 0.7, "to_depot", ss=1, ii=1.0)], [0.0, 0.5], **options)
    long = run(pk, [Event(0.0, 0.7, "to_depot", addl=200, ii=1.0)], [0.0, 200.5], **options)
    np.testing.assert_allclose(settled.states[1, :3], long.states[1, :3], rtol=1e-7)


@pytest.mark.parametrize(
    "event", [Event(2.0, 2.0, "to_depot", ss=1, ii=1.0), Event(2.0, 0.0, "to_depot", rate=2.0, ss=1)]
)
def test_doses_beyond_what_can_be_eliminated_have_no_steady_state_and_the_status_names_the_state(pk, event):
    p = parameters(pk, elimination=0.0, largest=1.5)
    found = run(pk, [event], [0.0, 5.0], parameters=p, max_cycles=60)
    assert found.status == "no-steady-state"
    assert "no steady state of exposure state" in found.message
    assert any(f"'{name}'" in found.message for name in ("central", "peripheral"))
    assert found.reached == 2.0
    assert np.isnan(found.states).all()
    assert np.isnan(found.observables).all()


def test_a_cycle_that_fails_is_a_status_that_says_so(pk):
    found = run(pk, [Event(0.0, 1.0, "to_depot", ss=1, ii=1.0)], [0.0, 5.0], max_steps=3)
    assert found.status == "no-steady-state"
    assert "in a cycle towards its steady state" in found.message


def test_a_budget_spent_after_a_steady_state_is_a_status(pk):
    events = [Event(0.0, 0.0, "to_depot", rate=1.0, ss=1)]
    found = run(pk, events, [0.0, 5.0], max_steps=3)
    assert found.status == "budget"
    assert np.isnan(found.states).all()


# --------------------------------------------------------------------------- schedules and refusals


def test_events_without_a_steady_state_are_a_schedule_that_solve_takes(pk):
    events, _ = course("overlapping", "addl", "evid4", "to_depot")
    schedule = schedule_of_events(pk.model, events)
    direct = solve(pk, parameters(pk), INITIAL, schedule, TIMES, **TIGHT)
    assert np.array_equal(direct.states, run(pk, events, TIMES).states)
    assert schedule.edges[schedule.resets].tolist() == [RESET]


def test_the_amount_given_is_exact_however_often_infusions_overlap(pk):
    schedule = schedule_of_events(pk.model, [Event(0.1 * k, 1.0, "to_depot", dur=0.7) for k in range(10)])
    given = schedule.inputs[:-1, 0] @ np.diff(schedule.edges)
    assert given == pytest.approx(10.0, rel=1e-14)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"time": math.nan, "amt": 1.0}, "time given nan. Allowed: a finite number"),
        ({"amt": -1.0}, "amt given -1.0. Allowed: zero or more"),
        ({"amt": 0.0}, "amt given 0.0. Allowed: above 0 in a dose"),
        ({"amt": 1.0, "evid": 5}, "evid given 5. Allowed: 0, 1, 2, 3, 4"),
        ({"amt": 1.0, "ss": 3, "ii": 1.0}, "ss given 3. Allowed: 0, 1, 2"),
        ({"amt": 1.0, "addl": 1.5, "ii": 1.0}, "addl given 1.5. Allowed: a whole number"),
        ({"amt": 1.0, "addl": 2}, "ii given 0.0. Allowed: the time between doses, above 0, with addl 2"),
        ({"amt": 1.0, "ss": 1}, "ii given 0.0. Allowed: the time between doses, above 0, with ss 1"),
        ({"amt": 1.0, "rate": 2.0, "dur": 1.0}, "dur given 1.0. Allowed: amt / rate, which is 0.5"),
        ({"amt": 1.0, "evid": 3}, "amt given 1.0. Allowed: 0 with evid 3; a dose has evid 1 or 4"),
        ({"evid": 0, "ss": 1}, "ss given 1. Allowed: 0 with evid 0"),
        ({"rate": 1.0, "ss": 1, "addl": 1}, "addl given 1. Allowed: 0 for the steady state of a constant"),
        ({"rate": 1.0}, "amt given 0.0. Allowed: above 0 in a dose"),
    ],
)
def test_a_record_that_cannot_be_is_refused_with_what_is_allowed(fields, expected):
    with pytest.raises(EventError) as error:
        Event(**{"time": 3.0, "cmt": "to_depot", "label": "row 7", **fields})
    assert str(error.value).startswith(f"row 7: {expected}")


@pytest.mark.parametrize(
    ("events", "options", "expected"),
    [
        (
            [Event(1.0, 1.0, "to_gut")],
            {},
            "into 'to_gut': no input 'to_gut'. .*Allowed: to_central, to_depot",
        ),
        ([Event(1.0, 1.0, "to_depot")], {"start": 2.0}, "time given 1. Allowed: 2, the start"),
        ([Event(1.0, 1.0, "to_depot", ss=1, ii=1.0)] * 2, {}, "ss given 1 twice at time 1.*the second ss 2"),
        ([Event(1.0, 1.0, "to_depot", ss=1, ii=1.0)], {"exposure": ["gut"]}, "exposure: no state 'gut'"),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_what_is_allowed(pk, events, options, expected):
    with pytest.raises(EventError, match=expected):
        run(pk, events, [2.0, 3.0], **options)


def test_a_steady_state_is_refused_where_a_schedule_is_asked_for(pk):
    with pytest.raises(EventError, match=r"ss given 1\. Allowed in a schedule: 0.*use simulate_events"):
        schedule_of_events(pk.model, [Event(1.0, 1.0, "to_depot", ss=1, ii=1.0)])


@pytest.mark.parametrize("times", [[], [1.0, 1.0], [-1.0, 2.0]])
def test_times_that_do_not_rise_from_the_start_are_refused(pk, times):
    with pytest.raises(EventError, match="times must increase from the start at 0"):
        run(pk, [], times)


# --------------------------------------------------------------------------- sensitivities


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("repeat", ["single", "addl"])
@pytest.mark.parametrize("reset", ["none", "evid3", "evid4"])
def test_derivatives_through_doses_and_resets_are_those_of_the_closed_form(pk, form, repeat, reset):
    events, parts = course(form, repeat, reset, "to_depot")
    names = (*RATES, "volume")
    subject = Subject(Patient(), INITIAL, parameters(pk), np.zeros(2), 0.0)
    seeds = Seeds(np.zeros((4, len(names))), np.zeros((len(pk.model.parameters), len(names))))
    for column, name in enumerate(names):
        seeds.parameters[pk.model.parameter_index[name], column] = 1.0
    schedule = schedule_of_events(pk.model, events)
    found = gradient_of_subject(
        pk, subject, schedule, seeds, TIMES, ("concentration", "tissue"), names, **TIGHT
    )
    assert found.status == "ok"
    for column, name in enumerate(names):
        step = {**VALUES, name: VALUES[name] + 1e-30j}
        amounts = exact(parts, TIMES, {k: step[k] for k in RATES})
        seen = np.stack([amounts[:, 1] / step["volume"], amounts[:, 2]], axis=1)
        expected = seen.imag / 1e-30
        np.testing.assert_allclose(
            found.derivatives[:, :, column], expected, atol=1e-6 * np.abs(expected).max(), err_msg=name
        )


def test_derivatives_by_the_initial_state_begin_anew_at_a_reset(pk):
    events, _ = course("dur", "addl", "evid4", "to_central")
    subject = Subject(Patient(), INITIAL, parameters(pk), np.zeros(2), 0.0)
    seeds = Seeds(np.eye(4)[:, :3], np.zeros((len(pk.model.parameters), 3)))
    schedule = schedule_of_events(pk.model, events)
    found = gradient_of_subject(pk, subject, schedule, seeds, TIMES, ("tissue",), HELD, **TIGHT)
    since = np.where(TIMES > RESET, TIMES - RESET, TIMES)
    expected = np.array([expm(matrix() * t)[2] for t in since])
    np.testing.assert_allclose(found.derivatives[:, 0], expected, atol=1e-6)
