"""Vesicles of urine-derived stem cells."""

from __future__ import annotations

from mscrenal.model.products.base import Product, vesicles

PRODUCT = Product(
    name="EV-urine",
    title="Urine-derived stem-cell vesicles",
    kind="ev",
    tissue="urine",
    origin="either",
    note="No direct comparison could be read: everything that is not a definition rests on the class prior.",
    values=vesicles(),
)
