"""Pirfenidone, an antifibrotic."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="pirfenidone",
    title="Pirfenidone",
    kind="research",
    effects=scales(
        "pirfenidone",
        (
            (
                "psmad_synthesis",
                -0.3,
                0.12,
                "log ratio of Smad2/3 phosphorylation",
                Assumed("partial inhibition of TGF-β signalling"),
            ),
            (
                "nephron_loss",
                -1.319,
                0.4,
                "log ratio of nephron loss beyond matrix",
                Fitted(("sharma2011",), "mscrenal.calibration.natural_history"),
            ),
            (
                "matrix_synthesis",
                -0.2,
                0.1,
                "log ratio of matrix formation",
                Assumed("antifibrotic by definition"),
            ),
        ),
    ),
    note="eGFR +3.3 (1200 mg) and -1.9 (2400 mg) against -2.2 (sharma2011), 25 a group.",
)
