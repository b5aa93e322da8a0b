"""Dental-pulp stem cells (SHED)."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic

PRODUCT = Product(
    name="dental",
    title="Dental-pulp stem cells",
    kind="cells",
    tissue="dental pulp of shed deciduous teeth",
    origin="allogeneic",
    note="No head-to-head could be read. Adults get banked donor cells, as the teeth are a child's.",
    values=allogeneic("banked donor cells in adults"),
)
