"""Amniotic MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic

PRODUCT = Product(
    name="amnion-MSC",
    title="Amniotic MSC",
    kind="cells",
    tissue="amniotic membrane, mesenchymal layer",
    origin="allogeneic",
    note="No head-to-head could be read. Umbilical-cord and amniotic-fluid cells, pooled, did at least as "
    "well as bone marrow in diabetic rodents (hickson2021, direction only, not used).",
    values=allogeneic("a donor's cells; claims of low immunogenicity rest on no row that could be read"),
)
