"""Preparing the model: by one process at a time, and once."""

from __future__ import annotations

import runpy
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest

from mscrenal.model import kernels

WAITING = "waiting for another process"
OTHER = """
import sys
from pathlib import Path
from mscrenal.model.kernels import _alone
with _alone(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_while_another_process_prepares_the_model_this_one_waits_and_says_so(tmp_path, capsys):
    entered = threading.Event()

    def enter() -> None:
        with kernels._alone(tmp_path):
            entered.set()

    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.3)
        assert WAITING in capsys.readouterr().err
        other.stdin.close()  # which ends it
        assert entered.wait(10)
        waiting.join()


def test_a_process_that_was_killed_while_it_prepared_the_model_holds_up_nobody(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        other.kill()
    with kernels._alone(tmp_path):
        pass


def test_where_files_cannot_be_locked_the_model_is_prepared_all_the_same(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("this file system has no locks")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    inside = []
    with kernels._alone(tmp_path):
        inside.append(True)
    assert inside


def test_an_error_while_preparing_lets_the_next_one_in(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), kernels._alone(tmp_path):
        raise RuntimeError("mine")
    with kernels._alone(tmp_path):
        pass


def test_what_another_made_meanwhile_is_not_made_again(tmp_path, monkeypatch):
    """Whoever waited finds code and mark, generates nothing and announces no compilation."""
    structure = kernels.model(1)
    kernels.compiled(1)
    monkeypatch.setattr(kernels, "generate", lambda _: pytest.fail("generated again"))
    monkeypatch.setattr(kernels, "_Preparing", lambda _: pytest.fail("announced again"))
    name = f"{kernels.definition_hash()[:20]}_1"
    kernels.compile_model(structure, kernels.cache_folder(), name)


def test_after_an_edit_of_the_integrator_it_is_prepared_anew(tmp_path):
    source = tmp_path / "integrator.py"
    source.write_text("def job():\n    return 1\n", encoding="utf-8")

    def mark() -> Path:
        return kernels._ready_mark(tmp_path / "kernels.py", {"integrate": runpy.run_path(str(source))["job"]})

    before = mark()
    assert mark() == before
    source.write_text("def job():\n    return 12\n", encoding="utf-8")
    assert mark() != before


def test_threads_that_all_come_first_get_one_model():
    """As the threads of a page or a validation: each may be the one that needs the compiled model first."""
    said = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from mscrenal.model.kernels import compiled
ready = Barrier(8)
def first(_):
    ready.wait()
    return compiled(1)
with ThreadPoolExecutor(8) as threads:
    print(len({id(found) for found in threads.map(first, range(8))}))
"""
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr
