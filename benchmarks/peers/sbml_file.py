"""The problem as an SBML file, for the simulators that read one; written once and kept beside the problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from problem import DOSES, PATIENT

from mscrenal.model.kernels import cache_folder, compiled
from mscrenal.model.sbml import write_sbml

__all__ = ["sbml_file"]


def sbml_file(problem: Any, *, doses: bool = True) -> Path:
    """Path of the file at the medians, with its doses as events or with nothing given."""
    folder = cache_folder() / f"benchmark_sbml_{compiled(1).hash[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("doses.xml" if doses else "untreated.xml")
    if not path.exists():
        write_sbml(path, PATIENT, DOSES if doses else (), horizon_days=float(problem.times[-1]))
    return path
