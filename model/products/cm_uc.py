"""Conditioned medium of umbilical-cord MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, conditioned_medium
from mscrenal.model.products.uc import PRODUCT as UC

PRODUCT = Product(
    name="CM-UC",
    title="Umbilical-cord MSC conditioned medium",
    kind="medium",
    tissue="umbilical cord (Wharton's jelly)",
    origin="allogeneic",
    note="Dosed as the cells that made it, unlicensed, with their vesicles (yield of UC). Suppression by "
    "the living cells needs their answer to a signal and is not carried over.",
    values={**conditioned_medium(), "ev_yield": UC.values["ev_yield"]},
    routes=("IV", "IA-renal", "IP", "SC"),
    parent="UC",
)
