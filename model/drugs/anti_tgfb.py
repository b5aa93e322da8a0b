"""TGF-β1 antibody, a single-pathway blocker with a published ceiling."""

from __future__ import annotations

from mscrenal.model.declare import Source
from mscrenal.model.drugs.base import Drug, scales

DRUG = Drug(
    name="anti-tgfb",
    title="TGF-β1 antibody",
    kind="research",
    effects=scales(
        "anti-tgfb",
        (
            (
                "psmad_synthesis",
                -0.6,
                0.15,
                "log ratio of Smad2/3 phosphorylation",
                Source("antitgfb_dbdb_2003", "58 % of the excess mesangium reversed in mice"),
            ),
        ),
    ),
    note="No renal benefit in patients (tgfbmab2017): the network must not need TGF-β alone.",
)
