"""Metabolism: glucose, insulin sensitivity, β-cell function, insulin treatment, HbA1c and AGE."""

from __future__ import annotations

from mscrenal.model.declare import (
    Assumed,
    Fitted,
    LogitNormal,
    LogNormal,
    Parameter,
    Process,
    Quantity,
    Source,
    State,
)
from mscrenal.model.functions import excess, inhibited, saturating, stimulated
from mscrenal.model.processes.shorthand import gain, half, loss, rate_constant, synthesis

MODULE = "metabolism"

STATES = (
    State("glucose", "1", "mean plasma glucose", MODULE, symbol="G"),
    State("insulin_sensitivity", "1", "insulin sensitivity", MODULE, symbol="S_I"),
    State("beta_cells", "1", "β-cell function", MODULE, symbol="B"),
    State(
        "insulin",
        "1",
        "insulin given, relative to a healthy secretion",
        MODULE,
        healthy=0.0,
        start="anchor",
        symbol="I_{given}",
    ),
    State("glycation", "1", "glycated haemoglobin, as the glucose that red cells saw", MODULE, symbol="H"),
    State("age_products", "1", "advanced glycation end-products", MODULE, symbol="A"),
)

GLUCOSE_TURNOVER = rate_constant(
    "glucose_turnover",
    12.0,
    0.4,
    "turnover of the daily mean glucose",
    Assumed("hours; only its being fast matters"),
)
INSULIN_DEPENDENT = Parameter(
    "insulin_dependent",
    0.78,
    "1",
    "insulin-dependent share of glucose disposal in health",
    Source("tnf_microdialysis_stz", "untreated STZ rats reach 4 to 5 times normal glucose: 1/(1 - share)"),
    LogitNormal(0.2),
)
BETA_GLUCOSE_GAIN = gain("beta_glucose_gain", 4.0, "glucose-stimulated insulin secretion")
BETA_GLUCOSE_HALF = half("beta_glucose_half", 2.0, "glucose with half of the stimulated secretion")
SENSITIVITY_TURNOVER = rate_constant(
    "sensitivity_turnover",
    0.1,
    0.5,
    "change of insulin sensitivity",
    Assumed("a week: the course of insulin sensitivity under weight loss or steroids"),
)
RESISTANCE_TNF = Parameter(
    "resistance_tnf",
    0.35,
    "1",
    "largest fall of insulin sensitivity by TNF-α",
    Source("zang2022", "HbA1c and insulin need fall after cells; size assumed"),
    LogitNormal(0.6),
)
RESISTANCE_HALF = half(
    "resistance_half", 2.0, "systemic TNF-α with half of its effect on insulin sensitivity"
)
BETA_TURNOVER = rate_constant(
    "beta_turnover",
    0.02,
    0.5,
    "change of β-cell function",
    Assumed("weeks: insulin-free within 3 months in the case reports"),
)
TITRATION = rate_constant(
    "titration",
    0.02,
    0.5,
    "change of the insulin dose per relative excess of glucose",
    Assumed("doses are revised at visits weeks apart"),
)
HBA1C_TURNOVER = rate_constant(
    "hba1c_turnover",
    1 / 58.7,
    0.08,
    "renewal of haemoglobin: mean red-cell age 58.7 d",
    Source("khera2015", "abstract"),
)
AGE_TURNOVER = rate_constant(
    "age_turnover", 0.0087, 0.6, "turnover of AGE", Source("thomas2024", "model value 0.0087/d")
)

INSULIN_RESISTANCE = Parameter(
    "insulin_resistance",
    1.0,
    "1",
    "insulin sensitivity set by obesity and inheritance, relative to health",
    Assumed("set by the disease: 1 in health"),
    scope="insult",
)
BETA_SET = Parameter(
    "beta_set",
    1.0,
    "1",
    "β-cell function that the disease leaves (found from HbA1c)",
    Assumed("found"),
    scope="patient",
)
GLUCOSE_GOAL = Parameter(
    "glucose_goal",
    1.0,
    "1",
    "glucose at which the insulin dose is left alone (found: that of time 0)",
    Assumed("found"),
    scope="patient",
)


