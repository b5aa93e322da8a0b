"""Adipose-tissue MSC."""

from __future__ import annotations

from mscrenal.model.declare import LogitNormal, LogNormal, Source
from mscrenal.model.products.base import Product, ProductValue, allogeneic

PRODUCT = Product(
    name="AD",
    title="Adipose-tissue MSC",
    kind="cells",
    tissue="adipose tissue",
    origin="either",
    note="Cell for cell the strongest suppressor of T cells in vitro, yet pooled diabetic rodents favour "
    "bone marrow and umbilical cord (hickson2021, direction only): the first is used here, the second left "
    "to the calibration. Taken as a donor's cells; a patient's own would not sensitise, suppress as well "
    "(hickson2021) and may make less VEGF (rvd_admsc2016).",
    values={
        **allogeneic("taken as a donor's cells, the case in which repeated doses can sensitise"),
        "viability": ProductValue(
            0.87,
            LogitNormal(0.5),  # 0.72 to 0.95: the hold at the bedside is rarely reported
            Source("nguyen2024", "between 0.93 just thawed and 0.80 after 1.5 h at the bedside"),
        ),
        "potency_immunomodulation": ProductValue(
            2.0,
            LogNormal.from_range(1.0, 4.0),
            (
                Source(
                    "ribeiro2013",
                    "lymphoblasts under PHA fall by 66 % with adipose, 45 % with bone-marrow cells",
                ),
                Source("melief2013", "about 3 bone-marrow cells suppress as one adipose cell"),
            ),
        ),
        "ev_yield": ProductValue(
            1.1,
            LogNormal.from_range(0.6, 2.0),
            Source("evyield_table2022", "vertical wheel, head to head: 3.1e11 against 2.8e11 particles"),
        ),
    },
)
