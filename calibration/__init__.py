"""Calibration: the evidence, the posterior that was learnt from it, and draws of the parameters."""

from mscrenal.calibration.evidence import evidence_hash
from mscrenal.calibration.posterior import Posterior, PosteriorError, read_posterior, shipped_posterior
from mscrenal.calibration.sampling import (
    Draws,
    draws,
    numbered_normals,
    numbered_uniforms,
    prior_draws,
    stream,
)

__all__ = [
    "Draws",
    "Posterior",
    "PosteriorError",
    "draws",
    "evidence_hash",
    "numbered_normals",
    "numbered_uniforms",
    "prior_draws",
    "read_posterior",
    "shipped_posterior",
    "stream",
]
