"""Intermediate results of a calibration as files: arrays with the fingerprint of what they belong to."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mscrenal.calibration.inference import Laplace, Tangent
from mscrenal.calibration.journal import JournalError

__all__ = ["read_arrays", "read_laplace", "write_arrays", "write_laplace"]


def write_arrays(path: str | os.PathLike[str], mark: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under a fingerprint; the file appears only when it is complete."""
    path = Path(path)
    temporary = path.with_name(f"{path.stem}.tmp.npz")
    named: dict[str, Any] = {"mark": np.array(mark), **arrays}
    np.savez_compressed(temporary, **named)
    temporary.replace(path)


def read_arrays(path: str | os.PathLike[str], mark: str) -> dict[str, np.ndarray]:
    """Read arrays back.

    Raises
    ------
    JournalError
        If the file is damaged, or bears another fingerprint.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        given = str(found.pop("mark"))
    except (
        OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise JournalError(f"{path} is damaged ({error}). Delete it; the run computes it again.") from None
    if given != mark:
        raise JournalError(
            f"{path} belongs to another calibration: model, evidence, seed or settings differ from those asked for. "
            "Resume with the settings it was begun with, or give another folder."
        )
    return found


def write_laplace(path: str | os.PathLike[str], found: Laplace, mark: str, offset: np.ndarray) -> None:
    """Write a mode, its curvature, and the means over patients that belong to it."""
    write_arrays(
        path, mark, {
            "mode": found.mode, "factor": found.factor, "log_density": np.array(found.log_density),
            "at": found.tangent.at, "values": found.tangent.values, "jacobian": found.tangent.jacobian,
            "offset": offset,
        },
    )  # fmt: skip


def read_laplace(path: str | os.PathLike[str], mark: str) -> tuple[np.ndarray, Laplace]:
    """The means over patients and the mode; errors as of `read_arrays`."""
    found = read_arrays(path, mark)
    tangent = Tangent(found["at"], found["values"], found["jacobian"])
    return found["offset"], Laplace(found["mode"], found["factor"], float(found["log_density"]), tangent)
