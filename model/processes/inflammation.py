"""Inflammation: MCP-1, M1 and M2 macrophages, Treg, Th17 and cytokines, kidney and blood apart."""

from __future__ import annotations

from mscrenal.model.declare import (
    Assumed,
    LogitNormal,
    LogNormal,
    Parameter,
    Process,
    Quantity,
    Source,
    State,
)
from mscrenal.model.functions import inhibited, stimulated
from mscrenal.model.processes.shorthand import gain, half, loss, rate_constant, synthesis

MODULE = "inflammation"


def _state(name: str, meaning: str, symbol: str) -> State:
    return State(name, "1", meaning, MODULE, symbol=symbol)


STATES = (
    _state("mcp1", "MCP-1 in the kidney", "M_{CP}"),
    _state("m1", "M1 macrophages in the kidney", "M_1"),
    _state("m2", "M2 macrophages in the kidney", "M_2"),
    _state("treg", "regulatory T cells", "T_{reg}"),
    _state("th17", "Th17 cells", "T_{17}"),
    _state("tnf_kidney", "TNF-α in the kidney", "T_k"),
    _state("il6_kidney", "IL-6 in the kidney", "J_k"),
    _state("il10_kidney", "IL-10 in the kidney", "J_{10}"),
    _state("il1b", "NLRP3 activity and IL-1β in the kidney", "J_1"),
    _state("tnf_serum", "TNF-α in serum", "T_s"),
    _state("il6_serum", "IL-6 in serum", "J_s"),
)

CYTOKINES = "cytokines turn over within hours in every source, whose values disagree widely; quasi-steady on the day scale"

MCP1_TURNOVER = rate_constant(
    "mcp1_turnover", 1.73, 0.5, "turnover of MCP-1", Source("thomas2024", "model value 1.73/d")
)
MCP1_GLUCOSE = gain("mcp1_glucose", 3.0, "MCP-1 by glucose and AGE")
MCP1_ROS = gain("mcp1_ros", 5.0, "MCP-1 by ROS (NF-κB)")
MCP1_TNF = gain("mcp1_tnf", 5.0, "MCP-1 by TNF-α and IL-1β")
MCP1_INJURY = gain("mcp1_injury", 10.0, "MCP-1 by injured tubules")
INJURY_HALF = half("injury_half", 3.0, "reciprocal of tubular integrity with half of its effect")
TNF_HALF = half("tnf_half", 3.0, "renal TNF-α with half of its effects")
IL1B_HALF = half("il1b_half", 3.0, "IL-1β with half of its effects")
MCP1_COMPLEX = gain("mcp1_complex", 8.0, "MCP-1 by immune complexes")
COMPLEX_HALF = half("complex_half", 2.0, "1 + immune complexes with half of their effects")

RECRUITMENT_MCP1 = gain("recruitment_mcp1", 18.0, "recruitment of monocytes by MCP-1")
MCP1_HALF = half("mcp1_half", 4.0, "MCP-1 with half of its effect")
M1_TO_M2_RATE = rate_constant(
    "m1_to_m2_rate",
    0.075,
    0.3,
    "switching of M1 to M2",
    Source("trejo2019lg", "0.075/d (0.05 to 0.15), model value"),
)
M1_LOSS_RATE = Parameter(
    "m1_loss_rate",
    0.17,
    "1/day",
    "loss of M1 macrophages",
    (
        Source("trejo2019lg", "model"),
        Source("lafci2025", "model"),
        Source("jin2011", "0.6/d"),
        Source("thomas2024", "0.015/d"),
    ),
    LogNormal(0.8),
)
M2_LOSS_RATE = rate_constant(
    "m2_loss_rate",
    0.1,
    0.7,
    "loss of M2 macrophages",
    Source("permac", "resident cells: half-life 16 d; recruited ones shorter"),
)
SWITCH_IL10 = gain("switch_il10", 1.5, "M1-to-M2 switching by IL-10")
IL10_HALF = half("il10_half", 3.0, "IL-10 with half of its effects")

