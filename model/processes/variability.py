"""What differs between patients and between species: random effects and the translation factor."""

from __future__ import annotations

from dataclasses import dataclass

from mscrenal.model.declare import Assumed, Fitted, Normal, Parameter, Provenance, Quantity, Source
from mscrenal.model.functions import exponential, skewed

MODULE = "variability"


@dataclass(frozen=True)
class RandomEffect:
    """Between-patient variation (IIV) of one mechanism: a normal variable, 0 in the typical patient.

    `sd` is in the unit of the parameter that carries it: an additive amount, or the SD of a logarithm.
    """

    name: str
    sd: float
    unit: str
    meaning: str
    source: Provenance


RANDOM_EFFECTS: dict[str, RandomEffect] = {
    effect.name: effect
    for effect in (
        RandomEffect(
            "eta_nephron",
            0.000193,
            "1/day",
            "drift of functioning nephrons beyond what the patient's state explains",
            Fitted(
                ("goulooze2022",), "mscrenal.calibration.natural_history"
            ),  # SD of slopes 2.94; grows with UACR^0.306
        ),
        RandomEffect(
            "eta_podocyte",
            1.02e-3,
            "1/day",
            "drift of log UACR beyond what the patient's state explains",
            Source(
                "goulooze2022",
                "SD of the progression rate 0.485 a year with a pull of 0.182 a year towards baseline: the constant "
                "rate, 0.374 a year, that gives the same spread after 3 years",
            ),
        ),
        RandomEffect(
            "eta_haemodynamic",
            0.913,
            "1",
            "response of glomerular pressure to a drug that lowers it (log)",
            Source(
                "goulooze2022",
                "variance 0.833 of the log size of finerenone's acute fall of eGFR (table S2); taken for the dips of SGLT2 "
                "inhibitors and GLP-1 agonists too: one afferent arteriole answers all of them",
            ),
        ),
        RandomEffect(
            "eta_response",
            1.015,
            "1",
            "response to SGLT2 inhibitors, finerenone and GLP-1 agonists beyond haemodynamics (log, before its skew)",
            Source(
                "goulooze2022",
                "variance 1.03 of finerenone's effect on log UACR, Box-Cox -0.955 (table S1): a few hardly respond, or do not "
                "take it; taken for the other two drugs and for the loss of nephrons as well",
            ),
        ),
        RandomEffect(
            "eta_potency",
            0.5,
            "1",
            "responsiveness to cells (log)",
            Assumed("responders and non-responders differ; no study separates patients from products"),
        ),
        RandomEffect(
            "eta_immunosuppression",
            0.9217,
            "1",
            "response of autoimmunity to immunosuppression (log)",
            Fitted(("almsaurora_ps", "anders2023"), "mscrenal.calibration.natural_history"),
        ),
        RandomEffect(
            "eta_sensitisation",
            1.2,
            "1",
            "readiness to form alloantibody (log)",
            Source(
                "sanabria2021",
                "one patient in nine has any antibody after a course: most have none, a few have much",
            ),
        ),
    )
}

ETAS = tuple(
    Parameter(
        effect.name, 0.0, effect.unit, effect.meaning, Assumed("0 in the typical patient"), scope="patient"
    )
    for effect in RANDOM_EFFECTS.values()
)
# Box-Cox 0.145 of the drift of eGFR (table S2) on an SD of 2.94: the tail of fast decliners is the longer one.
DRIFT_SKEW = Parameter(
    "drift_skew",
    0.4257 / 0.000193,
    "day",
    "skewness of the drift of nephrons: fast decliners are further from the typical patient than slow ones",
    Source(
        "goulooze2022", "Box-Cox 0.145 per mL/min/1.73 m2/year times the SD of 2.94: 0.426 SDs of eta_nephron"
    ),
)
# Box-Cox -0.545 of the progression of UACR (note of its variance, 0.235 a year²) on an SD of 0.485: the other tail is longer.
ALBUMINURIA_SKEW = Parameter(
    "albuminuria_skew",
    -0.2642 / 1.02e-3,
    "day",
    "skewness of the drift of albuminuria: who falls is further from the typical patient than who rises",
    Source("goulooze2022", "Box-Cox -0.545 per 1/year times the SD of 0.485: -0.264 SDs of eta_podocyte"),
)
DRIFT_SPREAD = Parameter(
    "drift_spread",
    1.0,
    "1",
    "spread of the drift of nephrons relative to a patient of 850 mg/g",
    Assumed("(UACR/850)^0.306 at time 0 (goulooze2022); 1 where there is no UACR"),
    scope="patient",
)
REABSORPTION = Parameter(
    "reabsorption_exponent",
    0.6816,
    "1",
    "exponent of the nephrons in the haemodynamic effect of an SGLT2 inhibitor",
    Fitted(
        ("oshima2020", "jardine2020", "empakidney_slope", "heerspink2021a"),
        "mscrenal.calibration.natural_history",
    ),
    Normal(0.4),  # wide: its rows stand in the likelihood as well (mscrenal.model.drugs.base.scales)
)
DIP_SPREAD = Parameter(
    "sglt2_dip_spread",
    0.4679,
    "1",
    "spread of the dip on an SGLT2 inhibitor relative to that on finerenone",
    Fitted(("oshima2020",), "mscrenal.calibration.natural_history"),
    Normal(0.1),
)
RESPONSE_SKEW = Parameter(
    "response_skew",
    -0.955,
    "1",
    "skewness of the response to drugs: non-responders are further from the typical patient than good responders",
    Source("goulooze2022", "Box-Cox -0.955 of finerenone's effect on UACR (table S1)"),
)
TRANSLATION = Parameter(
    "translation",
    1.0,
    "1",
    "effect of a dose per kg relative to rodents",
    Assumed("1 in rodents by definition; set by the species"),
    scope="species",
)


