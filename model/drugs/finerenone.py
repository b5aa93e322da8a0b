"""Finerenone, a non-steroidal mineralocorticoid-receptor antagonist."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Fitted, Source
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="finerenone",
    title="Finerenone",
    kind="background",
    effects=scales(
        "finerenone",
        (
            (
                "pressure",
                -0.0388,
                0.005,
                "log ratio of glomerular pressure: the acute, reversible part",
                Source(
                    "goulooze2022",
                    "0.0475 (20 mg / 29.9 L/h)^0.555: 3.8 % in the typical patient; its skewed spread makes a mean of 5.8 %, the "
                    "simulated dip of 5.4 %",
                ),
            ),
            (
                "leak",
                -0.05996,
                0.15,
                "log ratio of the albumin leak beyond pressure",
                Fitted(("bakris2020", "agarwal2025"), "mscrenal.calibration.natural_history"),
            ),
            (
                "slit_synthesis",
                0.02301,
                0.06,
                "log ratio of the repair of the slit diaphragm: the part of its effect that wears off slowly",
                Fitted(("agarwal2025",), "mscrenal.calibration.natural_history"),
            ),
            (
                "m1_recruitment",
                -0.1,
                0.05,
                "log ratio of M1 recruitment: mineralocorticoid receptors of myeloid cells",
                Assumed("direction from the mechanism; size within what UACR leaves unexplained"),
            ),
            (
                "nephron_loss",
                -0.2878,
                0.15,
                "log ratio of nephron loss beyond albuminuria",
                Fitted(("bakris2020",), "mscrenal.calibration.natural_history"),
            ),
        ),
        modulated={
            "pressure": "haemodynamic_response",
            "leak": "drug_response",
            "slit_synthesis": "drug_response",
            "m1_recruitment": "drug_response",
            "nephron_loss": "drug_response",
        },
    ),
    note="Part of the benefit runs through albuminuria; what FIDELIO-DKD's endpoint asks for beyond is fitted.",
)
