"""Workers: results in the order of the tasks, few under way at a time, nothing lost with a worker that dies."""

from __future__ import annotations

import _thread
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster

from mscrenal.scenarios import Arm, Course, PatientSpec, Scenario, run
from mscrenal.scenarios import executor as module
from mscrenal.scenarios.executor import (
    IN_FLIGHT,
    DaskExecutor,
    Executor,
    ExecutorError,
    Identity,
    LocalExecutor,
    executor_for,
    identity,
    scheduler_address,
)

WORKERS = 3


@dataclass(frozen=True)
class Sums:
    """A task of plain data: sum of squares of so many normal numbers, after a sleep."""

    seed: int
    size: int = 1000
    sleep: float = 0.0


def computed(task: Sums) -> np.ndarray:
    time.sleep(task.sleep)
    numbers = np.random.default_rng(task.seed).standard_normal(task.size)
    return np.array([numbers.sum(), (numbers**2).sum(), np.median(numbers)])


def napped(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def inverse(x: float) -> float:
    return 1 / x


def timed_out(x: int) -> int:
    if x == 2:
        raise TimeoutError("the task's own")
    return x


def marked(path: Path) -> str:
    """Leave a trace of having started."""
    path.touch()
    time.sleep(0.05)
    return path.name


def deadly(task: tuple[int, Path, int]) -> int:
    """End the process at once, as often as asked: the traces of earlier deaths are counted."""
    number, folder, times = task
    if number == 2 and len(list(folder.iterdir())) < times:
        (folder / f"{os.getpid()}").touch()
        os._exit(1)
    return number


def with_sleeps(n: int) -> list[Sums]:
    """Tasks of which the earlier take longer than the later."""
    return [Sums(seed, sleep=0.02 if seed % 5 == 0 else 0.001) for seed in range(n)]


def numbers(executor: Executor, tasks: list[Sums]) -> np.ndarray:
    with executor:
        return np.array(list(executor.map(computed, tasks)))


# --------------------------------------------------------------------------- this machine


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_tasks(workers):
    naps = [0.03, 0.001, 0.02, 0.0, 0.01, 0.0, 0.005, 0.0]
    with LocalExecutor(workers) as executor:
        assert list(executor.map(napped, naps)) == naps


def test_the_number_of_workers_does_not_change_the_numbers():
    tasks = with_sleeps(20)
    one, two, four = (numbers(LocalExecutor(workers), tasks) for workers in (1, 2, 4))
    assert np.array_equal(one, two)
    assert np.array_equal(one, four)


def test_one_worker_is_the_calling_thread():
    with LocalExecutor(1) as executor:
        assert set(executor.map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_several_workers_are_threads_of_this_process_at_work_at_the_same_time():
    together = threading.Barrier(3, timeout=5)

    def meet(_: int) -> tuple[int, int]:
        together.wait()
        return os.getpid(), threading.get_ident()

    with LocalExecutor(3) as executor:
        seen = list(executor.map(meet, range(3)))
    assert {process for process, _ in seen} == {os.getpid()}
    assert len({thread for _, thread in seen} - {threading.get_ident()}) == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_few_tasks_per_worker_are_under_way_however_many_there_are(workers):
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for i in range(100_000):
            taken += 1
            yield i

    ahead = []
    with LocalExecutor(workers) as executor:
        for done, result in enumerate(islice(executor.map(abs, source()), 200)):
            assert result == done
            ahead.append(taken - done)
    assert max(ahead) <= IN_FLIGHT * workers + 1


def test_a_slow_consumer_holds_the_workers_back():
    started: list[int] = []
    with LocalExecutor(2) as executor:
        results = executor.map(started.append, range(1000))
        next(results)
        time.sleep(0.1)
        assert len(started) <= IN_FLIGHT * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_in_its_turn_with_the_index_of_its_task(workers):
    started = []

    def work(x: float) -> float:
        started.append(x)
        time.sleep(0.002)
        return inverse(x)

    seen: list[float] = []
    with LocalExecutor(workers) as executor, pytest.raises(ZeroDivisionError) as caught:
        seen.extend(executor.map(work, [1.0, 2.0, 4.0, 0.0, *np.arange(5.0, 500.0)]))
    assert seen == [1.0, 0.5, 0.25]
    assert caught.value.__notes__ == ["Raised by task 3 (counted from 0)."]
    assert len(started) <= 4 + IN_FLIGHT * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_up_to_all_tasks_in_the_thread_of_the_caller(workers):
    told = []

    def progress(done: int, total: int | None) -> None:
        told.append((done, total, threading.get_ident()))

    with LocalExecutor(workers) as executor:
        list(executor.map(abs, [1, 2, 3], progress=progress))
        list(executor.map(abs, iter([1]), progress=progress))
    here = threading.get_ident()
    assert told[:4] == [(done, 3, here) for done in range(4)]
    assert told[4:] == [(0, None, here), (1, None, here)]


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    # A shell starts what it sends to the background with SIGINT ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, _thread.interrupt_main)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_while_waiting_leaves_promptly_and_starts_nothing_more(workers, tmp_path):
    paths = [tmp_path / str(i) for i in range(1000)]
    began = time.monotonic()
    with ctrl_c_after(0.15), pytest.raises(KeyboardInterrupt), LocalExecutor(workers) as executor:
        list(executor.map(marked, paths))
    assert time.monotonic() - began < 2
    time.sleep(0.1)
    started = len(list(tmp_path.iterdir()))
    assert 1 <= started < 40
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == started


def test_an_interruption_between_two_results_cancels_what_has_not_started(tmp_path):
    paths = [tmp_path / str(i) for i in range(1000)]
    results = []  # held, so that only leaving the block can end it

    def interrupted_at_the_fourth() -> None:
        with LocalExecutor(2) as executor:
            results.append(executor.map(marked, paths))
            for name in results[0]:
                if name == "3":
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_at_the_fourth()
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) <= 4 + 2 * 2


def test_a_map_that_is_left_half_read_leaves_the_executor_usable(tmp_path):
    with LocalExecutor(2) as executor:
        assert list(islice(executor.map(abs, range(-50, 0)), 3)) == [50, 49, 48]
        assert list(executor.map(abs, [-1, -2])) == [1, 2]


def test_a_closed_executor_says_so():
    with LocalExecutor(2) as executor:
        results = executor.map(napped, [0.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])
        next(results)
    with pytest.raises(ExecutorError, match="closed"):
        executor.map(abs, [1])
    with pytest.raises(ExecutorError, match="closed while"):
        list(results)


def test_warming_compiles_the_model_once_per_process(monkeypatch):
    asked = []
    monkeypatch.setattr("mscrenal.model.kernels.compiled", asked.append)
    with LocalExecutor(2) as executor:
        executor.warm({2, 1})
    assert asked == [1, 2]


# --------------------------------------------------------------------------- what may be asked for


@pytest.mark.parametrize("workers", [0, -1, 1025, 1.5, True, "2"])
def test_an_impossible_number_of_workers_is_refused(workers):
    with pytest.raises(ExecutorError, match=r"workers must be a whole number from 1 to 1024, got"):
        executor_for(workers)


def test_without_a_number_there_is_a_thread_for_each_processor_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert executor_for().workers == 3


def test_workers_and_a_cluster_exclude_each_other():
    with pytest.raises(ExecutorError, match=r"workers = 2 and cluster = 'tcp://a:1'.*choose one"):
        executor_for(2, "tcp://a:1")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://node-1.lab:1", "tcp://[::1]:65535"])
def test_an_address_is_protocol_host_and_port(address):
    assert scheduler_address(address) == address


@pytest.mark.parametrize(
    "given",
    [
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://host:8786/x",
        "tcp://user@host:8786",
        "tcp://a b:8786",
        "http://host:8786",
        "inproc://host:1",
        "tcp://host:8786\n",
        7,
        None,
    ],
)
def test_a_malformed_address_is_refused_before_connecting(given):
    with pytest.raises(ExecutorError, match=r"no address.*Allowed: tcp://HOST:PORT .* scheduler file"):
        scheduler_address(given)


def test_an_address_without_its_protocol_is_recognised():
    with pytest.raises(ExecutorError, match=r"Did you mean 'tcp://localhost:8786'\?"):
        scheduler_address("localhost:8786")


def test_a_scheduler_file_gives_its_address(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:8786"}), encoding="utf-8")
    assert scheduler_address(file) == scheduler_address(str(file)) == "tcp://10.0.0.1:8786"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 7}', '{"address": "http://x"}', "\x00"])
def test_another_file_is_no_scheduler_file(text, tmp_path):
    (tmp_path / "file.json").write_text(text, encoding="utf-8")
    with pytest.raises(ExecutorError, match=r"file\.json' is no scheduler file.*--scheduler-file"):
        scheduler_address(tmp_path / "file.json")


def test_a_scheduler_file_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(ExecutorError, match="There is no such file"):
        scheduler_address("scheduler.json")


def test_without_dask_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r'pip install "mscrenal\[cluster\]"'):
        DaskExecutor("tcp://127.0.0.1:9")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def test_an_address_where_nobody_listens_is_named_at_once_with_the_mend():
    address = f"tcp://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(ExecutorError) as caught:
        DaskExecutor(address)
    assert time.monotonic() - began < 4
    for words in (address, "refused", "tcp://HOST:PORT", "`dask scheduler`", f"`dask worker {address}`"):
        assert words in str(caught.value)


