"""Kidney-derived MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, not_immunogenic

PRODUCT = Product(
    name="kidney",
    title="Kidney-derived MSC",
    kind="cells",
    tissue="kidney biopsy",
    origin="autologous",
    note="The human data (cizman2025, stavas2022) are of autologous selected renal cells, which are "
    "epithelial and not MSC, injected into the kidney: they inform natural history, not this product, which "
    "has no head-to-head.",
    values=not_immunogenic("grown from the patient's own biopsy"),
)
