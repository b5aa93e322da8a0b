"""The experiments of the lessons: what is simulated for them, draw by draw, without a word or a picture.

Each experiment is a set of controls (bounded, as a browser sends them) and a function of controls and draws of the
parameters that returns arrays with the draws in front, so that parts can be joined. Words and numbers of the answers
stand in `mscrenal.app.page.lesson_texts`; plots and questions of the page in `mscrenal.app.page.lessons`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from mscrenal.app.page.explore import middle
from mscrenal.app.page.setup import DEFAULT, ArmSetup, Setup
from mscrenal.model import ARMS_OF_ACTION
from mscrenal.model.crowd import simulate_people
from mscrenal.model.population import simulate_cohort
from mscrenal.model.simulate import Dose, prepare, simulate_subject
from mscrenal.scenarios import trial
from mscrenal.scenarios.curves import curves
from mscrenal.scenarios.sources import draws_of
from mscrenal.scenarios.trial_spec import population_around
from mscrenal.scenarios.virtual_patients import people_of, treatment_of

__all__ = [
    "ACTION_READ",
    "EARLY_PATIENTS",
    "FACTOR",
    "LOGARITHMS",
    "MEMORY_DAYS",
    "ORGANS",
    "PARTS",
    "SCHEDULE_DAYS",
    "SIMULATE",
    "TRANSLATION_DAYS",
    "TRIAL_N",
    "TRIAL_PARTS",
    "ArmsOfAction",
    "Controls",
    "EarlyMarker",
    "Found",
    "Memory",
    "Schedule",
    "SmallTrial",
    "Translation",
    "chance",
    "correlation",
    "early_effects",
    "early_patients",
    "factor_draws",
    "half_day",
    "joined",
    "lost",
    "patient",
    "rat",
    "readings",
    "share_error",
    "simulated_trials",
    "winners",
]

Array = NDArray[np.float64]
Found = dict[str, Array]  # draws in front
Theta = Mapping[str, float]

FACTOR = "species.human.translation"
YEAR = 365.25
INFUSION = 1 / 24
ORGANS = ("lung", "liver", "kidney", "blood")


class Controls(BaseModel):
    """What a pupil can move in one experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    only_shown: ClassVar[frozenset[str]] = (
        frozenset()
    )  # controls that change what is shown, not what is simulated

    def simulated(self) -> str:
        """What the simulation depends on, as text."""
        return self.model_dump_json(exclude=set(self.only_shown))


def joined(parts: Sequence[Found]) -> Found:
    """Some draws, and then others."""
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def patient(horizon: float, *arms: ArmSetup) -> Setup:
    """The patient with whom Explore opens, under these arms."""
    return DEFAULT.model_copy(update={"horizon": horizon, "arms": arms})


def rat(*arms: ArmSetup) -> Setup:
    """A rat eight weeks after streptozotocin, under these arms, followed for 24 weeks."""
    return Setup(species="rat", disease="stz", start_week=8.0, horizon=168.0, arms=arms)


# --------------------------------------------------------------------------- 1: the effect outlives the cells


class Memory(Controls):
    """One infusion; what is read, and how long phagocytes that took up cells remember it."""

    read: Literal["uacr", "il6_serum", "tnfa_kidney"] = "uacr"
    memory: Literal["estimated", "off", "week", "month", "quarter"] = "estimated"


HALF_LIFE_DAYS = {"week": 7.0, "month": 28.0, "quarter": 91.0}
MEMORY_DAYS: Array = np.unique(
    np.concatenate([[0.0, INFUSION, 0.25, 0.5], np.arange(1.0, 29.0), np.arange(31.5, 337.0, 3.5)])
)


def remembering(theta: Theta, memory: str) -> dict[str, float]:
    """The draw with the memory of phagocytes switched off, or given a half-life."""
    if memory == "off":
        return {**theta, "memory_weight": 0.0}
    if memory in HALF_LIFE_DAYS:
        return {**theta, "memory_decay": math.log(2) / HALF_LIFE_DAYS[memory]}
    return dict(theta)


