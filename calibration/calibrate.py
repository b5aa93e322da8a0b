"""The calibration from end to end: evidence, mode, NUTS, diagnostics, a posterior file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mscrenal.calibration.course import course_prior
from mscrenal.calibration.diagnostics import diagnostics, verdicts
from mscrenal.calibration.evidence import EvidenceError, evidence_hash
from mscrenal.calibration.inference import Density, Laplace, find_mode
from mscrenal.calibration.observations import observe, products_in
from mscrenal.calibration.population import population_offset
from mscrenal.calibration.posterior import Posterior
from mscrenal.calibration.predictions import Coordinates, Predictions
from mscrenal.calibration.probability import Problem
from mscrenal.calibration.probability import log_likelihood as row_log_likelihood
from mscrenal.calibration.sampler import Sampled, Settings, problem_mark, sample
from mscrenal.calibration.selection import blind_spots, screen, select
from mscrenal.calibration.store import read_laplace, write_laplace
from mscrenal.calibration.studies import Study, held_out, maps_hash, studies
from mscrenal.model.definition import model_files, model_hash

__all__ = ["Calibration", "Prepared", "calibrate", "prepare"]

# Called with the part of the work done (0 to 1) and a word.
Progress = Callable[[float, str], None]
DRAFT_DRAWS = 1000
# Modes in turn with the means over patients that belong to them.
MODE_TURNS = 2


@dataclass(frozen=True)
class Prepared:
    """What is sampled, before sampling.

    Attributes
    ----------
    problem : Problem
    blind : mapping
        As of `Predictions`.
    screening : DataFrame
        Of `mscrenal.calibration.selection.screen`.
    """

    problem: Problem
    blind: Mapping[str, frozenset[str]]
    screening: Any

    def with_offset(self, offset: np.ndarray) -> Prepared:
        """The same with other means over patients."""
        return replace(self, problem=replace(self.problem, offset=offset))

    def predictions(self, workers: int | None = None) -> Predictions:
        """The predictions of the problem's rows."""
        p = self.problem
        return Predictions(p.data, p.studies, p.vector, blind=self.blind, workers=workers)


@dataclass(frozen=True)
class Calibration:
    """A posterior, and how it came about.

    Attributes
    ----------
    posterior : Posterior
    minutes : float
        Of this run, computing what was not there.
    diagnostics : dict
        divergences, rhat_max, ess_bulk_min, ess_tail_min, ...
    draft : bool
    """

    posterior: Posterior
    minutes: float
    diagnostics: Mapping[str, Any]
    draft: bool


def learnt_from() -> str:
    """SHA-256 of the evidence, of what is made of it, and of what is held out."""
    return f"{evidence_hash()} {maps_hash()}"


def fitted_studies(given: Mapping[str, Study] | None = None) -> dict[str, Study]:
    """The studies of the likelihood: those with a row to predict that are not held out."""
    every = studies() if given is None else given
    found = [s for s in every.values() if "fit" in dict(s.row_roles()) and s.id not in held_out()]
    twice = {s.id for s in found if [other.id for other in found].count(s.id) > 1}
    if twice:
        raise EvidenceError(f"study {min(twice)!r} is fitted from two tables; keep the rows of one.")
    return {s.id: s for s in found}


def prepare(
    given: Mapping[str, Study] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    offset: bool = True,
) -> Prepared:
    """Rows, calibrated parameters and everything that sampling needs.

    Parameters
    ----------
    given : mapping of str to Study, optional
        Default: all shipped studies that are not held out.
    offset : bool
        Whether to correct typical patients to the mean over the virtual population.
    """
    told = progress or (lambda part, text: None)
    chosen = fitted_studies() if given is None else dict(given)
    data = tuple(observe(chosen.values()))
    mine = {d.study: chosen[d.study] for d in data}
    told(0.0, f"{len(data)} rows of {len(mine)} studies; which parameters they can inform")
    table = screen(data, mine, workers=workers)
    names = select(table, products_in(data, mine))
    problem = Problem(data, mine, names, joint=course_prior(names, workers=workers))
    told(0.01, f"{len(names)} parameters; what matters in which arm")
    blind = blind_spots(data, mine, names, problem.potent, workers=workers)
    if offset:
        told(0.02, "virtual populations of the studies")
        problem = replace(problem, offset=population_offset(data, mine))
    return Prepared(problem, blind, table)


