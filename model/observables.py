"""What people measure: functions of the states, in the units of the papers, with residual errors."""

from __future__ import annotations

import math
from typing import Any

from mscrenal.model.declare import Assumed, Fitted, Observable, Parameter, Provenance, Source
from mscrenal.model.functions import power_above, power_below
from mscrenal.model.processes.shorthand import renamed

__all__ = ["OBSERVABLES", "ckd_epi_2021"]


def _scale(name: str, value: float, unit: str, meaning: str, source: Provenance) -> Parameter:
    """A healthy absolute value; the species may set its own."""
    return Parameter(name, value, unit, meaning, source, scope="species")


def _covariate(name: str, value: float, unit: str, meaning: str) -> Parameter:
    return Parameter(name, value, unit, meaning, Assumed("a covariate of the patient"), scope="patient")


CKDEPI = Source("ckdepi2021", "equation of 2021, without race")
CKDEPI_SCALE = Parameter("ckdepi_scale", 142.0, "mL/min/1.73m2", "scale of CKD-EPI 2021", CKDEPI)
KAPPA = _covariate(
    "ckdepi_kappa",
    0.9,
    "mg/dL",
    "creatinine at which the CKD-EPI exponents change: 0.9 men, 0.7 women (ckdepi2021)",
)
ALPHA = _covariate(
    "ckdepi_alpha", -0.302, "1", "CKD-EPI exponent below kappa: -0.302 men, -0.241 women (ckdepi2021)"
)
SEX_FACTOR = _covariate("ckdepi_sex", 1.0, "1", "CKD-EPI factor: 1 men, 1.012 women (ckdepi2021)")
AGE = _covariate("age", 58.0, "1", "age in years, as the CKD-EPI equation takes it")
CREATININE_HEALTHY = _scale(
    "creatinine_healthy", 0.92, "mg/dL", "healthy serum creatinine", Source("hallow2021", "model parameter")
)
GFR_HEALTHY = _scale(
    "gfr_healthy", 115.0, "mL/min/1.73m2", "healthy GFR", Source("denic2017b", "mean of 1,388 donors")
)
EGFR_FROM_GFR = _scale(
    "egfr_from_gfr",
    0.0,
    "1",
    "1: the species has no CKD-EPI equation and eGFR stands for measured GFR; 0: CKD-EPI",
    Assumed("a switch"),
)
UACR_HEALTHY = _scale(
    "uacr_healthy",
    8.0,
    "mg/g",
    "healthy UACR",
    Assumed("within the 5 to 10 mg/g of healthy adults; no row of the tables gives it"),
)
PROTEIN_SCALE = _scale(
    "protein_per_uacr",
    0.0014,
    "g/day*g/mg",
    "24-h urine protein per UACR above the healthy",
    Assumed("about 1 g creatinine a day and albumin two thirds of pathological protein"),
)
PROTEIN_HEALTHY = _scale(
    "protein_healthy",
    0.08,
    "g/day",
    "healthy 24-h urine protein",
    Assumed("healthy adults lose below 0.15 g a day"),
)
BUN_HEALTHY = _scale(
    "bun_healthy",
    14.0,
    "mg/dL",
    "healthy blood urea nitrogen",
    Assumed("textbook value; no row of the tables gives it"),
)
IL6_HEALTHY = _scale(
    "il6_healthy",
    2.5,
    "pg/mL",
    "healthy serum IL-6 on the assay of DKD cohorts",
    (Source("sanchezalamo2021", "4.58 in DKD"), Source("said2021", "5.19 in health on mixed assays")),
)
TNF_HEALTHY = _scale(
    "tnf_healthy", 2.4, "pg/mL", "healthy serum TNF-α", Source("tompkins2017", "2.4 to 3.2 in frail elderly")
)
FIBROSIS_HEALTHY = _scale(
    "fibrosis_healthy",
    5.0,
    "percent",
    "healthy interstitial fibrosis area",
    Assumed("about 5 % stains in normal cortex"),
)
SCAR_WEIGHT = Parameter(
    "scar_weight",
    0.4,
    "1",
    "share of the stained area that is cross-linked in health",
    Assumed("between all fresh and all old"),
)
TREG_HEALTHY = _scale(
    "treg_healthy",
    3.0,
    "percent",
    "healthy Treg share of CD4 cells",
    (Source("sle_treg2018", "3.35 %"), Source("atmsc_cm_treg2012", "2.8 %")),
)
TH17_HEALTHY = _scale(
    "th17_healthy",
    1.0,
    "percent",
    "healthy Th17 share of CD4 cells",
    Assumed("about 1 %; no row of the tables gives it"),
)
EAG_HEALTHY = _scale(
    "eag_healthy", 97.0, "mg/dL", "healthy mean glucose (HbA1c 5.0 %)", Source("adag", "28.7 x 5.0 - 46.7")
)
EAG_SLOPE = Parameter(
    "eag_slope", 28.7, "mg/dL/percent", "mean glucose per per cent of HbA1c", Source("adag", "slope")
)
EAG_INTERCEPT = Parameter(
    "eag_intercept", 46.7, "mg/dL", "intercept of mean glucose on HbA1c", Source("adag", "intercept")
)
FASTING_HEALTHY = _scale(
    "fasting_healthy",
    90.0,
    "mg/dL",
    "healthy fasting glucose",
    Assumed("textbook value; no row of the tables gives it"),
)
INSULIN_START = Parameter(
    "insulin_start",
    1.0,
    "1",
    "insulin dose at time 0 (found; 1 where none is given)",
    Assumed("found"),
    scope="patient",
)
SLEDAI_SCALE = Parameter(
    "sledai_scale",
    15.0,
    "1",
    "SLEDAI at an autoimmune activity of 1",
    Source("wang2014", "baseline SLEDAI of active lupus"),
)
C3_HEALTHY = _scale(
    "c3_healthy", 110.0, "mg/dL", "healthy C3", Assumed("middle of the usual reference interval")
)
CELLS_UNIT = Parameter("cells_per_mcell", 1e6, "cell/Mcell", "cells in a million", Assumed("a unit"))


