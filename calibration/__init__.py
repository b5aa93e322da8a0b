"""Calibration: the evidence, the priors built from it, and draws of the parameters."""

from mscrenal.calibration.evidence import evidence_hash
from mscrenal.calibration.sampling import Draws, draws, numbered_normals, numbered_uniforms, stream

__all__ = ["Draws", "draws", "evidence_hash", "numbered_normals", "numbered_uniforms", "stream"]
