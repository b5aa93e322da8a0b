"""One way to map a function over tasks: threads of this process, or the workers of a dask.distributed cluster.

Results come in the order of the tasks, whatever finishes first, so that nothing downstream can depend on
who computed what. Only a few tasks per worker are under way at a time: `tasks` may be a generator of a
million, of which neither tasks nor results pile up.

Threads, not processes, serve one machine: the compiled kernels release the interpreter's lock, a thread
needs no copy of the model, and nothing is forked or spawned. A cluster is a scheduler and workers that the
user started (`dask scheduler`, `dask worker ADDRESS`); tasks and results travel by cloudpickle between
the machines of that cluster and nowhere else. No pickle is ever read from a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

__all__ = [
    "DaskExecutor",
    "Executor",
    "ExecutorError",
    "LocalExecutor",
    "executor_for",
    "scheduler_address",
]

Task = TypeVar("Task")
Result = TypeVar("Result")
Handle = TypeVar("Handle")
Progress = Callable[[int, int | None], None]

MOST_WORKERS = 1024
# Tasks submitted and not yet handed on, per worker: enough that nobody waits for the next one while the
# oldest is still at work, few enough that a million tasks do not sit in memory.
IN_FLIGHT = 4
POLL = 0.2  # seconds; a wait with an end lets Ctrl-C through on every system
# Seconds that others have: to answer, to let us in, to have a first worker.
REACH_SECONDS = 3.0
CONNECT_SECONDS = 7.0
FIRST_WORKER_SECONDS = 10.0
# A supervised worker that died is back within seconds, a machine within a minute.
NO_WORKER_SECONDS = 60.0
RESULT_SECONDS = 30.0  # for one result to come over
HEALTH_SECONDS = 2.0
# Workers that may die under a task before it counts as their killer.
MOST_DEATHS = 3
MOST_LISTED = 8

ALLOWED = "Allowed: tcp://HOST:PORT as `dask scheduler` prints it, or the scheduler file that it wrote."
START = "Start one with `dask scheduler`, and on each machine `dask worker {address}`."


class ExecutorError(ValueError):
    """Workers or a cluster that cannot be had as asked, or that were lost."""


class Executor(Protocol):
    """What maps a function over tasks. A context manager: leaving it cancels what has not started."""

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        *,
        progress: Progress | None = None,
    ) -> Iterator[Result]:
        """Yield ``function(task)`` of each task, in the order of the tasks.

        Parameters
        ----------
        function : callable
            Of one argument, at the top of a module, so that every worker finds it by its name.
        tasks : iterable
            Plain data (frozen dataclasses, numpy arrays), read a few at a time.
        progress : callable, optional
            Called in the caller's thread with tasks done and all tasks (None if their number is unknown).

        Raises
        ------
        Exception
            What a task raised, in the turn of that task, with its index (from 0) as a note; what has
            not started is cancelled.
        ExecutorError
            If the cluster is lost, or if a task killed one worker after another.
        """

    def warm(self, slots: Collection[int] = (1,)) -> None:
        """Compile the model for these numbers of product slots, wherever tasks will run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def executor_for(workers: int | None = None, cluster: str | os.PathLike[str] | None = None) -> Executor:
    """The executor that a command asks for.

    Parameters
    ----------
    workers : int, optional
        Threads on this machine, 1 to 1024; by default one per processor that this process may use.
    cluster : str or path, optional
        Address or file of the scheduler of a dask.distributed cluster, instead of threads.

    Raises
    ------
    ExecutorError
        If both are given, `workers` is out of range, or the cluster cannot be used.

    Examples
    --------
    >>> with executor_for(workers=2) as executor:
    ...     list(executor.map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if workers is not None and cluster is not None:
        raise ExecutorError(
            f"workers = {workers!r} and cluster = {str(cluster)!r} were both given; choose one: workers are "
            "threads of this machine, a cluster brings its own."
        )
    if cluster is not None:
        return DaskExecutor(cluster)
    return LocalExecutor(_processors() if workers is None else workers)


def _processors() -> int:
    """Processors that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