TREG_TURNOVER = rate_constant(
    "treg_turnover",
    0.087,
    0.4,
    "turnover of Treg (doubling in 8 d)",
    Source("vukmanovic2006", "deuterium labelling"),
)
TREG_IL6 = Parameter(
    "treg_il6",
    0.5,
    "1",
    "largest fall of Treg formation by IL-6",
    Assumed("Treg are low, not absent, in inflamed hosts"),
    LogitNormal(0.6),
)
IL6_HALF = half("il6_half", 3.0, "IL-6 with half of its effects")
TH17_TURNOVER = rate_constant(
    "th17_turnover",
    0.1,
    0.5,
    "turnover of Th17 cells",
    Source("vukmanovic2006", "memory CD4 double in 24 d, Treg in 8 d; between"),
)
TH17_IL6 = gain("th17_il6", 5.0, "Th17 formation by IL-6")
TH17_TREG = Parameter(
    "th17_treg",
    0.5,
    "1",
    "largest fall of Th17 formation by Treg",
    Assumed("partial control"),
    LogitNormal(0.6),
)
TREG_HALF = half("treg_half", 1.5, "Treg with half of their effects")

TNF_TURNOVER = rate_constant(
    "tnf_turnover",
    12.0,
    0.5,
    "turnover of TNF-α in tissue",
    (Source("trejo2019lg", "12/d, model"), Source("greischel_tnf", "half-life 1.2 to 2.1 h")),
)
TNF_M1 = gain("tnf_m1", 15.0, "TNF-α by M1 macrophages")
TNF_TH17 = gain("tnf_th17", 2.0, "TNF-α by Th17 cells")
TH17_HALF = half("th17_half", 2.0, "Th17 cells with half of their effect")
TNF_ROS = gain("tnf_ros", 4.0, "TNF-α by ROS (NF-κB)")
IL10_DEPTH = Parameter(
    "il10_depth",
    0.85,
    "1",
    "largest fall of TNF-α and IL-1β by IL-10",
    Source("radwanski1998", "Imax about 0.85 ex vivo"),
    LogitNormal(0.4),
)
IL10_BLOCK_HALF = half(
    "il10_block_half",
    8.0,
    "IL-10 with half of its block of TNF-α",
    Source("radwanski1998", "IC50 0.03 ng/mL, several times the healthy level"),
    0.5,
)

IL1B_TURNOVER = rate_constant(
    "il1b_turnover",
    12.0,
    0.5,
    "turnover of IL-1β",
    Source("trejo2019lg", "pro-inflammatory cytokines 12/d, model"),
)
IL1B_ROS = gain("il1b_ros", 6.0, "NLRP3 activation by ROS")
IL1B_M1 = gain("il1b_m1", 8.0, "IL-1β by M1 macrophages")
IL6_TURNOVER = rate_constant(
    "il6_turnover",
    12.0,
    0.5,
    "turnover of IL-6 in tissue",
    Source("trejo2019lg", "pro-inflammatory cytokines 12/d, model"),
)
IL6_TNF = gain("il6_tnf", 10.0, "IL-6 by TNF-α")
IL6_IL1B = gain("il6_il1b", 6.0, "IL-6 by IL-1β")
IL10_TURNOVER = rate_constant(
    "il10_turnover",
    4.8,
    0.4,
    "turnover of IL-10",
    (Source("trejo2019lg", "4.8/d, model"), Source("radwanski1998", "half-life 1.94 h in plasma")),
)
IL10_M2 = gain("il10_m2", 8.0, "IL-10 by M2 macrophages")
M2_HALF = half("m2_half", 3.0, "M2 macrophages with half of their effects")
IL10_TREG = gain("il10_treg", 5.0, "IL-10 by Treg")

SERUM_TURNOVER = rate_constant(
    "serum_turnover",
    6.0,
    0.5,
    "turnover of serum cytokines",
    (Source("il6rat", "half-life 0.38 h"), Source("greischel_tnf", "saturable, hours")),
)
TNF_SPILL = Parameter(
    "tnf_spill",
    0.25,
    "1",
    "share of serum TNF-α that the kidney makes",
    Assumed("a minor organ; the rest is systemic"),
    LogitNormal(0.5),
)
IL6_SPILL = Parameter(
    "il6_spill",
    0.25,
    "1",
    "share of serum IL-6 that the kidney makes",
    Assumed("a minor organ; the rest is systemic"),
    LogitNormal(0.5),
)
SYSTEMIC_GLUCOSE = gain("systemic_glucose", 3.0, "systemic inflammation by glucose and adiposity")
RETENTION = Parameter(
    "retention",
    0.3,
    "1",
    "share of the clearance of serum cytokines that falls with GFR",
    Source("macisaac2019", "TNF receptor 1 rises 39 % as GFR falls from 89 to 51"),
    LogitNormal(0.5),
)
SYSTEMIC_COMPLEX = gain("systemic_complex", 2.0, "systemic inflammation in active autoimmunity")


