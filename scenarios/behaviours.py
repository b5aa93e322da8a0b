"""The behaviours that the model must show, as statements with a yes or no and the numbers behind it.

Each statement is checked for one set of parameters. `shares` counts over draws from the priors how
often each holds: a statement that fails in more than one draw of twenty says that a prior or the
structure of the model is wrong.

The numbering is that of the model's brief: 1 where the cells go, 2 no dose, 3 potency and dose, 4 arms
of action, 6 natural history, 8 the order of effects. (5 and 7 compare with published data: see
`mscrenal.scenarios.facts`.) Every effect is read against an untreated twin that meets the same days, so
that what remains is the treatment and the tolerance of the solver.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mscrenal.calibration import Draws, draws
from mscrenal.model import ARMS_OF_ACTION, Dose, Patient, Trajectory
from mscrenal.model.initial import InitialStateError, Subject
from mscrenal.model.kernels import Compiled
from mscrenal.model.products.base import POTENCIES
from mscrenal.model.simulate import prepare, simulate_subject
from mscrenal.scenarios.executor import executor_for

__all__ = ["BEHAVIOURS", "Behaviour", "Laboratory", "Outcome", "check", "shares"]

# Effects of weak draws are of order 1e-3; the differences between them need more than the usual 1e-7.
RTOL, ATOL = 1e-9, 1e-12
# What two integrations of the same equations with different steps may differ by.
SOLVER = 1e-5
INFUSION = 1 / 24
# Fine while cells come and go, coarse while the kidney answers.
DAYS = np.unique(np.concatenate([
    [0.0, INFUSION, 1.25 / 24, 0.25, 0.5], np.arange(1.0, 28.0), np.arange(28.0, 336.0, 4.0), np.arange(336.0, 731.0, 14.0),
]))  # fmt: skip
YEAR = 365.25
WEEKS_48 = 336.0
AFTER_A_DOSE = (0.0, INFUSION, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 14.0, 20.0, 28.0, 40.0, 55.0)
# Weekly at first, over 40 years: the natural history of a human kidney.
LIFE = np.concatenate([np.arange(0.0, 2 * YEAR, 7.0), np.arange(2 * YEAR, 40 * YEAR, 91.3125)])
RAT_LIFE = np.arange(0.0, 2 * YEAR, 2.0)

PATIENTS: Mapping[str, Patient] = {
    # The typical patient of the trials of cells in diabetic kidney disease.
    "dkd": Patient(egfr=45.0, uacr=900.0, hba1c=7.8, duration_years=15.0, drugs=("ras",)),
    "healthy": Patient(disease="healthy"),
    "late": Patient(egfr=30.0, uacr=1500.0, hba1c=8.0, duration_years=20.0),
    "rat": Patient(species="rat", disease="stz"),
}
PRODUCT = "UC"
AUTOLOGOUS, VESICLES = "urine", "EV-UC"
WEEKLY = (0.0, 7.0, 14.0)
EVERY_8_WEEKS = tuple(56.0 * k for k in range(6))
TWO_YEARS = tuple(84.0 * k for k in range(9))


@dataclass(frozen=True)
class Outcome:
    """Whether a statement holds, the numbers behind it, and what stopped a simulation if one failed."""

    holds: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class SimulationFailed(RuntimeError):
    """A simulation ended without numbers: the statement then counts as not shown."""


class Laboratory:
    """Simulations under one set of parameters, each made once and shared by the statements.

    Parameters
    ----------
    theta : mapping of str to float
        By the names of `sampled_parameters`; missing ones take their median.
    """

    def __init__(self, theta: Mapping[str, float]) -> None:
        self.theta = dict(theta)
        self._seen: dict[tuple[object, ...], Trajectory] = {}

    def see(
        self,
        who: str,
        amount: float = 0.0,
        *,
        days: Sequence[float] = (0.0,),
        route: str = "IV",
        product: str = PRODUCT,
        knock_out: Collection[str] = (),
        changes: Mapping[str, float] | None = None,
    ) -> Trajectory:
        """The patient `who` under doses of `amount` on `days`; `changes` replace parameters."""
        changes = changes or {}
        key = (
            who,
            amount,
            tuple(days),
            route,
            product,
            tuple(sorted(knock_out)),
            tuple(sorted(changes.items())),
        )
        if key not in self._seen:
            doses = [Dose(day, amount, product, route, INFUSION) for day in days]
            self._seen[key] = self._simulated(who, doses, product, knock_out, changes)
        return self._seen[key]

    def _simulated(
        self,
        who: str,
        doses: Sequence[Dose],
        product: str,
        knock_out: Collection[str],
        changes: Mapping[str, float],
    ) -> Trajectory:
        kernels, subject = self.subject(who, product, knock_out, changes)
        times = RAT_LIFE if who == "rat" else _days(tuple(d.day for d in doses))
        return _ok(simulate_subject(kernels, subject, doses, (), times, rtol=RTOL, atol=ATOL))

    def subject(
        self,
        who: str,
        product: str = PRODUCT,
        knock_out: Collection[str] = (),
        changes: Mapping[str, float] | None = None,
    ) -> tuple[Compiled, Subject]:
        """The compiled model and the patient `who` at the start."""
        try:
            return prepare(PATIENTS[who], (product,), self.theta | dict(changes or {}), knock_out)
        except InitialStateError as error:
            raise SimulationFailed(str(error)) from error

    def from_health(self) -> Trajectory:
        """A healthy person who gets type 2 diabetes on day 0: HbA1c near 8 %, untreated, for 40 years."""
        if ("from health",) not in self._seen:
            _, diabetic = self.subject("late")
            kernels, healthy = self.subject("healthy")
            self._seen["from health",] = self._under(
                kernels,
                healthy,
                _of(kernels, diabetic, ("beta_set", "insulin_resistance", "glucose_goal")),
                LIFE,
            )
        return self._seen["from health",]

    def cured(self) -> Trajectory:
        """A patient with late disease whose diabetes ends on day 0 (as after a pancreas transplant)."""
        if ("cured",) not in self._seen:
            kernels, late = self.subject("late")
            self._seen["cured",] = self._under(
                kernels, late, {"beta_set": 1.0, "insulin_resistance": 1.0}, DAYS
            )
        return self._seen["cured",]

    def _under(
        self, kernels: Compiled, subject: Subject, values: Mapping[str, float], times: np.ndarray
    ) -> Trajectory:
        parameters = subject.parameters.copy()
        for name, value in values.items():
            parameters[kernels.model.parameter_index[name]] = value
        return _ok(
            simulate_subject(
                kernels, replace(subject, parameters=parameters), (), (), times, rtol=RTOL, atol=ATOL
            )
        )


def _days(doses: Sequence[float]) -> np.ndarray:
    """Output days that resolve what follows each dose."""
    return np.unique(np.concatenate([DAYS, *(np.array(AFTER_A_DOSE) + day for day in doses)]))


def _ok(trajectory: Trajectory) -> Trajectory:
    if trajectory.status != "ok":
        raise SimulationFailed(f"{trajectory.status}: {trajectory.message}")
    return trajectory


def _of(kernels: Compiled, subject: Subject, names: Iterable[str]) -> dict[str, float]:
    return {n: float(subject.parameters[kernels.model.parameter_index[n]]) for n in names}


# --------------------------------------------------------------------------- readings


def _living(run: Trajectory) -> np.ndarray:
    return sum(
        (run.state(n) for n in ("blood", "lung", "liver", "kidney", "depot")), np.zeros(len(run.times))
    )


def _log_ratio(treated: Trajectory, untreated: Trajectory, observable: str) -> np.ndarray:
    return np.log(treated.observable(observable) / untreated.observable(observable))


def _first_below(times: np.ndarray, values: np.ndarray, level: float, start: int = 0) -> float:
    """First day from index `start` on which `values` is at or below `level`; inf if never."""
    below = np.flatnonzero(values[start:] <= level)
    if not len(below):
        return math.inf
    k = start + int(below[0])
    if k == start:
        return float(times[k])
    high, low = values[k - 1], values[k]
    return float(times[k - 1] + (high - level) / (high - low) * (times[k] - times[k - 1]))


def _peak(values: np.ndarray) -> int:
    return int(np.argmax(np.abs(values)))


def _half_time_up(times: np.ndarray, effect: np.ndarray) -> float:
    """First day on which an effect has reached half of its peak."""
    size = np.abs(effect) * np.sign(effect[_peak(effect)]) * np.sign(effect)
    return _first_below(times, -size, -0.5 * float(size.max()))


def _half_time_down(times: np.ndarray, effect: np.ndarray) -> float:
    """First day after its peak on which an effect is at half of it; inf if it lasts beyond the end."""
    k = _peak(effect)
    return _first_below(times, effect * np.sign(effect[k]), 0.5 * abs(float(effect[k])), k)


def _largest_difference(a: Trajectory, b: Trajectory) -> float:
    """Largest relative difference of any observable but the cells."""
    kept = [n for n in a.model.observable_names if not n.startswith("cells_")]
    days = np.intersect1d(a.times, b.times)
    x, y = (
        np.column_stack([run.observable(n)[np.searchsorted(run.times, days)] for n in kept]) for run in (a, b)
    )
    return float(np.max(np.abs(x - y) / np.maximum(np.abs(x), 1e-3)))


def _area(run: Trajectory, values: np.ndarray, end: float = WEEKS_48) -> float:
    inside = run.times <= end
    return float(np.trapezoid(values[inside], run.times[inside]))


def _uacr_effect(treated: Trajectory, untreated: Trajectory, end: float = WEEKS_48) -> float:
    """Mean fall of log UACR from day 0 to `end`."""
    return -_area(treated, _log_ratio(treated, untreated, "uacr"), end) / end


def _at(run: Trajectory, observable: str, day: float) -> float:
    return float(run.observable(observable)[np.searchsorted(run.times, day)])


# --------------------------------------------------------------------------- 1: the cells


def lungs_hold_most(lab: Laboratory) -> Outcome:
    """15 min after the end of an intravenous infusion."""
    run = lab.see("dkd", 1.0)
    k = int(np.searchsorted(run.times, 1.25 / 24))
    organs = {n: float(run.state(n)[k]) for n in ("blood", "lung", "liver", "kidney", "depot")}
    share = organs["lung"] / sum(organs.values())
    return Outcome(share > 0.5 and organs["lung"] == max(organs.values()), {"lung_share": share})


def cells_are_gone(lab: Laboratory) -> Outcome:
    """Living cells 14 days after the dose, relative to those alive at the end of the infusion."""
    run = lab.see("dkd", 1.0)
    living = _living(run)
    left = float(np.interp(14.0, run.times, living) / np.interp(INFUSION, run.times, living))
    return Outcome(left < 0.01, {"share_alive_day_14": left})


def few_reach_the_kidney(lab: Laboratory) -> Outcome:
    """Most cells ever in the kidney at once, as a share of the intravenous dose."""
    share = float(lab.see("dkd", 1.0).state("kidney").max())
    return Outcome(0 < share < 0.05, {"kidney_share": share})


def inflamed_kidney_draws_more(lab: Laboratory) -> Outcome:
    """The same, against a healthy kidney."""
    inflamed, healthy = (float(lab.see(who, 1.0).state("kidney").max()) for who in ("dkd", "healthy"))
    return Outcome(inflamed > healthy, {"ratio_inflamed_healthy": inflamed / healthy})


def artery_delivers_more(lab: Laboratory) -> Outcome:
    """The same, against a renal intra-arterial dose."""
    arterial, venous = (
        float(lab.see("dkd", 1.0, route=route).state("kidney").max()) for route in ("IA-renal", "IV")
    )
    return Outcome(arterial > venous, {"ratio_arterial_venous": arterial / venous})


def _outlives(lab: Laboratory, observable: str) -> Outcome:
    run, twin = lab.see("dkd", 1.0), lab.see("dkd")
    gone = _first_below(run.times, _living(run), 0.01, 2)
    half = _half_time_down(run.times, _log_ratio(run, twin, observable))
    return Outcome(half - gone >= 14.0, {"cells_gone_day": gone, "effect_half_day": half})


def effect_on_tnf_outlives_cells(lab: Laboratory) -> Outcome:
    """Day on which the effect on renal TNF-α is back to half, less the day on which 1 % of the dose lives."""
    return _outlives(lab, "tnfa_kidney")


def effect_on_uacr_outlives_cells(lab: Laboratory) -> Outcome:
    """The same for UACR."""
    return _outlives(lab, "uacr")


# --------------------------------------------------------------------------- 2: no dose


def no_dose_no_effect(lab: Laboratory) -> Outcome:
    """Doses of no cells against no doses at all: the solver restarts differently, nothing else differs."""
    difference = _largest_difference(lab.see("dkd", 0.0, days=WEEKLY), lab.see("dkd", days=()))
    return Outcome(difference < SOLVER, {"largest_difference": difference})


def no_potency_no_effect(lab: Laboratory) -> Outcome:
    """Cells of zero potency in all arms, without the mechanical harm of cells that block vessels."""
    nothing = {f"product.{PRODUCT}.{name}": 0.0 for name in POTENCIES} | {"embolic_harm": 0.0}
    treated, untreated = (
        lab.see("dkd", 1.0, days=WEEKLY, changes=nothing),
        lab.see("dkd", 0.0, days=WEEKLY, changes=nothing),
    )
    difference = _largest_difference(treated, untreated)
    return Outcome(difference < SOLVER, {"largest_difference": difference})


# --------------------------------------------------------------------------- 3: potency and dose


def _scaled_potency(lab: Laboratory, factor: float) -> dict[str, float]:
    # What the laboratory's parameters and the medians make of it, read back from the subject.
    values = _of(*lab.subject("healthy"), POTENCIES)
    return {f"product.{PRODUCT}.{n}": factor * values[n] for n in POTENCIES}


def _by_potency(lab: Laboratory, read: Callable[[Trajectory, Trajectory], float]) -> Outcome:
    twin = lab.see("dkd", 0.0, days=WEEKLY)
    half, one, two = (
        read(lab.see("dkd", 1.0, days=WEEKLY, changes=_scaled_potency(lab, f)), twin) for f in (0.5, 1.0, 2.0)
    )
    return Outcome(0 < half < one < two, {"potency_0.5": half, "potency_1": one, "potency_2": two})


def egfr_rises_with_potency(lab: Laboratory) -> Outcome:
    """eGFR at week 48 against no treatment, three weekly doses."""
    return _by_potency(lab, lambda run, twin: _at(run, "egfr", WEEKS_48) - _at(twin, "egfr", WEEKS_48))


def uacr_falls_with_potency(lab: Laboratory) -> Outcome:
    """Mean fall of log UACR over 48 weeks, three weekly doses."""
    return _by_potency(lab, _uacr_effect)


# Neither crowding nor blocked vessels nor a memory of earlier doses: the saturation of the arms alone.
PLAIN = {"crowding": 0.0, "embolic_harm": 0.0}
NO_HARM = {"embolic_harm": 0.0}


def effect_saturates(lab: Laboratory) -> Outcome:
    """Largest fall of log UACR at 0, 1, 2, 3 million cells/kg: each equal step gains less than the one before.

    And there is a ceiling: from 10,000 to 20,000 (no dose for a patient) the gain is below a tenth. The peak is
    read and not the area, because beyond the ceiling a larger dose still lasts longer.
    """
    twin = lab.see("dkd", 0.0, changes=PLAIN)
    effect = {
        a: -float(_log_ratio(lab.see("dkd", a, changes=PLAIN), twin, "uacr").min())
        for a in (1.0, 2.0, 3.0, 1e4, 2e4)
    }
    steps = (effect[1.0], effect[2.0] - effect[1.0], effect[3.0] - effect[2.0])
    numbers = {
        "gain_1": steps[0],
        "gain_2": steps[1],
        "gain_3": steps[2],
        "gain_at_ceiling": effect[2e4] / effect[1e4] - 1,
    }
    return Outcome(steps[0] > steps[1] > steps[2] > 0 and abs(numbers["gain_at_ceiling"]) < 0.1, numbers)


def crowding_turns_the_curve(lab: Laboratory) -> Outcome:
    """With strong crowding of the lungs (1 kg/Mcell) 32 million cells/kg by vein do less than 4.

    Where the curve turns depends on the other parameters: 8 million do less than 2 in half of the draws only.
    """
    crowded = {"crowding": 1.0, "embolic_harm": 0.0}
    twin = lab.see("dkd", 0.0, changes=crowded)
    four, many = (_uacr_effect(lab.see("dkd", a, changes=crowded), twin) for a in (4.0, 32.0))
    return Outcome(many < four, {"effect_4": four, "effect_32": many})


def arterial_overdose_harms(lab: Laboratory) -> Outcome:
    """Embolic harm at the upper end of its prior (0.6 a day), into the artery, read at day 7.

    100 million cells/kg leave fewer capillaries than 1 million does, and fewer than no treatment.
    """
    harm = {"crowding": 0.0, "embolic_harm": 0.6}
    twin = _at(lab.see("dkd", 0.0, route="IA-renal", changes=harm), "capillary_density", 7.0)
    usual, over = (
        _at(lab.see("dkd", a, route="IA-renal", changes=harm), "capillary_density", 7.0) / twin - 1
        for a in (1.0, 100.0)
    )
    return Outcome(over < min(usual, 0.0), {"capillaries_1": usual, "capillaries_100": over})


RENAL = ("oxidative stress", "inflammation", "fibrosis", "kidney")


def inflammation_gates_the_effect(lab: Laboratory) -> Outcome:
    """What a dose changes in a healthy kidney: less than half of what it changes in the patient's.

    Summed over the renal states, the largest change of each (of its logarithm). State by state the
    comparison misleads: where feedback cancels an effect in the patient, any change in health looks large.
    """
    change = {}
    for who in ("healthy", "dkd"):
        run, twin = lab.see(who, 1.0, changes=NO_HARM), lab.see(who, 0.0, changes=NO_HARM)
        names = [n for n, s in run.model.states.items() if s.module in RENAL and not n.endswith("_serum")]
        change[who] = np.array([np.max(np.abs(np.log(run.state(n) / twin.state(n)))) for n in names])
    ratios = change["healthy"] / np.maximum(change["dkd"], SOLVER)
    numbers = {
        "ratio": float(change["healthy"].sum() / change["dkd"].sum()), "largest_ratio_of_a_state": float(ratios.max()),
        "healthy": float(change["healthy"].sum()), "patient": float(change["dkd"].sum()),
    }  # fmt: skip
    return Outcome(numbers["ratio"] < 0.5, numbers)


def _exposures(lab: Laboratory, product: str, states: Sequence[str]) -> tuple[list[float], float]:
    """Area under the living cells (or vesicles) after each of six doses 8 weeks apart, and the last memory."""
    run = lab.see("dkd", 1.0, days=EVERY_8_WEEKS, product=product, changes=PLAIN)
    held = sum((run.state(n) for n in states), np.zeros(len(run.times)))
    # The same days after each dose, so that the rule's error is the same too.
    after = np.array(AFTER_A_DOSE)
    areas = [
        float(np.trapezoid(held[np.searchsorted(run.times, day + after)], after)) for day in EVERY_8_WEEKS
    ]
    return areas, float(run.state("memory")[np.searchsorted(run.times, 280.0)])


CELLS = ("blood", "lung", "liver", "kidney", "depot")


def allogeneic_doses_sensitise(lab: Laboratory) -> Outcome:
    """Six doses 8 weeks apart: memory rises, and the last dose lives less than the first."""
    areas, memory = _exposures(lab, PRODUCT, CELLS)
    return Outcome(
        memory > 0 and areas[-1] < areas[0] * (1 - SOLVER),
        {"memory": memory, "last_to_first": areas[-1] / areas[0]},
    )


def own_cells_and_vesicles_do_not(lab: Laboratory) -> Outcome:
    """The same with autologous cells and with vesicles: no memory, every dose as the first."""
    numbers: dict[str, float] = {}
    for product, states in ((AUTOLOGOUS, CELLS), (VESICLES, ("ev_plasma", "ev_kidney"))):
        areas, memory = _exposures(lab, product, states)
        numbers |= {f"memory_{product}": memory, f"last_to_first_{product}": areas[-1] / areas[0]}
    no_memory = all(v == 0 for n, v in numbers.items() if n.startswith("memory"))
    # An inflamed kidney that heals draws fewer vesicles: the later doses may differ by that, not by rejection.
    alike = (
        abs(numbers[f"last_to_first_{AUTOLOGOUS}"] - 1) < 1e-3
        and abs(numbers[f"last_to_first_{VESICLES}"] - 1) < 0.1
    )
    return Outcome(no_memory and alike, numbers)


# --------------------------------------------------------------------------- 4: arms of action

# What an arm is for, and whether more or less of it is the benefit.
READ_OUTS: Mapping[str, tuple[str, int]] = {
    "immunomodulation": ("tnfa_kidney", -1),
    "antioxidant": ("ros_kidney", -1),
    "cytoprotection": ("uacr", -1),
    "antifibrotic": ("fibrosis_area", -1),
    "angiogenic": ("capillary_density", +1),
    "metabolic": ("hba1c", -1),
}


def _benefit(lab: Laboratory, knock_out: Collection[str], observable: str, sign: int) -> float:
    run = lab.see("dkd", 1.0, days=TWO_YEARS, knock_out=knock_out, changes=NO_HARM)
    twin = lab.see("dkd", 0.0, days=TWO_YEARS, changes=NO_HARM)
    return sign * _area(run, _log_ratio(run, twin, observable), 730.0) / 730.0


def _nephrons_kept(lab: Laboratory, knock_out: Collection[str] = ()) -> float:
    """Log ratio of functioning nephrons after two years of a dose every 12 weeks, against none."""
    run = lab.see("dkd", 1.0, days=TWO_YEARS, knock_out=knock_out, changes=NO_HARM)
    twin = lab.see("dkd", 0.0, days=TWO_YEARS, changes=NO_HARM)
    return float(_log_ratio(run, twin, "nephrons")[-1])


def _knock_out(arm: str) -> Callable[[Laboratory], Outcome]:
    def check_arm(lab: Laboratory) -> Outcome:
        observable, sign = READ_OUTS[arm]
        nephrons, without = _nephrons_kept(lab), _nephrons_kept(lab, (arm,))
        own, own_without = _benefit(lab, (), observable, sign), _benefit(lab, (arm,), observable, sign)
        numbers = {
            "nephrons": nephrons, "nephrons_without": without, observable: own, f"{observable}_without": own_without,
            "share_of_nephrons_carried": 1 - without / nephrons if nephrons > 0 else math.nan,
        }  # fmt: skip
        return Outcome(nephrons > 0 and without < nephrons + 1e-7 and own_without < own - 1e-7, numbers)

    check_arm.__doc__ = f"Without {arm} no more nephrons are kept over two years, and its own read-out, mean log {READ_OUTS[arm][0]}, is worse."
    return check_arm


def nothing_without_arms(lab: Laboratory) -> Outcome:
    """All six arms knocked out: no observable but the cells differs from no treatment."""
    run = lab.see("dkd", 1.0, days=TWO_YEARS, knock_out=ARMS_OF_ACTION, changes=NO_HARM)
    difference = _largest_difference(run, lab.see("dkd", 0.0, days=TWO_YEARS, changes=NO_HARM))
    return Outcome(difference < SOLVER, {"largest_difference": difference})


# --------------------------------------------------------------------------- 6: natural history


def _hyperfiltration(run: Trajectory) -> Outcome:
    gfr = run.observable("mgfr") / run.observable("mgfr")[0]
    k = int(np.argmax(gfr))
    return Outcome(gfr[k] > 1.05 and 0 < k < len(gfr) - 1 and gfr[-1] < gfr[k] * 0.99, {
        "peak": float(gfr[k]), "peak_day": float(run.times[k]), "end": float(gfr[-1]),
    })  # fmt: skip


def hyperfiltration_comes_first(lab: Laboratory) -> Outcome:
    """A healthy person who gets diabetes: measured GFR rises by more than 5 % before it falls, within 40 years."""
    return _hyperfiltration(lab.from_health())


def hyperfiltration_comes_first_in_rats(lab: Laboratory) -> Outcome:
    """The same in a rat after streptozotocin, within two years."""
    return _hyperfiltration(lab.see("rat", days=()))


def _albuminuria_first(run: Trajectory) -> Outcome:
    gfr, uacr = run.observable("mgfr"), run.observable("uacr")
    doubled = _first_below(run.times, -uacr / uacr[0], -2.0)
    k = int(np.argmax(gfr))
    lost = _first_below(run.times, gfr / gfr[k], 0.9, k)
    return Outcome(
        doubled < lost, {"uacr_doubled_day": doubled, "gfr_lost_day": lost, "uacr_end": float(uacr[-1])}
    )


def albuminuria_comes_before_loss(lab: Laboratory) -> Outcome:
    """The same person: UACR has doubled before a tenth of the peak GFR is lost."""
    return _albuminuria_first(lab.from_health())


def albuminuria_comes_before_loss_in_rats(lab: Laboratory) -> Outcome:
    """The same in a rat after streptozotocin."""
    return _albuminuria_first(lab.see("rat", days=()))


def scar_outlasts_its_cause(lab: Laboratory) -> Outcome:
    """Late disease whose diabetes ends: a year on, renal TNF-α has lost more of its excess than scar, which keeps over half."""
    run = lab.cured()
    k = int(np.searchsorted(run.times, YEAR))
    left = {
        n: float((run.state(n)[k] - 1) / (run.state(n)[0] - 1)) for n in ("scar", "tnf_kidney", "il6_kidney")
    }
    return Outcome(left["scar"] > 0.5 and max(left["tnf_kidney"], left["il6_kidney"]) < 0.5, left)


# --------------------------------------------------------------------------- 8: the order of effects


def _course(lab: Laboratory, observable: str) -> tuple[float, float]:
    """Days to half of the peak and to the peak of the effect of one dose over 48 weeks."""
    run, twin = lab.see("dkd", 1.0, changes=NO_HARM), lab.see("dkd", 0.0, changes=NO_HARM)
    inside = run.times <= WEEKS_48
    effect = _log_ratio(run, twin, observable)[inside]
    return _half_time_up(run.times[inside], effect), float(run.times[inside][_peak(effect)])


def cytokines_fall_within_weeks(lab: Laboratory) -> Outcome:
    """Serum IL-6 and TNF-α: half of the largest fall within 4 weeks of the dose."""
    run, twin = lab.see("dkd", 1.0, changes=NO_HARM), lab.see("dkd", 0.0, changes=NO_HARM)
    numbers, falls = {}, []
    for name in ("il6_serum", "tnfa_serum"):
        effect = _log_ratio(run, twin, name)
        numbers[f"{name}_half_day"] = _half_time_up(run.times, effect)
        falls.append(effect[_peak(effect)] < -SOLVER)
    return Outcome(all(falls) and max(numbers.values()) <= 28.0, numbers)


def fibrosis_follows_cytokines(lab: Laboratory) -> Outcome:
    """Half of the peak fall of serum IL-6 and TNF-α comes before half of that of the fibrosis area."""
    half = {n: _course(lab, n)[0] for n in ("il6_serum", "tnfa_serum", "fibrosis_area")}
    return Outcome(max(half["il6_serum"], half["tnfa_serum"]) < half["fibrosis_area"], half)


def peaks_in_order(lab: Laboratory) -> Outcome:
    """Peak effects: serum cytokines, then α-SMA (the fibrosis marker of biopsies), then eGFR."""
    peak = {
        n: _course(lab, n)[1]
        for n in ("il6_serum", "tnfa_serum", "psmad3_kidney", "asma_kidney", "fibrosis_area", "egfr")
    }
    return Outcome(max(peak["il6_serum"], peak["tnfa_serum"]) <= peak["asma_kidney"] <= peak["egfr"], peak)


def fibrosis_area_peaks_before_egfr(lab: Laboratory) -> Outcome:
    """Peak effect on the fibrosis area no later than that on eGFR."""
    peak = {n: _course(lab, n)[1] for n in ("fibrosis_area", "egfr")}
    return Outcome(peak["fibrosis_area"] <= peak["egfr"], peak)


def egfr_is_last(lab: Laboratory) -> Outcome:
    """eGFR reaches half of its peak effect after serum cytokines and after half of α-SMA's."""
    half = {n: _course(lab, n)[0] for n in ("il6_serum", "tnfa_serum", "asma_kidney", "egfr")}
    return Outcome(half["egfr"] >= max(v for n, v in half.items() if n != "egfr"), half)


