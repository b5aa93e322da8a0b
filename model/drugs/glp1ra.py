"""GLP-1 receptor agonist."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="glp1ra",
    title="GLP-1 receptor agonist",
    kind="background",
    effects=scales(
        "glp1ra",
        (
            (
                "pressure",
                -0.015,
                0.01,
                "log ratio of glomerular pressure: the acute, reversible part",
                Assumed("a small early dip"),
            ),
            (
                "leak",
                -0.15,
                0.06,
                "log ratio of the albumin leak",
                Assumed("UACR falls by a quarter at most; FLOW's UACR was not readable"),
            ),
            (
                "insulin_sensitivity_synthesis",
                0.15,
                0.06,
                "log ratio of insulin sensitivity",
                Assumed("weight loss and lower glucagon"),
            ),
            (
                "tnf_serum_synthesis",
                -0.1,
                0.06,
                "log ratio of systemic TNF-α synthesis",
                Assumed("weight loss"),
            ),
            (
                "il6_serum_synthesis",
                -0.1,
                0.06,
                "log ratio of systemic IL-6 synthesis",
                Assumed("weight loss"),
            ),
            (
                "nephron_loss",
                -0.4321,
                0.08,
                "log ratio of nephron loss beyond albuminuria",
                Fitted(("perkovic2024",), "mscrenal.calibration.natural_history"),
            ),
        ),
        modulated={
            "pressure": "haemodynamic_response",
            "leak": "drug_response",
            "nephron_loss": "drug_response",
        },
    ),
    note="Total slope -2.19 against -3.36 in FLOW (perkovic2024).",
)
