"""Urine-derived stem cells."""

from __future__ import annotations

from mscrenal.model.products.base import Product, not_immunogenic

PRODUCT = Product(
    name="urine",
    title="Urine-derived stem cells",
    kind="cells",
    tissue="urine",
    origin="autologous",
    note="Grown from the patient's own urine. No head-to-head could be read; what a diseased kidney sheds "
    "may be weaker, as CKD-donor marrow lost its effect on GFR (vankoppen2012bmc) while marrow of diabetic "
    "donors did not: the class prior covers both.",
    values=not_immunogenic("grown from the patient's own urine"),
)
