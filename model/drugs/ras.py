"""RAS blockade (ACE inhibitor or ARB)."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="ras",
    title="RAS blockade",
    kind="background",
    effects=scales(
        "ras",
        (
            (
                "pressure",
                -0.06,
                0.02,
                "log ratio of glomerular pressure: the acute, reversible part",
                Assumed("a dip of a few per cent on starting; the trials read here all had it at baseline"),
            ),
            (
                "leak",
                -0.2947,
                0.3,
                "log ratio of the albumin leak beyond pressure",
                Fitted(("brenner2001",), "mscrenal.calibration.natural_history"),
            ),
            (
                "nephron_loss",
                -0.1,
                0.06,
                "log ratio of nephron loss beyond albuminuria",
                Assumed(
                    "small: RENAAL's kidney failure tells it only together with the pace of its patients"
                ),
            ),
        ),
        modulated={"leak": "drug_response", "nephron_loss": "drug_response"},
    ),
    note="Proteinuria -35 % against placebo in RENAAL (brenner2001).",
)
