"""Bone-marrow MSC: the reference, to which the relative numbers of all products refer."""

from __future__ import annotations

from mscrenal.model.products.base import RELATIVE, Product, allogeneic, defined

PRODUCT = Product(
    name="BM",
    title="Bone-marrow MSC",
    kind="cells",
    tissue="bone marrow",
    origin="either",
    note="The reference, chosen because most rodent (hickson2021: 65 % of 40 studies) and "
    "placebo-controlled human data on kidneys are of bone-marrow cells. Taken as a donor's cells; trials "
    "have used the patient's own as well (makhlough2017).",
    values={
        **{name: defined(1.0, "the reference: other products are measured against it") for name in RELATIVE},
        **allogeneic("taken as a donor's cells, the case in which repeated doses can sensitise"),
    },
)
