"""Kidney: glomerular pressure, filtration barrier, tubules, capillaries, nephrons, GFR, creatinine, albumin."""

from __future__ import annotations

from mscrenal.model.declare import (
    Assumed,
    Fitted,
    LogitNormal,
    LogNormal,
    Normal,
    Parameter,
    Process,
    Quantity,
    Source,
    State,
)
from mscrenal.model.functions import excess, inhibited, saturating, stimulated
from mscrenal.model.processes.shorthand import gain, half, loss, rate_constant, synthesis

MODULE = "kidney"

STATES = (
    State("slit", "1", "integrity of the slit diaphragm and the foot processes", MODULE, symbol="D"),
    State(
        "podocytes",
        "1",
        "podocytes: number and quality of the barrier they keep",
        MODULE,
        start="anchor",
        symbol="P",
    ),
    State("tubules", "1", "integrity of the tubular cells", MODULE, symbol="U"),
    State("vegf", "1", "VEGF in the kidney", MODULE, symbol="E"),
    State("capillaries", "1", "peritubular and glomerular capillaries", MODULE, symbol="C"),
    State("nephrons", "1", "functioning nephrons", MODULE, start="anchor", symbol="N"),
    State("creatinine", "1", "serum creatinine", MODULE, start="anchor", symbol="K"),
)

NATURAL_HISTORY = "mscrenal.calibration.natural_history"
FIDELIO = Fitted(
    (
        "goulooze2022",
        "perkovic2024",
        "jardine2020",
        "navarro2015",
        "brenner2001",
        "bakris2020",
        "perkovic2019",
    ),
    NATURAL_HISTORY,
)

# --- haemodynamics
HYPERFILTRATION = Parameter(
    "hyperfiltration",
    0.7,
    "1",
    "largest glucose-driven rise of single-nephron filtration, all nephrons present",
    Source("slaughter2013", "GFR +42 % in STZ rats at 9 weeks"),
    LogNormal(0.25),
)
HYPERFILTRATION_HALF = Parameter(
    "hyperfiltration_half",
    1.5,
    "1",
    "excess of glucose with half of the hyperfiltration",
    Source("looker2019", "mean GFR 156 mL/min in early type 2 diabetes"),
    LogNormal(0.3),
)
COMPENSATION = Parameter(
    "compensation",
    0.7,
    "1",
    "rise of single-nephron filtration per share of nephrons lost",
    Assumed("a kidney donor keeps about two thirds of the GFR: 0.5 × (1 + 0.7 × 0.5) = 0.68"),
    LogNormal(0.15),
)
FILTRATION_CAPILLARY = Parameter(
    "filtration_capillary",
    0.1,
    "1",
    "capillary density with half of the filtration coefficient's excess over proportionality",
    Source("mvdensity_stz_2012", "GFR still raised with three quarters of the capillaries lost"),
    LogNormal(0.5),
)
ISCHAEMIA = Parameter(
    "ischaemia",
    0.0,
    "1",
    "share of the renal blood flow lost to a stenosis",
    Assumed("set by the disease: 0 in health"),
    scope="insult",
)
PRIMARY_INJURY = Parameter(
    "primary_injury",
    0.0,
    "1",
    "tubular renewal lost to a kidney disease other than those modelled",
    Assumed("set by the disease: 0 in health"),
    scope="insult",
)
OBSTRUCTION = Parameter(
    "obstruction",
    0.0,
    "1",
    "degree of ureteric obstruction",
    Assumed("set by the disease: 0 in health"),
    scope="insult",
)