def memory(controls: Memory, thetas: Sequence[Theta]) -> Found:
    """Living cells per organ, reprogrammed phagocytes (both cells/kg) and the effect on what is read.

    Returns
    -------
    organs (n, n_days, n_organs), taught (n, n_days), change (n, n_days) in per cent of the untreated twin
    """
    who = patient(336.0).scenario().subject.patient()
    dose = [Dose(0.0, 1.0, "UC", "IV", INFUSION)]
    n, m = len(thetas), len(MEMORY_DAYS)
    out = {
        "organs": np.full((n, m, len(ORGANS)), np.nan),
        "taught": np.full((n, m), np.nan),
        "change": np.full((n, m), np.nan),
    }
    for k, theta in enumerate(thetas):
        kernels, subject = prepare(who, ("UC",), remembering(theta, controls.memory), ())
        treated, twin = (simulate_subject(kernels, subject, d, (), MEMORY_DAYS) for d in (dose, ()))
        if treated.status != "ok" or twin.status != "ok":
            continue
        for o, organ in enumerate(ORGANS):
            out["organs"][k, :, o] = treated.observable(f"cells_{organ}")
        out["taught"][k] = 1e6 * treated.state("reprogrammed")
        out["change"][k] = 100 * (treated.observable(controls.read) / twin.observable(controls.read) - 1)
    return out


def half_day(days: Array, change: Array) -> Array:
    """Day on which an effect (n, n_days) is back to half of its largest fall; infinity if not by the end."""
    out = np.full(len(change), np.nan)
    for k, fall in enumerate(-change):
        if np.isnan(fall).any():
            continue
        top = int(np.argmax(fall))
        below = np.flatnonzero(fall[top:] <= 0.5 * fall[top])
        out[k] = days[top + below[0]] if len(below) else math.inf
    return out


# --------------------------------------------------------------------------- 2: rodents respond more


class Translation(Controls):
    """The same dose per kg in a rat and in a patient; what is read, the dose, and the translation factor."""

    read: Literal["uacr", "tnfa_kidney", "fibrosis_area"] = "uacr"
    dose: float = Field(default=1.0, ge=0.1, le=10, allow_inf_nan=False)
    factor: Literal["estimated", "0.03", "0.1", "0.3", "1"] = "estimated"


TRANSLATION_DAYS: Array = np.unique(
    np.concatenate([[0.0, 0.5], np.arange(1.0, 15.0), np.arange(17.5, 169.0, 3.5)])
)


def translation(controls: Translation, thetas: Sequence[Theta]) -> Found:
    """Effect in per cent of the untreated twin: rat and patient, (n, n_days)."""
    arm = ArmSetup(dose=controls.dose, n=1)
    out: Found = {}
    for name, setup in (("rat", rat(arm)), ("patient", patient(168.0, arm))):
        drawn = thetas
        if name == "patient" and controls.factor != "estimated":
            drawn = [{**theta, FACTOR: float(controls.factor)} for theta in thetas]
        found = curves(setup.scenario(), drawn, days=TRANSLATION_DAYS, observables=(controls.read,))
        out[name] = 100 * (found.values[1, :, :, 0] / found.values[0, :, :, 0] - 1)
    return out


@lru_cache(maxsize=1)
def factor_draws() -> Array:
    """Draws of the translation factor from the posterior, (1000,)."""
    return np.asarray(draws_of(1000, 1, "posterior").values[FACTOR], dtype=np.float64)


# --------------------------------------------------------------------------- 3: dose or frequency


class Schedule(Controls):
    """The same number of cells at once, in three and in six parts: 1e6 cells/kg in all, and days between parts."""

    total: float = Field(default=3.0, ge=0.3, le=12, allow_inf_nan=False)
    every: float = Field(default=28.0, ge=3, le=56, allow_inf_nan=False)


SCHEDULE_DAYS: Array = np.unique(np.concatenate([[0.0], np.linspace(0, 336, 97)]))
PARTS = (1, 3, 6)


def schedule(controls: Schedule, thetas: Sequence[Theta]) -> Found:
    """Effect of one, three and six parts, and of twice the total at once, against no cells.

    Returns
    -------
    uacr (n, 4, n_days) logarithm of the ratio; egfr (n, 4, n_days)
    """
    arms = [ArmSetup(dose=controls.total / n, n=n, every=controls.every) for n in PARTS]
    setup = patient(336.0, *arms, ArmSetup(dose=2 * controls.total, n=1))
    found = curves(setup.scenario(), thetas, days=SCHEDULE_DAYS, observables=("uacr", "egfr"))
    values = np.moveaxis(found.values, 1, 0)
    return {
        "uacr": np.log(values[:, 1:, :, 0] / values[:, :1, :, 0]),
        "egfr": values[:, 1:, :, 1] - values[:, :1, :, 1],
    }


def share_error(share: float, n: int) -> float:
    """Monte-Carlo error of a share of n draws; that of one draw where none or all of them agree."""
    least = min(max(share, 1 / n), 1 - 1 / n)
    return math.sqrt(least * (1 - least) / n)