# --------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Behaviour:
    """One statement: its number, what must hold, and the function that says so from simulations."""

    number: str
    statement: str
    judge: Callable[[Laboratory], Outcome]

    def __call__(self, theta: Mapping[str, float] | Laboratory) -> Outcome:
        """Judge the statement under `theta` (or in a laboratory that already holds simulations)."""
        lab = theta if isinstance(theta, Laboratory) else Laboratory(theta)
        try:
            return self.judge(lab)
        except SimulationFailed as error:
            return Outcome(False, {}, str(error))


BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "1a", "After an IV infusion the lungs hold more than half of the living cells", lungs_hold_most
    ),
    Behaviour("1b", "Fewer than 1 % of the cells live after 14 days", cells_are_gone),
    Behaviour("1c", "Less than 5 % of an IV dose reaches the kidney", few_reach_the_kidney),
    Behaviour("1d", "More of it reaches an inflamed kidney than a healthy one", inflamed_kidney_draws_more),
    Behaviour("1e", "More of it reaches the kidney by the renal artery", artery_delivers_more),
    Behaviour(
        "1f",
        "The effect on renal TNF-α outlives the cells by two weeks or more",
        effect_on_tnf_outlives_cells,
    ),
    Behaviour(
        "1g", "The effect on UACR outlives the cells by two weeks or more", effect_on_uacr_outlives_cells
    ),
    Behaviour("2a", "No dose, no effect", no_dose_no_effect),
    Behaviour("2b", "No potency, no effect", no_potency_no_effect),
    Behaviour("3a", "eGFR at week 48 rises with potency", egfr_rises_with_potency),
    Behaviour("3b", "UACR falls with potency", uacr_falls_with_potency),
    Behaviour("3c", "The effect saturates in dose", effect_saturates),
    Behaviour("3d", "Crowded lungs turn the dose-response downwards", crowding_turns_the_curve),
    Behaviour("3e", "An arterial overdose harms where vessels block", arterial_overdose_harms),
    Behaviour("3f", "Without inflammation there is little to do", inflammation_gates_the_effect),
    Behaviour(
        "3g", "Repeated allogeneic doses sensitise, and later cells live less", allogeneic_doses_sensitise
    ),
    Behaviour("3h", "Autologous cells and vesicles do not sensitise", own_cells_and_vesicles_do_not),
    *(
        Behaviour(f"4{letter}", f"Knocking out the {arm} arm reduces the benefit", _knock_out(arm))
        for letter, arm in zip("abcdef", ARMS_OF_ACTION, strict=True)
    ),
    Behaviour("4g", "All six arms knocked out leave no benefit", nothing_without_arms),
    Behaviour("6a", "Hyperfiltration comes before decline (human)", hyperfiltration_comes_first),
    Behaviour("6b", "Hyperfiltration comes before decline (STZ rat)", hyperfiltration_comes_first_in_rats),
    Behaviour("6c", "UACR doubles before a tenth of GFR is lost (human)", albuminuria_comes_before_loss),
    Behaviour(
        "6d", "UACR doubles before a tenth of GFR is lost (STZ rat)", albuminuria_comes_before_loss_in_rats
    ),
    Behaviour("6e", "Scar outlasts its cause while cytokines fall", scar_outlasts_its_cause),
    Behaviour("8a", "Serum IL-6 and TNF-α fall within 4 weeks of a dose", cytokines_fall_within_weeks),
    Behaviour("8b", "Fibrosis area follows the cytokines", fibrosis_follows_cytokines),
    Behaviour("8c", "Effects peak in order: cytokines, α-SMA, eGFR", peaks_in_order),
    Behaviour("8d", "eGFR reaches half of its effect after cytokines and α-SMA", egfr_is_last),
    Behaviour(
        "8e", "The effect on eGFR peaks after that on the fibrosis area", fibrosis_area_peaks_before_egfr
    ),
)


