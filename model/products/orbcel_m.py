"""ORBCEL-M: CD362-selected bone-marrow MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic, rescaled_class_prior

PRODUCT = Product(
    name="ORBCEL-M",
    title="ORBCEL-M (CD362-selected BM-MSC)",
    kind="cells",
    tissue="bone marrow, CD362+",
    origin="allogeneic",
    note="The product of NEPHSTROM (perico2023, perico2023_interim), whose outcomes are left to the "
    "calibration.",
    values={
        **rescaled_class_prior(
            0.5,
            "bone-marrow stromal cells like the reference, selected by CD362; no head-to-head with "
            "unselected cells could be read, so centred on them with half the log-SD that another tissue "
            "gets",
        ),
        **allogeneic("a donor's cells"),
    },
    routes=("IV", "IA-renal"),
)
