"""Placental MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic

PRODUCT = Product(
    name="placenta",
    title="Placental MSC",
    kind="cells",
    tissue="placenta",
    origin="allogeneic",
    note="No head-to-head with bone marrow could be read; only a vesicle dose used in acute injury "
    "(evdose_table2022).",
    values=allogeneic("a donor's cells; claims of low immunogenicity rest on no row that could be read"),
)