def test_an_unknown_host_is_named():
    with pytest.raises(ExecutorError, match=r"answers at tcp://no-such-host\.invalid:8786"):
        DaskExecutor("tcp://no-such-host.invalid:8786")


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "something else"]
)
def test_a_listener_that_is_no_scheduler_is_given_up_within_ten_seconds(says):
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def answer() -> None:
        while server.fileno() >= 0:
            try:
                held.append(server.accept()[0])
                held[-1].sendall(says)
            except OSError:
                return

    threading.Thread(target=answer, daemon=True).start()
    began = time.monotonic()
    with closing(server), pytest.raises(ExecutorError, match="no scheduler answers at"):
        DaskExecutor(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert time.monotonic() - began < 5
    for connection in held:
        connection.close()


# --------------------------------------------------------------------------- a cluster


@contextmanager
def local_cluster(folder: Path, workers: int = WORKERS, **options) -> Iterator[LocalCluster]:
    """Worker processes on the loopback address, without dashboard and quiet."""
    with LocalCluster(
        n_workers=workers,
        processes=True,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
        local_directory=str(folder),
        **options,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with local_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made.scheduler_address


def process_of_a_worker(executor: DaskExecutor) -> int:
    return next(iter(executor._client.run(os.getpid).values()))


def test_a_cluster_gives_the_same_numbers_as_threads_in_the_same_order(cluster):
    tasks = with_sleeps(40)
    there, here = numbers(executor_for(cluster=cluster), tasks), numbers(LocalExecutor(2), tasks)
    assert np.array_equal(there, here)


def test_a_worker_killed_in_mid_run_loses_nothing(cluster):
    tasks = [dataclasses.replace(task, sleep=0.03) for task in with_sleeps(60)]
    seen = []
    with DaskExecutor(cluster) as executor:
        for result in executor.map(computed, tasks):
            seen.append(result)
            if len(seen) == 10:
                killed = process_of_a_worker(executor)
                os.kill(killed, signal.SIGKILL)
        assert killed not in executor._client.run(os.getpid).values()
    assert np.array_equal(np.array(seen), numbers(LocalExecutor(1), with_sleeps(60)))


def test_a_scenario_comes_out_the_same_to_the_last_bit_on_threads_and_on_a_cluster_that_loses_a_worker(
    cluster,
):
    arms = (Arm("none"), Arm("UC", (Course("UC", "IV", "1e6/kg", (0.0, 7.0), 1 / 24),)))
    scenario = Scenario("trial", "A small trial", 84.0, arms, "none", patient=PatientSpec(egfr=45.0))
    days = np.array([0.0, 28.0, 84.0])
    killed: list[int] = []

    def values(progress: Callable[..., None] | None = None, **where: object) -> np.ndarray:
        done = run(scenario, draws=20, seed=1, patients=10, days=days, progress=progress, **where)
        return done.data.to_array().values

    with DaskExecutor(cluster) as beside:

        def kill_one(done: int, total: int, _: str) -> None:
            if 0 < done < total and not killed:
                killed.append(process_of_a_worker(beside))
                os.kill(killed[0], signal.SIGKILL)

        there = values(kill_one, cluster=cluster)
    here = values(workers=1)
    assert killed
    assert np.isfinite(here).all()
    assert np.array_equal(here, values(workers=2))
    assert np.array_equal(here, there)


def test_few_tasks_per_worker_are_on_the_cluster_however_many_there_are(cluster):
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for i in range(100_000):
            taken += 1
            yield -i

    with DaskExecutor(cluster) as executor:
        executor._client.wait_for_workers(WORKERS)
        for done, result in enumerate(islice(executor.map(abs, source()), 50)):
            assert result == done
            assert taken - done <= IN_FLIGHT * WORKERS + 1


def test_an_error_on_a_worker_comes_in_its_turn_with_the_index_of_its_task(cluster):
    seen: list[float] = []
    with DaskExecutor(cluster) as executor, pytest.raises(ZeroDivisionError) as caught:
        seen.extend(executor.map(inverse, [1.0, 2.0, 0.0, *np.arange(3.0, 100.0)]))
    assert seen == [1.0, 0.5]
    assert caught.value.__notes__ == ["Raised by task 2 (counted from 0)."]


def test_a_timeout_of_a_task_is_no_timeout_of_ours(cluster):
    with DaskExecutor(cluster) as executor, pytest.raises(TimeoutError, match="the task's own") as caught:
        list(executor.map(timed_out, range(5)))
    assert caught.value.__notes__ == ["Raised by task 2 (counted from 0)."]


def test_ctrl_c_leaves_the_cluster_without_tasks_of_ours(cluster, tmp_path):
    paths = [tmp_path / str(i) for i in range(2000)]
    with DaskExecutor(cluster) as executor:
        began = time.monotonic()
        with ctrl_c_after(0.5), pytest.raises(KeyboardInterrupt):
            list(executor.map(marked, paths))
        assert time.monotonic() - began < 3
        time.sleep(0.3)
        started = len(list(tmp_path.iterdir()))
        assert 1 <= started < 100
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) == started
        assert list(executor.map(abs, [-1])) == [1]


def test_workers_of_another_version_or_model_are_listed_with_the_mend(cluster, monkeypatch):
    mine = Identity("9.9.9", identity().model)
    monkeypatch.setattr(module, "identity", lambda: mine)
    with pytest.raises(ExecutorError) as caught:
        DaskExecutor(cluster)
    text = str(caught.value)
    assert f"{WORKERS} workers of {WORKERS}" in text
    assert "here: mscrenal 9.9.9, model " in text
    assert text.count("tcp://127.0.0.1:") == WORKERS + 1
    assert "Install mscrenal 9.9.9 from the same files" in text


def test_a_worker_that_joined_with_another_model_computes_nothing(cluster):
    with DaskExecutor(cluster) as executor:
        executor._sender = Identity(identity().version, "0" * 64)  # as if the check at the start had passed
        with pytest.raises(
            ExecutorError, match=r"a worker on .* the tasks come from mscrenal .*, model 0000"
        ):
            list(executor.map(abs, [1]))


def test_a_worker_without_the_package_is_listed(cluster, tmp_path):
    bare = "import sys; sys.modules['mscrenal'] = None; from distributed.cli.dask_worker import main; main()"
    options = ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--name", "bare", "--local-directory"]
    worker = subprocess.Popen(
        [sys.executable, "-c", bare, cluster, *options, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with DaskExecutor(cluster) as executor:
            executor._client.wait_for_workers(WORKERS + 1, timeout=20)
            with pytest.raises(ExecutorError) as caught:
                DaskExecutor(cluster)
    finally:
        worker.terminate()
        worker.wait(10)
    assert f"1 worker of {WORKERS + 1}" in str(caught.value)
    assert "mscrenal cannot be imported" in str(caught.value)


def test_a_worker_of_another_python_is_listed_before_anything_is_sent(cluster, monkeypatch):
    from distributed import Client

    asked = Client.get_versions

    def other_here(self: Client, **options: object) -> dict:
        found = asked(self, **options)
        found["client"]["host"]["python"] = "3.99.1.final.0"
        return found

    monkeypatch.setattr(Client, "get_versions", other_here)
    monkeypatch.setattr(Client, "run", None)
    with pytest.raises(ExecutorError, match=r"(?s)here: Python 3\.99.*Start the workers with Python 3\.99"):
        DaskExecutor(cluster)


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WORKER_SECONDS", 0.5)
    with (
        local_cluster(tmp_path, workers=0) as empty,
        pytest.raises(ExecutorError, match=r"has no worker .* `dask worker tcp://127"),
    ):
        DaskExecutor(empty.scheduler_address)


@pytest.mark.slow
def test_a_scheduler_that_goes_away_in_mid_run_is_said_to_be_gone(tmp_path):
    with local_cluster(tmp_path, workers=1) as short, DaskExecutor(short.scheduler_address) as executor:
        results = executor.map(napped, [0.05] * 1000)
        next(results)
        short.close()
        with pytest.raises(ExecutorError, match=r"the scheduler at tcp://127.* is gone"):
            list(results)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "lives"), [(2, True), (3, False)])
def test_a_task_under_which_three_workers_die_is_given_up_and_named(times, lives, tmp_path):
    deaths, scratch = tmp_path / "deaths", tmp_path / "scratch"
    deaths.mkdir()
    tasks = [(number, deaths, times) for number in range(4)]
    # A scheduler that gives up at the first death: the count to three is ours.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(scratch, workers=2) as frail,
        DaskExecutor(frail.scheduler_address) as executor,
    ):
        if lives:
            assert list(executor.map(deadly, tasks)) == [0, 1, 2, 3]
        else:
            with pytest.raises(ExecutorError, match=r"task 2 .* 3 workers died .*--memory-limit"):
                list(executor.map(deadly, tasks))
    assert len(list(deaths.iterdir())) == times