def eta_sensitisation_factor(eta_sensitisation):
    """The patient's own readiness to form alloantibody."""
    return exponential(eta_sensitisation)


def immunosuppression_response(eta_immunosuppression):
    """The patient's own response to immunosuppression."""
    return exponential(eta_immunosuppression)


def haemodynamic_response(eta_haemodynamic):
    """The patient's own haemodynamic response to a drug."""
    return exponential(eta_haemodynamic)


def sglt2_haemodynamics(haemodynamic_response, sglt2_dip_spread, nephrons, reabsorption_exponent):
    """Response of glomerular pressure to an SGLT2 inhibitor: more where more nephrons reabsorb glucose."""
    return haemodynamic_response**sglt2_dip_spread * nephrons**reabsorption_exponent


def drug_response(eta_response, response_skew):
    """The patient's own response to a drug beyond haemodynamics; 1 in the typical patient."""
    return exponential(skewed(eta_response, response_skew))


def glycaemic_response(glycaemic_drive, drug_response):
    """Response to a drug that works through glucose."""
    return glycaemic_drive * drug_response


def own_drift(eta_nephron, drift_skew, drift_spread):
    """The patient's own drift of nephrons, 1/day: 0 in the typical patient, skewed towards loss."""
    return drift_spread * skewed(eta_nephron, drift_skew)


def own_albuminuria_drift(eta_podocyte, albuminuria_skew):
    """The patient's own drift of log UACR, 1/day: 0 in the typical patient, skewed towards less."""
    return skewed(eta_podocyte, albuminuria_skew)


QUANTITIES = (
    Quantity(
        "haemodynamic_response",
        "1",
        "the patient's haemodynamic response to a drug",
        haemodynamic_response,
        (),
        MODULE,
    ),
    Quantity(
        "sglt2_haemodynamics",
        "1",
        "the patient's haemodynamic response to an SGLT2 inhibitor",
        sglt2_haemodynamics,
        (REABSORPTION, DIP_SPREAD),
        MODULE,
    ),
    Quantity(
        "drug_response",
        "1",
        "the patient's response to a drug beyond haemodynamics",
        drug_response,
        (RESPONSE_SKEW,),
        MODULE,
    ),
    Quantity(
        "glycaemic_response",
        "1",
        "the patient's response to a drug that works through glucose",
        glycaemic_response,
        (),
        MODULE,
    ),
    Quantity(
        "own_drift",
        "1/day",
        "the patient's own drift of nephrons",
        own_drift,
        (DRIFT_SKEW, DRIFT_SPREAD),
        MODULE,
    ),
    Quantity(
        "own_albuminuria_drift",
        "1/day",
        "the patient's own drift of log UACR",
        own_albuminuria_drift,
        (ALBUMINURIA_SKEW,),
        MODULE,
    ),
    Quantity(
        "immunosuppression_response",
        "1",
        "the patient's response to immunosuppression",
        immunosuppression_response,
        (),
        MODULE,
    ),
    Quantity(
        "eta_sensitisation_factor",
        "1",
        "the patient's readiness to form alloantibody",
        eta_sensitisation_factor,
        (),
        MODULE,
    ),
)
