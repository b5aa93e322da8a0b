"""Genetic obesity and diabetes (db/db, ob/ob, Zucker)."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="db-db",
    title="Genetic type 2 diabetes (db/db, Zucker)",
    species=("mouse", "rat"),
    sets=(
        Parameter(
            "insulin_resistance",
            0.3,
            "1",
            "insulin sensitivity left by leptin-receptor deficiency",
            Assumed("glucose three-fold with hyperinsulinaemia"),
            LogNormal(0.25),
            "insult",
        ),
        Parameter(
            "beta_set",
            0.6,
            "1",
            "β-cell function once it fails",
            Assumed("failing, not gone"),
            LogNormal(0.25),
            "insult",
        ),
    ),
    established=False,
    note="Onset counts from the age at which glucose rises.",
)