class _OfTask:
    """A block in which an error is noted as that of one task."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            error.add_note(f"Raised by task {self.index} (counted from 0).")


def _in_order(
    tasks: Iterable[Task],
    submit: Callable[[int, Task], Handle],
    take: Callable[[int, Handle], Result],
    drop: Callable[[list[Handle]], None],
    room: Callable[[], int],
    progress: Progress | None,
) -> Iterator[Result]:
    """Keep up to `room` tasks submitted, yield what `take` makes of the oldest, `drop` the rest at the end."""
    total = len(tasks) if isinstance(tasks, Sized) else None
    waiting: deque[tuple[int, Handle]] = deque()
    source = enumerate(tasks)
    done = 0
    if progress is not None:
        progress(done, total)
    try:
        while True:
            for index, task in islice(source, max(0, room() - len(waiting))):
                waiting.append((index, submit(index, task)))
            if not waiting:
                return
            result = take(*waiting[0])
            waiting.popleft()
            done += 1
            if progress is not None:
                progress(done, total)
            yield result
    finally:
        drop([handle for _, handle in waiting])


# --------------------------------------------------------------------------- this machine


class LocalExecutor:
    """Threads of this process; with one worker the calling thread itself.

    Parameters
    ----------
    workers : int
        1 to 1024.

    Raises
    ------
    ExecutorError
        If `workers` is out of range.
    """

    def __init__(self, workers: int = 1) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
            raise ExecutorError(f"workers must be a whole number from 1 to {MOST_WORKERS}, got {workers!r}.")
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], *, progress: Progress | None = None
    ) -> Iterator[Result]:
        """As `Executor.map`. A task that has started runs to its end, even after Ctrl-C."""
        if self._closed:
            raise ExecutorError("this executor is closed. Make a new one with executor_for(...).")
        if self.workers == 1:

            def call(index: int, task: Task) -> Result:
                with _OfTask(index):
                    return function(task)

            return _in_order(tasks, lambda _, task: task, call, lambda _: None, lambda: 1, progress)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mscrenal")
        pool = self._pool
        most = IN_FLIGHT * self.workers
        return _in_order(
            tasks, lambda _, task: pool.submit(function, task), _taken, _cancelled, lambda: most, progress
        )

    def warm(self, slots: Collection[int] = (1,)) -> None:
        """Compile the model in this process, which all threads share."""
        _compile_all(slots)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)


def _taken(index: int, future: Future[Result]) -> Result:
    while not future.done():
        wait_for([future], timeout=POLL)
    if future.cancelled():
        raise ExecutorError("the executor was closed while its results were still being read.")
    with _OfTask(index):
        return future.result()


def _cancelled(futures: list[Future[Result]]) -> None:
    for future in futures:
        future.cancel()


def _compile_all(slots: Collection[int]) -> None:
    # The generator (sympy) and the compiler (numba) are imported only where something is compiled.
    kernels = import_module("mscrenal.model.kernels")
    for n in sorted(slots):
        kernels.compiled(n)


# --------------------------------------------------------------------------- who a process is


@dataclass(frozen=True)
class Identity:
    """What a process would compute with."""

    version: str
    model: str

    def __str__(self) -> str:
        return f"mscrenal {self.version}, model {self.model[:12]}"


@cache
def identity() -> Identity:
    """Version of the package and hash of the model in this process."""
    try:
        found = version("mscrenal")
    except PackageNotFoundError:
        found = "not installed as a package"
    return Identity(found, import_module("mscrenal.model.definition").definition_hash())


@dataclass(frozen=True)
class _Call:
    """A task on its way to a worker, and whom it may be computed by."""

    function: Callable[[Any], Any]
    task: Any
    sender: Identity


def _perform(call: _Call) -> Any:
    """Compute a task on a worker. Workers may join at any time, so that each is checked again here."""
    if identity() != call.sender:
        raise ExecutorError(
            f"a worker on {socket.gethostname()} (process {os.getpid()}) has {identity()}; the tasks come "
            f"from {call.sender}. {_mend(call.sender)}"
        )
    return call.function(call.task)


def _mend(sender: Identity) -> str:
    return (
        f"Install mscrenal {sender.version} from the same files into the environment of each worker, and "
        "start the workers again."
    )


def _probe() -> Callable[[], dict[str, str]]:
    """A function that travels by value, so that it also answers where mscrenal is missing."""

    def ask() -> dict[str, str]:
        try:
            from mscrenal.scenarios.executor import identity
        except ImportError as error:
            return {"missing": str(error)}
        found = identity()
        return {"version": found.version, "model": found.model}

    return ask


def _said(answer: object) -> Identity | str:
    """What a worker said of itself, in words where that is no identity."""
    if not isinstance(answer, Mapping):
        return f"no answer ({answer})"
    if "missing" in answer:
        return f"mscrenal cannot be imported ({answer['missing']})"
    return Identity(answer["version"], answer["model"])


def _check_identities(sender: Identity, answers: Mapping[str, object], address: str) -> None:
    """Refuse workers that would compute with anything else than the sender."""
    said = {worker: _said(answer) for worker, answer in answers.items()}
    others = {worker: words for worker, words in said.items() if words != sender}
    if others:
        raise ExecutorError(
            f"{_count(len(others), 'worker')} of {len(said)} of the cluster at {address} cannot take part:\n"
            f"  here: {sender}\n{_listed(others)}\n{_mend(sender)}"
        )


def _listed(found: Mapping[str, object]) -> str:
    lines = [f"  {worker}: {words}" for worker, words in sorted(found.items())]
    left = len(lines) - MOST_LISTED
    return "\n".join([*lines[:MOST_LISTED], *([f"  and {left} more"] if left > 0 else [])])


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# --------------------------------------------------------------------------- a cluster


def scheduler_address(given: str | os.PathLike[str]) -> str:
    """The address ``tcp://HOST:PORT`` of a scheduler, from itself or from a scheduler file.

    Raises
    ------
    ExecutorError
        If it is neither.

    Examples
    --------
    >>> scheduler_address("tcp://node1:8786")
    'tcp://node1:8786'
    """
    if not isinstance(given, str | os.PathLike):
        raise ExecutorError(f"cluster = {given!r} is no address. {ALLOWED}")
    text = os.fspath(given)
    if _is_address(text):
        return text
    path = Path(text)
    if "://" not in text and path.is_file():
        return _address_in(path)
    hint = ""
    if _is_address(f"tcp://{text}"):
        hint = f" Did you mean 'tcp://{text}'?"
    elif "://" not in text and path.suffix == ".json":
        hint = " There is no such file."
    raise ExecutorError(f"cluster = {text!r} is no address of a scheduler.{hint} {ALLOWED}")


def _is_address(text: str) -> bool:
    found = re.fullmatch(r"tcp://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    return found is not None and 1 <= int(found[1]) <= 65535


def _address_in(path: Path) -> str:
    try:
        address = json.loads(path.read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError):
        address = None
    if not isinstance(address, str) or not _is_address(address):
        raise ExecutorError(
            f"cluster = {str(path)!r} is no scheduler file: it must be JSON with 'address': "
            "'tcp://HOST:PORT', as `dask scheduler --scheduler-file FILE` writes it."
        )
    return address


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f'a cluster needs dask.distributed, which is not here ({error}). pip install "mscrenal[cluster]", '
            "or use workers of this machine."
        ) from None


def _shake_hands(distributed: Any, address: str) -> None:
    """See that a scheduler answers: dask would try for long where nobody listens, and without end where
    somebody listens and says nothing.
    """
    parts = urlsplit(address)
    socket.create_connection((parts.hostname or "", parts.port or 0), timeout=REACH_SECONDS).close()

    async def greet() -> None:
        comm = await asyncio.wait_for(distributed.connect(address), REACH_SECONDS)
        await comm.close()

    # In a thread, because a notebook has a running loop in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, greet()).result()


class DaskExecutor:
    """The workers of a running dask.distributed cluster.

    Parameters
    ----------
    cluster : str or path
        ``tcp://HOST:PORT`` of the scheduler, or its scheduler file. On connecting, every worker must
        have the same Python (minor version), the same mscrenal and the same model.

    Raises
    ------
    ExecutorError
        If the address is malformed, nobody answers, no worker comes, or workers differ.

    Notes
    -----
    The tasks of a worker that dies are computed by others. A task under which workers keep dying fails
    once the scheduler gives it up (its setting ``distributed.scheduler.allowed-failures``), but not
    before `MOST_DEATHS` workers have died.
    """

    def __init__(self, cluster: str | os.PathLike[str]) -> None:
        self.address = scheduler_address(cluster)
        self._distributed = _distributed()
        self._sender = identity()
        self._client = self._connected()
        self._checked = self._seen = time.monotonic()
        self._threads = 1
        with ExitStack() as stack:
            stack.callback(self._client.close, timeout=REACH_SECONDS)
            self._check_workers()
            stack.pop_all()

    # ------------------------------------------------------------------ connecting

    def _connected(self) -> Any:
        try:
            _shake_hands(self._distributed, self.address)
            return self._distributed.Client(
                self.address, timeout=CONNECT_SECONDS, set_as_default=False, name="mscrenal"
            )
        # What is no scheduler may send a length that no memory holds, or no length at all.
        except (OSError, TimeoutError, MemoryError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it sends nothing, or nonsense"
            raise ExecutorError(
                f"no scheduler answers at {self.address} ({reason}). {ALLOWED} "
                f"{START.format(address=self.address)}"
            ) from None

    def _check_workers(self) -> None:
        """Wait for a first worker, then ask all of them who they are."""
        try:
            self._client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
        except TimeoutError:
            raise ExecutorError(
                f"the scheduler at {self.address} has no worker (waited {FIRST_WORKER_SECONDS:.0f} s). "
                f"Start some with `dask worker {self.address}`, on as many machines as you like."
            ) from None
        versions = self._client.get_versions()
        mine = _minor(versions["client"])
        # Before anything travels by value: bytecode means nothing to another Python.
        others = {worker: _minor(found) for worker, found in versions["workers"].items()}
        others = {worker: f"Python {minor}" for worker, minor in others.items() if minor != mine}
        if others:
            raise ExecutorError(
                f"{_count(len(others), 'worker')} of the cluster at {self.address} cannot take part:\n"
                f"  here: Python {mine}\n{_listed(others)}\nStart the workers with Python {mine}."
            )
        _check_identities(self._sender, self._client.run(_probe(), on_error="return"), self.address)
        self._look()

    # ------------------------------------------------------------------ at work

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], *, progress: Progress | None = None
    ) -> Iterator[Result]:
        """As `Executor.map`. After Ctrl-C a worker ends the task that it is at, and takes no other."""
        if self._client.status == "closed":
            raise ExecutorError("this executor is closed. Make a new one with executor_for(...).")
        # One group of keys per call: the scheduler spreads the tasks of a group evenly.
        group = f"{getattr(function, '__name__', 'task')}-{uuid.uuid4().hex}"
        submit = partial(self._submit, group, function)
        return _in_order(tasks, submit, self._take, self._drop, self._room, progress)

    def _submit(
        self, group: str, function: Callable[[Any], Any], index: int, task: Any, deaths: int = 0
    ) -> _Job:
        call = _Call(function, task, self._sender)
        future = self._client.submit(_perform, call, key=(group, index, deaths), pure=False)
        return _Job(future, partial(self._submit, group, function, index, task))

    def _take(self, index: int, job: _Job) -> Any:
        deaths = 0
        while True:
            future = job.future
            if future.status == "finished":
                # Lost with its worker between its end and now? Then dask computes it again: ask again.
                with suppress(TimeoutError, CancelledError), _OfTask(index):
                    return future.result(timeout=RESULT_SECONDS)
            elif future.status == "error":
                deaths = self._deaths(index, future, deaths)
                job = job.again(deaths)
            elif future.status == "cancelled":
                raise self._lost()
            else:
                with suppress(TimeoutError):
                    future.exception(timeout=POLL)
            self._look_now_and_then()

    def _deaths(self, index: int, future: Any, before: int) -> int:
        """Workers that have died under a task, if that is why it failed; else raise what it raised."""
        error = future.exception()
        if not isinstance(error, self._distributed.scheduler.KilledWorker):
            with _OfTask(index):
                future.result()
        deaths = before + int(error.allowed_failures) + 1
        if deaths < MOST_DEATHS:
            return deaths
        raise ExecutorError(
            f"task {index} (counted from 0) failed: {deaths} workers died one after another while it was "
            f"theirs, the last at {error.last_worker.address}. Most often memory runs out: give workers more "
            "of it (`dask worker --memory-limit`) or fewer threads (`--nthreads`), and read their logs."
        )

    def _room(self) -> int:
        return IN_FLIGHT * self._threads

    def _look_now_and_then(self) -> None:
        if time.monotonic() - self._checked > HEALTH_SECONDS:
            self._look()

    def _look(self) -> None:
        """See whether the scheduler and its workers are still there, and how many threads they have."""
        if self._client.status != "running":
            raise self._lost()
        try:
            threads = self._client.nthreads(callback_timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError):
            raise self._lost() from None
        self._checked = time.monotonic()
        if threads:
            self._seen, self._threads = self._checked, max(1, sum(threads.values()))
        elif self._checked - self._seen > NO_WORKER_SECONDS:
            raise ExecutorError(
                f"the cluster at {self.address} has had no worker for {NO_WORKER_SECONDS:.0f} s. Start some with "
                f"`dask worker {self.address}`, then run again."
            )

    def _lost(self) -> ExecutorError:
        return ExecutorError(
            f"the scheduler at {self.address} is gone, was restarted, or dropped the tasks. See its log, "
            f"then run again. {START.format(address=self.address)}"
        )

    def warm(self, slots: Collection[int] = (1,)) -> None:
        """Compile the model on every worker, first on one of each host, whose disk cache serves the others."""
        _compile_all(slots)
        workers = list(self._client.nthreads())
        firsts = list({urlsplit(worker).hostname: worker for worker in reversed(workers)}.values())
        self._warm_on(firsts, slots)
        self._warm_on([worker for worker in workers if worker not in firsts], slots)

    def _warm_on(self, workers: list[str], slots: Collection[int]) -> None:
        group = f"compile-{uuid.uuid4().hex}"
        pending = {
            worker: self._client.submit(_compile_all, tuple(sorted(slots)), key=(group, i), workers=[worker])
            for i, worker in enumerate(workers)
        }
        while pending:
            for worker, future in list(pending.items()):
                if future.status == "cancelled":
                    raise self._lost()
                if future.done():
                    future.result()
                    del pending[worker]
            # One that died is waited for no longer: who takes its place compiles at its first task.
            there = self._client.nthreads()
            pending = {worker: future for worker, future in pending.items() if worker in there}
            if pending:
                time.sleep(POLL)

    # ------------------------------------------------------------------ leaving

    def _drop(self, jobs: list[_Job]) -> None:
        if jobs and self._client.status == "running":
            self._client.cancel([job.future for job in jobs])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing takes back every task that this client asked for and that has not started.
        self._client.close(timeout=REACH_SECONDS)


@dataclass(frozen=True)
class _Job:
    """A submitted task, and how to submit it again under another key."""

    future: Any
    again: Callable[[int], _Job]


def _minor(found: Mapping[str, Any] | None) -> str:
    """'3.11' of what a process says of its host."""
    return ".".join(str(found["host"]["python"]).split(".")[:2]) if found else "unknown"
