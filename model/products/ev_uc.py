"""Vesicles of umbilical-cord MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, vesicles

PRODUCT = Product(
    name="EV-UC",
    title="Umbilical-cord MSC vesicles",
    kind="ev",
    tissue="umbilical cord (Wharton's jelly)",
    origin="allogeneic",
    note="Yield depends on the culture more than on the tissue (exo3d2020); the dose counts particles, so "
    "it does not enter. No human kidney trial of vesicles printed numbers that could be read: potency per "
    "particle is the class prior.",
    values=vesicles(),
)
