"""The measurement: ladders of tolerances, matched errors, runs of ours and of a peer taken in turns.

Clocks drift on shared machines, by more than the differences that matter. Every block of a peer's runs therefore
has a block of ours right before it, and a ratio is taken within a pair of blocks only; its spread over the pairs is
reported beside it.
"""

from __future__ import annotations

import math
import select
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from precision import Point, around, front, matched
from remote import OURS, Entry, PeerError, Remote

__all__ = ["GOALS", "STRICT", "TARGET", "TASKS", "Curve", "Plan", "Result", "measure"]

TARGET = 1e-5
TASKS = ("single", "gradient", "population")
STRICT = "gradient, own error"
# How many times as fast as the peer we set out to be.
GOALS = {
    ("pydiffsol", "single"): 3.0,
    ("libroadrunner", "single"): 10.0,
    ("amici", "single"): 10.0,
    ("scipy", "single"): 50.0,
    ("diffrax", "single"): 100.0,
    ("pydiffsol", "gradient"): 3.0,
    ("amici", "gradient"): 10.0,
}
# A rung this far below the error asked for ends a ladder: tighter ones tell nothing more.
ENOUGH = 0.02
# Subjects of a population, however slow the peer.
FEWEST = 8
# Of a worker that did not even start.
NOTHING: dict[str, Any] = {"configurations": {"single": [], "gradient": []}}


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes
    ----------
    cases, gradient_cases : int
        Over how many cases errors are taken.
    blocks : int
        Pairs of blocks of runs.
    block_seconds, rung_seconds : float
        Time for the runs of a block, and for the error of a rung.
    configurations : int
        How many of a peer's configurations are tried, from the first.
    fold, population_seconds : int, float
        A population is all cases this many times over, or as many as a peer does in about so many seconds.
    deadline, warm_seconds : float
        Seconds, from the start, after which nothing new is begun; and for which compilers are waited for.
    tasks : tuple of str
    cores : tuple of int
        How many cores populations are run on.
    quick : bool
        Leave out what takes a simulator long to compile.
    """

    cases: int = 21
    gradient_cases: int = 3
    blocks: int = 7
    block_seconds: float = 0.4
    rung_seconds: float = 60.0
    configurations: int = 99
    fold: int = 3
    population_seconds: float = 6.0
    deadline: float = 3600.0
    warm_seconds: float = 900.0
    tasks: tuple[str, ...] = TASKS
    cores: tuple[int, ...] = (1, 2)
    quick: bool = False


@dataclass
class Curve:
    """The ladder of one simulator in one configuration at one task."""

    peer: str
    task: str
    configuration: str
    points: list[Point]
    failed: list[str] = field(default_factory=list)


@dataclass
class Result:
    """All that was measured: rows of ratios, curves, what is not there and what went wrong."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    not_installed: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


