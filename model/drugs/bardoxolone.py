"""Bardoxolone methyl, an Nrf2 activator."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, Source
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="bardoxolone",
    title="Bardoxolone",
    kind="research",
    effects=scales(
        "bardoxolone",
        (
            (
                "pressure",
                0.22,
                0.06,
                "log ratio of glomerular pressure: eGFR rises and comes back off treatment",
                Source("pergola2011", "+5.8 to +10.5 mL/min at an eGFR of 32"),
            ),
            ("nrf2_synthesis", 0.4, 0.15, "log ratio of Nrf2 activation", Assumed("the drug's target")),
        ),
    ),
    note="eGFR up by 6 to 10, yet no fewer kidney failures (pergola2011, dezeeuw2013).",
)
