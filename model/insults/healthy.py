"""Health: nothing drives the network."""

from __future__ import annotations

from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="healthy",
    title="Healthy",
    species=("human", "rat", "mouse", "pig"),
    note="Stands still by construction.",
)
