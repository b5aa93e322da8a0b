"""Subtotal (five-sixths) nephrectomy."""

from __future__ import annotations

from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="subtotal-nephrectomy",
    title="Five-sixths nephrectomy",
    species=("rat", "mouse"),
    onset={"nephrons": 1 / 6, "podocytes": 1.0},
    established=False,
    note="Surgery takes five sixths of the nephrons; podocytes of the remaining glomeruli are whole.",
)
