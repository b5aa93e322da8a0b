"""Vesicles of adipose-tissue MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, vesicles

PRODUCT = Product(
    name="EV-AD",
    title="Adipose-tissue MSC vesicles",
    kind="ev",
    tissue="adipose tissue",
    origin="either",
    note="In pigs, vesicles whose IL-10 was silenced lost the benefit (eirin2017ev): immunomodulation "
    "matters, by how much was not printed. The suppression of T cells by the living cells (AD) needs their "
    "answer to a signal and is not carried over.",
    values=vesicles(),
)
