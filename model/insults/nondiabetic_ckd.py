"""Chronic kidney disease without diabetes: nephrons lost to whatever cause, the common path from there."""

from __future__ import annotations

from mscrenal.model.declare import Fitted, LogitNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="nondiabetic-ckd",
    title="Chronic kidney disease without diabetes",
    species=("human",),
    sets=(
        Parameter(
            "primary_injury",
            0.4673,
            "1",
            "tubular renewal lost to the primary disease",
            Fitted(("empakidney_slope",), "mscrenal.calibration.natural_history"),
            LogitNormal(0.4),
            "insult",
        ),
    ),
    note="eGFR and UACR at time 0 place nephrons and podocytes; the primary disease, whatever it is, keeps tubules injured.",
)
