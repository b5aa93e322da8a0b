"""Type 2 diabetes with kidney disease, as patients arrive with it."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="diabetic",
    title="Type 2 diabetes with kidney disease",
    species=("human",),
    sets=(
        Parameter(
            "insulin_resistance",
            0.55,
            "1",
            "insulin sensitivity set by obesity and inheritance",
            Assumed("about half of normal in type 2 diabetes; HbA1c fixes the rest through β-cell function"),
            LogNormal(0.15),
            "insult",
        ),
    ),
    note="HbA1c at time 0 fixes β-cell function; duration fixes how far slow states have come.",
)