def winners(found: Found) -> dict[str, tuple[list[float], list[float]]]:
    """Share of draws in which one, three and six parts do best, with its error: eGFR and UACR at the end, mean UACR."""
    scores = {
        "egfr": found["egfr"][:, :3, -1],
        "end": -found["uacr"][:, :3, -1],
        "mean": np.asarray(-np.trapezoid(found["uacr"][:, :3], SCHEDULE_DAYS, axis=2)),
    }
    out = {}
    for name, score in scores.items():
        fine = score[~np.isnan(score).any(axis=1)]
        shares = [float(np.mean(fine.argmax(axis=1) == k)) for k in range(3)]
        out[name] = (shares, [share_error(s, len(fine)) for s in shares])
    return out


# --------------------------------------------------------------------------- 4: arms of action


class ArmsOfAction(Controls):
    """What is read, whether each arm is switched off or left alone, and how strongly cells act."""

    only_shown: ClassVar[frozenset[str]] = frozenset({"read"})
    read: Literal["uacr", "il6_serum", "fibrosis_area", "egfr"] = "uacr"
    how: Literal["off", "alone"] = "off"
    factor: Literal["estimated", "1"] = "estimated"


ACTION_DAYS: Array = np.array(
    [0.0, 168.0]
)  # half a year: markers have not waned yet, and eGFR has begun to gain
ACTION_READ = ("uacr", "il6_serum", "fibrosis_area", "egfr")
LOGARITHMS = ("uacr", "il6_serum")


def arms_of_action(controls: ArmsOfAction, thetas: Sequence[Theta]) -> Found:
    """Effect at week 24 with all arms, without each, and with each alone.

    Returns
    -------
    effect : (n, 1 + 6, n_read)
        With all, then each arm off or alone; differences from no cells, for UACR and IL-6 of logarithms.
    """
    scenario = patient(float(ACTION_DAYS[-1]), ArmSetup()).scenario()
    who = scenario.subject.patient()
    weight = float(who.weight_kg or 1.0)
    arms: tuple[Any, ...] = tuple((tuple(a.doses(weight)), (), ()) for a in scenario.arms)
    drawn = list(thetas) if controls.factor == "estimated" else [{**t, FACTOR: 1.0} for t in thetas]

    def effect(off: Collection[str]) -> Array:
        cohort = simulate_cohort(
            [who] * len(drawn), drawn, [arms] * len(drawn), ACTION_DAYS, ACTION_READ, knock_out=tuple(off)
        )
        end = cohort.values[:, :, -1].copy()
        for k, name in enumerate(ACTION_READ):
            if name in LOGARITHMS:
                end[..., k] = np.log(end[..., k])
        return np.asarray(end[:, 1] - end[:, 0])

    alone = controls.how == "alone"
    switched = [tuple(b for b in ARMS_OF_ACTION if (b != a) == alone) for a in ARMS_OF_ACTION]
    return {"effect": np.stack([effect(()), *(effect(off) for off in switched)], axis=1)}


def lost(effect: Array, how: str) -> tuple[Array, Array]:
    """Effect (n, 1 + 6) of one reading as what each arm takes away or leaves: in its unit, and in per cent of the whole."""
    each = effect[:, :1] - effect[:, 1:] if how == "off" else effect[:, 1:]
    return each, 100 * each / effect[:, :1]


# --------------------------------------------------------------------------- 5: 38 patients


class SmallTrial(Controls):
    """What is tested, patients in each arm, and which set of trials chance draws."""

    read: Literal["egfr_change", "uacr_percent_change"] = "egfr_change"
    n: int = Field(default=19, ge=8, le=2000)
    again: int = Field(default=1, ge=1, le=200)


TRIAL_N, TRIAL_PART, TRIAL_PARTS = 19, 20, 5


@lru_cache(maxsize=16)
def simulated_trials(read: str, part: int) -> Found:
    """Twenty trials of 19 + 19 by the package's engine: truth, se, effect and p, (20,) each, on the scale of the test."""
    result = trial("uc-dn-weekly", trials=TRIAL_PART, endpoint=read, curve=False, seed=100 + part, workers=1)
    rows = result.rows[(result.rows["series"] == "design") & (result.rows["part"] == 1.0)].sort_values(
        "trial"
    )
    return {name: rows[name].to_numpy(dtype=np.float64) for name in ("truth", "se", "effect", "p")}


