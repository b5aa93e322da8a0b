"""Event lists in the manner of NONMEM, for any model: boluses, infusions, resets and steady states.

An `Event` is one record. What it means follows NONMEM (Users Guide VIII, entries EVID, ADDL, SS and "SS dose"):

- ``evid`` 0 is an observation and 2 another event: neither changes anything here. 1 is a dose. 3 puts the state back to
  the initial one; infusions in progress are switched off, and additional doses still to come are cancelled. 4 is
  a reset and then a dose.
- A dose of duration 0 is given at once; ``rate`` or ``dur`` make it an infusion. Infusions that overlap add up.
- ``addl`` more doses follow, one each ``ii``.
- ``ss`` 1: the dose is the last of an endless row of equal doses, one each ``ii``. The exposure states are replaced by
  the steady state of that row, and what was given before is forgotten: infusions in progress are switched off and
  additional doses cancelled, as by a reset. ``ss`` 2 adds that steady state to what is there and cancels nothing.
  An infusion may be longer than ``ii``; those of the row that still run go on. With ``amt`` 0, ``rate``
  above 0 and ``ii`` 0 it is the steady state of a constant infusion, which ends at the time of the record.

The order of the records never matters. At one time an output comes first (it shows the state before, as in `solve`),
then a reset, then steady states, then doses. So a dose that has a record of its own at the time of a reset is given
after it, and an additional dose due at that time is cancelled.

A model that is not linear has no steady state of its own accord: the kidney declines, the host may become
sensitised. What a steady state replaces are therefore the *exposure states* alone (`exposure_states`), with everything
else held as it is at that moment while the row of doses is repeated. States that nothing reads, such as the cells
cleared so far, only count and never come to rest: ``ss`` 1 starts them at zero, ``ss`` 2 leaves them, and `Jump` says
what a steady state brought in, so that a mass balance can count it. What enters exposure states from elsewhere (a
background input, a held state) is part of the steady state, and with ``ss`` 2 of what is added, as in NONMEM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import numpy as np

from mscrenal.model.build import Model
from mscrenal.model.declare import nearest
from mscrenal.model.kernels import Compiled
from mscrenal.model.solve import ATOL, MAX_STEPS, RTOL, Schedule, Solution, solve

__all__ = [
    "Event",
    "EventError",
    "EventSolution",
    "Jump",
    "exposure_states",
    "schedule_of_events",
    "simulate_events",
]

EVIDS = (0, 1, 2, 3, 4)
STEADY_STATES = (0, 1, 2)
# A cycle has come to rest when no exposure state differs from one cycle to the next by more than this share of the
# largest of them.
REPEAT = 1e-10
# And no state gains or loses more in a cycle than this share of what the cycle brings.
BALANCE = 1e-6
MOST_CYCLES = 400
# Iterates that the extrapolation remembers: more than a chain of organs has modes that are slow beside a cycle.
MEMORY = 8
# Of the cycle: an error of one is carried over to all that follow.
CYCLE_RTOL, CYCLE_ATOL = 1e-10, 1e-13
MOST_NEWTON_STEPS = 60


class EventError(ValueError):
    """An event that cannot be."""


@dataclass(frozen=True)
class Event:
    """One record of an event list.

    Parameters
    ----------
    time : float
        In the model's unit of time (days).
    amt : float
        Amount, in the unit of the input times the unit of time.
    cmt : str
        Name of the input into which a dose goes; ignored where nothing is given.
    evid : int
        0 observation, 1 dose, 2 other event, 3 reset, 4 reset and dose.
    rate, dur : float
        Amount per time, or length, of an infusion; both 0: at once.
    ii, addl : float, int
        Time between doses, and how many more follow.
    ss : int
        0, or 1 (the steady state replaces) or 2 (it is added).
    label : str
        What messages call the record, such as ``row 7``.

    Raises
    ------
    EventError
    """

    time: float
    amt: float = 0.0
    cmt: str = ""
    evid: int = 1
    rate: float = 0.0
    dur: float = 0.0
    ii: float = 0.0
    addl: int = 0
    ss: int = 0
    label: str = ""

    def __post_init__(self) -> None:
        for name in ("time", "amt", "rate", "dur", "ii"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self._error(name, value, "a finite number")
            if name != "time" and value < 0:
                raise self._error(name, value, "zero or more")
        for name, allowed in (("evid", EVIDS), ("ss", STEADY_STATES)):
            if getattr(self, name) not in allowed:
                raise self._error(name, getattr(self, name), ", ".join(map(str, allowed)))
        if isinstance(self.addl, bool) or self.addl != int(self.addl) or self.addl < 0:
            raise self._error("addl", self.addl, "a whole number, zero or more")
        if self.gives:
            self._check_dose()
        else:
            for name in ("amt", "rate", "dur", "ii", "addl", "ss"):
                if getattr(self, name):
                    raise self._error(
                        name, getattr(self, name), f"0 with evid {self.evid}; a dose has evid 1 or 4"
                    )

    def _check_dose(self) -> None:
        if self.constant:
            for name in ("dur", "addl"):
                if getattr(self, name):
                    raise self._error(
                        name,
                        getattr(self, name),
                        "0 for the steady state of a constant infusion, which ends here",
                    )
            return
        if not self.amt > 0:
            raise self._error(
                "amt", self.amt, "above 0 in a dose (0 only with ss, a rate and ii 0: a constant infusion)"
            )
        if self.rate and self.dur and not math.isclose(self.amt / self.rate, self.dur, rel_tol=1e-6):
            raise self._error(
                "dur", self.dur, f"amt / rate, which is {self.amt / self.rate:g}. Leave one of the two out"
            )
        if (self.addl or self.ss) and not self.ii > 0:
            why = f"ss {self.ss}" if self.ss else f"addl {self.addl}"
            raise self._error("ii", self.ii, f"the time between doses, above 0, with {why}")

    def _error(self, name: str, given: object, allowed: str) -> EventError:
        return EventError(f"{self.name}: {name} given {given!r}. Allowed: {allowed}.")

    @property
    def name(self) -> str:
        """What messages call it."""
        into = f" into {self.cmt!r}" if self.cmt else ""
        return self.label or f"event at time {self.time!r}{into}"

    @property
    def gives(self) -> bool:
        """Whether something is given."""
        return self.evid in (1, 4)

    @property
    def resets(self) -> bool:
        return self.evid in (3, 4)

    @property
    def constant(self) -> bool:
        """Whether this is the steady state of a constant infusion."""
        return bool(self.gives and self.ss and not self.amt and self.rate and not self.ii)

    @property
    def duration(self) -> float:
        """Length of the infusion; 0 for a dose given at once."""
        return self.dur or (self.amt / self.rate if self.rate else 0.0)

    def order(self) -> tuple[object, ...]:
        """A total order, so that rounding in sums does not depend on how the records were sorted."""
        return (
            self.time,
            self.cmt,
            self.ss,
            self.amt,
            self.duration,
            self.rate,
            self.ii,
            self.addl,
            self.evid,
        )


@dataclass(frozen=True)
class Jump:
    """What a steady state did: the states (n_states,) that it brought in at `time`, without the dose of its record.

    `replaces` says whether what was there before went.
    """

    time: float
    brought: np.ndarray
    replaces: bool


@dataclass(frozen=True)
class EventSolution(Solution):
    """A `Solution`, whose status may also be 'no-steady-state', and the steady states met on the way, in order."""

    jumps: tuple[Jump, ...] = ()


def exposure_states(model: Model) -> tuple[str, ...]:
    """The states that a steady state replaces: those that hold what was given.

    Of a model of patients: the states of the module ``exposure`` of each product (cells by organ, dying cells,
    vesicles, medium). Not the host's: sensitisation and memory, and what the cells have done so far (secretome,
    reprogrammed phagocytes), stay as they are. Of any other model: all states.
    """
    own = tuple(n for n, s in model.states.items() if s.module == "exposure" and s.per_slot)
    return own or model.state_names


def schedule_of_events(
    model: Model,
    events: Iterable[Event],
    *,
    start: float = 0.0,
    background: Schedule | np.ndarray | None = None,
) -> Schedule:
    """Turn events into a piecewise-constant schedule.

    Parameters
    ----------
    start : float
        Time at which the initial state holds; no event precedes it.
    background : Schedule or ndarray (n_inputs,), optional
        What is given beside the events: its inputs, not its boluses or resets. Default: nothing.

    Raises
    ------
    EventError
        For an unknown input, an event before `start`, or a steady state, which no schedule can hold.
    """
    plan = _plan(model, events, start, background)
    if plan.steady:
        raise EventError(
            f"{plan.steady[0].name}: ss given {plan.steady[0].ss}. Allowed in a schedule: 0. A steady state depends on "
            "the state at that time; use simulate_events."
        )
    return plan.schedule


def simulate_events(
    compiled: Compiled,
    parameters: np.ndarray,
    initial: np.ndarray,
    events: Iterable[Event],
    times: np.ndarray,
    *,
    start: float = 0.0,
    background: Schedule | np.ndarray | None = None,
    exposure: Collection[str] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
    max_cycles: int = MOST_CYCLES,
) -> EventSolution:
    """Integrate one subject through an event list.

    Parameters
    ----------
    parameters : ndarray (n_parameters,)
    initial : ndarray (n_states,)
        State at `start`, and after each reset.
    events : iterable of Event
        In any order.
    times : ndarray (n_times,)
        Output times, increasing, none before `start`. An output at the time of an event shows the state before it.
    background
        As of `schedule_of_events`.
    exposure : collection of str, optional
        The states that a steady state replaces; default `exposure_states`.
    max_steps : int
        Budget of steps for the whole horizon, the cycles of steady states not counted.
    max_cycles : int
        Budget of cycles for each steady state.

    Returns
    -------
    EventSolution
        A failure is a status with a message, never a number. Status 'no-steady-state' names the state that does not
        come to rest.

    Raises
    ------
    EventError
        As of `schedule_of_events`.
    """
    model = compiled.model
    times = np.ascontiguousarray(times, dtype=np.float64)
    if not len(times) or times[0] < start or np.any(np.diff(times) <= 0):
        raise EventError(f"times must increase from the start at {start:g} on. Sort them and drop repeats.")
    plan = _plan(model, events, start, background)
    run = _Run(
        compiled, parameters, np.asarray(initial, dtype=np.float64), plan, times, rtol, atol, max_steps
    )
    if not any(event.time < times[-1] for event in plan.steady):
        whole = solve(
            compiled, parameters, run.initial, plan.schedule, times, rtol=rtol, atol=atol, max_steps=max_steps
        )
        return EventSolution(**vars(whole))
    chosen = exposure_states(model) if exposure is None else tuple(exposure)
    for name in chosen:
        if name not in model.index:
            raise EventError(f"exposure: no state {name!r}.{nearest(name, model.states)}")
    return run.through(chosen, max_cycles)


# --------------------------------------------------------------------------- records into a schedule


@dataclass(frozen=True)
class _Plan:
    """A schedule without its steady states, and those, in the order in which they happen."""

    schedule: Schedule
    steady: tuple[Event, ...]
    base: np.ndarray  # (n_edges, n_inputs): the background alone


def _plan(
    model: Model, events: Iterable[Event], start: float, background: Schedule | np.ndarray | None
) -> _Plan:
    ordered = sorted((e for e in events if e.gives or e.resets), key=Event.order)
    for event in ordered:
        if event.time < start:
            raise EventError(
                f"{event.name}: time given {event.time:g}. Allowed: {start:g}, the start of the simulation, or later."
            )
        if event.gives and event.cmt not in model.input_index:
            raise EventError(f"{event.name}: no input {event.cmt!r}.{nearest(event.cmt, model.inputs)}")
    steady = tuple(e for e in ordered if e.gives and e.ss)
    _check_steady(steady)
    resets = sorted({e.time for e in ordered if e.resets})
    cuts = sorted({*resets, *(e.time for e in steady if e.ss == 1)})
    given = [piece for e in ordered if e.gives for piece in _pieces(e, cuts)]
    marks = {start, *resets, *(e.time for e in steady)}
    for begin, end, _, _ in given:
        marks |= {begin, end}
    if isinstance(background, Schedule):
        marks |= {float(t) for t in background.edges if t > start}
    edges = np.array(sorted(marks))
    base = _base(model, edges, background)
    inputs, boluses = base.copy(), np.zeros_like(base)
    for begin, end, amount, cmt in given:
        column = model.input_index[cmt]
        if end > begin:
            inputs[(edges >= begin) & (edges < end), column] += amount
        else:
            boluses[np.searchsorted(edges, begin), column] += amount
    schedule = Schedule(edges, inputs, boluses, np.isin(edges, resets))
    # At one time the state is replaced before anything is added to it.
    return _Plan(schedule, tuple(sorted(steady, key=lambda e: (e.time, e.ss, e.order()))), base)


def _check_steady(steady: Sequence[Event]) -> None:
    """Two steady states that both replace what is there leave open which one stays."""
    for one, other in pairwise(e for e in steady if e.ss == 1):
        if one.time == other.time:
            raise EventError(
                f"{other.name}: ss given 1 twice at time {one.time:g}, and each would replace the other. Allowed: one; "
                "give the second ss 2, which adds."
            )


def _pieces(event: Event, cuts: Sequence[float]) -> list[tuple[float, float, float, str]]:
    """What a dose record gives, up to the next cut: (begin, end, rate) or, of no length, (time, time, amount)."""
    if event.constant:
        return []
    length, pieces = event.duration, []
    last = next((cut for cut in cuts if cut > event.time), math.inf)
    for k in range(int(event.addl) + 1):
        begin = event.time + k * event.ii
        if begin >= last:
            break
        # The length as the edges have it, so that the amount given is exact to rounding.
        end = begin + length
        pieces.append((begin, min(end, last), event.amt / (end - begin) if length else event.amt, event.cmt))
    if event.ss and length > event.ii:
        # Infusions of the endless row that began before this record and still run.
        for j in range(1, math.ceil(length / event.ii)):
            end = min(event.time + (length - j * event.ii), last)
            if end > event.time:
                pieces.append((event.time, end, event.amt / length, event.cmt))
    return pieces


def _base(model: Model, edges: np.ndarray, background: Schedule | np.ndarray | None) -> np.ndarray:
    if background is None:
        return np.zeros((len(edges), len(model.inputs)))
    if not isinstance(background, Schedule):
        return np.tile(np.asarray(background, dtype=np.float64), (len(edges), 1))
    rows = np.searchsorted(background.edges, edges, side="right") - 1
    return background.inputs[np.maximum(rows, 0)].copy()


# --------------------------------------------------------------------------- stretch by stretch


@dataclass(frozen=True)
class _Run:
    """One subject, its plan and how exactly it is integrated."""

    compiled: Compiled
    parameters: np.ndarray
    initial: np.ndarray
    plan: _Plan
    times: np.ndarray
    rtol: float
    atol: float
    max_steps: int

    def through(self, exposure: Sequence[str], max_cycles: int) -> EventSolution:
        """Stretch by stretch, from one change of the state to the next."""
        model, schedule, times = self.compiled.model, self.plan.schedule, self.times
        states = np.full((len(times), len(model.states)), np.nan)
        seen = np.full((len(times), len(model.observables)), np.nan)
        changes = {float(t) for t in schedule.edges[schedule.resets]} | {e.time for e in self.plan.steady}
        begin, horizon = float(schedule.edges[0]), float(times[-1])
        bounds = [begin, *sorted(t for t in changes if t < horizon), horizon]
        cycles = _Cycles(self, exposure, max_cycles)
        y, jumps, steps = self.initial.copy(), [], 0
        for k, (since, until) in enumerate(pairwise(bounds)):
            if k:
                if schedule.resets[np.searchsorted(schedule.edges, since)]:
                    y = self.initial.copy()
                for event in (e for e in self.plan.steady if e.time == since):
                    y, jump, problem = cycles.meet(event, y)
                    if jump is None:
                        return self._failed("no-steady-state", problem, y, since, steps)
                    jumps.append(jump)
            inside = (times > since) & (times <= until) if k else (times >= since) & (times <= until)
            part = self._stretch(y, since, until, times[inside], self.max_steps - steps)
            steps += part.steps
            if part.status != "ok":
                return self._failed(part.status, part.message, part.final, part.reached, steps)
            n = int(inside.sum())
            states[inside], seen[inside] = part.states[:n], part.observables[:n]
            y = part.final
        return EventSolution(states, seen, "ok", "", y, horizon, steps, tuple(jumps))

    def _stretch(
        self, y: np.ndarray, since: float, until: float, inside: np.ndarray, budget: int
    ) -> Solution:
        """From one change of the state to the next; the last output is the end, asked for or not."""
        whole = self.plan.schedule
        first = int(np.searchsorted(whole.edges, since))
        # With the edge at the end: an output there sees the inputs after it.
        rows = slice(first, max(first + 1, int(np.searchsorted(whole.edges, until, side="right"))))
        schedule = Schedule(whole.edges[rows], whole.inputs[rows], whole.boluses[rows])
        at = inside if len(inside) and inside[-1] == until else np.append(inside, until)
        return solve(
            self.compiled, self.parameters, y, schedule, at, rtol=self.rtol, atol=self.atol, max_steps=budget
        )

    def _failed(self, status: str, message: str, y: np.ndarray, reached: float, steps: int) -> EventSolution:
        # Half a course is no result: what was reached before the failure stays out of sight.
        n, model = len(self.times), self.compiled.model
        states, seen = np.full((n, len(model.states)), np.nan), np.full((n, len(model.observables)), np.nan)
        return EventSolution(states, seen, status, message, y, reached, steps)


# --------------------------------------------------------------------------- steady states


class _NoSteadyState(Exception):
    """Carries what to say of it."""


@dataclass(frozen=True)
class _Cycles:
    """Steady states of the exposure states of one subject, everything else held."""

    run: _Run
    exposure: Sequence[str]
    max_cycles: int

    def meet(self, event: Event, y: np.ndarray) -> tuple[np.ndarray, Jump | None, str]:
        """The state (n_states,) after the steady state of an event, without the dose of its record; or why there is none."""
        model = self.run.compiled.model
        read = set(self.run.compiled.system.jac_columns.tolist())
        own = np.array([model.index[name] for name in self.exposure], dtype=np.int64)
        # What no rate reads only counts, and never comes to rest.
        moving = np.array([i for i in own if i in read], dtype=np.int64)
        at = y.copy()
        at[moving] = 0.0
        edge = int(np.searchsorted(self.run.plan.schedule.edges, event.time))
        base = self.run.plan.base[edge]
        try:
            if event.constant:
                x = self._constant(event, at, moving, base)
            else:
                x = self._periodic(event, at, moving, base)
        except _NoSteadyState as problem:
            return y, None, str(problem)
        after = y.copy()
        brought = np.zeros_like(y)
        brought[moving] = x
        if event.ss == 1:
            after[own] = 0.0
        after += brought
        return after, Jump(event.time, brought, event.ss == 1), ""

    def _periodic(self, event: Event, at: np.ndarray, moving: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The exposure states just before a dose of the endless row."""
        run, ii, length = self.run, event.ii, event.duration
        column = run.compiled.model.input_index[event.cmt]
        edges, inputs = [0.0], [base.copy()]
        bolus = np.zeros((1, len(base)))
        if length:
            # So many infusions run all the time, and one more at the beginning of each cycle.
            always = int(length // ii)
            rest = length - always * ii
            inputs[0][column] += (always + (rest > 0)) * event.amt / length
            if rest > 0:
                edges.append(rest)
                inputs.append(base.copy())
                inputs[1][column] += always * event.amt / length
                bolus = np.zeros((2, len(base)))
        else:
            bolus[0, column] = event.amt
        cycle = Schedule(np.array(edges), np.array(inputs), bolus)
        held = set(run.compiled.model.states) - {run.compiled.model.state_names[i] for i in moving}
        rtol, atol = min(run.rtol, CYCLE_RTOL), min(run.atol, CYCLE_ATOL)

        def once(x: np.ndarray) -> np.ndarray:
            y = at.copy()
            y[moving] = x
            end = solve(
                run.compiled, run.parameters, y, cycle, np.array([ii]),
                rtol=rtol, atol=atol, max_steps=run.max_steps, hold=held,
            )  # fmt: skip
            if end.status != "ok":
                raise _NoSteadyState(f"{event.name}: in a cycle towards its steady state, {end.message}")
            return np.maximum(end.final[moving], 0.0)

        given = np.abs(self._jump(at, base, column, event.amt)[moving]).max()
        return self._repeat(event, once, moving, float(given))

    def _jump(self, y: np.ndarray, base: np.ndarray, column: int, amount: float) -> np.ndarray:
        """What an amount given at once adds to the states."""
        without, with_it = np.empty(len(y)), np.empty(len(y))
        more = base.copy()
        more[column] += amount
        self.run.compiled.rhs(y, self.run.parameters, base, without)
        self.run.compiled.rhs(y, self.run.parameters, more, with_it)
        return with_it - without

    def _repeat(
        self, event: Event, once: Callable[[np.ndarray], np.ndarray], moving: np.ndarray, given: float
    ) -> np.ndarray:
        """The x that a cycle leaves as it is.

        Cycles are repeated, with Anderson's extrapolation over the last few (Walker and Ni 2011, SIAM Journal on
        Numerical Analysis 49:1715): a row of doses close together takes thousands of cycles to build up, and a
        linear exposure is extrapolated exactly.
        """
        x = np.zeros(len(moving))
        flow = given
        xs: list[np.ndarray] = []
        changes: list[np.ndarray] = []
        for _ in range(self.max_cycles):
            after = once(x)
            change = after - x
            size, largest = float(np.abs(change).max()), float(np.abs(after).max())
            flow = flow or largest
            # Of what a cycle brings too: beside amounts that rise for ever it would end up as nothing.
            if size <= REPEAT * max(given, largest) and size <= BALANCE * flow:
                return after
            xs, changes = [*xs[-MEMORY:], x], [*changes[-MEMORY:], change]
            x = after
            if len(xs) > 1:
                steps = np.diff(np.array(changes), axis=0).T
                weights = np.linalg.lstsq(steps, change, rcond=1e-12)[0]
                moved = after - (np.diff(np.array(xs), axis=0).T + steps) @ weights
                if np.isfinite(moved).all():
                    x = np.maximum(moved, 0.0)
        worst = int(np.abs(change).argmax())
        raise _NoSteadyState(
            f"{event.name}: no steady state of exposure state {self._name(moving[worst])}: after {self.max_cycles} "
            f"cycles it still changes by {change[worst]:.3g} in each. Give fewer or smaller doses, or write the doses "
            "out with ii and addl."
        )

    def _name(self, state: int) -> str:
        return repr(self.run.compiled.model.state_names[state])

    def _constant(self, event: Event, at: np.ndarray, moving: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The exposure states under a constant infusion, by Newton's method."""
        run, n = self.run, len(at)
        inputs = base.copy()
        inputs[run.compiled.model.input_index[event.cmt]] += event.rate
        y, slopes = at.copy(), np.empty(n)
        for _ in range(MOST_NEWTON_STEPS):
            run.compiled.rhs(y, run.parameters, inputs, slopes)
            jacobian = np.zeros((n, n))
            run.compiled.jac(y, run.parameters, inputs, jacobian)
            block = jacobian[np.ix_(moving, moving)]
            _, sizes, directions = np.linalg.svd(block)
            if not sizes[-1] > 1e-14 * sizes[0]:
                self._no_rest(event, moving[int(np.abs(directions[-1]).argmax())])
            step = np.linalg.solve(block, slopes[moving])
            y[moving] -= step
            if np.abs(step).max() <= 1e-13 * np.abs(y[moving]).max():
                if y[moving].min() < -REPEAT * np.abs(y[moving]).max():
                    self._no_rest(event, moving[int(y[moving].argmin())])
                return np.maximum(y[moving], 0.0)
        self._no_rest(event, moving[int(np.abs(step).argmax())])

    def _no_rest(self, event: Event, state: int) -> NoReturn:
        raise _NoSteadyState(
            f"{event.name}: no steady state of exposure state {self._name(state)} under a constant infusion of "
            f"{event.rate:g} per unit of time: it goes on rising. Give less, or a dose of known amount and length."
        )
