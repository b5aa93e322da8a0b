"""Umbilical-cord MSC modified with miR-146a-5p."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal
from mscrenal.model.products.base import Product, ProductValue
from mscrenal.model.products.uc import PRODUCT as UC

PRODUCT = Product(
    name="UC-miR146a",
    title="Umbilical-cord MSC with miR-146a-5p",
    kind="cells",
    tissue="umbilical cord (Wharton's jelly)",
    origin="allogeneic",
    note="No fold effect of this modification could be read. What is known directly of modified MSC is of "
    "other genes: apelin lowered glucose in diabetic rats (apelinwj2018), ACE2 reached 85 % of the cells "
    "and did better on albuminuria, without numbers (ace2msc2020), complement regulators halved lysis "
    "(complement_bmsc). All else is as in UC.",
    values={
        **UC.values,
        # log-SD: that of UC (0.59) and of the gain (0.46) in quadrature
        "potency_immunomodulation": ProductValue(
            1.2,
            LogNormal(0.75),
            Assumed(
                "the potency of UC (0.8, ribeiro2013) times a gain of 1.5 (0.6-3.6) for silencing TRAF6 "
                "signalling: the direction is the purpose of the modification, the size a guess that "
                "includes no gain"
            ),
        ),
    },
    parent="UC",
)
