"""Effectors: what cells secrete, what the host's phagocytes keep of them, and the six arms of action.

Cells die within days; their effect lasts weeks. The memory is `reprogrammed`: phagocytes that took up
dying cells. Each arm of action is one saturable effect between 0 and 1 with its own switch; the
effects themselves (what an arm changes, and by how much) stand beside the arm in `ARM_EFFECTS`.
"""

from __future__ import annotations

from mscrenal.model.declare import (
    Assumed,
    Effect,
    HalfNormal,
    LogitNormal,
    LogNormal,
    Parameter,
    Process,
    Quantity,
    Source,
    State,
)
from mscrenal.model.functions import excess, exponential, saturating
from mscrenal.model.processes.shorthand import renamed

MODULE = "effectors"
CELLS = "Mcell/kg"
FLUX = "Mcell/kg/day"

ARMS_OF_ACTION = (
    "immunomodulation",
    "antioxidant",
    "cytoprotection",
    "antifibrotic",
    "angiogenic",
    "metabolic",
)
ARM_MEANING = {
    "immunomodulation": "M1 to M2 (TRAF6/STAT1), Treg up, Th17 down (PD-1/PD-L1), NLRP3 down",
    "antioxidant": "Nrf2/Keap1, AMPK/PGC-1α, mitochondrial transfer",
    "cytoprotection": "autophagy (mTOR, EGF) and Bcl-2/caspase-3 in podocytes and tubules",
    "antifibrotic": "TGF-β/Smad, Smad7, Hedgehog, EMT",
    "angiogenic": "VEGF and capillary repair, opposed by miR-15b/VEGF/PDK4 where VEGF is in excess",
    "metabolic": "insulin sensitivity, β-cell function, GLP-1/FGF21 in the engineered product",
}

STATES = (
    State(
        "lung_injury",
        "1",
        "injury of lungs crowded by cells, which takes from their effect",
        MODULE,
        0.0,
        "zero",
        symbol="\\lambda",
    ),
    State("licensing", "1", "licensing of the cells by TNF-α and IFN-γ", MODULE, 0.0, "steady", symbol="L"),
    State(
        "secretome",
        CELLS,
        "paracrine activity at the kidney, as fully licensed cells there",
        MODULE,
        0.0,
        "zero",
        symbol="S",
        per_slot=True,
    ),
    State(
        "reprogrammed",
        CELLS,
        "phagocytes reprogrammed by cells they took up, as cells taken up",
        MODULE,
        0.0,
        "zero",
        symbol="R",
        per_slot=True,
    ),
)

