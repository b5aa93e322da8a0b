"""SGLT2 inhibitor."""

from __future__ import annotations

from mscrenal.model.declare import Fitted, Source
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
                -0.0574,
                0.005,
                "log ratio of glomerular pressure: the acute, reversible part",
                Source("goulooze2022", "acute effect on eGFR -5.58 %"),
            ),
            (
                "leak",
                -0.3479,
                0.05,
                "log ratio of the albumin leak beyond pressure",
                Fitted(("jongs2021", "oshima2020", "agarwal2025"), "mscrenal.calibration.natural_history"),
            ),
            (
                "nephron_loss",
                -0.3601,
                0.08,
                "log ratio of nephron loss beyond albuminuria",
                Fitted(("empakidney_slope",), "mscrenal.calibration.natural_history"),
            ),
        ),
        modulated={"leak": "glycaemic_drive"},
    ),
    note="Slope halved in EMPA-KIDNEY, dip 6 %, UACR -29 to -35 %.",
)
