"""Every evaluation of a costly function, on disk: a run that is started again is given the same numbers without computing
them, and so gets to where it was killed, to the last bit.

A file is a header with the fingerprint of what is computed, then records of equal length, each with a checksum. Nothing
is ever rewritten; a record that a kill cut short is dropped.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

__all__ = ["Journal", "JournalError"]

MAGIC = b"mscrenal journal 1\n"


class JournalError(RuntimeError):
    """A journal that is damaged, or of something else."""


class Journal:
    """Results of a function at the points asked for.

    Parameters
    ----------
    path : path
        Made if it is not there.
    fingerprint : str
        Of what is computed: model, evidence, settings. A journal with another one is refused.
    size : int
        Length of a point.
    width : int
        Length of a result.

    Attributes
    ----------
    found : int
        Results that were there when it was opened.

    Raises
    ------
    JournalError
        If the file is no journal, of another calibration, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, size: int, width: int) -> None:
        self.path, self.size, self.width = Path(path), size, width
        self._header = MAGIC + fingerprint.encode() + b"\n" + struct.pack("<qq", size, width)
        self._known: dict[bytes, np.ndarray] = {}
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        else:
            self.path.write_bytes(self._header)
        self.found = len(self._known)
        self._file = self.path.open("ab")

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, point: np.ndarray) -> bool:
        return self._key(point) in self._known

    def __getitem__(self, point: np.ndarray) -> np.ndarray:
        """The result at a point, a fresh array; KeyError if it is not known."""
        return self._known[self._key(point)].copy()

    def _key(self, point: np.ndarray) -> bytes:
        return np.ascontiguousarray(point, dtype="<f8").tobytes()

    def _read(self) -> None:
        content = self.path.read_bytes()
        if not content.startswith(MAGIC):
            raise JournalError(
                f"{self.path} is no journal of a calibration. Give another folder, or move it away."
            )
        if not content.startswith(self._header):
            raise JournalError(
                f"{self.path} belongs to another calibration: model, evidence, seed or settings differ from those "
                "asked for. Resume with the settings it was begun with, or give another folder."
            )
        length = 4 + 8 * (self.size + self.width)
        body = memoryview(content)[len(self._header) :]
        whole = len(body) // length
        for k in range(whole):
            record = body[k * length : (k + 1) * length]
            if struct.unpack_from("<I", record)[0] != zlib.crc32(record[4:]):
                raise JournalError(
                    f"{self.path} is damaged: record {k + 1} of {whole} does not match its checksum. Delete the file; "
                    "what it held is computed again, the rest of the folder is kept."
                )
            numbers = np.frombuffer(record[4:], dtype="<f8")
            self._known[numbers[: self.size].tobytes()] = numbers[self.size :].copy()
        if len(body) % length:
            # The record that was being written when the run was killed.
            os.truncate(self.path, len(self._header) + whole * length)

    def add(self, point: np.ndarray, result: np.ndarray) -> None:
        """Note a result; it is on disk when this returns.

        Raises
        ------
        ValueError
            If point or result has another length than the journal's.
        """
        numbers = np.concatenate([np.ravel(point), np.ravel(result)]).astype("<f8")
        if np.size(point) != self.size or np.size(result) != self.width:
            raise ValueError(
                f"a record is a point of {self.size} and a result of {self.width} numbers, got {np.size(point)} and "
                f"{np.size(result)}."
            )
        record = numbers.tobytes()
        self._file.write(struct.pack("<I", zlib.crc32(record)) + record)
        self._file.flush()
        self._known[self._key(point)] = numbers[self.size :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