LICENSING_RATE = Parameter(
    "licensing_rate",
    1.0,
    "1/day",
    "gain and loss of licensing (12 h up, half-life about 1 d down)",
    (Source("melief2013", "8 h"), Source("ido1licensing", "24 h up, gone in 2 d")),
    LogNormal(0.4),
)
LICENSING_HALF = Parameter(
    "licensing_half",
    0.5,
    "1",
    "excess of serum TNF-α with half of the licensing",
    Source("weiss2021", "no effect below a CRP of about 4 mg/L: a modest inflammation suffices"),
    LogNormal(0.5),
)
LICENSED_GAIN = Parameter(
    "licensed_gain",
    6.0,
    "1",
    "secretion of licensed over unlicensed cells",
    Source("aggarwal2005", "10, 6 and 3-fold for PGE2, IL-6, VEGF"),
    LogNormal.from_range(2.0, 20.0),
)
SYSTEMIC_SHARE = Parameter(
    "systemic_share",
    0.15,
    "1",
    "activity at the kidney of a cell elsewhere, relative to one in the kidney",
    (
        Source("lee2009", "cells in the lung act on a distant organ"),
        Source("saad2017", "arterial effect at a tenth of the usual dose"),
    ),
    LogNormal(0.7),
)
CROWDING = Parameter(
    "crowding",
    HalfNormal(0.15).median,
    "kg/Mcell",
    "injury of the lungs per load of cells in them",
    Source("kabat2020", "human effect peaks at 1.0-1.5e8 cells a dose; ckdmeta2015 finds no trend"),
    HalfNormal(0.15),
)
LUNG_INJURY_ONSET = Parameter(
    "lung_injury_onset",
    1.0,
    "1/day",
    "onset of the injury of crowded lungs: the unit in which crowding counts",
    Assumed("a unit; crowding carries the size"),
)
LUNG_RECOVERY = Parameter(
    "lung_recovery_rate",
    0.1,
    "1/day",
    "recovery of crowded lungs (a week)",
    Assumed("small emboli clear within days to two weeks"),
    LogNormal(0.5),
)
SECRETOME_DECAY = Parameter(
    "secretome_decay",
    1.0,
    "1/day",
    "decay of paracrine activity",
    Source("ido1licensing", "induced activity gone within 2 days"),
    LogNormal(0.4),
)
EV_PER_CELL = Parameter(
    "ev_per_cell",
    3.5,
    "Gparticle/Mcell",
    "vesicles in the kidney worth one licensed cell there",
    Source(
        "bruno2009",
        "15 ug EV protein did as 75,000 cells, both intravenous: 0.2 ng (about 6e5 particles) a cell infused; of these "
        "the kidney holds about 6 per thousand particle-days against 10 effector-days of a cell",
    ),
    LogNormal.from_range(0.7, 18.0),
)
MEMORY_WEIGHT = Parameter(
    "memory_weight",
    0.6,
    "1",
    "effect of a reprogrammed phagocyte relative to a licensed cell in the kidney",
    Source("efferocytosis2023", "uptake alone carries part of the effect; size assumed"),
    LogNormal(0.6),
)
MEMORY_DECAY = Parameter(
    "memory_decay",
    0.0248,
    "1/day",
    "loss of reprogrammed phagocytes (half-life 4 weeks)",
    (Source("erpicum2019", "Treg still up at day 30"), Source("sle_treg2018", "end unknown")),
    LogNormal.from_range(0.0076, 0.0693),
)
DEBRIS_CREDIT = Parameter(
    "debris_credit",
    0.2,
    "1",
    "reprogramming by a cell dead on arrival, relative to one that died in the body",
    Source("efferocytosis2023", "uptake equal, effect only if viable"),
    LogitNormal(0.8),
)
EC50_EFFECT = Parameter(
    "ec50_effect",
    0.5,
    CELLS,
    "effector activity with half of an arm's effect, in rodents",
    Assumed("at the activity left by a usual dose; the calibration on treated arms decides"),
    LogNormal(0.7),
)
MIR15B = Parameter(
    "mir15b",
    0.5,
    "1",
    "share of the angiogenic arm withheld when VEGF is in excess (miR-15b/VEGF/PDK4)",
    Assumed("the review names the opposing arm without a size"),
    LogitNormal(0.8),
)


def licensing_gate(tnf_serum, licensing_half):
    """How inflamed the cells find the host: 0 in health.

    Serum, not kidney: nearly all infused cells meet the host in its blood and lungs.
    """
    return saturating(excess(tnf_serum), licensing_half)


def licence(licensing, licensed_gain):
    """Secretion of a cell relative to a fully licensed one."""
    return (1 + (licensed_gain - 1) * licensing) / licensed_gain


def crowded(lung_injury):
    """Activity that injured lungs leave over.

    The inflammation of injured lungs works against all that cells do: secretion, vesicles, and what
    phagocytes learn of dying ones. Above some dose more cells then do less.
    """
    return 1 / (1 + lung_injury)


def effector(secretome, reprogrammed, memory_weight):
    """What acts on the kidney: present secretion and the memory of it."""
    return secretome + memory_weight * reprogrammed


QUANTITIES = [
    Quantity(
        "licensing_gate", "1", "inflammation seen by the cells", licensing_gate, (LICENSING_HALF,), MODULE
    ),
    Quantity(
        "licence", "1", "secretion relative to a fully licensed cell", licence, (LICENSED_GAIN,), MODULE
    ),
    Quantity("crowded", "1", "activity left over by injured lungs", crowded, (), MODULE),
    Quantity(
        "effector",
        CELLS,
        "effector activity of the product",
        effector,
        (MEMORY_WEIGHT,),
        MODULE,
        per_slot=True,
    ),
]

SWITCHES = tuple(
    Parameter(
        f"switch_{arm}",
        1.0,
        "1",
        f"1: {ARM_MEANING[arm]}; 0: knocked out",
        Assumed("a switch, not a number of nature"),
        scope="arm",
    )
    for arm in ARMS_OF_ACTION
)


