"""Simulators in processes of their own, and who of them is installed."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

__all__ = ["OURS", "PEERS", "Entry", "PeerError", "Remote", "installed"]

HERE = Path(__file__).resolve().parent


class PeerError(RuntimeError):
    """A simulator that crashed, took too long or refused."""


@dataclass(frozen=True)
class Entry:
    """A simulator: its name in results, its module here, what Python imports, what an index calls it."""

    name: str
    module: str
    imported: str
    distribution: str


OURS = Entry("mscrenal", "ours", "mscrenal.model", "mscrenal")
PEERS: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("pydiffsol", "pydiffsol_", "pydiffsol", "pydiffsol"),
        Entry("libroadrunner", "roadrunner_", "roadrunner", "libroadrunner"),
        Entry("amici", "amici_", "amici", "amici"),
        Entry("scipy", "scipy_", "scipy", "scipy"),
        Entry("diffrax", "diffrax_", "diffrax", "diffrax"),
    )
}


def installed(entry: Entry, python: str | None = None) -> bool:
    """Whether this interpreter, or the one at `python`, can import the simulator."""
    if python is None:
        return find_spec(entry.imported) is not None
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({entry.imported!r}) is None)"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


class Remote:
    """A worker process: `ask` waits for the answer, `send` and `receive` do not have to be together."""

    def __init__(
        self, entry: Entry, folder: Path, *, cores: int = 1, first: int = 0, python: str | None = None
    ) -> None:
        self.entry = entry
        self._log: IO[bytes] = (folder / f"{entry.module}_{cores}_{first}.log").open("ab")
        self._process = subprocess.Popen(
            [python or sys.executable, str(HERE / "worker.py"), entry.module, str(folder), str(cores), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )  # fmt: skip
        self._waiting = False

    def send(self, do: str, **request: Any) -> None:
        """Ask without waiting."""
        if self._process.stdin is None:
            raise PeerError(f"{self.entry.name}: no way to ask.")
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"{self.entry.name} has crashed.") from None
        self._waiting = True

    def receive(self, timeout: float = 900.0) -> dict[str, Any]:
        """The answer to what was sent; PeerError if there is none in `timeout` seconds."""
        if self._process.stdout is None or not self._waiting:
            raise PeerError(f"{self.entry.name} was asked nothing.")
        ready, _, _ = select.select([self._process.stdout], [], [], max(timeout, 0.0))
        if not ready:
            self.close()
            raise PeerError(f"{self.entry.name} did not answer in {timeout:.0f} s.")
        self._waiting = False
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise PeerError(f"{self.entry.name} crashed (exit code {code}).")
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise PeerError(f"{self.entry.name}: {answer['problem']}")
        return answer

    def fileno(self) -> int:
        """What `select` waits for."""
        if self._process.stdout is None:
            raise PeerError(f"{self.entry.name} was asked nothing.")
        return self._process.stdout.fileno()

    def ask(self, do: str, timeout: float = 900.0, **request: Any) -> dict[str, Any]:
        """Send and receive."""
        self.send(do, **request)
        return self.receive(timeout)

    def close(self) -> None:
        """End the process; it may be in the middle of something."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                self._log.write(b"the worker was gone before it was told to end\n")
        deadline = time.monotonic() + (0.2 if self._waiting else 3.0)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
