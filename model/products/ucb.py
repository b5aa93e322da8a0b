"""Mononuclear cells of umbilical-cord blood."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal
from mscrenal.model.products.base import POTENCIES, Product, ProductValue, allogeneic, rescaled_class_prior

PRODUCT = Product(
    name="UCB",
    title="Cord-blood mononuclear cells",
    kind="cells",
    tissue="umbilical cord blood",
    origin="allogeneic",
    note="Blood cells with few stromal cells among them, so outside the class: nothing direct on potency "
    "could be read, and the class prior is widened by half.",
    values={
        **rescaled_class_prior(
            1.5,
            "mononuclear blood cells, not MSC: further from the reference than the class prior of MSC "
            "allows for",
            ("survival", "secretion", "ev_yield", *POTENCIES),
        ),
        **allogeneic("a donor's cells"),
        "homing": ProductValue(
            3.0,
            LogNormal(1.0),
            Assumed(
                "small round cells: mononuclear cells of bone marrow pass the rat lung 30 times as well as "
                "MSC (fischer2009), but passing the lung is not homing to the kidney; 95 % range 0.4 to 21"
            ),
        ),
    },
    routes=("IV", "IA-renal"),
)
