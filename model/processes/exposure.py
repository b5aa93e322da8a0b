"""Exposure: where the cells go, how long they live, what they shed, and how the host remembers them.

Everything is per product slot: an arm that mixes two products runs two copies. Cells are in millions
per kg of body weight, so that a fold in dose means the same in a mouse and in a patient.
"""

from __future__ import annotations

from mscrenal.model.declare import (
    Assumed,
    HalfNormal,
    Input,
    LogitNormal,
    LogNormal,
    Parameter,
    Process,
    Quantity,
    Source,
    State,
)
from mscrenal.model.functions import excess, saturating
from mscrenal.model.processes.shorthand import renamed

MODULE = "exposure"
CELLS = "Mcell/kg"
FLUX = "Mcell/kg/day"
EVS = "Gparticle/kg"


def _cells(name: str, meaning: str, symbol: str) -> State:
    return State(name, CELLS, meaning, MODULE, healthy=0.0, start="zero", symbol=symbol, per_slot=True)


STATES = (
    _cells("blood", "living cells in venous blood", "C_{blood}"),
    _cells("lung", "living cells held in the lungs", "C_{lung}"),
    _cells("liver", "living cells in liver, spleen and other organs", "C_{liver}"),
    _cells("kidney", "living cells in the kidneys", "C_{kidney}"),
    _cells("depot", "living cells at an injection site (peritoneum, subcutis)", "C_{depot}"),
    _cells("apoptotic", "cells that died in the body, awaiting efferocytosis", "C_{apo}"),
    _cells("debris", "cells dead on arrival, awaiting efferocytosis", "C_{debris}"),
    _cells("cleared", "cells removed, for the mass balance", "C_{cleared}"),
    State(
        "ev_plasma",
        EVS,
        "extracellular vesicles in plasma",
        MODULE,
        0.0,
        "zero",
        symbol="V_{plasma}",
        per_slot=True,
    ),
    State(
        "ev_kidney",
        EVS,
        "extracellular vesicles in the kidneys",
        MODULE,
        0.0,
        "zero",
        symbol="V_{kidney}",
        per_slot=True,
    ),
    State(
        "ev_lost",
        EVS,
        "vesicles lost, for the mass balance",
        MODULE,
        0.0,
        "zero",
        symbol="V_{lost}",
        per_slot=True,
    ),
    State(
        "medium_lost",
        CELLS,
        "conditioned medium lost, for the mass balance",
        MODULE,
        0.0,
        "zero",
        symbol="Q_{lost}",
        per_slot=True,
    ),
    State(
        "medium",
        CELLS,
        "conditioned medium in plasma, as cells that made it",
        MODULE,
        0.0,
        "zero",
        symbol="Q_{medium}",
        per_slot=True,
    ),
    State("priming", "1", "alloimmune priming, on its way to memory", MODULE, 0.0, "zero", symbol="I_1"),
    State("memory", "1", "alloimmune memory (antibody, T cells)", MODULE, 0.0, "zero", symbol="I_2"),
)

INPUTS = (
    Input("in_iv", FLUX, "intravenous infusion", per_slot=True),
    Input("in_ia", FLUX, "infusion into the renal artery", per_slot=True),
    Input("in_kidney", FLUX, "injection into the kidney", per_slot=True),
    Input("in_depot", FLUX, "intraperitoneal or subcutaneous injection", per_slot=True),
    Input("in_ev", "Gparticle/kg/day", "infusion of vesicles", per_slot=True),
    Input(
        "in_ev_local",
        "Gparticle/kg/day",
        "infusion of vesicles into the renal artery or the kidney",
        per_slot=True,
    ),
    Input("in_medium", FLUX, "infusion of conditioned medium, as cells that made it", per_slot=True),
)