# --- filtration barrier and albumin
LEAK_PRESSURE = Parameter(
    "leak_pressure",
    2.0,
    "1",
    "exponent of glomerular pressure in the albumin leak",
    Assumed("albuminuria responds more than proportionally to pressure under RAS blockade"),
    LogNormal(0.2),
)
LEAK_SLIT = Parameter(
    "leak_slit",
    3.0,
    "1",
    "exponent of slit-diaphragm integrity in the albumin leak",
    Source("nlrp3_dn_rat", "nephrin to 21 % goes with a manifold rise of albumin"),
    LogNormal(0.2),
)
LEAK_PODOCYTE = Parameter(
    "leak_podocyte",
    4.0,
    "1",
    "exponent of podocytes in the albumin leak",
    Source("diabetologia1999_podocyte", "podocyte number against UACR over 4 years"),
    LogNormal(0.2),
)
LEAK_CEILING = Parameter(
    "leak_ceiling",
    2500.0,
    "1",
    "largest albumin excretion, relative to health (20 g/g in people)",
    Assumed(
        "chosen above the largest values read, 11,852 mg/g among 3,534 patients (rossing2023) and over 15,000 ug a day in "
        "mice from 305 (ove26_2004)"
    ),
    LogNormal(0.2),
)
SLIT_TURNOVER = rate_constant(
    "slit_turnover",
    0.035,
    0.4,
    "repair of the slit diaphragm",
    (
        Source("agarwal2025", "most of a reversible fall is back 30 d after stopping"),
        Source("ucmsc_dn_rat_2017", "1 to 2 weeks in rats"),
    ),
)
SLIT_TNF = Parameter(
    "slit_tnf",
    0.75,
    "1",
    "largest fall of slit repair by TNF-α",
    Assumed("partial; navarro2015 shows the size of a TNF effect on albuminuria"),
    LogitNormal(0.5),
)
SLIT_ROS = Parameter(
    "slit_ros", 0.6, "1", "largest fall of slit repair by ROS", Assumed("partial"), LogitNormal(0.5)
)
SLIT_TGFB = Parameter(
    "slit_tgfb",
    0.3,
    "1",
    "largest fall of slit repair by TGF-β1",
    Source("tgfbmab2017", "blocking TGF-β1 did not help: small"),
    LogitNormal(0.5),
)
SLIT_COMPLEX = Parameter(
    "slit_complex",
    0.92,
    "1",
    "largest fall of slit repair by immune complexes",
    Assumed(
        "chosen by hand (0.8 before) so that most of lupus proteinuria can reverse within months, as it does in "
        "almsaurora_ps; not fitted"
    ),
    LogitNormal(0.5),
)
DEPOSIT_HALF = Parameter(
    "deposit_half",
    0.5,
    "1",
    "immune complexes with half of their effect on the slit diaphragm",
    Assumed("half of the deposits of active lupus nephritis"),
    LogNormal(0.4),
)
SLIT_VEGF = Parameter(
    "slit_vegf",
    0.15,
    "1",
    "largest fall of slit repair by an excess of VEGF",
    Assumed("VEGF in excess raises permeability; small"),
    LogitNormal(0.6),
)
PODOCYTE_LOSS = Parameter(
    "podocyte_loss_rate", 1.639e-05, "1/day", "loss of podocytes per unit of stress", FIDELIO, LogNormal(0.3)
)
PODOCYTE_REFERENCE = Parameter(
    "podocyte_reference",
    0.44,
    "1",
    "podocytes at which the rate of their loss is stated",
    Assumed(
        "those of the reference patient of goulooze2022: a unit, chosen so that rate and exponent are told apart"
    ),
)
PODOCYTE_HARDINESS = Parameter(
    "podocyte_hardiness",
    3.852,
    "1",
    "exponent with which what remains of the podocytes is less liable to loss (the frail ones went first)",
    FIDELIO,  # at 300 mg/g albuminuria grows by a tenth in the first year, at 2000 mg/g hardly
    LogNormal(0.3),
)
STRESS_PRESSURE = Parameter(
    "stress_pressure",
    1.0,
    "1",
    "weight of glomerular pressure in podocyte stress",
    Assumed("the unit of the weights"),
)
STRESS_ROS = Parameter(
    "stress_ros", 1.0, "1", "weight of ROS in podocyte stress", Assumed("as much as pressure"), LogNormal(0.5)
)
STRESS_TNF = Parameter(
    "stress_tnf",
    0.5,
    "1",
    "weight of TNF-α in podocyte stress",
    Assumed("half of the weight of pressure"),
    LogNormal(0.5),
)
ALBUMIN_REFERENCE = Parameter(
    "albumin_reference",
    106.0,
    "1",
    "albumin leak of the reference patient (850 mg/g over a healthy 8 mg/g)",
    Source("goulooze2022", "reference UACR 850 mg/g"),
)
LOAD_EXPONENT = Parameter(
    "load_exponent",
    0.8869,
    "1",
    "exponent with which the loss of nephrons concentrates the albumin load",
    FIDELIO,
    Normal(0.1),
)

