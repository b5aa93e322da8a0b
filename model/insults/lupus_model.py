"""Murine lupus nephritis (MRL/lpr, NZB/W)."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="lupus-model",
    title="Murine lupus nephritis",
    species=("mouse",),
    sets=(
        Parameter(
            "lupus",
            1.5,
            "1",
            "drive of autoimmunity",
            Assumed("as active human disease"),
            LogNormal(0.3),
            "insult",
        ),
    ),
    established=False,
    note="Onset counts from the age at which antibodies rise.",
)