COMPLEMENT_LOSS = Parameter(
    "complement_loss",
    0.33,
    "1",
    "share of infused cells lost to complement and clotting in the first hour",
    Source("complement_bmsc", "32.6 to 41.7 % in serum"),
    LogitNormal(0.65),
)
SENSITISED_LOSS = Parameter(
    "sensitised_loss",
    0.5,
    "1",
    "share of an allogeneic dose lost at once in a fully sensitised host",
    (
        Source("baboon2006", "half still hold second-dose cells at 4 weeks"),
        Source("miniswine_allo", "complement killing"),
    ),
    LogitNormal(0.9),
)
CIRCULATION = Parameter(
    "circulation",
    1440.0,
    "1/day",
    "passes of the blood through the lungs: cardiac output over blood volume",
    Assumed("one circulation a minute at rest (about 5 L/min through 5 L); only its being fast matters"),
)
LUNG_TRAPPING = Parameter(
    "lung_trapping",
    0.6,
    "1",
    "share of the cells held at each pass of the lungs",
    (Source("gholamrezanezhad2011", "0.27-0.335 of label"), Source("bonios2011", "0.55")),
    LogitNormal(0.6),
)
ORGAN_TRAPPING = Parameter(
    "organ_trapping",
    0.35,
    "1",
    "share of the cells held at each pass of the other organs",
    Source("pool2019", "of arrested cells about 10 % left circulating after several passes"),
    LogitNormal(0.4),
)
KIDNEY_SHARE = Parameter(
    "kidney_share",
    0.012,
    "1",
    "share of the arterial cells that lodge in uninflamed kidneys",
    (Source("rabbituc2025", "below 1 % after IV"), Source("lee2009", "below 0.05 % in six organs")),
    LogNormal.from_range(0.001, 0.06),
)
LUNG_RELEASE = Parameter(
    "lung_release",
    0.05,
    "1/day",
    "release of living cells from the lungs (a label moves on faster than living cells do)",
    (
        Source("lee2009", "below 0.05 % of the dose in six organs"),
        Source("eggenhofer2012", "none viable elsewhere"),
        Source("kraitchman2005", "label 24-48 h"),
    ),
    LogNormal.from_range(0.005, 0.5),
)
DEATH = Parameter(
    "death",
    0.756,
    "1/day",
    "death of infused cells (half-life 22 h)",
    (
        Source("lee2009", "24 h"),
        Source("cryo_gvhd", "21 h"),
        Source("toma2009", "14 % at day 3"),
        Source("eggenhofer2012", "none at 72 h"),
    ),
    LogNormal.from_range(0.35, 2.1),
)
DEPOT_DEATH = Parameter(
    "depot_death",
    0.25,
    "1/day",
    "death at an injection site (mean life 4 d)",
    (Source("ipsamp2024", "days"), Source("strohschein2015", "days")),
    LogNormal.from_range(0.11, 0.5),
)
DEPOT_RELEASE = Parameter(
    "depot_release",
    0.05,
    "1/day",
    "passage of living cells from an injection site into blood",
    Source("shim2015", "blood peak at 8 h, small"),
    LogNormal(0.8),
)
IA_RETENTION = Parameter(
    "ia_retention",
    0.25,
    "1",
    "share of an intra-arterial renal dose that stays in the kidney",
    (Source("rabbituc2025", "12.4 %"), Source("toma2009", "92 % first-pass arrest")),
    LogitNormal(0.75),
)
PARENCHYMAL_RETENTION = Parameter(
    "parenchymal_retention",
    0.17,
    "1",
    "share of an intraparenchymal dose that stays in the kidney",
    Source("bonios2011", "0.12 to 0.23 an hour after injection into the heart wall"),
    LogitNormal(0.6),
)
HOMING_GAIN = Parameter(
    "homing_gain",
    0.8,
    "1",
    "largest extra renal homing under injury (SDF-1/CXCR4)",
    (Source("jung2009", "1.5-fold"), Source("ccl4_mscpk", "2.0-2.8-fold"), Source("grange2014", "EV")),
    LogNormal.from_range(0.2, 2.5),
)
HOMING_HALF = Parameter(
    "homing_half",
    1.0,
    "1",
    "excess of renal MCP-1 with half of the extra homing",
    Assumed("the injury of the homing studies doubles chemokines"),
    LogNormal(0.5),
)
EFFEROCYTOSIS = Parameter(
    "efferocytosis",
    1.0,
    "1/day",
    "uptake of dying cells by phagocytes",
    (
        Source("efferocytosis2023", "taken up within 24 h"),
        Source("eggenhofer2012", "debris at 24 h, gone at 72 h"),
    ),
    LogNormal(0.5),
)
EV_RELEASE = Parameter(
    "ev_release",
    1.0,
    "Gparticle/Mcell/day",
    "vesicles shed by a living cell (1,000 a day)",
    Assumed("no table read gives a per-cell daily rate; 100 to 10,000 is the range of the field (grade D)"),
    LogNormal.from_range(0.1, 10.0),
)
EV_CLEARANCE = Parameter(
    "ev_clearance",
    2.9,
    "1/day",
    "loss of vesicles from plasma (slow half-life 5.7 h)",
    (Source("evpk_review2019", "beta phase"), Source("lai2014", "mouse")),
    LogNormal.from_range(1.3, 6.6),
)
EV_UPTAKE = Parameter(
    "ev_uptake",
    0.02,
    "1",
    "share of plasma vesicles that end in uninflamed kidneys",
    Source("grange2014", "kidney signal, higher in injury; share itself assumed"),
    LogNormal.from_range(0.003, 0.15),
)
EV_DECAY = Parameter(
    "ev_decay",
    0.35,
    "1/day",
    "loss of vesicle activity in the kidney",
    Source("eirin2017ev", "retention peaks at day 2"),
    LogNormal(0.5),
)
MEDIUM_CLEARANCE = Parameter(
    "medium_clearance",
    3.0,
    "1/day",
    "loss of conditioned medium from plasma",
    Assumed("a mixture of proteins (hours) and vesicles; the slow vesicle half-life stands for both"),
    LogNormal(0.5),
)
SENSITISATION = Parameter(
    "sensitisation",
    0.04,
    "1/day",
    "largest rate of alloimmune priming by an allogeneic dose",
    Source("sanabria2021", "11.5 % of 356 with any antibody after a course"),
    LogNormal.from_range(0.008, 0.2),
)
SENSITISING_LOAD = Parameter(
    "sensitising_load",
    0.3,
    CELLS,
    "load of dying allogeneic cells with half of the largest priming",
    Assumed("half of a usual dose of 1e6 cells/kg; no dose-response of sensitisation was readable"),
    LogNormal(0.6),
)
PRIMING_TIME = Parameter(
    "priming_time",
    14.0,
    "day",
    "from priming to memory",
    Source("berglund2017", "half at day 7, all at day 21"),
    LogNormal.from_range(7.0, 28.0),
)
MEMORY_FADING = Parameter(
    "memory_fading",
    0.0019,
    "1/day",
    "fading of alloimmune memory (half-life 1 year)",
    Assumed("one trial reports antibody titres falling by week 52, without a half-life"),
    LogNormal(0.7),
)
SENSITISED_DEATH = Parameter(
    "sensitised_death",
    1.0,
    "1",
    "extra death rate of allogeneic cells at full memory, relative to the usual",
    Source("baboon2006", "shorter-lived second dose; size assumed"),
    LogNormal(0.6),
)
EMBOLIC_HARM = Parameter(
    "embolic_harm",
    HalfNormal(0.3).median,
    "1/day",
    "largest loss of capillaries when cells block renal vessels",
    (Source("munk2022", "none at 1e7, harm at 1e8 a pig kidney"), Source("cai2014", "rat harm at 1e6")),
    HalfNormal(0.3),
)
EMBOLIC_LOAD = Parameter(
    "embolic_load",
    2.0,
    CELLS,
    "renal cell load with half of the embolic harm",
    (Source("munk2022", "1e8 a pig kidney"), Source("cai2014", "1e6 a rat")),
    LogNormal(0.5),
)


