"""Lupus nephritis."""

from __future__ import annotations

from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="lupus",
    title="Lupus nephritis",
    species=("human",),
    anchors={"sledai": "lupus"},
    note="SLEDAI at time 0 fixes the autoimmune drive.",
)