# --- tubules, vessels
TUBULE_TURNOVER = rate_constant(
    "tubule_turnover",
    0.03,
    0.5,
    "renewal of tubular cells",
    Assumed("weeks: the course of recovery from tubular injury"),
)
TUBULE_ALBUMIN = Parameter(
    "tubule_albumin",
    0.4,
    "1",
    "largest fall of tubular renewal by filtered albumin",
    Assumed("partial"),
    LogitNormal(0.5),
)
ALBUMIN_HALF = Parameter(
    "albumin_half",
    1.0,
    "1",
    "albumin load with half of its effect on tubules",
    Assumed("the load of the reference patient"),
    LogNormal(0.4),
)
TUBULE_TNF = Parameter(
    "tubule_tnf", 0.4, "1", "largest fall of tubular renewal by TNF-α", Assumed("partial"), LogitNormal(0.5)
)
TUBULE_ROS = Parameter(
    "tubule_ros", 0.4, "1", "largest fall of tubular renewal by ROS", Assumed("partial"), LogitNormal(0.5)
)
TUBULE_HYPOXIA = Parameter(
    "tubule_hypoxia",
    0.5,
    "1",
    "largest fall of tubular renewal by loss of capillaries",
    Assumed("partial"),
    LogitNormal(0.5),
)
HYPOXIA_HALF = half("hypoxia_half", 3.0, "reciprocal of capillary density with half of its effects")
TUBULE_OBSTRUCTION = Parameter(
    "tubule_obstruction",
    0.85,
    "1",
    "largest fall of tubular renewal by obstruction",
    Assumed("a fully obstructed kidney is destroyed within weeks"),
    LogitNormal(0.4),
)
VEGF_TURNOVER = rate_constant("vegf_turnover", 2.0, 0.5, "turnover of VEGF", Assumed("hours to a day"))
VEGF_HYPOXIA = gain("vegf_hypoxia", 2.0, "VEGF by hypoxia")
CAPILLARY_TURNOVER = rate_constant(
    "capillary_turnover",
    0.0044,
    0.4,
    "renewal of capillaries in people",
    Source(
        "mvdensity_stz_2012",
        "34 % lost at 4 weeks and 75 % at 12 in STZ rats: 0.017/d there, over the time scale of 3.9",
    ),
)
CAPILLARY_VEGF = gain("capillary_vegf", 8.0, "capillary renewal by VEGF")
VEGF_HALF = half("vegf_half", 2.0, "VEGF with half of its effects")
CAPILLARY_ROS = Parameter(
    "capillary_ros",
    0.5,
    "1",
    "largest fall of capillary renewal by ROS",
    Assumed("partial"),
    LogitNormal(0.5),
)
CAPILLARY_TGFB = Parameter(
    "capillary_tgfb",
    0.4,
    "1",
    "largest fall of capillary renewal by TGF-β1",
    Assumed("partial"),
    LogitNormal(0.5),
)
CAPILLARY_ISCHAEMIA = Parameter(
    "capillary_ischaemia",
    0.8,
    "1",
    "largest fall of capillary renewal by ischaemia",
    Assumed("rarefaction beyond a stenosis, franchi2015"),
    LogitNormal(0.4),
)