def calibrate(
    folder: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    draft: bool = False,
    prepared: Prepared | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Calibrate, writing journals, chains and ``posterior.nc`` to a folder; a run that was killed goes on.

    Parameters
    ----------
    draft : bool
        A normal approximation around the mode instead of NUTS: minutes, and marked as a draft.

    Raises
    ------
    mscrenal.calibration.journal.JournalError
        If the folder holds another calibration, or a damaged file.
    mscrenal.calibration.inference.ModeError
        If no mode is found.
    """
    began = time.monotonic()
    settings = settings or Settings()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    told = progress or (lambda part, text: None)
    ready = prepared or prepare(workers=workers, progress=told)
    ready, density, around = _mode(folder, ready, told, workers)
    if draft:
        sampled = _draft(density, around, settings)
    else:
        sampled = sample(
            ready.problem, ready.blind, around, settings, folder, evidence=learnt_from(), model=model_hash(),
            workers=workers, progress=_timed(told),
        )  # fmt: skip
    told(0.98, "diagnostics")
    found = _posterior(ready, density, sampled, settings, draft)
    minutes = (time.monotonic() - began) / 60
    found.save(folder / "posterior.nc")
    told(1.0, "done")
    return Calibration(found, minutes, found.provenance["diagnostics"], draft)


def _mode(
    folder: Path, ready: Prepared, told: Progress, workers: int | None
) -> tuple[Prepared, Density, Laplace]:
    """The mode, with the means over patients taken there; from the folder if this very problem was begun there."""
    path = folder / "mode.npz"
    mark = problem_mark(ready.problem, ready.blind, learnt_from(), model_hash())
    if path.exists():
        offset, found = read_laplace(path, mark)
        ready = ready.with_offset(offset)
        return ready, Density(ready.problem), found
    steps = 0

    def step(text: str) -> None:
        nonlocal steps
        steps += 1
        told(0.02 + 0.08 * (1 - 0.9**steps), text)

    start = None
    for turn in range(MODE_TURNS):
        density = Density(ready.problem)
        found = find_mode(density, ready.predictions(workers), start=start, progress=step)
        start = found.mode
        if turn + 1 < MODE_TURNS and len(ready.problem.offset):
            told(0.09, "virtual populations at the mode")
            ready = ready.with_offset(_offset_at(ready, density, found))
    write_laplace(path, found, mark, ready.problem.offset)
    return ready, density, found


def _offset_at(ready: Prepared, density: Density, around: Laplace) -> np.ndarray:
    problem = ready.problem
    coordinates = Coordinates(problem.vector)
    values = coordinates.values(density.coordinates(around.mode))
    theta = {n: float(v) for n, v in zip(problem.vector, values, strict=True) if ", " not in n}
    return population_offset(problem.data, problem.studies, theta)


def _timed(told: Progress) -> Progress:
    """Scale the sampler's part of the work, and say how long it will take."""
    began = time.monotonic()
    first: list[float] = []

    def report(part: float, text: str) -> None:
        first.append(part)
        spent, moved = time.monotonic() - began, part - first[0]
        left = (
            f", about {spent / moved * (0.7 - part) / 60:.0f} min left" if moved > 0.02 and part < 0.7 else ""
        )
        told(0.1 + 0.88 * part, text + left)

    return report


def _draft(density: Density, around: Laplace, settings: Settings) -> Sampled:
    """Draws of the normal approximation, rows predicted by its tangent."""
    draws = around.sample(DRAFT_DRAWS, settings.seed)
    predictions = np.array([around.tangent(x).values for x in density.coordinates(draws)])
    return Sampled([], draws, predictions, {})


def _posterior(
    ready: Prepared, density: Density, sampled: Sampled, settings: Settings, draft: bool
) -> Posterior:
    problem, flat = ready.problem, sampled.draws
    # Equally weighted draws: after weighing, a chain is only a share of them.
    n_chains = max(1, len(sampled.chains))
    flat = flat[: len(flat) // n_chains * n_chains]
    prediction = sampled.predictions[: len(flat)]
    coordinates = density.coordinates(flat)
    log_likelihood = row_log_likelihood(problem, flat, prediction, density.blocks)
    n = len(problem.names)

    def shaped(values: np.ndarray) -> np.ndarray:
        return values.reshape(n_chains, len(flat) // n_chains, -1)

    dims = ("chain", "draw")
    data = xr.Dataset(
        {
            "z": ((*dims, "parameter"), shaped(coordinates[:, :n])),
            "hyper": ((*dims, "hyper_name"), shaped(density.hyper(flat))),
            "study": ((*dims, "study_name"), shaped(coordinates[:, n:])),
            "level": ((*dims, "level_name"), shaped(flat[:, density.blocks["level"]])),
            "prediction": ((*dims, "row"), shaped(prediction)),
            "log_likelihood": ((*dims, "row"), shaped(log_likelihood)),
            "offset": (("row",), problem.offset if len(problem.offset) else np.zeros(len(problem.data))),
        },
        coords={
            "parameter": list(problem.names),
            "hyper_name": list(problem.hyper),
            "study_name": list(problem.potent),
            "level_name": [" | ".join(level) for level in problem.levels],
            "row": [f"{d.table}:{d.line}" for d in problem.data],
        },
    )
    checks = diagnostics(density, sampled, draft=draft)
    provenance = {
        "version": _version(),
        "model_hash": model_hash(),
        "model_files": dict(model_files()),
        "evidence_hash": evidence_hash(),
        "maps_hash": maps_hash(),
        "seed": settings.seed,
        "sampler": "normal approximation around the mode (draft)" if draft else _sampler_words(settings),
        "draft": draft,
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "studies": len(problem.studies),
        "rows": len(problem.data),
        "diagnostics": checks,
        "verdicts": verdicts(ready, data),
    }
    return Posterior(data, provenance)


def _sampler_words(settings: Settings) -> str:
    return (
        f"NUTS (nutpie {version('nutpie')}, PyMC {version('pymc')}), {settings.chains} chains of {settings.tune} tuning and "
        f"{settings.draws} kept draws on a stand-in built from the engine's values and gradients; {settings.kept} of them "
        "weighed by the engine and resampled"
    )


def _version() -> str:
    try:
        return version("mscrenal")
    except PackageNotFoundError:
        return "unknown"
