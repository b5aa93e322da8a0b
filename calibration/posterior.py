"""The posterior as a file: what was learnt, from what, with which model, and how well it was sampled.

A netCDF file of at most `LARGEST` bytes. It holds standardised draws of the calibrated parameters, the hyper-parameters,
the studies' potencies and levels, and the predictions for the rows that were fitted, so that predictive checks need no
simulation. Reading checks that it belongs to the model that is installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mscrenal.calibration.evidence import evidence_hash
from mscrenal.model import sampled_parameters
from mscrenal.model.definition import changed_files, model_hash

__all__ = [
    "LARGEST",
    "SHIPPED",
    "Posterior",
    "PosteriorError",
    "Source",
    "posterior_of",
    "read_posterior",
    "shipped_posterior",
]

SHIPPED = Path(__file__).parent / "posterior.nc"
LARGEST = 10_000_000
FORMAT = "mscrenal posterior 1"
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "z": ("chain", "draw", "parameter"),
    "hyper": ("chain", "draw", "hyper_name"),
    "study": ("chain", "draw", "study_name"),
    "level": ("chain", "draw", "level_name"),
    "prediction": ("chain", "draw", "row"),
    "log_likelihood": ("chain", "draw", "row"),
}
PROVENANCE = ("version", "model_hash", "evidence_hash", "seed", "sampler", "diagnostics", "created")


class PosteriorError(ValueError):
    """A file that is no posterior, is damaged, or belongs to another model."""


@dataclass(frozen=True)
class Posterior:
    """Draws of a calibration.

    Attributes
    ----------
    data : xarray.Dataset
        Variables of `VARIABLES` and ``offset`` (row): mean over the virtual population less the typical patient.
        ``z`` is standardised: 0 is the median of the prior, 1 its standard deviation on the scale on which it is
        normal; for products' secretion the estimated spread of products is in it.
    provenance : dict
        version, model_hash, evidence_hash, seed, sampler, diagnostics, created; verdicts of the parameters.
    """

    data: xr.Dataset
    provenance: Mapping[str, Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the calibrated parameters."""
        return tuple(str(n) for n in self.data["parameter"].values)

    @property
    def hyper_names(self) -> tuple[str, ...]:
        """Names of the hyper-parameters."""
        return tuple(str(n) for n in self.data["hyper_name"].values)

    def __len__(self) -> int:
        return self.data.sizes["chain"] * self.data.sizes["draw"]

    def flat(self, variable: str) -> np.ndarray:
        """A variable with all chains one below the other, (n_draws, ...)."""
        values = self.data[variable].values
        return values.reshape(-1, *values.shape[2:]).astype(float)

    def hyper(self, name: str) -> np.ndarray:
        """Draws of a hyper-parameter, (n_draws,)."""
        return self.flat("hyper")[:, self.hyper_names.index(name)]

    def natural(self) -> dict[str, np.ndarray]:
        """Draws of the calibrated parameters in the units of their declarations, each (n_draws,)."""
        known = sampled_parameters()
        z = self.flat("z")
        return {n: np.array([known[n].at(float(x)) for x in z[:, k]]) for k, n in enumerate(self.parameters)}

    def median(self) -> dict[str, float]:
        """The median of each calibrated parameter, in its unit."""
        known = sampled_parameters()
        middle = np.median(self.flat("z"), axis=0)
        return {n: known[n].at(float(x)) for n, x in zip(self.parameters, middle, strict=True)}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; one that is there is replaced only when the new one is complete.

        Raises
        ------
        PosteriorError
            If it would be larger than `LARGEST`.
        """
        path = Path(path)
        data = self.data.copy()
        data.attrs = {"format": FORMAT, "provenance": json.dumps(dict(self.provenance), sort_keys=True)}
        for name in VARIABLES:
            data[name] = data[name].astype(np.float32)
        content = bytes(data.to_netcdf(engine="scipy", format="NETCDF3_64BIT"))
        if len(content) > LARGEST:
            raise PosteriorError(
                f"the posterior would take {len(content) / 1e6:.1f} MB; {LARGEST / 1e6:.0f} MB is the most. Keep fewer draws."
            )
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        return path


def read_posterior(path: str | os.PathLike[str], *, check_model: bool = True) -> Posterior:
    """Read a posterior.

    Parameters
    ----------
    check_model : bool
        Whether to refuse one that was fitted with another model. Products, drugs and diseases that were added since do not
        make it another.

    Raises
    ------
    PosteriorError
        If there is no such file, it is no posterior, it is damaged, or it belongs to another model.
    """
    path = Path(path)
    mend = (
        "Run `mscrenal calibrate --out FOLDER` for a new one, or give the file that belongs to this version."
    )
    if not path.is_file():
        raise PosteriorError(f"{path}: no such file. {mend}")
    try:
        with xr.open_dataset(path, engine="scipy") as file:
            data = file.load()
        provenance = json.loads(data.attrs["provenance"])
        if data.attrs["format"] != FORMAT:
            raise PosteriorError(f"{path}: format {data.attrs['format']!r}, expected {FORMAT!r}. {mend}")
        _check(data, provenance)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        if isinstance(error, PosteriorError):
            raise
        raise PosteriorError(f"{path}: not a posterior of mscrenal, or damaged ({error}). {mend}") from None
    if check_model and provenance["model_hash"] != model_hash():
        changed = changed_files(provenance.get("model_files", {}))
        if changed:
            which = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            raise PosteriorError(
                f"{path}: fitted with another model (hash {provenance['model_hash'][:12]}, version "
                f"{provenance['version']}); this one is {model_hash()[:12]}, different in model/{which}. {mend} `--prior` "
                "computes from the priors meanwhile."
            )
    return Posterior(data, provenance)


def _check(data: xr.Dataset, provenance: Mapping[str, Any]) -> None:
    for name, dims in VARIABLES.items():
        if data[name].dims != dims:
            raise ValueError(f"{name} has dimensions {data[name].dims}, expected {dims}")
        if not np.isfinite(data[name].values).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    missing = [k for k in PROVENANCE if k not in provenance]
    if missing:
        raise ValueError(f"its provenance lacks {', '.join(missing)}")
    unknown = [str(n) for n in data["parameter"].values if str(n) not in sampled_parameters()]
    if unknown:
        raise ValueError(f"the model has no parameter {unknown[0]!r}")


@cache
def shipped_posterior() -> Posterior:
    """The posterior of the package; it must have been fitted to the evidence and with the model that ship.

    Raises
    ------
    PosteriorError
        As of `read_posterior`, and if the evidence is another.
    """
    found = read_posterior(SHIPPED)
    if found.provenance["evidence_hash"] != evidence_hash():
        raise PosteriorError(
            f"{SHIPPED.name}: fitted to other evidence than the tables that are installed. Reinstall the package, or run "
            "`mscrenal calibrate`."
        )
    return found


# The posterior that ships, the priors, a file, or a posterior of one's own.
Source = Posterior | str | os.PathLike[str]


def posterior_of(source: Source) -> Posterior | None:
    """The posterior behind a source; None for the priors.

    Parameters
    ----------
    source : {'posterior', 'prior'}, path or Posterior

    Raises
    ------
    PosteriorError
        If there is none, it is damaged, or it belongs to another model.
    """
    if isinstance(source, Posterior):
        return source
    if source == "prior":
        return None
    return shipped_posterior() if source == "posterior" else read_posterior(source)