# --- loss of nephrons: scale, share of albumin and fading are fitted; the split of the rest is assumed even
EVEN_SHARE = Assumed(
    "the four drives beside albumin share evenly, in the reference patient, what the albumin load leaves of the loss; "
    "FIDELIO tells only their sum (through the loss at low UACR)"
)
NEPHRON_LOSS = Parameter(
    "nephron_loss_rate", 0.0006292, "1/day", "loss of nephrons per unit of damage", FIDELIO, LogNormal(0.08)
)
DAMAGE_ALBUMIN = Parameter(
    "damage_albumin",
    0.06389,
    "1",
    "weight of the albumin load in the loss of nephrons",
    FIDELIO,
    LogNormal(0.1),
)
DAMAGE_TNF = Parameter(
    "damage_tnf", 0.08, "1", "weight of TNF-α in the loss of nephrons", EVEN_SHARE, LogNormal(0.5)
)
DAMAGE_HYPOXIA = Parameter(
    "damage_hypoxia", 0.165, "1", "weight of hypoxia in the loss of nephrons", EVEN_SHARE, LogNormal(0.5)
)
DAMAGE_FIBROSIS = Parameter(
    "damage_fibrosis", 0.09, "1", "weight of fibrosis in the loss of nephrons", EVEN_SHARE, LogNormal(0.5)
)
DAMAGE_PRESSURE = Parameter(
    "damage_pressure",
    0.15,
    "1",
    "weight of glomerular pressure in the loss of nephrons",
    EVEN_SHARE,
    LogNormal(0.5),
)
SUSCEPTIBILITY = Parameter(
    "susceptibility",
    0.9283,
    "1",
    "exponent with which what remains of the nephrons is less susceptible to inflammation, hypoxia and fibrosis",
    FIDELIO,  # at 300 mg/g the decline falls with eGFR, at 2000 mg/g hardly: the vulnerable ones went first
    Normal(0.2),
)
NEPHRON_FADING = Parameter(
    "nephron_fading",
    0.04,
    "1",
    "nephrons at which the loss has slowed to a half (the hardy ones remain; Hill exponent 4)",
    Assumed(
        "FIDELIO's decline fades near an eGFR of 16 (goulooze2022), where patients leave a trial for dialysis; RENAAL's went on to kidney failure (brenner2001): half of that"
    ),
    LogNormal(0.3),
)
AGEING = Parameter(
    "ageing",
    0.0,
    "1",
    "1: nephrons are lost with age even in health; 0: ageing off",
    Assumed("a switch"),
    scope="patient",
)
AGEING_LOSS = Parameter(
    "ageing_loss",
    3.6e-5,
    "1/day",
    "loss of nephrons with age",
    Source("jasn2017_nephronage", "990,661 at 18-29 y to 520,410 at 70-75 y: 1.3 % a year"),
    LogNormal(0.15),
)
PROGRESSION = Parameter(
    "progression",
    1.0,
    "1",
    "pace of irreversible loss beyond the allometric time scale",
    Assumed("1 in people; set by the species"),
    scope="species",
)

CREATININE_CLEARANCE = Parameter(
    "creatinine_clearance",
    3.94,
    "1/day",
    "healthy GFR over the distribution volume of creatinine",
    Source("denic2017b", "115 mL/min; volume 0.6 L/kg of 70 kg"),
    LogNormal(0.1),
)
CREATININE_GENERATION = Parameter(
    "creatinine_generation",
    1.0,
    "1",
    "creatinine generation (found: steady at time 0)",
    Assumed("found"),
    scope="patient",
)


# ------------------------------------------------------------------- quantities
def time_scale(body_weight, human_weight, allometric_exponent):
    """Biological time of people over that of the species."""
    return (human_weight / body_weight) ** allometric_exponent


def pressure(glucose, nephrons, hyperfiltration, hyperfiltration_half, compensation, ischaemia):
    """Filtration of a single nephron: hyperfiltration by glucose, compensation for lost nephrons."""
    dilated = 1 + hyperfiltration * nephrons * saturating(excess(glucose), hyperfiltration_half)
    return dilated * (1 + compensation * (1 - nephrons)) * (1 - ischaemia)


def filtration(capillaries, filtration_capillary):
    """Filtration coefficient left by the capillaries."""
    return capillaries * (1 + filtration_capillary) / (capillaries + filtration_capillary)


def gfr(nephrons, pressure, filtration):
    """Measured GFR relative to the species' healthy one."""
    return nephrons * pressure * filtration


def leak(pressure, slit, podocytes, leak_pressure, leak_slit, leak_podocyte, leak_ceiling):
    """Albumin excreted per creatinine, relative to health; it cannot pass what plasma brings."""
    free = pressure**leak_pressure * slit ** (-leak_slit) * podocytes ** (-leak_podocyte)
    return free * (1 + leak_ceiling) / (free + leak_ceiling)


def albumin_load(leak, nephrons, albumin_reference, load_exponent):
    """Albumin that a remaining nephron has to handle; 1 in the reference patient of FIDELIO before concentration."""
    return excess(leak) / albumin_reference * nephrons ** (-load_exponent)


def podocyte_stress(pressure, ros, tnf_kidney, stress_pressure, stress_ros, stress_tnf):
    """What costs podocytes: 0 in health."""
    return stress_pressure * excess(pressure) + stress_ros * excess(ros) + stress_tnf * excess(tnf_kidney)


