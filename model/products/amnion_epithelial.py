"""Amniotic epithelial cells."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic, rescaled_class_prior

PRODUCT = Product(
    name="amnion-epithelial",
    title="Amniotic epithelial cells",
    kind="cells",
    tissue="amniotic membrane, epithelium",
    origin="allogeneic",
    note="Epithelial, so outside the class of MSC: nothing direct could be read, and the class prior is "
    "widened by half.",
    values={
        **rescaled_class_prior(
            1.5, "epithelial cells, not MSC: further from the reference than the class prior allows for"
        ),
        **allogeneic("a donor's cells; claims of low immunogenicity rest on no row that could be read"),
    },
)
