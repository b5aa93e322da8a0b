"""SGLT2 inhibitor."""

from __future__ import annotations

from mscrenal.model.declare import Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="sglt2i",
    title="SGLT2 inhibitor",
    kind="background",
    effects=scales(
        "sglt2i",
        (
            (
                "pressure",
                -0.1257,
                0.008,
                "log ratio of glomerular pressure: the acute, reversible part",
                Fitted(
                    ("empakidney_slope", "heerspink2021a", "jardine2020"),
                    "mscrenal.calibration.natural_history",
                ),
            ),
            (
                "leak",
                0.008709,
                0.15,
                "log ratio of the albumin leak beyond pressure",
                Fitted(("jongs2021", "oshima2020", "agarwal2025"), "mscrenal.calibration.natural_history"),
            ),
            (
                "slit_synthesis",
                0.1007,
                0.06,
                "log ratio of the repair of the slit diaphragm: the part of its effect that wears off slowly",
                Fitted(("agarwal2025",), "mscrenal.calibration.natural_history"),
            ),
            (
                "nephron_loss",
                -0.5494,
                0.08,
                "log ratio of nephron loss beyond albuminuria",
                Fitted(
                    ("empakidney_slope", "jardine2020", "heerspink2021a", "goulooze2022", "perkovic2019"),
                    "mscrenal.calibration.natural_history",
                ),
            ),
        ),
        modulated={
            "pressure": "sglt2_haemodynamics",
            "leak": "glycaemic_response",
            "slit_synthesis": "glycaemic_response",
            "nephron_loss": "drug_response",
        },
    ),
    note="Slope halved in EMPA-KIDNEY, dip 6 %, UACR -29 to -35 %.",
)