def glucose_disposal(
    glucose,
    glucose_turnover,
    insulin_dependent,
    insulin_sensitivity,
    beta_cells,
    insulin,
    beta_glucose_gain,
    beta_glucose_half,
):
    """Insulin-dependent and independent disposal of glucose."""
    secreted = beta_cells * stimulated(glucose, beta_glucose_gain, beta_glucose_half)
    return (
        glucose_turnover
        * glucose
        * (1 - insulin_dependent + insulin_dependent * insulin_sensitivity * (secreted + insulin))
    )


GLYCAEMIC_HALF = Parameter(
    "glycaemic_half",
    0.2287,
    "1",
    "excess of glucose with half of the glucose-dependent effect of SGLT2 inhibition",
    Fitted(("jongs2021", "oshima2020"), "mscrenal.calibration.natural_history"),
    LogNormal(0.3),
)


def glycaemic_drive(glucose, glycaemic_half):
    """How much a drug that works through glucose finds to work on: 0 in health, towards 1.

    A Hill exponent of 2 (assumed): without diabetes there is little, and at an HbA1c of 8.3 % hardly more than at 7.7 %.
    """
    return saturating(excess(glucose) ** 2, glycaemic_half**2)


QUANTITIES = (
    Quantity(
        "glycaemic_drive",
        "1",
        "glucose for a glucose-dependent drug to work on",
        glycaemic_drive,
        (GLYCAEMIC_HALF,),
        MODULE,
    ),
)

PROCESSES = (
    synthesis(
        "glucose",
        lambda glucose_turnover: glucose_turnover * 1,
        "hepatic output and intake of glucose",
        (GLUCOSE_TURNOVER,),
        MODULE,
    ),
    Process(
        "glucose_disposal",
        {"glucose": -1},
        glucose_disposal,
        "1/day",
        "disposal of glucose",
        (INSULIN_DEPENDENT, BETA_GLUCOSE_GAIN, BETA_GLUCOSE_HALF),
        MODULE,
    ),
    synthesis(
        "insulin_sensitivity",
        lambda sensitivity_turnover, insulin_resistance, tnf_serum, resistance_tnf, resistance_half: (
            sensitivity_turnover * insulin_resistance * inhibited(tnf_serum, resistance_tnf, resistance_half)
        ),
        "insulin sensitivity, worsened by TNF-α",
        (INSULIN_RESISTANCE, RESISTANCE_TNF, RESISTANCE_HALF),
        MODULE,
    ),
    loss("insulin_sensitivity", SENSITIVITY_TURNOVER, MODULE),
    synthesis(
        "beta_cells",
        lambda beta_turnover, beta_set: beta_turnover * beta_set,
        "renewal of β-cell function",
        (BETA_SET,),
        MODULE,
    ),
    loss("beta_cells", BETA_TURNOVER, MODULE),
    Process(
        "insulin_titration",
        {"insulin": +1},
        lambda titration, insulin, glucose, glucose_goal: titration * insulin * (glucose / glucose_goal - 1),
        "1/day",
        "insulin dose follows glucose",
        (TITRATION, GLUCOSE_GOAL),
        MODULE,
        paced=False,
    ),
    Process(
        "glycation",
        {"glycation": +1},
        lambda hba1c_turnover, glucose: hba1c_turnover * glucose,
        "1/day",
        "glycation of haemoglobin",
        (HBA1C_TURNOVER,),
        MODULE,
    ),
    Process(
        "red_cell_renewal",
        {"glycation": -1},
        lambda hba1c_turnover, glycation: hba1c_turnover * glycation,
        "1/day",
        "renewal of red cells",
        (),
        MODULE,
    ),
    synthesis(
        "age_products", lambda age_turnover, glucose: age_turnover * glucose, "formation of AGE", (), MODULE
    ),
    loss("age_products", AGE_TURNOVER, MODULE),
)
