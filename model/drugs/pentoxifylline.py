"""Pentoxifylline: TNF-α synthesis, with a published effect."""

from __future__ import annotations

from mscrenal.model.declare import Source
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
                -0.25,
                0.1,
                "log ratio of renal TNF-α synthesis",
                Source("navarro2015", "urinary TNF-α 16 to 14.3 ng/g"),
            ),
        ),
    ),
    note="UACR -14.9 against +5.7 %, eGFR -2.1 against -6.5 over two years (navarro2015), open label.",
)
