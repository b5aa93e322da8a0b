"""CCR2 inhibitor, a single-pathway blocker with a published ceiling."""

from __future__ import annotations

from mscrenal.model.declare import Fitted
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="ccr2-inhibitor",
    title="CCR2 inhibitor",
    kind="research",
    effects=scales(
        "ccr2-inhibitor",
        (
            (
                "m1_recruitment",
                -0.1069,
                0.15,
                "log ratio of monocyte recruitment",
                Fitted(("dezeeuw2015",), "mscrenal.calibration.natural_history"),
            ),
        ),
    ),
    note="UACR -16 % and -10 % (dezeeuw2015); -15 % with a CCL2 antagonist (emapticap_t2d).",
)