def ckd_epi_2021(creatinine_mg_dl: Any, kappa: Any, alpha: Any, sex: Any, age: Any) -> Any:
    """CKD-EPI 2021 over its scale of 142 mL/min/1.73 m², from serum creatinine (mg/dL), age (years) and the constants of the sex.

    Source: ckdepi2021. Strictly falling in creatinine.
    """
    ratio = creatinine_mg_dl / kappa
    return power_below(ratio, alpha) * power_above(ratio, -1.2) * 0.9938**age * sex


def _fold(
    name: str, state: str, meaning: str, label: str, better: Any = "lower", unit: str = "1"
) -> Observable:
    return Observable(name, unit, meaning, renamed(lambda x: x * 1, x=state), better=better, label=label)


def _cells(organ: str, meaning: str) -> Observable:
    formula = renamed(lambda total, cells_per_mcell: total * cells_per_mcell, total=f"total_{organ}")
    return Observable(f"cells_{organ}", "cell/kg", meaning, formula, (CELLS_UNIT,), label=f"Cells, {organ}")


EGFR_ERROR = {"proportional": 0.1005, "additive": 1.418}
FIDELIO_ERROR = Source(
    "goulooze2022",
    "proportional variance 0.0101, additive variance 2.01; the size of both differs between patients: variance 0.0898 of "
    "its logarithm, Box-Cox 1.06 (table S2)",
)

