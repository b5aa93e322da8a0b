"""One simulator in a process of its own, told what to do by lines of JSON.

    python benchmarks/worker.py PEER FOLDER CORES FIRST_CORE

Each simulator gets a process because their compilers and thread pools do not always bear each other, and
because one that crashes must not take the others along. The problem is read from FOLDER. Whatever the simulator
prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

FAILURES = (ArithmeticError, RuntimeError, ValueError, KeyError, OSError)


def _bind(cores: int, first: int) -> None:
    """Stay on the first `cores` cores from `first`, before anything starts a thread."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, (allowed[first % len(allowed) :] + allowed)[:cores])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(cores)
    if cores == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Worker:
    """Answers the requests of `remote.Remote`; each is a method."""

    def __init__(self, peer: str, folder: Path, cores: int) -> None:
        from problem import load

        self.problem = load(folder)
        self.module = import_module(f"peers.{peer}")
        self.cores = cores
        self.simulators: dict[str, Any] = {}
        self.sizes: set[tuple[str, int]] = set()

    def _simulator(self, configuration: str) -> Any:
        if configuration not in self.simulators:
            self.simulators[configuration] = self.module.Peer(self.problem, configuration, self.cores)
        return self.simulators[configuration]

    def describe(self) -> dict[str, Any]:
        """Version, configurations and ladders of the peer."""
        module = self.module
        gradient = getattr(module, "GRADIENT_CONFIGURATIONS", {})
        return {
            "version": module.version(),
            "configurations": {"single": list(module.CONFIGURATIONS), "gradient": list(gradient)},
            "ladders": {"single": list(module.LADDER), "gradient": list(getattr(module, "GRADIENT_LADDER", ()))},
            "quick_tasks": list(getattr(module, "QUICK_TASKS", ("single", "gradient"))),
            "own_threads": bool(getattr(module, "OWN_THREADS", False)),
        }  # fmt: skip

    def warm(self, task: str) -> dict[str, Any]:
        """Compile what the first configuration of a task needs."""
        described = self.describe()
        skipped = ""
        for configuration in described["configurations"][task][:1]:
            try:
                self._call(configuration, task)(0, described["ladders"][task][1])
            except FAILURES as problem:
                skipped = f"{type(problem).__name__}: {problem}"[:300]
        return {"task": task, "skipped": skipped}

    def _call(self, configuration: str, task: str) -> Callable[..., Any]:
        simulator = self._simulator(configuration)
        return simulator.gradient if task == "gradient" else simulator.simulate

    def error(
        self, task: str, configuration: str, rtol: float, cases: int, budget: float = 60.0
    ) -> dict[str, Any]:
        """Largest errors over the first cases, infinite if one fails, and the best of two times of the first.

        When the budget (seconds) is spent, the cases done so far stand, at least three.
        """
        call = self._call(configuration, task)
        worst, steepest, failed, done = 0.0, 0.0, [], 0
        began = time.perf_counter()
        for case in range(cases):
            if case >= 3 and time.perf_counter() - began > budget:
                break
            done += 1
            try:
                answer = call(case, rtol)
                values, slopes = answer if task == "gradient" else (answer, None)
                worst = max(worst, self.problem.value_error(case, values))
                if slopes is not None:
                    steepest = max(steepest, self.problem.gradient_error(case, slopes))
            except FAILURES as problem:
                failed.append(f"rtol {rtol:g}, case {case}: {type(problem).__name__}: {problem}"[:200])
                worst = steepest = float("inf")
        seconds = float("inf")
        if worst < seconds:
            first = min(self._calls(call, rtol, 1))
            seconds = min(first, *self._calls(call, rtol, min(max(2, int(0.05 / first)), 10)))
        return {
            "error": worst, "gradient_error": steepest, "failed": failed, "seconds": seconds, "cases": done,
        }  # fmt: skip

    def _calls(self, call: Callable[..., Any], rtol: float, repeats: int) -> Iterator[float]:
        for _ in range(repeats):
            start = time.perf_counter()
            call(0, rtol)
            yield time.perf_counter() - start

    def time(self, task: str, configuration: str, rtol: float, budget: float) -> dict[str, Any]:
        """Seconds of calls of the first case, as many as fit into `budget` seconds, at least two."""
        call = self._call(configuration, task)
        simulator = self._simulator(configuration)
        outside: list[float] = []
        inside: list[float] = []
        while len(outside) < 2 or (sum(outside) < budget and len(outside) < 500):
            outside += self._calls(call, rtol, 1)
            if simulator.inside is not None:
                inside.append(simulator.inside)
        return {"seconds": outside, "inside": [min(inside)] if inside else []}

    def population(self, configuration: str, rtol: float, cases: list[int]) -> dict[str, Any]:
        """Seconds of a run over `cases`; a first run of this size, which may compile, is not counted."""
        simulator = self._simulator(configuration)
        if (configuration, len(cases)) not in self.sizes:
            self.sizes.add((configuration, len(cases)))
            simulator.population(cases, rtol)
        start = time.perf_counter()
        simulator.population(cases, rtol)
        return {"seconds": time.perf_counter() - start}


def main() -> int:
    """Answer until the end of standard input."""
    peer, folder, cores, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    _bind(cores, first)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what compilers and libraries print must not mix with the answers
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(peer, folder, cores)
            answer = getattr(worker, request.pop("do"))(**request)
        except (*FAILURES, ImportError, TypeError, AttributeError) as problem:
            answer = {"problem": f"{type(problem).__name__}: {problem}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