def arm_signal(effector, potency):
    """Effector activity behind one arm, of one product."""
    return effector * potency


def arm_effect(signal, switch, translation, potency_factor, ec50_effect):
    """One arm of action, 0 to 1, saturating in the translated activity."""
    dose = translation * potency_factor * signal
    return switch * dose / (ec50_effect + dose)


def angiogenic_effect(signal, switch, translation, potency_factor, ec50_effect, angiogenic_release):
    """The angiogenic arm: as the others, less what miR-15b withholds where VEGF is in excess."""
    return angiogenic_release * arm_effect(signal, switch, translation, potency_factor, ec50_effect)


for _arm, _switch in zip(ARMS_OF_ACTION, SWITCHES, strict=True):
    _formula = angiogenic_effect if _arm == "angiogenic" else arm_effect
    QUANTITIES += [
        Quantity(
            f"signal_{_arm}",
            CELLS,
            f"effector activity behind {_arm}",
            renamed(arm_signal, potency=f"potency_{_arm}"),
            (),
            MODULE,
            sum_slots=True,
        ),
        Quantity(
            f"effect_{_arm}",
            "1",
            f"arm of action: {ARM_MEANING[_arm]}",
            renamed(_formula, signal=f"signal_{_arm}", switch=_switch.name),
            (_switch,),
            MODULE,
            symbol=f"E_{{{_arm}}}",
        ),
    ]


def potency_factor(eta_potency):
    """The patient's own responsiveness."""
    return exponential(eta_potency)


def angiogenic_release(vegf, mir15b):
    """What miR-15b leaves of the angiogenic arm where VEGF is already in excess."""
    return 1 - mir15b * saturating(excess(vegf), 1)


QUANTITIES += [
    Quantity("potency_factor", "1", "responsiveness of the patient", potency_factor, (), MODULE),
    Quantity(
        "angiogenic_release", "1", "angiogenic effect left by miR-15b", angiogenic_release, (MIR15B,), MODULE
    ),
]

PROCESSES = (
    Process(
        "lung_crowding",
        {"lung_injury": +1},
        lambda lung_injury_onset, crowding, total_lung: lung_injury_onset * (crowding * total_lung) ** 2,
        "1/day",
        "cells crowding the lungs injure them",
        (CROWDING,),
        MODULE,
        paced=False,
    ),
    Process(
        "lung_recovery",
        {"lung_injury": -1},
        lambda lung_recovery_rate, lung_injury: lung_recovery_rate * lung_injury,
        "1/day",
        "the lungs recover",
        (),
        MODULE,
        paced=False,
    ),
    Process(
        "licensing_change",
        {"licensing": +1},
        lambda licensing_rate, licensing_gate, licensing: licensing_rate * (licensing_gate - licensing),
        "1/day",
        "licensing follows the inflammation",
        (LICENSING_RATE,),
        MODULE,
        paced=False,
    ),
    Process(
        "secretion",
        {"secretome": +1},
        lambda secretome_decay, secretion, licence, crowded, systemic_share, blood, lung, liver, depot, kidney: (
            secretome_decay
            * secretion
            * licence
            * crowded
            * (systemic_share * (lung + blood + liver + depot) + kidney)
        ),
        FLUX,
        "secretion by living cells",
        (SYSTEMIC_SHARE, SECRETOME_DECAY),
        MODULE,
        per_slot=True,
        paced=False,
    ),
    Process(
        "vesicle_action",
        {"secretome": +1},
        lambda secretome_decay, ev_kidney, ev_per_cell, crowded: (
            secretome_decay * crowded * ev_kidney / ev_per_cell
        ),
        FLUX,
        "vesicles in the kidney",
        (EV_PER_CELL,),
        MODULE,
        per_slot=True,
        paced=False,
    ),
    Process(
        "medium_action",
        {"secretome": +1},
        lambda secretome_decay, medium, systemic_share, secretion: (
            secretome_decay * systemic_share * secretion * medium
        ),
        FLUX,
        "conditioned medium",
        (),
        MODULE,
        per_slot=True,
        paced=False,
    ),
    Process(
        "secretome_loss",
        {"secretome": -1},
        lambda secretome_decay, secretome: secretome_decay * secretome,
        FLUX,
        "decay of secreted factors",
        (),
        MODULE,
        per_slot=True,
        paced=False,
    ),
    Process(
        "reprogramming",
        {"reprogrammed": +1},
        lambda efferocytosis, apoptotic, debris, debris_credit, licensing, crowded: (
            efferocytosis * licensing * crowded * (apoptotic + debris_credit * debris)
        ),
        FLUX,
        "phagocytes that take up dying cells that inflammation has licensed",
        (DEBRIS_CREDIT,),
        MODULE,
        per_slot=True,
        paced=False,
    ),
    Process(
        "reprogramming_loss",
        {"reprogrammed": -1},
        lambda memory_decay, reprogrammed: memory_decay * reprogrammed,
        FLUX,
        "loss of reprogrammed phagocytes",
        (MEMORY_DECAY,),
        MODULE,
        per_slot=True,
        paced=False,
    ),
)