OBSERVABLES = (
    Observable(
        "egfr",
        "mL/min/1.73m2",
        "estimated GFR, CKD-EPI 2021",
        lambda creatinine, creatinine_healthy, ckdepi_kappa, ckdepi_alpha, ckdepi_sex, age, gfr, gfr_healthy, egfr_from_gfr, ckdepi_scale: (
            (1 - egfr_from_gfr)
            * ckdepi_scale
            * ckd_epi_2021(creatinine * creatinine_healthy, ckdepi_kappa, ckdepi_alpha, ckdepi_sex, age)
            + egfr_from_gfr * gfr_healthy * gfr
        ),
        (CREATININE_HEALTHY, KAPPA, ALPHA, SEX_FACTOR, AGE, GFR_HEALTHY, EGFR_FROM_GFR, CKDEPI_SCALE),
        EGFR_ERROR,
        FIDELIO_ERROR,
        "higher",
        "eGFR",
        (math.sqrt(0.0898), 1.06),
        15.8,
        Fitted(("oshima2020",), "mscrenal.calibration.natural_history"),
    ),
    Observable(
        "mgfr",
        "mL/min/1.73m2",
        "measured GFR",
        lambda gfr, gfr_healthy: gfr_healthy * gfr,
        (),
        {"proportional": 0.08},
        Assumed("clearance methods repeat within about 8 %"),
        "higher",
        "Measured GFR",
    ),
    Observable(
        "uacr",
        "mg/g",
        "urine albumin to creatinine ratio",
        lambda leak, uacr_healthy: uacr_healthy * leak,
        (UACR_HEALTHY,),
        {"proportional": 0.375},
        Source("goulooze2022", "log residual SD 0.375"),
        "lower",
        "UACR",
    ),
    Observable(
        "urine_protein_24h",
        "g/day",
        "24-h urine protein",
        lambda leak, uacr_healthy, protein_per_uacr, protein_healthy: (
            protein_healthy + protein_per_uacr * uacr_healthy * (leak - 1) * 1
        ),
        (PROTEIN_SCALE, PROTEIN_HEALTHY),
        {"proportional": 0.4},
        Assumed("as UACR"),
        "lower",
        "24-h protein",
    ),
    Observable(
        "serum_creatinine",
        "mg/dL",
        "serum creatinine",
        lambda creatinine, creatinine_healthy: creatinine_healthy * creatinine,
        (),
        {"proportional": 0.052},
        Source("frontmed2022_crvar", "within-person CV 5.2 %"),
        "lower",
        "Serum creatinine",
    ),
    Observable(
        "bun",
        "mg/dL",
        "blood urea nitrogen, inverse to GFR",
        lambda gfr, bun_healthy: bun_healthy / gfr,
        (BUN_HEALTHY,),
        {"proportional": 0.15},
        Assumed("diet adds to the assay"),
        "lower",
        "BUN",
    ),
    Observable(
        "il6_serum",
        "pg/mL",
        "serum IL-6",
        lambda il6_serum, il6_healthy: il6_healthy * il6_serum,
        (IL6_HEALTHY,),
        {"proportional": 0.4},
        Assumed("within-person variation of cytokines"),
        "lower",
        "Serum IL-6",
    ),
    Observable(
        "tnfa_serum",
        "pg/mL",
        "serum TNF-α",
        lambda tnf_serum, tnf_healthy: tnf_healthy * tnf_serum,
        (TNF_HEALTHY,),
        {"proportional": 0.3},
        Assumed("within-person variation of cytokines"),
        "lower",
        "Serum TNF-α",
    ),
    _fold("il6_kidney", "il6_kidney", "renal IL-6, fold of healthy", "Renal IL-6"),
    _fold("tnfa_kidney", "tnf_kidney", "renal TNF-α, fold of healthy", "Renal TNF-α"),
    _fold("il10_kidney", "il10_kidney", "renal IL-10, fold of healthy", "Renal IL-10", "higher"),
    _fold("il1b_kidney", "il1b", "renal IL-1β, fold of healthy", "Renal IL-1β"),
    _fold("mcp1_kidney", "mcp1", "renal MCP-1, fold of healthy", "Renal MCP-1"),
    _fold("tgfb1_kidney", "tgfb_kidney", "renal TGF-β1, fold of healthy", "Renal TGF-β1"),
    _fold("tgfb1_serum", "tgfb_serum", "blood TGF-β1, fold of healthy", "Blood TGF-β1", "neither"),
    _fold("psmad3_kidney", "psmad", "renal phospho-Smad2/3, fold of healthy", "pSmad2/3"),
    _fold("smad7_kidney", "smad7", "renal Smad7, fold of healthy", "Smad7", "neither"),
    _fold(
        "collagen1_kidney",
        "matrix",
        "renal collagen and other degradable matrix, fold of healthy",
        "Renal matrix",
    ),
    _fold("asma_kidney", "myofibroblasts", "renal α-smooth-muscle actin, fold of healthy", "α-SMA"),
    _fold("ros_kidney", "ros", "renal oxidant stress, fold of healthy", "ROS"),
    _fold("nrf2_kidney", "nrf2", "renal Nrf2 activity, fold of healthy", "Nrf2", "higher"),
    _fold("vegf_kidney", "vegf", "renal VEGF, fold of healthy", "VEGF", "neither"),
    _fold(
        "capillary_density",
        "capillaries",
        "capillary density, fold of healthy",
        "Capillary density",
        "higher",
    ),
    _fold("podocyte_number", "podocytes", "podocytes, fold of healthy", "Podocytes", "higher"),
    _fold("nephrons", "nephrons", "functioning nephrons, share of healthy", "Nephrons", "higher"),
    _fold("m1_macrophage", "m1", "M1 macrophages, fold of healthy", "M1 macrophages"),
    _fold("m2_macrophage", "m2", "M2 macrophages, fold of healthy", "M2 macrophages", "neither"),
    Observable(
        "m1m2_ratio",
        "1",
        "M1 to M2 ratio, fold of healthy",
        lambda m1, m2: m1 / m2,
        better="lower",
        label="M1/M2 ratio",
    ),
    Observable(
        "fibrosis_area",
        "percent",
        "interstitial fibrosis area",
        lambda matrix, scar, scar_weight, fibrosis_healthy: (
            fibrosis_healthy * ((1 - scar_weight) * matrix + scar_weight * scar)
        ),
        (SCAR_WEIGHT, FIBROSIS_HEALTHY),
        {"proportional": 0.25},
        Assumed("biopsy sampling"),
        "lower",
        "Fibrosis area",
    ),
    Observable(
        "treg_percent",
        "percent",
        "Treg among CD4 cells",
        lambda treg, treg_healthy: treg_healthy * treg,
        (TREG_HEALTHY,),
        {"proportional": 0.2},
        Assumed("cytometry"),
        "higher",
        "Treg",
    ),
    Observable(
        "th17_percent",
        "percent",
        "Th17 among CD4 cells",
        lambda th17, th17_healthy: th17_healthy * th17,
        (TH17_HEALTHY,),
        {"proportional": 0.25},
        Assumed("cytometry"),
        "lower",
        "Th17",
    ),
    Observable(
        "hba1c",
        "percent",
        "HbA1c (NGSP)",
        lambda glycation, eag_healthy, eag_slope, eag_intercept: (
            (eag_healthy * glycation + eag_intercept) / eag_slope
        ),
        (EAG_HEALTHY, EAG_SLOPE, EAG_INTERCEPT),
        {"additive": 0.2},
        Assumed("assay and week-to-week variation"),
        "lower",
        "HbA1c",
    ),
    Observable(
        "fasting_glucose",
        "mg/dL",
        "fasting plasma glucose",
        lambda glucose, fasting_healthy: fasting_healthy * glucose,
        (FASTING_HEALTHY,),
        {"proportional": 0.1},
        Assumed("day-to-day variation"),
        "lower",
        "Fasting glucose",
    ),
    Observable(
        "insulin_dose",
        "percent",
        "insulin dose, per cent of that at time 0",
        lambda insulin, insulin_start: 100 * insulin / insulin_start,
        (INSULIN_START,),
        better="lower",
        label="Insulin dose",
    ),
    Observable(
        "sledai",
        "1",
        "SLEDAI-like activity score",
        lambda autoimmunity, sledai_scale: sledai_scale * autoimmunity,
        (SLEDAI_SCALE,),
        {"additive": 1.5},
        Assumed("items score in steps of 1 to 8"),
        "lower",
        "SLEDAI",
    ),
    Observable(
        "c3",
        "mg/dL",
        "complement C3",
        lambda c3, c3_healthy: c3_healthy * c3,
        (C3_HEALTHY,),
        {"proportional": 0.1},
        Assumed("assay and biology"),
        "higher",
        "C3",
    ),
    _cells("blood", "living cells in blood"),
    _cells("lung", "living cells in the lungs"),
    _cells("liver", "living cells in liver, spleen and other organs"),
    _cells("kidney", "living cells in the kidneys"),
    _cells("depot", "living cells at the injection site"),
)