def mcp1_rate(
    mcp1_turnover,
    glucose,
    mcp1_glucose,
    glucose_half,
    ros,
    mcp1_ros,
    ros_half,
    tnf_kidney,
    mcp1_tnf,
    tnf_half,
    tubules,
    mcp1_injury,
    injury_half,
    immune_complexes,
    mcp1_complex,
    complex_half,
):
    """MCP-1 formation in the kidney."""
    return (
        mcp1_turnover
        * stimulated(glucose, mcp1_glucose, glucose_half)
        * stimulated(ros, mcp1_ros, ros_half)
        * stimulated(tnf_kidney, mcp1_tnf, tnf_half)
        * stimulated(1 / tubules, mcp1_injury, injury_half)
        * stimulated(1 + immune_complexes, mcp1_complex, complex_half)
    )


def tnf_rate(
    tnf_turnover,
    m1,
    tnf_m1,
    m1_half,
    th17,
    tnf_th17,
    th17_half,
    ros,
    tnf_ros,
    ros_half,
    il10_kidney,
    il10_depth,
    il10_block_half,
):
    """TNF-α formation in the kidney."""
    return (
        tnf_turnover
        * stimulated(m1, tnf_m1, m1_half)
        * stimulated(th17, tnf_th17, th17_half)
        * stimulated(ros, tnf_ros, ros_half)
        * inhibited(il10_kidney, il10_depth, il10_block_half)
    )


def serum_source(
    kidney, spill, glucose, systemic_glucose, glucose_half, immune_complexes, systemic_complex, complex_half
):
    """Formation of a serum cytokine: by the kidney and by the rest of the body."""
    systemic = stimulated(glucose, systemic_glucose, glucose_half) * stimulated(
        1 + immune_complexes, systemic_complex, complex_half
    )
    return spill * kidney + (1 - spill) * systemic


def m2_per_m1(m2_loss_rate, m1_to_m2_rate):
    """M2 cells, in units of their healthy number, that one healthy number of switched M1 cells makes."""
    return m2_loss_rate / m1_to_m2_rate


QUANTITIES = (
    Quantity("m2_per_m1", "1", "healthy M2 numbers made by one healthy M1 number", m2_per_m1, (), MODULE),
)

