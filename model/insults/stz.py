"""Streptozotocin diabetes of rodents."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal, Parameter
from mscrenal.model.insults.base import Disease

DISEASE = Disease(
    name="stz",
    title="Streptozotocin diabetes",
    species=("rat", "mouse"),
    sets=(
        Parameter(
            "beta_set",
            0.05,
            "1",
            "β-cell function left by streptozotocin",
            Assumed("glucose rises four- to five-fold and stays"),
            LogNormal(0.5),
            "insult",
        ),
    ),
    onset={"beta_cells": 0.05},
    established=False,
    note="β cells die within days: the loss is a jump at the onset.",
)
