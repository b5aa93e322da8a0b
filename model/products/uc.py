"""Umbilical-cord (Wharton's jelly) MSC."""

from __future__ import annotations

from mscrenal.model.declare import LogitNormal, LogNormal, Source
from mscrenal.model.products.base import Product, ProductValue, allogeneic

PRODUCT = Product(
    name="UC",
    title="Umbilical-cord MSC",
    kind="cells",
    tissue="umbilical cord (Wharton's jelly)",
    origin="allogeneic",
    note="Reports on suppression conflict: weakest of three tissues under PHA (ribeiro2013), hence the wide "
    "prior. HGF expression 55-fold that of bone marrow (bartolucci2017) is one factor in vitro, an upper "
    "bound and not a potency: it is not used. No antibodies in 15 patients after one dose (bartolucci2017).",
    values={
        **allogeneic("always a donor's cells in adults"),
        "viability": ProductValue(
            0.88,
            LogitNormal(0.5),  # 0.73 to 0.95: the hold at the bedside is rarely reported
            Source("nguyen2024", "between 0.94 just thawed and 0.81 after 1.5 h at the bedside"),
        ),
        # The ratio as read is 0.36; the median is pulled up, and the range reaches 3, because another study
        # (DOI 10.7603/s40730-016-0029-1, words only) ranks umbilical cord first.
        "potency_immunomodulation": ProductValue(
            0.8,
            LogNormal.from_range(0.3, 3.0),
            Source(
                "ribeiro2013",
                "lymphoblasts under PHA fall by 16 % with cord, 45 % with bone marrow; SD 19 points",
            ),
        ),
        "ev_yield": ProductValue(
            1.3,
            LogNormal.from_range(0.7, 2.5),
            Source(
                "evyield_table2022",
                "vertical wheel, head to head: 4.1e11 against 2.8e11 particles, shrunk to 1",
            ),
        ),
    },
)
