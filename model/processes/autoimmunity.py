"""Autoimmunity: lupus activity, immune complexes and complement C3."""

from __future__ import annotations

from mscrenal.model.declare import Assumed, LogitNormal, LogNormal, Parameter, Process, Source, State
from mscrenal.model.functions import inhibited, stimulated
from mscrenal.model.processes.shorthand import gain, loss, rate_constant, synthesis

MODULE = "autoimmunity"

STATES = (
    State(
        "autoimmunity",
        "1",
        "autoimmune activity, 0 in health, 1 in active lupus nephritis",
        MODULE,
        healthy=0.0,
        symbol="W",
    ),
    State("immune_complexes", "1", "immune complexes in the kidney", MODULE, healthy=0.0, symbol="W_c"),
    State("c3", "1", "complement C3 in serum", MODULE, symbol="C_3"),
)

AUTOIMMUNITY_TURNOVER = rate_constant(
    "autoimmunity_turnover",
    0.03,
    0.5,
    "change of autoimmune activity",
    Source("wang2014", "SLEDAI falls over the first 1 to 3 months"),
)
AUTOIMMUNITY_TREG = Parameter(
    "autoimmunity_treg",
    0.5,
    "1",
    "largest fall of autoimmune activity by Treg",
    Assumed("partial control"),
    LogitNormal(0.6),
)
AUTOIMMUNITY_TH17 = gain("autoimmunity_th17", 1.0, "autoimmune activity by Th17 cells")
LUPUS = Parameter(
    "lupus",
    0.0,
    "1",
    "drive of lupus (found from SLEDAI); 0 in health",
    Assumed("set by the disease"),
    scope="insult",
)
COMPLEX_TURNOVER = rate_constant(
    "complex_turnover",
    0.05,
    0.5,
    "turnover of immune complexes in the kidney",
    Assumed("weeks: proteinuria falls over months"),
)
C3_TURNOVER = rate_constant(
    "c3_turnover", 0.5, 0.4, "turnover of C3", Assumed("a catabolic half-life of one to two days")
)
C3_CONSUMPTION = Parameter(
    "c3_consumption",
    1.0,
    "1",
    "consumption of C3 by autoimmune activity of 1, relative to its turnover",
    Assumed("C3 about half of normal in active lupus nephritis"),
    LogNormal(0.35),
)

PROCESSES = (
    synthesis(
        "autoimmunity",
        lambda autoimmunity_turnover, lupus, treg, autoimmunity_treg, treg_half, th17, autoimmunity_th17, th17_half: (
            autoimmunity_turnover
            * lupus
            * inhibited(treg, autoimmunity_treg, treg_half)
            * stimulated(th17, autoimmunity_th17, th17_half)
        ),
        "autoimmune activity, held by Treg and fed by Th17",
        (LUPUS, AUTOIMMUNITY_TREG, AUTOIMMUNITY_TH17),
        MODULE,
    ),
    loss("autoimmunity", AUTOIMMUNITY_TURNOVER, MODULE),
    synthesis(
        "immune_complexes",
        lambda complex_turnover, autoimmunity: complex_turnover * autoimmunity,
        "deposition",
        (),
        MODULE,
    ),
    loss("immune_complexes", COMPLEX_TURNOVER, MODULE),
    synthesis("c3", lambda c3_turnover: c3_turnover * 1, "hepatic synthesis of C3", (), MODULE),
    Process(
        "c3_consumption_process",
        {"c3": -1},
        lambda c3_turnover, c3, c3_consumption, autoimmunity: (
            c3_turnover * c3 * (1 + c3_consumption * autoimmunity)
        ),
        "1/day",
        "catabolism and consumption of C3",
        (C3_TURNOVER, C3_CONSUMPTION),
        MODULE,
    ),
)
