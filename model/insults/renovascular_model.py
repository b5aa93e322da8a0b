"""Renovascular ischaemia in animals: a stenosis or clip on one artery, seen in the kidney behind it."""

from __future__ import annotations

from mscrenal.model.declare import LogitNormal, Parameter, Source
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="renovascular-model",
    title="Experimental renal artery stenosis",
    species=("rat", "mouse", "pig"),
    sets=(
        Parameter(
            "ischaemia",
            0.5,
            "1",
            "share of the renal blood flow lost",
            Source("franchi2015", "creatinine clearance 6.10 to 3.76 uL/min/g"),
            LogitNormal(0.3),
            "insult",
        ),
    ),
    established=False,
    note="The animal is healthy until the stenosis.",
)
