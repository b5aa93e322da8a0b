"""The Bayesian calibration as a command: where its files go, with which settings it goes on, what it hands back.

What is computed lies in one folder: the settings, the mode, journals and chains, and at the end ``posterior.nc``. The
posterior that ships with the package is never touched; other commands take the new one by ``--posterior``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mscrenal.calibration import PosteriorError, read_posterior
from mscrenal.scenarios.posterior_result import CalibrateResult, _headed

if TYPE_CHECKING:
    from mscrenal.calibration.calibrate import Prepared

__all__ = ["DEFAULT_FOLDER", "CalibrateError", "calibrate"]

DEFAULT_FOLDER = "calibration-run"
SETTINGS = "settings.json"
FORMAT = "mscrenal calibration 1"
# What a calibration leaves in its folder.
OWN = re.compile(
    r"settings\.json|mode\.npz|posterior\.nc|report|\w+\.journal|(first|round_\d+)_\d+\.npz|.*\.tmp(\.npz)?"
)
NEEDED = {"pymc": "PyMC", "pytensor": "PyTensor", "nutpie": "nutpie", "arviz": "ArviZ"}
MEND = 'Install the extra that brings it: pip install "mscrenal[calibrate]".'


class CalibrateError(ValueError):
    """A calibration that cannot be run as asked."""


@dataclass(frozen=True)
class Wanted:
    """The settings of a run; None where it was not said."""

    chains: int | None = None
    tune: int | None = None
    draws: int | None = None
    seed: int | None = None


LEAST = {"chains": 2, "tune": 20, "draws": 20, "seed": 0}
MOST = {"chains": 64, "tune": 100_000, "draws": 100_000, "seed": 2**31 - 1}


def calibrate(
    *,
    chains: int | None = None,
    tune: int | None = None,
    draws: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    draft: bool = False,
    progress: Callable[[float, str], None] | None = None,
    prepared: Prepared | None = None,
) -> CalibrateResult:
    """Fit the model to the evidence.

    Parameters
    ----------
    chains, tune, draws, seed : int, optional
        Of NUTS. What is left out takes the settings that a resumed run was begun with, else those of
        `mscrenal.calibration.sampler.Settings`.
    workers : int, optional
        Processes; by default one per processor. They do not change the numbers.
    out : path, optional
        A new or empty folder, or that of this calibration, which then goes on; default ``calibration-run``.
    resume : path, optional
        Instead of `out`: a folder that holds a calibration.
    draft : bool
        A normal approximation around the mode instead of NUTS: minutes, for a quick look.
    progress : callable, optional
        Called with the part of the work done (0 to 1) and a word.

    Other Parameters
    ----------------
    prepared : Prepared
        Another problem than that of the shipped evidence.

    Returns
    -------
    CalibrateResult
        Its `.posterior` is in the folder as ``posterior.nc``.

    Raises
    ------
    CalibrateError
        For a folder that holds something else, settings that differ from those of the run to resume, numbers out of
        range, or PyMC not installed.
    mscrenal.calibration.journal.JournalError
        If the folder holds the calibration of another model or other evidence, or a damaged file.
    mscrenal.calibration.inference.ModeError
        If no mode is found.
    KeyboardInterrupt
        What is computed is in the folder.

    Examples
    --------
    >>> from mscrenal.scenarios import calibrate
    >>> calibrate(out="my-run", draft=True)                  # doctest: +SKIP
    """
    folder = _folder(out, resume)
    wanted = _settings(folder, Wanted(chains, tune, draws, seed))
    _check_packages()
    _keep_what_is_better(folder, draft)
    from mscrenal.calibration.calibrate import calibrate as run
    from mscrenal.calibration.diagnostics import meets_the_bar
    from mscrenal.calibration.sampler import Settings

    given = {k: v for k, v in asdict(wanted).items() if v is not None}
    settings = Settings(**given)
    folder.mkdir(parents=True, exist_ok=True)
    if not draft:  # which has none that a sample would have to go on with
        _write_settings(folder, Wanted(settings.chains, settings.tune, settings.draws, settings.seed))
    found = run(folder, settings=settings, draft=draft, prepared=prepared, workers=workers, progress=progress)
    file = str(folder / "posterior.nc")
    return CalibrateResult(
        **_headed("calibrate", found.posterior, file),
        posterior=found.posterior,
        file=file,
        minutes=found.minutes,
        meets_the_bar=meets_the_bar(dict(found.diagnostics)),
    )


def _folder(out: str | os.PathLike[str] | None, resume: str | os.PathLike[str] | None) -> Path:
    """Where the run goes; refused before anything is computed."""
    if out is not None and resume is not None:
        raise CalibrateError(
            f"--out {out} and --resume {resume} were both given; choose one: --resume goes on in its own folder."
        )
    folder = Path(DEFAULT_FOLDER if out is None and resume is None else (resume or out or "")).expanduser()
    if folder.exists() and not folder.is_dir():
        raise CalibrateError(f"{folder} is a file, not a folder. Give another --out.")
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in there if not OWN.fullmatch(name)]
    if strange:
        raise CalibrateError(
            f"{folder} holds {strange[0]!r}, which is no part of a calibration. Nothing was changed. Give a new or empty "
            "folder, or that of a calibration."
        )
    if resume is not None and not there:
        raise CalibrateError(f"{folder} holds no calibration to resume. Begin one with --out {folder}.")
    return folder


def _settings(folder: Path, given: Wanted) -> Wanted:
    """The settings of the run that was begun in the folder, with what is new; differences are refused."""
    for name, value in asdict(given).items():
        if value is not None and (isinstance(value, bool) or not LEAST[name] <= value <= MOST[name]):
            raise CalibrateError(
                f"{name}: given {value!r}. Allowed: a whole number from {LEAST[name]} to {MOST[name]:,}."
            )
    path = folder / SETTINGS
    if not path.exists():
        return given
    mend = f"Delete it and give the settings the run was begun with, or give another folder than {folder}."
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("format") != FORMAT:
            raise ValueError("another format")
        begun = Wanted(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrateError(f"{path} is damaged ({error}). {mend}") from None
    for name in LEAST:
        new, old = getattr(given, name), getattr(begun, name)
        if new is not None and new != old:
            raise CalibrateError(
                f"the run in {folder} was begun with --{name} {old}, not {new}. Leave --{name} out to go on, or give "
                "another folder."
            )
    return begun


def _write_settings(folder: Path, settings: Wanted) -> None:
    path = folder / SETTINGS
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        json.dumps({"format": FORMAT, **asdict(settings)}, indent=1) + "\n", encoding="utf-8"
    )
    temporary.replace(path)


def _check_packages() -> None:
    for module, name in NEEDED.items():
        if find_spec(module) is None:
            raise CalibrateError(f"the calibration needs {name}, which is not installed. {MEND}")


def _keep_what_is_better(folder: Path, draft: bool) -> None:
    """A draft does not replace a sample."""
    path = folder / "posterior.nc"
    if not (draft and path.exists()):
        return
    try:
        found = read_posterior(path, check_model=False)
    except PosteriorError:
        return
    if not found.provenance.get("draft", False):
        raise CalibrateError(
            f"{path} is a posterior that was sampled; a draft would replace it. Give another --out for the draft."
        )


def saved_report(result: CalibrateResult, writer: Any) -> Path:
    """Tables, figure and report in the run's folder, in place of those of an earlier end of the same run."""
    import shutil

    folder = Path(result.file).parent / "report"
    if (folder / "result.json").is_file():
        shutil.rmtree(folder)
    return result.save(folder, report=writer)
