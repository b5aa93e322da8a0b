"""Conditioned medium of bone-marrow MSC."""

from __future__ import annotations

from mscrenal.model.products.base import Product, conditioned_medium, defined

PRODUCT = Product(
    name="CM-BM",
    title="Bone-marrow MSC conditioned medium",
    kind="medium",
    tissue="bone marrow",
    origin="allogeneic",
    note="Dosed as the cells that made it. Collected without an inflammatory signal, so unlicensed "
    "(aggarwal2005: licensing multiplies factors 3- to 10-fold); holds more VEGF than endothelium can "
    "answer (stempeucel2017).",
    values={
        **conditioned_medium(),
        "ev_yield": defined(1.0, "the medium of the reference holds the vesicles of the reference"),
    },
    routes=("IV", "IA-renal", "IP", "SC"),
)
