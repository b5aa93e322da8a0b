"""The patient's own adipose-tissue MSC, made to express GLP-1 and FGF21."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogNormal, Source
from mscrenal.model.products.ad import PRODUCT as AD
from mscrenal.model.products.base import Product, ProductValue, not_immunogenic

PRODUCT = Product(
    name="AD-GLP1-FGF21",
    title="Autologous adipose-tissue MSC with GLP-1 and FGF21",
    kind="cells",
    tissue="adipose tissue",
    origin="autologous",
    note="No fold effect of this modification could be read. The nearest direct knowledge is of apelin: "
    "glucose from 26 to 9.4 mmol/L in two weeks in diabetic rats (apelinwj2018, no control printed); ACE2 "
    "reached 85 % of the cells (ace2msc2020). The donor is the patient: suppression is kept (hickson2021), "
    "VEGF output is at risk (rvd_admsc2016). The metabolic factor lasts as long as the cells do.",
    values={
        **AD.values,
        **not_immunogenic("the patient's own cells; the transgenes are human"),
        # log-SD: that of AD (0.35) and of the diseased donor (0.5-1.5, 0.28) in quadrature
        "potency_immunomodulation": ProductValue(
            2.0,
            LogNormal(0.45),
            (
                Source("ribeiro2013", "as AD"),
                Source("melief2013", "as AD"),
                Source("hickson2021", "cells of diabetic kidney patients suppress T cells no less: times 1"),
            ),
        ),
        "potency_angiogenic": ProductValue(
            0.3,
            LogNormal.from_range(0.03, 1.0),
            Source(
                "rvd_admsc2016",
                "VEGF of patients' cells 0.03 of donors', reversed by hypoxia: a floor, not the median",
            ),
        ),
        # log-SD: that of the class (0.6) and of the gain (0.59) in quadrature
        "potency_metabolic": ProductValue(
            2.5,
            LogNormal(0.84),
            Assumed(
                "the class prior times a gain of 2.5 (0.8-8) for two glucose-lowering hormones: the "
                "direction is the purpose of the modification, the size a guess that includes no gain"
            ),
        ),
    },
    parent="AD",
)
