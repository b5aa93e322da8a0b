"""Vesicles of bone-marrow MSC."""

from __future__ import annotations

from mscrenal.model.declare import LogNormal, Source
from mscrenal.model.products.base import Product, ProductValue, vesicles

PRODUCT = Product(
    name="EV-BM",
    title="Bone-marrow MSC vesicles",
    kind="ev",
    tissue="bone marrow",
    origin="allogeneic",
    note="Potencies are per particle, relative to bone-marrow cells at the vesicle-cell equivalence, itself "
    "an uncertain parameter of exposure. Pooled acute injury finds no difference between vesicles and cells "
    "(liu2020evaki), so the median of the class prior stays 1.",
    values={
        **vesicles(),
        # Both doses are near the largest effect, where a ratio of effects says little of a ratio of
        # potencies: 95 % range 0.46-2.2.
        "potency_cytoprotection": ProductValue(
            1.0,
            LogNormal(0.4),
            Source(
                "bruno2009",
                "15 ug against 75000 cells: 92 % of BUN, 97 % of casts, 105 % of necrosis reversed by cells",
            ),
        ),
    },
)