def damage(
    albumin_load,
    tnf_kidney,
    capillaries,
    matrix,
    scar,
    pressure,
    nephrons,
    susceptibility,
    damage_albumin,
    damage_tnf,
    damage_hypoxia,
    damage_fibrosis,
    damage_pressure,
):
    """What costs nephrons: 0 in health."""
    return damage_albumin * albumin_load + nephrons**susceptibility * (
        damage_pressure * excess(pressure)
        + damage_tnf * excess(tnf_kidney)
        + damage_hypoxia * excess(1 / capillaries)
        + damage_fibrosis * (excess(matrix) + excess(scar))
    )


QUANTITIES = (
    Quantity(
        "time_scale",
        "1",
        "allometric pace of biology, 1 in people",
        time_scale,
        (
            Parameter(
                "body_weight",
                70.0,
                "kg",
                "body weight of the species or patient",
                Assumed("set by the species"),
                scope="species",
            ),
            Parameter(
                "human_weight",
                70.0,
                "kg",
                "body weight at which the time scale is 1",
                Assumed("the usual reference adult"),
            ),
            Parameter(
                "allometric_exponent",
                0.25,
                "1",
                "allometric exponent of biological time",
                Assumed("the quarter-power law of physiological times"),
                Normal(0.04),
            ),
        ),
        MODULE,
        symbol="\\tau",
    ),
    Quantity(
        "pressure",
        "1",
        "glomerular pressure: filtration of a single nephron",
        pressure,
        (HYPERFILTRATION, HYPERFILTRATION_HALF, COMPENSATION, ISCHAEMIA),
        MODULE,
        symbol="p",
    ),
    Quantity(
        "filtration", "1", "filtration coefficient", filtration, (FILTRATION_CAPILLARY,), MODULE, symbol="k_f"
    ),
    Quantity("gfr", "1", "measured GFR", gfr, (), MODULE, symbol="g"),
    Quantity(
        "leak",
        "1",
        "albumin excretion",
        leak,
        (LEAK_PRESSURE, LEAK_SLIT, LEAK_PODOCYTE, LEAK_CEILING),
        MODULE,
        symbol="\\ell",
    ),
    Quantity(
        "albumin_load",
        "1",
        "albumin load of a remaining nephron",
        albumin_load,
        (ALBUMIN_REFERENCE, LOAD_EXPONENT),
        MODULE,
        symbol="a",
    ),
    Quantity(
        "podocyte_stress",
        "1",
        "stress on podocytes",
        podocyte_stress,
        (STRESS_PRESSURE, STRESS_ROS, STRESS_TNF),
        MODULE,
    ),
    Quantity(
        "damage",
        "1",
        "damage to nephrons",
        damage,
        (SUSCEPTIBILITY, DAMAGE_ALBUMIN, DAMAGE_TNF, DAMAGE_HYPOXIA, DAMAGE_FIBROSIS, DAMAGE_PRESSURE),
        MODULE,
        symbol="\\delta",
    ),
)