# ------------------------------------------------------------------- shared quantities
def homing_signal(mcp1, homing_gain, homing_half):
    """Renal homing relative to the uninflamed kidney."""
    return 1 + homing_gain * saturating(excess(mcp1), homing_half)


def kidney_split(homing_signal, kidney_share, homing):
    """Share of the arterial cells that lodge in the kidneys; saturates so that it stays below 1."""
    drawn = kidney_share * homing * homing_signal
    return drawn / (1 + drawn)


def immune_rejection(memory, immunogenicity):
    """How far the host rejects this product: 0 (never met, or autologous) to 1."""
    return immunogenicity * memory / (1 + memory)


def live_share(viability, complement_loss, sensitised_loss, immune_rejection):
    """Share of the infused cells alive in the body after the first hour."""
    return viability * (1 - complement_loss) * (1 - sensitised_loss * immune_rejection)


def death_rate(death, survival, immune_rejection, sensitised_death):
    """Death rate of living cells of this product, 1/day."""
    return death / survival * (1 + sensitised_death * immune_rejection)


def living(blood, lung, liver, kidney, depot):
    """All living cells of the product."""
    return blood + lung + liver + kidney + depot


QUANTITIES = (
    Quantity(
        "homing_signal",
        "1",
        "renal homing relative to the uninflamed kidney",
        homing_signal,
        (HOMING_GAIN, HOMING_HALF),
        MODULE,
    ),
    Quantity(
        "kidney_split",
        "1",
        "share of arterial cells lodging in the kidneys",
        kidney_split,
        (KIDNEY_SHARE,),
        MODULE,
        per_slot=True,
    ),
    Quantity(
        "immune_rejection",
        "1",
        "rejection of the product by the host",
        immune_rejection,
        (),
        MODULE,
        per_slot=True,
    ),
    Quantity(
        "live_share",
        "1",
        "share of infused cells alive after the first hour",
        live_share,
        (COMPLEMENT_LOSS, SENSITISED_LOSS),
        MODULE,
        per_slot=True,
    ),
    Quantity(
        "death_rate",
        "1/day",
        "death rate of living cells",
        death_rate,
        (DEATH, SENSITISED_DEATH),
        MODULE,
        per_slot=True,
    ),
    *(
        Quantity(
            f"total_{organ}",
            CELLS,
            f"living cells of all products: {organ}",
            renamed(lambda cells: cells * 1, cells=organ),
            (),
            MODULE,
            sum_slots=True,
        )
        for organ in ("blood", "lung", "liver", "kidney", "depot")
    ),
    Quantity("living", CELLS, "all living cells of the product", living, (), MODULE, per_slot=True),
)