PROCESSES = (
    synthesis(
        "mcp1",
        mcp1_rate,
        "formation of MCP-1",
        (MCP1_GLUCOSE, MCP1_ROS, MCP1_TNF, TNF_HALF, MCP1_INJURY, INJURY_HALF, MCP1_COMPLEX, COMPLEX_HALF),
        MODULE,
    ),
    loss("mcp1", MCP1_TURNOVER, MODULE),
    Process(
        "m1_recruitment",
        {"m1": +1},
        lambda m1_to_m2_rate, m1_loss_rate, mcp1, recruitment_mcp1, mcp1_half: (
            (m1_to_m2_rate + m1_loss_rate) * stimulated(mcp1, recruitment_mcp1, mcp1_half)
        ),
        "1/day",
        "monocytes drawn in by MCP-1 that turn M1",
        (RECRUITMENT_MCP1, MCP1_HALF),
        MODULE,
    ),
    # In units of its own healthy number a switched M1 cell is worth m2_loss/m1_to_m2 M2 cells.
    Process(
        "m1_to_m2",
        {"m1": -1, "m2": "m2_per_m1"},
        lambda m1_to_m2_rate, m1, il10_kidney, switch_il10, il10_half: (
            m1_to_m2_rate * m1 * stimulated(il10_kidney, switch_il10, il10_half)
        ),
        "1/day",
        "switching of M1 to M2",
        (M1_TO_M2_RATE, SWITCH_IL10, IL10_HALF),
        MODULE,
    ),
    Process(
        "m1_loss",
        {"m1": -1},
        lambda m1_loss_rate, m1: m1_loss_rate * m1,
        "1/day",
        "loss of M1 macrophages",
        (M1_LOSS_RATE,),
        MODULE,
    ),
    Process(
        "m2_loss",
        {"m2": -1},
        lambda m2_loss_rate, m2: m2_loss_rate * m2,
        "1/day",
        "loss of M2 macrophages",
        (M2_LOSS_RATE,),
        MODULE,
    ),
    synthesis(
        "treg",
        lambda treg_turnover, il6_kidney, treg_il6, il6_half: (
            treg_turnover * inhibited(il6_kidney, treg_il6, il6_half)
        ),
        "formation of Treg",
        (TREG_IL6, IL6_HALF),
        MODULE,
    ),
    loss("treg", TREG_TURNOVER, MODULE),
    synthesis(
        "th17",
        lambda th17_turnover, il6_kidney, th17_il6, il6_half, treg, th17_treg, treg_half: (
            th17_turnover * stimulated(il6_kidney, th17_il6, il6_half) * inhibited(treg, th17_treg, treg_half)
        ),
        "formation of Th17 cells",
        (TH17_IL6, TH17_TREG, TREG_HALF),
        MODULE,
    ),
    loss("th17", TH17_TURNOVER, MODULE),
    synthesis(
        "tnf_kidney",
        tnf_rate,
        "formation of TNF-α",
        (TNF_M1, TNF_TH17, TH17_HALF, TNF_ROS, IL10_DEPTH, IL10_BLOCK_HALF),
        MODULE,
    ),
    loss("tnf_kidney", TNF_TURNOVER, MODULE),
    synthesis(
        "il1b",
        lambda il1b_turnover, ros, il1b_ros, ros_half, m1, il1b_m1, m1_half, il10_kidney, il10_depth, il10_block_half: (
            il1b_turnover
            * stimulated(ros, il1b_ros, ros_half)
            * stimulated(m1, il1b_m1, m1_half)
            * inhibited(il10_kidney, il10_depth, il10_block_half)
        ),
        "NLRP3 activation",
        (IL1B_ROS, IL1B_M1),
        MODULE,
    ),
    loss("il1b", IL1B_TURNOVER, MODULE),
    synthesis(
        "il6_kidney",
        lambda il6_turnover, tnf_kidney, il6_tnf, tnf_half, il1b, il6_il1b, il1b_half: (
            il6_turnover * stimulated(tnf_kidney, il6_tnf, tnf_half) * stimulated(il1b, il6_il1b, il1b_half)
        ),
        "formation of IL-6",
        (IL6_TNF, IL6_IL1B, IL1B_HALF),
        MODULE,
    ),
    loss("il6_kidney", IL6_TURNOVER, MODULE),
    synthesis(
        "il10_kidney",
        lambda il10_turnover, m2, il10_m2, m2_half, treg, il10_treg, treg_half: (
            il10_turnover * stimulated(m2, il10_m2, m2_half) * stimulated(treg, il10_treg, treg_half)
        ),
        "formation of IL-10",
        (IL10_M2, M2_HALF, IL10_TREG),
        MODULE,
    ),
    loss("il10_kidney", IL10_TURNOVER, MODULE),
    synthesis(
        "tnf_serum",
        lambda serum_turnover, tnf_kidney, tnf_spill, glucose, systemic_glucose, glucose_half, immune_complexes, systemic_complex, complex_half: (
            serum_turnover
            * serum_source(
                tnf_kidney,
                tnf_spill,
                glucose,
                systemic_glucose,
                glucose_half,
                immune_complexes,
                systemic_complex,
                complex_half,
            )
        ),
        "formation of serum TNF-α",
        (TNF_SPILL, SYSTEMIC_GLUCOSE, SYSTEMIC_COMPLEX),
        MODULE,
    ),
    Process(
        "tnf_serum_loss",
        {"tnf_serum": -1},
        lambda serum_turnover, tnf_serum, retention, gfr: (
            serum_turnover * tnf_serum * (1 - retention + retention * gfr)
        ),
        "1/day",
        "clearance of serum TNF-α",
        (SERUM_TURNOVER, RETENTION),
        MODULE,
    ),
    synthesis(
        "il6_serum",
        lambda serum_turnover, il6_kidney, il6_spill, glucose, systemic_glucose, glucose_half, immune_complexes, systemic_complex, complex_half: (
            serum_turnover
            * serum_source(
                il6_kidney,
                il6_spill,
                glucose,
                systemic_glucose,
                glucose_half,
                immune_complexes,
                systemic_complex,
                complex_half,
            )
        ),
        "formation of serum IL-6",
        (IL6_SPILL,),
        MODULE,
    ),
    Process(
        "il6_serum_loss",
        {"il6_serum": -1},
        lambda serum_turnover, il6_serum, retention, gfr: (
            serum_turnover * il6_serum * (1 - retention + retention * gfr)
        ),
        "1/day",
        "clearance of serum IL-6",
        (),
        MODULE,
    ),
)
