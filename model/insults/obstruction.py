"""Ureteric obstruction."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogitNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="obstruction",
    title="Unilateral ureteric obstruction (the obstructed kidney)",
    species=("rat", "mouse"),
    sets=(
        Parameter(
            "obstruction",
            0.95,
            "1",
            "degree of obstruction",
            Assumed("complete ligation"),
            LogitNormal(0.4),
            "insult",
        ),
    ),
    established=False,
    note="Describes the obstructed kidney; the other one keeps the animal's GFR.",
)
