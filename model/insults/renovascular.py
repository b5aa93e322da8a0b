"""Renovascular ischaemia in patients: atherosclerotic renal artery stenosis."""

from __future__ import annotations

from mscrenal.model.declare import LogitNormal, Parameter, Source
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="renovascular",
    title="Renovascular ischaemia",
    species=("human",),
    sets=(
        Parameter(
            "ischaemia",
            0.4,
            "1",
            "share of the renal blood flow lost",
            Source("saad2017", "flow of stenotic kidneys against matched controls; share rounded"),
            LogitNormal(0.3),
            "insult",
        ),
    ),
    note="The stenosis persists unless a scenario ends it.",
)