def _size(name: str, value: float, meaning: str) -> Parameter:
    why = "largest effect of the arm on this process; direction from the review, size for the calibration to find"
    return Parameter(
        name, value, "1", meaning, Assumed(why), LogitNormal(0.7) if value < 1 else LogNormal(0.5)
    )


def _effects(arm: str, *rows: tuple[str, str, float, str]) -> tuple[Effect, ...]:
    return tuple(
        Effect(on, kind, _size(f"{arm}_on_{on}", value, meaning), f"effect_{arm}")  # type: ignore[arg-type]
        for on, kind, value, meaning in rows
    )


ARM_EFFECTS = (
    *_effects(
        "immunomodulation",
        ("m1_to_m2", "stimulate", 1.5, "largest extra M1-to-M2 switching"),
        ("m1_recruitment", "inhibit", 0.4, "largest fall of M1 recruitment"),
        ("tnf_kidney_synthesis", "inhibit", 0.5, "largest fall of renal TNF-α synthesis"),
        ("tnf_serum_synthesis", "inhibit", 0.35, "largest fall of systemic TNF-α synthesis"),
        ("il6_serum_synthesis", "inhibit", 0.35, "largest fall of systemic IL-6 synthesis"),
        ("il1b_synthesis", "inhibit", 0.4, "largest fall of NLRP3 activation"),
        ("treg_synthesis", "stimulate", 0.8, "largest rise of Treg expansion"),
        ("th17_synthesis", "inhibit", 0.4, "largest fall of Th17 differentiation"),
        ("autoimmunity_synthesis", "inhibit", 0.4, "largest fall of autoimmune activity"),
        (
            "tgfb_serum_synthesis",
            "stimulate",
            0.5,
            "largest rise of blood TGF-β1 (Treg and the cells themselves)",
        ),
    ),
    *_effects(
        "antioxidant",
        ("nrf2_synthesis", "stimulate", 0.8, "largest rise of Nrf2 activity"),
        ("ros_synthesis", "inhibit", 0.3, "largest fall of ROS formation"),
        (
            "mitochondria_synthesis",
            "stimulate",
            0.4,
            "largest rise of mitochondrial renewal (transfer included)",
        ),
    ),
    *_effects(
        "cytoprotection",
        ("slit_synthesis", "stimulate", 0.5, "largest rise of slit-diaphragm repair"),
        ("podocyte_loss", "inhibit", 0.5, "largest fall of podocyte loss"),
        ("tubules_synthesis", "stimulate", 0.4, "largest rise of tubular repair"),
        ("nephron_loss", "inhibit", 0.4, "largest fall of nephron loss"),
    ),
    *_effects(
        "antifibrotic",
        ("smad7_synthesis", "stimulate", 0.6, "largest rise of Smad7"),
        ("psmad_synthesis", "inhibit", 0.35, "largest fall of Smad2/3 phosphorylation"),
        ("myofibroblasts_synthesis", "inhibit", 0.4, "largest fall of EMT and activation"),
        ("matrix_loss", "stimulate", 0.4, "largest rise of matrix breakdown"),
    ),
    *_effects(
        "angiogenic",
        ("capillaries_synthesis", "stimulate", 0.5, "largest rise of capillary repair"),
        ("vegf_synthesis", "stimulate", 0.3, "largest rise of VEGF"),
    ),
    *_effects(
        "metabolic",
        ("insulin_sensitivity_synthesis", "stimulate", 0.35, "largest rise of insulin sensitivity"),
        ("beta_cells_synthesis", "stimulate", 0.3, "largest rise of β-cell function"),
    ),
)