def check(theta: Mapping[str, float]) -> dict[str, Outcome]:
    """Judge every statement under one set of parameters.

    Parameters
    ----------
    theta : mapping of str to float
        By the names of `sampled_parameters`; missing ones take their median.

    Returns
    -------
    dict of str to Outcome
        By the number of the statement.
    """
    lab = Laboratory(theta)
    return {b.number: b(lab) for b in BEHAVIOURS}


def shares(
    drawn: Draws, *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Share of draws in which each statement holds.

    Parameters
    ----------
    drawn : Draws
    workers : int
        Threads; the result does not depend on it.
    progress : callable, optional
        Called with the draws done and all draws.

    Returns
    -------
    DataFrame
        One row a statement: number, statement, share, holds (draws), draws, failed (draws in which a simulation
        ended without numbers; they count as not shown), not_shown (their positions).
    """
    outcomes: list[dict[str, Outcome]] = []
    for done, outcome in enumerate(_each(list(drawn), workers), start=1):
        outcomes.append(outcome)
        if progress is not None:
            progress(done, len(drawn))
    rows = []
    for b in BEHAVIOURS:
        held = [o[b.number].holds for o in outcomes]
        rows.append({
            "number": b.number,
            "statement": b.statement,
            "share": float(np.mean(held)),
            "holds": int(sum(held)),
            "draws": len(held),
            "failed": sum(not o[b.number].numbers for o in outcomes),
            "not_shown": tuple(k for k, h in enumerate(held) if not h),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _each(thetas: Sequence[Mapping[str, float]], workers: int) -> Iterable[dict[str, Outcome]]:
    if workers == 1:
        yield from map(check, thetas)
        return
    Laboratory({}).subject("dkd")  # compiled once here, so that the workers find it ready
    with executor_for(workers) as executor:
        yield from executor.map(check, thetas)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of shares; 1 if a statement holds in fewer than 95 % of the draws."""
    parser = argparse.ArgumentParser(
        prog="python -m mscrenal.scenarios.behaviours", description="Behaviours over draws of the parameters."
    )
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--source", default="prior", help="prior (default), posterior, or the file of a posterior of your own"
    )
    given = parser.parse_args(arguments)

    def progress(done: int, of: int) -> None:
        print(f"\r{done} of {of} draws", end="\n" if done == of else "", file=sys.stderr, flush=True)

    drawn = draws(given.draws, given.seed, source=given.source)
    median = check(drawn.median())
    table = shares(drawn, workers=given.workers, progress=progress)
    for row in table.itertuples():
        at_median = "yes" if median[str(row.number)].holds else "NO"
        print(
            f"{row.number}  {row.share:7.1%}  median {at_median:3s}  {row.statement}"
            + (f"  ({row.failed} failed)" if row.failed else "")
        )
    return int((table["share"] < 0.95).any())


if __name__ == "__main__":
    sys.exit(main())
