"""Chronic kidney disease without diabetes: nephrons lost to whatever cause, the common path from there."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogitNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="nondiabetic-ckd",
    title="Chronic kidney disease without diabetes",
    species=("human",),
    sets=(
        Parameter(
            "primary_injury",
            0.57,
            "1",
            "tubular renewal lost to the primary disease",
            Assumed(
                "tubules as injured as those of diabetic kidneys; with it EMPA-KIDNEY's mixed placebo arm loses about 2.5 a year, 2.75 printed"
            ),
            LogitNormal(0.4),
            "insult",
        ),
    ),
    note="eGFR and UACR at time 0 place nephrons and podocytes; the primary disease, whatever it is, keeps tubules injured.",
)
