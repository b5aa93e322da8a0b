"""Pentoxifylline: TNF-α synthesis, with a published effect."""

from __future__ import annotations

from mscrenal.model.declare import Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="pentoxifylline",
    title="Pentoxifylline",
    kind="research",
    effects=scales(
        "pentoxifylline",
        (
            (
                "tnf_kidney_synthesis",
                -0.1789,
                0.3,
                "log ratio of renal TNF-α synthesis",
                Fitted(("navarro2015",), "mscrenal.calibration.natural_history"),
            ),
            (
                "nephron_loss",
                -1.188,
                0.2,
                "log ratio of nephron loss beyond TNF-α and albuminuria",
                Fitted(("navarro2015",), "mscrenal.calibration.natural_history"),
            ),
        ),
    ),
    # Urinary TNF-α fell by 11 %, too little to carry the gain by itself; an inhibitor of phosphodiesterases acts on
    # cyclic nucleotides in every renal cell. One open trial from one centre: the width says how far it binds.
    note="UACR -14.9 against +5.7 %, eGFR -2.1 against -6.5 over two years (navarro2015), open label.",
)
