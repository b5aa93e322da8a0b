"""Rexlemestrocel-L: STRO-3-selected mesenchymal precursor cells."""

from __future__ import annotations

from mscrenal.model.products.base import Product, allogeneic, rescaled_class_prior

PRODUCT = Product(
    name="rexlemestrocel-L",
    title="Rexlemestrocel-L (STRO-3-selected precursors)",
    kind="cells",
    tissue="bone marrow, STRO-3+",
    origin="allogeneic",
    note="The product of packham2016 and skyler2015, whose outcomes are left to the calibration. No "
    "persistent donor-specific antibody in either after one dose; the incidence is a parameter of the host, "
    "so this is not entered twice.",
    values={
        **rescaled_class_prior(
            0.5,
            "bone-marrow stromal cells like the reference, selected by STRO-3 and less expanded; no "
            "head-to-head with unselected cells could be read, so centred on them with half the log-SD that "
            "another tissue gets",
        ),
        **allogeneic("a donor's cells"),
    },
    routes=("IV", "IA-renal"),
)