# ------------------------------------------------------------------- rates
PROCESSES = (
    synthesis(
        "slit",
        lambda slit_turnover, tnf_kidney, slit_tnf, tnf_half, ros, slit_ros, ros_half, tgfb_kidney, slit_tgfb, tgfb_half, immune_complexes, slit_complex, deposit_half, vegf, slit_vegf, vegf_half: (
            slit_turnover
            * inhibited(tnf_kidney, slit_tnf, tnf_half)
            * inhibited(ros, slit_ros, ros_half)
            * inhibited(tgfb_kidney, slit_tgfb, tgfb_half)
            * (1 - slit_complex * saturating(immune_complexes, deposit_half))
            * inhibited(vegf, slit_vegf, vegf_half)
        ),
        "repair of the slit diaphragm",
        (SLIT_TNF, SLIT_ROS, SLIT_TGFB, SLIT_COMPLEX, SLIT_VEGF),
        MODULE,
    ),
    loss("slit", SLIT_TURNOVER, MODULE),
    Process(
        "podocyte_loss",
        {"podocytes": -1},
        lambda podocyte_loss_rate, progression, podocytes, podocyte_reference, podocyte_hardiness, podocyte_stress: (
            podocyte_loss_rate
            * progression
            * podocytes
            * (podocytes / podocyte_reference) ** podocyte_hardiness
            * podocyte_stress
        ),
        "1/day",
        "loss of podocytes",
        (PODOCYTE_LOSS, PODOCYTE_REFERENCE, PODOCYTE_HARDINESS),
        MODULE,
    ),
    Process(
        "podocyte_drift",
        {"podocytes": -1},
        lambda podocytes, own_albuminuria_drift, leak_podocyte: (
            podocytes * own_albuminuria_drift / leak_podocyte
        ),
        "1/day",
        "the patient's own drift of albuminuria (0 in the typical patient)",
        (),
        MODULE,
        paced=False,
    ),
    synthesis(
        "tubules",
        lambda tubule_turnover, albumin_load, tubule_albumin, albumin_half, tnf_kidney, tubule_tnf, tnf_half, ros, tubule_ros, ros_half, capillaries, tubule_hypoxia, hypoxia_half, obstruction, tubule_obstruction, primary_injury: (
            tubule_turnover
            * (1 - tubule_albumin * saturating(albumin_load, albumin_half))
            * inhibited(tnf_kidney, tubule_tnf, tnf_half)
            * inhibited(ros, tubule_ros, ros_half)
            * inhibited(1 / capillaries, tubule_hypoxia, hypoxia_half)
            * (1 - tubule_obstruction * obstruction)
            * (1 - primary_injury)
        ),
        "renewal of tubular cells",
        (
            TUBULE_ALBUMIN,
            ALBUMIN_HALF,
            TUBULE_TNF,
            TUBULE_ROS,
            TUBULE_HYPOXIA,
            HYPOXIA_HALF,
            OBSTRUCTION,
            TUBULE_OBSTRUCTION,
        ),
        MODULE,
    ),
    loss("tubules", TUBULE_TURNOVER, MODULE),
    synthesis(
        "vegf",
        lambda vegf_turnover, tubules, capillaries, vegf_hypoxia, hypoxia_half: (
            vegf_turnover * tubules * stimulated(1 / capillaries, vegf_hypoxia, hypoxia_half)
        ),
        "VEGF from living tubules, more in hypoxia",
        (VEGF_HYPOXIA,),
        MODULE,
    ),
    loss("vegf", VEGF_TURNOVER, MODULE),
    synthesis(
        "capillaries",
        lambda capillary_turnover, vegf, capillary_vegf, vegf_half, ros, capillary_ros, ros_half, tgfb_kidney, capillary_tgfb, tgfb_half, ischaemia, capillary_ischaemia: (
            capillary_turnover
            * stimulated(vegf, capillary_vegf, vegf_half)
            * inhibited(ros, capillary_ros, ros_half)
            * inhibited(tgfb_kidney, capillary_tgfb, tgfb_half)
            * (1 - capillary_ischaemia * ischaemia)
        ),
        "renewal of capillaries",
        (CAPILLARY_VEGF, VEGF_HALF, CAPILLARY_ROS, CAPILLARY_TGFB, CAPILLARY_ISCHAEMIA),
        MODULE,
    ),
    loss("capillaries", CAPILLARY_TURNOVER, MODULE),
    Process(
        "nephron_loss",
        {"nephrons": -1},
        lambda nephron_loss_rate, progression, nephrons, damage, nephron_fading: (
            nephron_loss_rate
            * progression
            * nephrons
            * damage
            * nephrons**4
            / (nephrons**4 + nephron_fading**4)
        ),
        "1/day",
        "loss of nephrons",
        (NEPHRON_LOSS, NEPHRON_FADING, PROGRESSION),
        MODULE,
    ),
    Process(
        "nephron_drift",
        {"nephrons": -1},
        lambda nephrons, own_drift: nephrons * own_drift,
        "1/day",
        "the patient's own drift of GFR (0 in the typical patient)",
        (),
        MODULE,
        paced=False,
    ),
    Process(
        "nephron_ageing",
        {"nephrons": -1},
        lambda ageing, ageing_loss, nephrons: ageing * ageing_loss * nephrons,
        "1/day",
        "loss of nephrons with age",
        (AGEING, AGEING_LOSS),
        MODULE,
    ),
    Process(
        "creatinine_formation",
        {"creatinine": +1},
        lambda creatinine_clearance, creatinine_generation: creatinine_clearance * creatinine_generation,
        "1/day",
        "creatinine from muscle",
        (CREATININE_GENERATION,),
        MODULE,
    ),
    Process(
        "creatinine_excretion",
        {"creatinine": -1},
        lambda creatinine_clearance, gfr, creatinine: creatinine_clearance * gfr * creatinine,
        "1/day",
        "excretion of creatinine",
        (CREATININE_CLEARANCE,),
        MODULE,
    ),
)