def chance(worlds: Found, n: int, again: int, repeats: int = 1) -> Found:
    """Trials of n patients an arm in these worlds, chance drawn anew.

    A normal approximation: the estimate of a trial lies about the truth of its world with the standard error that the
    engine's trial of 19 + 19 had there, which shrinks with the root of the size.

    Returns
    -------
    truth, se, estimate, significant: (repeats x n_worlds,) each
    """
    truth = np.tile(worlds["truth"], repeats)
    se = np.tile(worlds["se"], repeats) * math.sqrt(TRIAL_N / n)
    z = np.random.default_rng([38, again]).standard_normal(truth.shape)
    estimate = truth + se * z
    limit = stats.t.isf(0.025, max(1, 2 * n - 3))
    return {"truth": truth, "se": se, "estimate": estimate, "significant": np.abs(estimate) > limit * se}


# --------------------------------------------------------------------------- 6: early UACR, late eGFR


class EarlyMarker(Controls):
    """When UACR and eGFR are read, and against whom."""

    only_shown: ClassVar[frozenset[str]] = frozenset({"week", "year", "against"})
    week: Literal["12", "24"] = "24"
    year: Literal["1", "2", "3"] = "3"
    against: Literal["twin", "start"] = "twin"


EARLY_DAYS: Array = np.array([0.0, 84.0, 168.0, YEAR, 2 * YEAR, 3 * YEAR])
EARLY_PATIENTS, EARLY_SEED = 200, 6


def early_marker(controls: EarlyMarker, thetas: Sequence[Theta]) -> Found:
    """UACR and eGFR of the typical patient, untreated and treated, (n, 2, n_days, 2); the same whatever the controls."""
    setup = patient(float(EARLY_DAYS[-1]), ArmSetup())
    found = curves(setup.scenario(), thetas, days=EARLY_DAYS, observables=("uacr", "egfr"))
    return {"seen": np.moveaxis(found.values, 1, 0)}


@lru_cache(maxsize=1)
def early_patients() -> Array:
    """The same of virtual patients at the medians of the posterior, (n_patients, 2, n_days, 2)."""
    scenario = patient(float(EARLY_DAYS[-1]), ArmSetup()).scenario()
    who = replace(scenario, patient=None, population=population_around(scenario.subject))
    people = people_of(who, EARLY_SEED, 0, EARLY_PATIENTS)
    theta = {name: np.full(EARLY_PATIENTS, value) for name, value in middle().items()}
    treatments = [treatment_of(a, people) for a in scenario.arms]
    return np.asarray(simulate_people(people, theta, treatments, EARLY_DAYS, ("uacr", "egfr")).values)


def readings(seen: Array, controls: EarlyMarker) -> Found:
    """Of (n, n_arms, n_days, 2): changes against the first day in each arm, (n, n_arms), and what is lost untreated."""
    early = int(np.argmin(np.abs(EARLY_DAYS - 7 * int(controls.week))))
    late = int(np.argmin(np.abs(EARLY_DAYS - YEAR * int(controls.year))))
    egfr = seen[:, :, late, 1] - seen[:, :, 0, 1]
    return {"uacr": 100 * (seen[:, :, early, 0] / seen[:, :, 0, 0] - 1), "egfr": egfr, "loss": -egfr[:, 0]}


def early_effects(seen: Array, controls: EarlyMarker) -> tuple[Array, Array]:
    """Early UACR (%) and late eGFR of the last arm, against the untreated twin or against the own first day, (n,) each."""
    found = readings(seen, controls)
    if controls.against == "start":
        return found["uacr"][:, -1], found["egfr"][:, -1]
    ratio = (100 + found["uacr"][:, -1]) / (100 + found["uacr"][:, 0])
    return 100 * (ratio - 1), found["egfr"][:, -1] - found["egfr"][:, 0]


def correlation(x: Array, y: Array) -> tuple[float, float, float]:
    """Spearman's rank correlation with the 90 % interval of its sampling (Fisher's z; Bonett and Wright 2000)."""
    fine = ~(np.isnan(x) | np.isnan(y))
    n = int(fine.sum())
    rho = float(stats.spearmanr(x[fine], y[fine]).statistic)
    step = 1.645 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    z = math.atanh(min(max(rho, -1 + 1e-9), 1 - 1e-9))
    return rho, math.tanh(z - step), math.tanh(z + step)


SIMULATE: Mapping[str, Any] = {
    "memory": memory,
    "translation": translation,
    "schedule": schedule,
    "arms": arms_of_action,
    "early": early_marker,
}
