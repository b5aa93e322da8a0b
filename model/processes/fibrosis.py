"""Fibrosis: TGF-β1 (kidney and blood apart), phospho-Smad2/3, Smad7, myofibroblasts, matrix and scar."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogitNormal, Parameter, Process, Source, State
from mscrenal.model.functions import inhibited, stimulated
from mscrenal.model.processes.shorthand import gain, half, loss, rate_constant, synthesis

MODULE = "fibrosis"

STATES = (
    State("tgfb_kidney", "1", "active TGF-β1 in the kidney", MODULE, symbol="F_k"),
    State("tgfb_serum", "1", "TGF-β1 in blood", MODULE, symbol="F_s"),
    State("psmad", "1", "phospho-Smad2/3", MODULE, symbol="P_S"),
    State("smad7", "1", "Smad7, the negative feedback", MODULE, symbol="S_7"),
    State("myofibroblasts", "1", "myofibroblasts, from EMT and resident cells", MODULE, symbol="Y"),
    State(
        "matrix",
        "1",
        "extracellular matrix that can still be broken down",
        MODULE,
        start="history",
        history_rate="matrix_turnover",
        symbol="X",
    ),
    State(
        "scar",
        "1",
        "cross-linked matrix",
        MODULE,
        start="history",
        history_rate="scar_turnover",
        symbol="X_c",
    ),
)

TGFB_TURNOVER = rate_constant(
    "tgfb_turnover",
    3.0,
    0.9,
    "turnover of active TGF-β1 in tissue",
    (
        Source("thomas2024", "333/d, model"),
        Source("jin2011", "15/d, model"),
        Source("latenttgfb_rat", "active minutes, latent hours"),
    ),
)
TGFB_M2 = gain("tgfb_m2", 3.0, "TGF-β1 by M2 macrophages")
TGFB_ROS = gain("tgfb_ros", 6.0, "TGF-β1 by ROS")
TGFB_AGE = gain("tgfb_age", 3.0, "TGF-β1 by AGE")
TGFB_INJURY = gain("tgfb_injury", 8.0, "TGF-β1 by injured tubules")
TGFB_PRESSURE = gain("tgfb_pressure", 4.0, "TGF-β1 by glomerular stretch and angiotensin")
PRESSURE_HALF = half("pressure_half", 2.0, "glomerular pressure with half of its effects")
TGFB_SERUM_TURNOVER = rate_constant(
    "tgfb_serum_turnover",
    8.0,
    0.7,
    "turnover of blood TGF-β1",
    Source("zioncheck1994", "tracer half-life 163 min"),
)
TGFB_SERUM_TREG = gain("tgfb_serum_treg", 2.0, "blood TGF-β1 by Treg")
TGFB_SPILL = Parameter(
    "tgfb_spill",
    0.1,
    "1",
    "share of blood TGF-β1 that comes from the kidney",
    Assumed("platelets and lymphocytes carry most of it"),
    LogitNormal(0.6),
)
SMAD_TURNOVER = rate_constant(
    "smad_turnover",
    12.0,
    0.5,
    "turnover of phospho-Smad2/3",
    Assumed("hours after a TGF-β pulse; only its being fast matters"),
)
PSMAD_TGFB = gain("psmad_tgfb", 20.0, "Smad2/3 phosphorylation by TGF-β1")
TGFB_HALF = half("tgfb_half", 4.0, "TGF-β1 with half of its effects")
PSMAD_SMAD7 = Parameter(
    "psmad_smad7",
    0.7,
    "1",
    "largest fall of Smad phosphorylation by Smad7",
    Assumed("a feedback that damps, not one that shuts off"),
    LogitNormal(0.5),
)
SMAD7_HALF = half("smad7_half", 2.0, "Smad7 with half of its effect")
SMAD7_TURNOVER = rate_constant(
    "smad7_turnover", 4.0, 0.5, "turnover of Smad7", Assumed("hours: an inducible, labile protein")
)
SMAD7_PSMAD = gain("smad7_psmad", 6.0, "induction of Smad7 by phospho-Smad")
PSMAD_HALF = half("psmad_half", 3.0, "phospho-Smad with half of its effects")
MYOFIBROBLAST_TURNOVER = rate_constant(
    "myofibroblast_turnover",
    0.12,
    0.5,
    "turnover of myofibroblasts",
    Source("jin2011", "fibroblast apoptosis 0.12/d, model"),
)
MYOFIBROBLAST_PSMAD = gain("myofibroblast_psmad", 15.0, "EMT and activation by phospho-Smad")
MYOFIBROBLAST_TNF = gain("myofibroblast_tnf", 4.0, "activation by TNF-α")
MATRIX_TURNOVER = rate_constant(
    "matrix_turnover",
    0.006,
    0.4,
    "turnover of degradable matrix in people",
    Source(
        "franquesa2012",
        "interstitial fibrosis 2.3 to 0.4 within 13 weeks of a dose in rats: 0.02/d or more there, over the time scale of 3.9",
    ),
)
MATRIX_MYOFIBROBLAST = gain("matrix_myofibroblast", 25.0, "matrix by myofibroblasts")
MYOFIBROBLAST_HALF = half("myofibroblast_half", 4.0, "myofibroblasts with half of their effect")
SCAR_TURNOVER = rate_constant(
    "scar_turnover",
    0.00038,
    0.5,
    "cross-linking and loss of scar (half-life 5 years)",
    Assumed("late fibrosis reverses slowly or not at all"),
)

PROCESSES = (
    synthesis(
        "tgfb_kidney",
        lambda tgfb_turnover, m2, tgfb_m2, m2_half, ros, tgfb_ros, ros_half, age_products, tgfb_age, age_half, tubules, tgfb_injury, injury_half, pressure, tgfb_pressure, pressure_half: (
            tgfb_turnover
            * stimulated(m2, tgfb_m2, m2_half)
            * stimulated(ros, tgfb_ros, ros_half)
            * stimulated(age_products, tgfb_age, age_half)
            * stimulated(1 / tubules, tgfb_injury, injury_half)
            * stimulated(pressure, tgfb_pressure, pressure_half)
        ),
        "formation and activation of TGF-β1",
        (TGFB_M2, TGFB_ROS, TGFB_AGE, TGFB_INJURY, TGFB_PRESSURE, PRESSURE_HALF),
        MODULE,
    ),
    loss("tgfb_kidney", TGFB_TURNOVER, MODULE),
    synthesis(
        "tgfb_serum",
        lambda tgfb_serum_turnover, tgfb_spill, tgfb_kidney, treg, tgfb_serum_treg, treg_half: (
            tgfb_serum_turnover
            * (tgfb_spill * tgfb_kidney + (1 - tgfb_spill) * stimulated(treg, tgfb_serum_treg, treg_half))
        ),
        "formation of blood TGF-β1",
        (TGFB_SPILL, TGFB_SERUM_TREG),
        MODULE,
    ),
    loss("tgfb_serum", TGFB_SERUM_TURNOVER, MODULE),
    synthesis(
        "psmad",
        lambda smad_turnover, tgfb_kidney, psmad_tgfb, tgfb_half, smad7, psmad_smad7, smad7_half: (
            smad_turnover
            * stimulated(tgfb_kidney, psmad_tgfb, tgfb_half)
            * inhibited(smad7, psmad_smad7, smad7_half)
        ),
        "phosphorylation of Smad2/3",
        (PSMAD_TGFB, TGFB_HALF, PSMAD_SMAD7, SMAD7_HALF),
        MODULE,
    ),
    loss("psmad", SMAD_TURNOVER, MODULE),
    synthesis(
        "smad7",
        lambda smad7_turnover, psmad, smad7_psmad, psmad_half: (
            smad7_turnover * stimulated(psmad, smad7_psmad, psmad_half)
        ),
        "induction of Smad7",
        (SMAD7_PSMAD, PSMAD_HALF),
        MODULE,
    ),
    loss("smad7", SMAD7_TURNOVER, MODULE),
    synthesis(
        "myofibroblasts",
        lambda myofibroblast_turnover, psmad, myofibroblast_psmad, psmad_half, tnf_kidney, myofibroblast_tnf, tnf_half: (
            myofibroblast_turnover
            * stimulated(psmad, myofibroblast_psmad, psmad_half)
            * stimulated(tnf_kidney, myofibroblast_tnf, tnf_half)
        ),
        "EMT and activation",
        (MYOFIBROBLAST_PSMAD, MYOFIBROBLAST_TNF),
        MODULE,
    ),
    loss("myofibroblasts", MYOFIBROBLAST_TURNOVER, MODULE),
    synthesis(
        "matrix",
        lambda matrix_turnover, myofibroblasts, matrix_myofibroblast, myofibroblast_half: (
            matrix_turnover * stimulated(myofibroblasts, matrix_myofibroblast, myofibroblast_half)
        ),
        "matrix formation",
        (MATRIX_MYOFIBROBLAST, MYOFIBROBLAST_HALF),
        MODULE,
    ),
    loss("matrix", MATRIX_TURNOVER, MODULE, "breakdown by proteases"),
    synthesis(
        "scar",
        lambda scar_turnover, matrix: scar_turnover * matrix,
        "cross-linking of matrix",
        (SCAR_TURNOVER,),
        MODULE,
    ),
    Process(
        "scar_resorption",
        {"scar": -1},
        lambda scar_turnover, scar: scar_turnover * scar,
        "1/day",
        "resorption of scar",
        (),
        MODULE,
    ),
)