@pytest.mark.slow
def test_a_cluster_that_stays_without_workers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NO_WORKER_SECONDS", 1.0)
    monkeypatch.setattr(module, "HEALTH_SECONDS", 0.2)
    with (
        local_cluster(tmp_path, workers=1) as shrinking,
        DaskExecutor(shrinking.scheduler_address) as executor,
    ):
        results = executor.map(napped, [0.05] * 1000)
        next(results)
        shrinking.scale(0)
        with pytest.raises(ExecutorError, match="has had no worker for 1 s"):
            list(results)


def test_every_worker_is_warmed_one_of_each_host_first(cluster, monkeypatch):
    monkeypatch.setattr("mscrenal.model.kernels.compiled", lambda slots: None)
    asked = []
    with DaskExecutor(cluster) as executor:
        executor._client.wait_for_workers(WORKERS)
        monkeypatch.setattr(
            executor, "_warm_on", lambda workers, slots: asked.append((len(workers), set(slots)))
        )
        executor.warm((1, 2))
    assert asked == [(1, {1, 2}), (WORKERS - 1, {1, 2})]


@pytest.mark.slow
def test_after_warming_every_worker_holds_the_compiled_model(cluster):
    def held() -> int:
        from mscrenal.model.kernels import compiled

        return len(compiled.made)

    with DaskExecutor(cluster) as executor:
        executor._client.wait_for_workers(WORKERS)
        executor.warm((1,))
        assert min(executor._client.run(held).values()) >= 1
        assert len(executor._client.run(held)) == WORKERS