class Measurement:
    """Our worker and one worker for each peer, taken through the tasks."""

    def __init__(self, folder: Path, plan: Plan, pythons: dict[str, str]) -> None:
        self.folder, self.plan, self.pythons = folder, plan, pythons
        self.began = time.monotonic()
        self.result = Result()
        self.workers: dict[str, Remote] = {}
        self.described: dict[str, dict[str, Any]] = {}
        self.slow: set[str] = set()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.plan.deadline - (time.monotonic() - self.began)

    def problem(self, name: str, what: object) -> None:
        self.result.problems[name] = str(what)

    # ------------------------------------------------------------------ getting ready

    def start(self, entries: Sequence[Entry]) -> None:
        """Start the workers, all at once: nothing is timed here."""
        for place, entry in enumerate(entries):
            self.workers[entry.name] = self._worker(entry, first=place % 2)
        self._together("describe")

    def warm(self, task: str, entries: Sequence[Entry]) -> None:
        """Let workers compile what a task needs; one that takes too long is left out from here on."""
        wanted = {entry.name for entry in entries}
        skip = [
            name
            for name, described in self.described.items()
            if name not in wanted or not described["configurations"][task]
        ]
        self._together("warm", task=task, skip=skip)

    def _worker(self, entry: Entry, *, cores: int = 1, first: int = 0) -> Remote:
        return Remote(entry, self.folder, cores=cores, first=first, python=self.pythons.get(entry.name))

    def _together(self, do: str, skip: Sequence[str] = (), **request: Any) -> None:
        until = time.monotonic() + min(self.plan.warm_seconds, max(self.left(), 1.0))
        asked = []
        for name in [name for name in self.workers if name not in skip]:
            try:
                self.workers[name].send(do, **request)
                asked.append(name)
            except PeerError as error:
                self._drop(name, error)
        while asked:
            workers = {self.workers[name]: name for name in asked}
            ready, _, _ = select.select(list(workers), [], [], max(0.0, until - time.monotonic()))
            for worker in ready:
                asked.remove(workers[worker])
                self._answered(workers[worker], do)
            if not ready:
                break
        for name in asked:
            self._drop(
                name, "not ready in time: it still has to compile, for which a run without --quick waits."
            )

    def _answered(self, name: str, do: str) -> None:
        try:
            answer = self.workers[name].receive()
        except PeerError as error:
            self._drop(name, error)
            return
        if do == "describe":
            left_out = set(answer["configurations"]) - set(answer["quick_tasks"])
            if left_out:
                self.slow.add(name)
            for task in left_out if self.plan.quick else ():
                answer["configurations"][task] = []
            self.described[name] = answer
            self.result.versions[name] = answer["version"]
        elif answer["skipped"]:
            self.problem(f"{name}, {answer['task']}", answer["skipped"])

    def _drop(self, name: str, why: object) -> None:
        self.problem(name, why)
        worker = self.workers.pop(name)
        worker.close()

    def unreached(self) -> str:
        """Why there is no time at the error asked for."""
        if self.left() < 0:
            return "no time left; run without --quick."
        return f"no tolerance of the ladder reaches {TARGET:g}."

    # ------------------------------------------------------------------ ladders

    def ours(self, task: str) -> list[Curve]:
        """Our own ladders, climbed once."""
        found = [c for c in self.result.curves if (c.peer, c.task) == (OURS.name, task)]
        return found or self.curves(OURS.name, task)

    def curves(self, name: str, task: str) -> list[Curve]:
        """The ladder of each configuration."""
        described = self.described[name]
        found = []
        for configuration in described["configurations"][task][: self.plan.configurations]:
            curve = Curve(name, task, configuration, [])
            for rtol in described["ladders"][task]:
                if self.left() < 0:
                    break
                answer = self.workers[name].ask(
                    "error",
                    task=task,
                    configuration=configuration,
                    rtol=rtol,
                    cases=self.plan.gradient_cases if task == "gradient" else self.plan.cases,
                    budget=self.plan.rung_seconds,
                )
                curve.failed += answer["failed"]
                errors = answer["error"], answer["gradient_error"]
                curve.points.append(
                    Point(rtol, errors[0], answer["seconds"], errors[1] if task == "gradient" else math.nan)
                )
                if max(errors) < ENOUGH * TARGET:
                    break
            found.append(curve)
        self.result.curves += found
        return found

    # ------------------------------------------------------------------ pairs of blocks

    def block(self, curve: Curve, task: str, cores: int = 1) -> tuple[list[Point], list[float]]:
        """The points around the target, timed now, and the seconds spent inside where the peer says so."""
        near = around(curve.points, TARGET, each=2)
        worker = self.workers[curve.peer]
        points, inside = [], []
        for point in near:
            answer = worker.ask(
                "time", task=task, configuration=curve.configuration, rtol=point.tolerance,
                budget=self.plan.block_seconds / len(near),
            )  # fmt: skip
            points.append(replace(point, seconds=min(answer["seconds"])))
            inside += answer["inside"][-1:]
        return points, inside

    def compare(self, ours: Curve, theirs: Curve, task: str) -> dict[str, Any] | None:
        """One row: blocks of ours and of theirs in turns, ratios within pairs."""
        pairs = []
        inside: list[float] = []
        for _ in range(self.plan.blocks):
            if pairs and self.left() < 0:
                break
            mine, _ = self.block(ours, task)
            other, seconds = self.block(theirs, task)
            inside += seconds
            pair = matched(mine, TARGET), matched(other, TARGET)
            if pair[0] is None or pair[1] is None:
                return None
            pairs.append((pair[0], pair[1]))
        best_ours = min((a for a, _ in pairs), key=lambda m: m.seconds)
        best_theirs = min((b for _, b in pairs), key=lambda m: m.seconds)
        return {
            "peer": theirs.peer,
            "task": theirs.task,
            "cores": 1,
            "ours_ms": 1e3 * best_ours.seconds,
            "peer_ms": 1e3 * best_theirs.seconds,
            "ratio": best_theirs.seconds / best_ours.seconds,
            "spread": _spread([b.seconds / a.seconds for a, b in pairs]),
            "ours_ms_spread": _spread([1e3 * a.seconds for a, _ in pairs]),
            "peer_ms_spread": _spread([1e3 * b.seconds for _, b in pairs]),
            "inside_ms": 1e3 * min(inside) if inside else None,
            "ours_error": best_ours.error,
            "peer_error": best_theirs.error,
            "ours_tolerance": best_ours.tolerance,
            "tolerance": best_theirs.tolerance,
            "ours_configuration": ours.configuration,
            "configuration": theirs.configuration,
            "version": self.result.versions[theirs.peer],
            "goal": GOALS.get((theirs.peer, theirs.task)),
            # Of the derivatives, where eGFR and UACR are matched.
            "ours_gradient_error": _known(best_ours.beside),
            "peer_gradient_error": _known(best_theirs.beside),
        }

    # ------------------------------------------------------------------ populations

    def population(self, ours: Curve, theirs: Curve, cores: int) -> dict[str, Any] | None:
        """One row: all cases several times over, milliseconds per simulation."""
        cases = list(range(self.plan.cases)) * self.plan.fold
        slowest = max(point.seconds for point in around(theirs.points, TARGET))
        cases = cases[: max(FEWEST, int(self.plan.population_seconds / slowest))]
        teams = {c.peer: self._team(c.peer, cores) for c in (ours, theirs)}
        pairs = []
        try:
            for _ in range(min(self.plan.blocks, 3)):
                pair = [matched(self._populations(teams[c.peer], c, cases), TARGET) for c in (ours, theirs)]
                if pair[0] is None or pair[1] is None:
                    return None
                pairs.append((pair[0], pair[1]))
                if self.left() < 0:
                    break
        finally:
            for team in teams.values():
                for worker in team:
                    if worker not in self.workers.values():
                        worker.close()
        mine = min((a for a, _ in pairs), key=lambda m: m.seconds)
        other = min((b for _, b in pairs), key=lambda m: m.seconds)
        each = 1e3 / len(cases)
        return {
            "peer": theirs.peer,
            "task": "population",
            "cores": cores,
            "ours_ms": each * mine.seconds,
            "peer_ms": each * other.seconds,
            "ratio": other.seconds / mine.seconds,
            "spread": _spread([b.seconds / a.seconds for a, b in pairs]),
            "ours_ms_spread": _spread([each * a.seconds for a, _ in pairs]),
            "peer_ms_spread": _spread([each * b.seconds for _, b in pairs]),
            "inside_ms": None,
            "ours_error": mine.error,
            "peer_error": other.error,
            "ours_tolerance": mine.tolerance,
            "tolerance": other.tolerance,
            "ours_configuration": ours.configuration,
            "configuration": theirs.configuration,
            "version": self.result.versions[theirs.peer],
            "goal": None,
        }

    def _team(self, name: str, cores: int) -> list[Remote]:
        """One process with threads of its own, or one process a core."""
        if cores == 1:
            return [self.workers[name]]
        entry = self.workers[name].entry
        if self.described[name]["own_threads"]:
            return [self._worker(entry, cores=cores)]
        return [self._worker(entry, first=core) for core in range(cores)]

    def _populations(self, team: list[Remote], curve: Curve, cases: list[int]) -> list[Point]:
        points = []
        for point in around(curve.points, TARGET):
            for place, worker in enumerate(team):
                worker.send(
                    "population",
                    configuration=curve.configuration,
                    rtol=point.tolerance,
                    cases=cases[place :: len(team)],
                )
            seconds = max(worker.receive()["seconds"] for worker in team)
            points.append(replace(point, seconds=seconds))
        return points


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def strict(curves: Sequence[Curve]) -> list[Curve]:
    """The same gradients judged by their own error too: the larger of it and that of the values."""
    return [
        replace(
            curve,
            task=STRICT,
            points=[replace(p, error=max(p.error, p.beside), beside=math.nan) for p in curve.points],
        )
        for curve in curves
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def cheapest(curves: Sequence[Curve]) -> Curve | None:
    """The configuration that reaches the target in the least time."""
    found = [(m.seconds, place) for place, c in enumerate(curves) if (m := matched(c.points, TARGET))]
    return curves[min(found)[1]] if found else None


def measure(folder: Path, peers: Sequence[Entry], plan: Plan, pythons: dict[str, str], say: Any) -> Result:
    """Measure ours against `peers`; the problem lies in `folder`."""
    run = Measurement(folder, plan, pythons)
    try:
        say("starting")
        run.start([OURS, *peers])
        # Those that take long to compile come last in a quick run, or nobody would get a turn.
        late = [entry for entry in peers if plan.quick and entry.name in run.slow]
        best: dict[str, tuple[Curve, Curve]] = {}
        for group in ([entry for entry in peers if entry not in late], late):
            for task in ("single", "gradient"):
                offered = any(run.described.get(e.name, NOTHING)["configurations"][task] for e in group)
                if task in plan.tasks and offered:
                    say(f"{task}: compiling")
                    run.warm(task, [OURS, *group])
                    best |= _task(run, task, group, say)
        for name, (ours, theirs) in best.items():
            for cores in plan.cores if "population" in plan.tasks else ():
                if run.left() > 0:
                    say(f"population on {cores}: {name}")
                    _population(run, ours, theirs, cores)
    finally:
        for worker in run.workers.values():
            worker.close()
    for curve in run.result.curves:
        curve.points = front(curve.points) if len(front(curve.points)) > 1 else curve.points
    return run.result


def _population(run: Measurement, ours: Curve, theirs: Curve, cores: int) -> None:
    try:
        row = run.population(ours, theirs, cores)
    except PeerError as error:
        run.problem(f"{theirs.peer}, population on {cores}", error)
        return
    if row is not None:
        run.result.rows.append(row)


def _strict(run: Measurement, mine: Sequence[Curve], others: Sequence[Curve]) -> None:
    ours, theirs = cheapest(strict(mine)), cheapest(strict(others))
    row = run.compare(ours, theirs, "gradient") if ours and theirs else None
    if row is None:
        slow = OURS.name if ours is None else others[0].peer
        run.problem(f"{slow}, {STRICT}", run.unreached())
    else:
        run.result.rows.append(row)


def _task(run: Measurement, task: str, peers: Sequence[Entry], say: Any) -> dict[str, tuple[Curve, Curve]]:
    """Rows of a task; returns the chosen curves, ours and theirs, of single simulations."""
    if OURS.name not in run.workers or not run.described[OURS.name]["configurations"][task]:
        run.problem(f"{OURS.name}, {task}", "not offered")
        return {}
    say(f"{task}: ours")
    mine = run.ours(task)
    ours = cheapest(mine)
    if ours is None:
        run.problem(f"{OURS.name}, {task}", run.unreached())
        return {}
    chosen = {}
    for entry in peers:
        name = entry.name
        if name not in run.workers or not run.described[name]["configurations"][task]:
            continue
        if run.left() < 0:
            run.problem(f"{name}, {task}", run.unreached())
            continue
        say(f"{task}: {name}")
        try:
            others = run.curves(name, task)
            theirs = cheapest(others)
            row = run.compare(ours, theirs, task) if theirs else None
            if theirs is None or row is None:
                run.problem(f"{name}, {task}", run.unreached())
                continue
            run.result.rows.append(row)
            if task == "gradient":
                _strict(run, mine, others)
            else:
                chosen[name] = (ours, theirs)
        except PeerError as error:
            run.problem(f"{name}, {task}", error)
    return chosen