# ------------------------------------------------------------------- rates
def _slot(name, stoichiometry, rate, meaning, parameters=(), unit=FLUX):
    return Process(name, stoichiometry, rate, unit, meaning, parameters, MODULE, per_slot=True, paced=False)


PROCESSES = (
    _slot(
        "iv_live",
        {"blood": +1},
        lambda in_iv, live_share: in_iv * live_share,
        "intravenous cells that arrive alive",
    ),
    _slot(
        "iv_dead",
        {"debris": +1},
        lambda in_iv, live_share: in_iv * (1 - live_share),
        "intravenous cells that arrive dead",
    ),
    _slot(
        "ia_retained",
        {"kidney": +1},
        lambda in_ia, live_share, ia_retention: in_ia * live_share * ia_retention,
        "arterial cells that stay in the kidney",
        (IA_RETENTION,),
    ),
    _slot(
        "ia_passed",
        {"blood": +1},
        lambda in_ia, live_share, ia_retention: in_ia * live_share * (1 - ia_retention),
        "arterial cells that pass the kidney",
    ),
    _slot(
        "ia_dead",
        {"debris": +1},
        lambda in_ia, live_share: in_ia * (1 - live_share),
        "arterial cells that arrive dead",
    ),
    _slot(
        "parenchymal_retained",
        {"kidney": +1},
        lambda in_kidney, live_share, parenchymal_retention: in_kidney * live_share * parenchymal_retention,
        "injected cells that stay in the kidney",
        (PARENCHYMAL_RETENTION,),
    ),
    _slot(
        "parenchymal_leaked",
        {"blood": +1},
        lambda in_kidney, live_share, parenchymal_retention: (
            in_kidney * live_share * (1 - parenchymal_retention)
        ),
        "injected cells that leak into blood",
    ),
    _slot(
        "parenchymal_dead",
        {"debris": +1},
        lambda in_kidney, live_share: in_kidney * (1 - live_share),
        "injected cells that arrive dead",
    ),
    _slot(
        "depot_live",
        {"depot": +1},
        lambda in_depot, live_share: in_depot * live_share,
        "deposited cells that are alive",
    ),
    _slot(
        "depot_dead",
        {"debris": +1},
        lambda in_depot, live_share: in_depot * (1 - live_share),
        "deposited cells that are dead",
    ),
    _slot(
        "lung_arrest",
        {"blood": -1, "lung": +1},
        lambda blood, circulation, lung_trapping: circulation * lung_trapping * blood,
        "first-pass arrest in the lungs",
        (CIRCULATION, LUNG_TRAPPING),
    ),
    _slot(
        "kidney_arrest",
        {"blood": -1, "kidney": +1},
        lambda blood, circulation, lung_trapping, organ_trapping, kidney_split: (
            circulation * (1 - lung_trapping) * organ_trapping * kidney_split * blood
        ),
        "arrest in the kidneys",
        (ORGAN_TRAPPING,),
    ),
    _slot(
        "liver_arrest",
        {"blood": -1, "liver": +1},
        lambda blood, circulation, lung_trapping, organ_trapping, kidney_split: (
            circulation * (1 - lung_trapping) * organ_trapping * (1 - kidney_split) * blood
        ),
        "arrest in liver, spleen and elsewhere",
    ),
    _slot(
        "lung_to_kidney",
        {"lung": -1, "kidney": +1},
        lambda lung, lung_release, kidney_split: lung_release * kidney_split * lung,
        "cells released by the lungs that home to the kidneys",
        (LUNG_RELEASE,),
    ),
    _slot(
        "lung_to_liver",
        {"lung": -1, "liver": +1},
        lambda lung, lung_release, kidney_split: lung_release * (1 - kidney_split) * lung,
        "cells released by the lungs that lodge elsewhere",
    ),
    _slot(
        "depot_absorption",
        {"depot": -1, "blood": +1},
        lambda depot, depot_release: depot_release * depot,
        "passage into blood",
        (DEPOT_RELEASE,),
    ),
    _slot(
        "blood_death",
        {"blood": -1, "apoptotic": +1},
        lambda blood, death_rate: death_rate * blood,
        "death in blood",
    ),
    _slot(
        "lung_death",
        {"lung": -1, "apoptotic": +1},
        lambda lung, death_rate: death_rate * lung,
        "death in the lungs",
    ),
    _slot(
        "liver_death",
        {"liver": -1, "apoptotic": +1},
        lambda liver, death_rate: death_rate * liver,
        "death in liver and spleen",
    ),
    _slot(
        "kidney_death",
        {"kidney": -1, "apoptotic": +1},
        lambda kidney, death_rate: death_rate * kidney,
        "death in the kidneys",
    ),
    _slot(
        "depot_death_process",
        {"depot": -1, "apoptotic": +1},
        lambda depot, depot_death, survival, immune_rejection, sensitised_death: (
            depot_death / survival * (1 + sensitised_death * immune_rejection) * depot
        ),
        "death at the injection site",
        (DEPOT_DEATH,),
    ),
    _slot(
        "apoptotic_clearance",
        {"apoptotic": -1, "cleared": +1},
        lambda apoptotic, efferocytosis: efferocytosis * apoptotic,
        "efferocytosis",
        (EFFEROCYTOSIS,),
    ),
    _slot(
        "debris_clearance",
        {"debris": -1, "cleared": +1},
        lambda debris, efferocytosis: efferocytosis * debris,
        "uptake of cells dead on arrival",
    ),
    _slot(
        "ev_infusion", {"ev_plasma": +1}, lambda in_ev: in_ev * 1, "infused vesicles", unit="Gparticle/kg/day"
    ),
    _slot(
        "ev_retained",
        {"ev_kidney": +1},
        lambda in_ev_local, ia_retention: in_ev_local * ia_retention,
        "vesicles given into the kidney that stay",
        unit="Gparticle/kg/day",
    ),
    _slot(
        "ev_passed",
        {"ev_plasma": +1},
        lambda in_ev_local, ia_retention: in_ev_local * (1 - ia_retention),
        "vesicles given into the kidney that pass",
        unit="Gparticle/kg/day",
    ),
    _slot(
        "ev_shedding",
        {"ev_plasma": +1},
        lambda blood, lung, liver, depot, ev_release, ev_yield: (
            ev_release * ev_yield * (blood + lung + liver + depot)
        ),
        "vesicles shed outside the kidneys",
        (EV_RELEASE,),
        "Gparticle/kg/day",
    ),
    _slot(
        "ev_shedding_kidney",
        {"ev_kidney": +1},
        lambda kidney, ev_release, ev_yield: ev_release * ev_yield * kidney,
        "vesicles shed in the kidneys",
        (),
        "Gparticle/kg/day",
    ),
    _slot(
        "ev_to_kidney",
        {"ev_plasma": -1, "ev_kidney": +1},
        lambda ev_plasma, ev_clearance, ev_uptake, homing_signal: (
            ev_clearance * ev_uptake * homing_signal * ev_plasma
        ),
        "renal uptake of vesicles",
        (EV_CLEARANCE, EV_UPTAKE),
        "Gparticle/kg/day",
    ),
    _slot(
        "ev_elimination",
        {"ev_plasma": -1, "ev_lost": +1},
        lambda ev_plasma, ev_clearance: ev_clearance * ev_plasma,
        "loss of vesicles elsewhere",
        (),
        "Gparticle/kg/day",
    ),
    _slot(
        "ev_inactivation",
        {"ev_kidney": -1, "ev_lost": +1},
        lambda ev_kidney, ev_decay: ev_decay * ev_kidney,
        "loss of vesicle activity",
        (EV_DECAY,),
        "Gparticle/kg/day",
    ),
    _slot("medium_infusion", {"medium": +1}, lambda in_medium: in_medium * 1, "infused conditioned medium"),
    _slot(
        "medium_elimination",
        {"medium": -1, "medium_lost": +1},
        lambda medium, medium_clearance: medium_clearance * medium,
        "loss of conditioned medium",
        (MEDIUM_CLEARANCE,),
    ),
    _slot(
        "alloimmune_priming",
        {"priming": +1},
        lambda apoptotic, debris, living, immunogenicity, sensitisation, sensitising_load, memory, eta_sensitisation_factor: (
            sensitisation
            * eta_sensitisation_factor
            * immunogenicity
            * (1 + memory)
            * (apoptotic + debris + living)
            / (sensitising_load + apoptotic + debris + living)
        ),
        "priming by allogeneic cells, stronger in a host that remembers",
        (SENSITISATION, SENSITISING_LOAD),
        "1/day",
    ),
    Process(
        "alloimmune_maturation",
        {"priming": -1, "memory": +1},
        lambda priming, priming_time: priming / priming_time,
        "1/day",
        "priming becomes memory",
        (PRIMING_TIME,),
        MODULE,
        paced=False,
    ),
    Process(
        "alloimmune_fading",
        {"memory": -1},
        lambda memory, memory_fading: memory_fading * memory,
        "1/day",
        "memory fades",
        (MEMORY_FADING,),
        MODULE,
        paced=False,
    ),
    _slot(
        "embolic_injury",
        {"capillaries": -1},
        lambda kidney, embolic_harm, embolic_load, capillaries: (
            embolic_harm * capillaries * kidney**2 / (embolic_load**2 + kidney**2)
        ),
        "capillaries blocked by cells",
        (EMBOLIC_HARM, EMBOLIC_LOAD),
        "1/day",
    ),
)
