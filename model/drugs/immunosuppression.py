"""Immunosuppression for lupus nephritis."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Fitted, Source
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="immunosuppression",
    title="Immunosuppression (mycophenolate or cyclophosphamide, steroid)",
    kind="background",
    effects=scales(
        "immunosuppression",
        (
            (
                "autoimmunity_synthesis",
                -0.299,
                0.25,
                "log ratio of autoimmune activity",
                Fitted(("almsaurora_ps", "anders2023"), "mscrenal.calibration.natural_history"),
            ),
            ("m1_recruitment", -0.2, 0.1, "log ratio of M1 recruitment", Assumed("steroid")),
            ("tnf_kidney_synthesis", -0.2, 0.1, "log ratio of renal TNF-α synthesis", Assumed("steroid")),
            (
                "alloimmune_priming",
                -1.6,
                0.4,
                "log ratio of alloimmune priming",
                Source(
                    "sanabria2021",
                    "antibody fell about five-fold where hosts were immunosuppressed; animals 18 %",
                ),
            ),
        ),
        modulated={"autoimmunity_synthesis": "immunosuppression_response"},
    ),
    note="Half of the patients on standard induction halve their proteinuria within 6 months (almsaurora_ps).",
)
