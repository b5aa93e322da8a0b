"""The numerical self-check: what the engine computes on this machine, against solvers that nobody here wrote.

Each check states an error and the limit that it must not pass. It takes well under a minute once the model is compiled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mscrenal.calibration import evidence_hash, prior_draws
from mscrenal.model import Dose, DrugCourse, Patient
from mscrenal.model.gradient import gradient
from mscrenal.model.initial import parameter_vector, place, place_plainly
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.population import simulate_cohort
from mscrenal.model.reference import solve_reference
from mscrenal.model.simulate import given_and_held, prepare, products_of, schedule_of, simulate
from mscrenal.model.solve import ATOL, RTOL, solve
from mscrenal.scenarios.executor import executor_for
from mscrenal.scenarios.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Check", "VerifyResult", "verify"]

WEEKLY = (Dose(0, 1.0, "UC"), Dose(7, 1.0, "UC"), Dose(14, 1.0, "UC"))
COURSES = (DrugCourse("sglt2i", 40.0, 200.0),)
TIMES = np.array([0.0, 0.02, 1.0, 7.0, 14.5, 60.0, 200.0, 336.0])
PATIENTS = (
    Patient(drugs=("ras",)),
    Patient(disease="lupus"),
    Patient(disease="nondiabetic-ckd", drugs=("ras", "sglt2i")),
    Patient(species="rat", disease="stz", onset_days=56.0),
)
GRADIENT_NAMES = (
    "product.UC.potency_immunomodulation",
    "product.UC.survival",
    "species.human.translation",
    "ec50_effect",
    "nephron_loss_rate",
    "leak_slit",
    "matrix_turnover",
    "eta_nephron",
)


@dataclass(frozen=True)
class Check:
    """One check: a measured error, the limit, and what was compared."""

    name: str
    error: float
    limit: float
    what: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the limit."""
        return bool(self.error <= self.limit)

    @property
    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "error": self.error,
            "limit": self.limit,
            "pass": self.passed,
            "what": self.what,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class VerifyResult(Result):
    """Every check with its error beside its limit."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> dict[str, bool]:
        """Whether each check passes, by name."""
        return {check.name: check.passed for check in self.checks}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a check: name, error, limit, pass, what, seconds."""
        return pd.DataFrame([check.record for check in self.checks])

    @cached_property
    def data(self) -> xr.Dataset:
        """error and limit, dims (check,)."""
        table = self.table
        return xr.Dataset(
            {name: ("check", table[name].to_numpy()) for name in ("error", "limit")},
            coords={"check": table["name"].to_numpy()},
        )

    def plot(self) -> dict[str, Figure]:
        """Errors as a share of their limits, on a logarithmic axis."""
        from matplotlib.figure import Figure

        from mscrenal.scenarios.style import house_style

        with house_style():
            figure = Figure(figsize=(7.0, 0.35 * len(self.checks) + 1.2), layout="constrained")
            axes = figure.subplots()
            shares = [_share(c) for c in self.checks]
            rows = np.arange(len(shares))[::-1]
            axes.scatter(shares, rows, color=["#2a6f97" if c.passed else "#c1121f" for c in self.checks])
            axes.axvline(1.0, color="0.3", linestyle="--")
            axes.set_xscale("log")
            axes.set_yticks(rows, [c.name for c in self.checks])
            axes.set_xlabel("error, as a share of its limit (dashed: the limit)")
        return {"verify": figure}

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "command": self.command,
            "checks": [check.record for check in self.checks],
            "passed": all(self.passed.values()),
            "extrapolated": [],
            "provenance": dict(self.provenance),
        }


def _share(check: Check) -> float:
    """Error as a share of the limit, within the figure's axis; a limit of 0 is met or not."""
    if not math.isfinite(check.error) or (check.limit == 0 and check.error > 0):
        return 1e3
    return max(check.error / check.limit, 1e-12) if check.limit > 0 else 1e-12


SEED = 7
Progress = Callable[[int, int, str], None]


def verify(*, workers: int | None = None, progress: Progress | None = None) -> VerifyResult:
    """Check the engine on this machine.

    Parameters
    ----------
    workers : int, optional
        Threads of the check that results do not depend on them; by default one per processor.
    progress : callable, optional
        Called with checks done, all checks, and the name of the next.

    Returns
    -------
    VerifyResult
    """
    executor_for(workers)  # refused here, before anything is computed
    checks = []
    for k, (name, limit, what, measure) in enumerate(_CHECKS):
        if progress is not None:
            progress(k, len(_CHECKS), name)
        began = time.monotonic()
        error = measure(workers)
        checks.append(Check(name, float(error), limit, what, time.monotonic() - began))
    if progress is not None:
        progress(len(_CHECKS), len(_CHECKS), "")
    return VerifyResult(
        command="verify",
        title="Numerical self-check",
        question="Does the engine compute on this machine what solvers compute that nobody here wrote?",
        provenance={
            "package": "mscrenal",
            "version": version("mscrenal"),
            "model_hash": compiled(1).hash,
            "evidence_hash": evidence_hash(),
            "seed": SEED,
            "solver": {"method": "Rodas4", "rtol": RTOL, "atol": ATOL},
        },
        checks=tuple(checks),
    )


# --------------------------------------------------------------------------- the measures


def _cases() -> Iterator[tuple[Patient, dict[str, float]]]:
    drawn = prior_draws(len(PATIENTS), SEED)
    for k, patient in enumerate(PATIENTS):
        yield patient, drawn.at(k)


def _regimen(patient: Patient) -> tuple[tuple[Dose, ...], tuple[DrugCourse, ...]]:
    return WEEKLY, COURSES if patient.species == "human" else ()


def _relative(a: np.ndarray, b: np.ndarray, floor: float = 1e-6) -> float:
    """Largest difference, relative to the larger of a column's own largest value and a floor."""
    scale = np.maximum(np.abs(b).max(axis=0), floor)
    return float(np.max(np.abs(a - b) / scale))


def _against_lsoda(rtol: float, atol: float) -> float:
    worst = 0.0
    for patient, theta in _cases():
        doses, courses = _regimen(patient)
        kernels, subject = prepare(patient, products_of(doses), theta)
        schedule = schedule_of(kernels.model, subject.day, subject.inputs, doses, courses)
        ours = solve(kernels, subject.parameters, subject.state, schedule, TIMES, rtol=rtol, atol=atol)
        other = solve_reference(
            kernels, subject.parameters, subject.state, schedule, TIMES, rtol=1e-10, atol=1e-13
        )
        if ours.status != "ok" or other.status != "ok":
            return math.nan
        worst = max(worst, _relative(ours.observables, other.observables))
    return worst


def _tight(_workers: int | None) -> float:
    return _against_lsoda(1e-9, 1e-12)


def _by_default(_workers: int | None) -> float:
    return _against_lsoda(RTOL, ATOL)


def _jacobian(_workers: int | None) -> float:
    worst = 0.0
    for patient, theta in _cases():
        kernels, subject = prepare(patient, ("UC",), theta)
        n = len(subject.state)
        y = subject.state + 0.1
        exact, by_steps = np.zeros((n, n)), np.zeros((n, n))
        kernels.jac(y, subject.parameters, subject.inputs, exact)
        up, down = np.empty(n), np.empty(n)
        for j in range(n):
            step = np.zeros(n)
            step[j] = 1e-6 * max(1.0, abs(y[j]))
            kernels.rhs(y + step, subject.parameters, subject.inputs, up)
            kernels.rhs(y - step, subject.parameters, subject.inputs, down)
            by_steps[:, j] = (up - down) / (2 * step[j])
        scale = np.maximum(np.abs(exact).max(axis=1, keepdims=True), 1e-3)
        worst = max(worst, float(np.max(np.abs(exact - by_steps) / scale)))
    return worst


def _placement(_workers: int | None) -> float:
    worst = 0.0
    for patient, theta in _cases():
        if not patient.established:
            continue
        kernels = compiled(1)
        p = parameter_vector(kernels.model, patient, ("UC",), theta)
        fast, plain = place(kernels, [patient], p[np.newaxis]), place_plainly(kernels, patient, p)
        worst = max(worst, float(np.max(np.abs(fast.states[0] - plain.state))))
    return worst


def _gradient(_workers: int | None) -> float:
    patient, theta = next(_cases())
    names, seen, times = GRADIENT_NAMES, ("egfr", "uacr", "tgfb1_kidney"), [0.0, 30.0, 336.0]
    found = gradient(patient, WEEKLY, (), theta, names, times, seen, rtol=1e-7, atol=1e-10)
    if found.status != "ok":
        return math.nan

    def at(name: str, change: float) -> np.ndarray:
        eta = name.startswith("eta_")
        who = patient.replace(eta={name: change}) if eta else patient
        moved = theta if eta else theta | {name: theta[name] + change}
        run = simulate(who, WEEKLY, (), moved, times, rtol=1e-11, atol=1e-14)
        return np.stack([run.observable(o) for o in seen], axis=1)

    worst = 0.0
    for k, name in enumerate(names):
        h = 1e-5 if name.startswith("eta_") else 1e-3 * abs(theta[name])
        # Central differences of two steps, extrapolated to none.
        wide = (at(name, h) - at(name, -h)) / (2 * h)
        near = (at(name, h / 2) - at(name, -h / 2)) / h
        worst = max(worst, _relative(found.derivatives[:, :, k], (4 * near - wide) / 3, 1e-300))
    return worst


def _healthy(_workers: int | None) -> float:
    run = simulate(Patient(disease="healthy"), times=[0.0, 3652.5])
    return float(np.max(np.abs(run.states[-1] - run.states[0]))) if run.status == "ok" else math.nan


def _no_effect(_workers: int | None) -> float:
    """Doses of no cells, against none."""
    nothing = [Dose(d.day, 0.0, d.product) for d in WEEKLY]
    dosed, none = (
        simulate(PATIENTS[0], doses, times=[0.0, 30.0, 336.0], rtol=1e-11, atol=1e-13)
        for doses in (nothing, [])
    )
    return _relative(dosed.observables, none.observables)


def _mass(_workers: int | None) -> float:
    worst = 0.0
    for product in ("UC", "EV-UC", "CM-UC"):
        run = simulate(PATIENTS[0], [Dose(0, 1.0, product), Dose(3, 2.0, product)], times=[0.0, 10.0, 90.0])
        for given, held in given_and_held(run.model, [Dose(0, 3.0, product)], 90.0):
            worst = max(worst, abs(float(run.states[-1, held].sum()) - given) / given)
    return worst


def _cohort(patients: Sequence[int]) -> np.ndarray:
    """eGFR and UACR of some draws of one patient, for the check of workers."""
    drawn = prior_draws(12, SEED)
    regimens = [((WEEKLY, ()), ((), ()))] * len(patients)
    thetas = [drawn.at(k) for k in patients]
    found = simulate_cohort([PATIENTS[0]] * len(patients), thetas, regimens, TIMES, ("egfr", "uacr"))
    return found.values


def _same_whoever_works(workers: int | None) -> float:
    parts = [range(4), range(4, 8), range(8, 12)]
    results = []
    for n in (1, workers or 2):
        with executor_for(n) as executor:
            results.append(np.concatenate(list(executor.map(_cohort, parts))))
    # In other company, and one by one: the same to the last bit.
    results.append(np.concatenate([_cohort([k]) for k in range(12)]))
    return max(float(np.max(np.abs(r - results[0]))) for r in results)


def _failure_is_a_status(_workers: int | None) -> float:
    """Subjects that cannot be simulated are reported, and nobody else suffers; 0 if so."""
    drawn = prior_draws(3, SEED)
    thetas = [drawn.at(0), drawn.at(1) | {"product.UC.survival": math.nan}, drawn.at(2)]
    found = simulate_cohort([PATIENTS[0]] * 3, thetas, [((WEEKLY, ()),)] * 3, TIMES, ("egfr",))
    right = (
        list(found.status[:, 0]) == ["ok", "non-finite", "ok"]
        and bool(np.isnan(found.values[1]).all())
        and bool(np.isfinite(found.values[[0, 2]]).all())
        and set(found.messages) == {(1, 0)}
    )
    return 0.0 if right else math.inf


def _kernels(_workers: int | None) -> float:
    """Right-hand side of the compiled code against sympy's own evaluation of the equations."""
    from sympy import lambdify

    from mscrenal.model.codegen import equations
    from mscrenal.model.functions import excess_slope, excess_value

    kernels: Compiled = compiled(1)
    patient, theta = next(_cases())
    _, subject = prepare(patient, ("UC",), theta)
    y, u = subject.state + 0.05, subject.inputs + 0.1
    eq, model = equations(kernels.model), kernels.model
    values = dict(
        zip((*model.states, *model.parameters, *model.inputs), (*y, *subject.parameters, *u), strict=True)
    )
    modules = [{"Excess": excess_value, "ExcessSlope": excess_slope}, "math"]
    for name, expression in (*eq.quantities.items(), *((f"d({k})", e) for k, e in eq.derivatives.items())):
        used = sorted(s.name for s in expression.free_symbols)
        values[name] = lambdify([eq.symbols[s] for s in used], expression, modules)(
            *(values[s] for s in used)
        )
    expected = np.array([values[f"d({name})"] for name in model.states])
    out = np.empty(len(y))
    kernels.rhs(y, subject.parameters, u, out)
    return float(np.max(np.abs(out - expected) / np.maximum(np.abs(expected), 1e-3)))


_CHECKS: tuple[tuple[str, float, str, Callable[[int | None], float]], ...] = (
    ("equations", 1e-10, "compiled right-hand side against sympy's evaluation of the definition", _kernels),
    ("jacobian", 1e-6, "sparse Jacobian against central differences, four patients", _jacobian),
    ("placement", 1e-9, "compiled placement of initial states against the plain iteration", _placement),
    ("course, tight tolerance", 1e-7, "all observables against LSODA (ODEPACK) at 1e-10, doses and drugs", _tight),
    ("course, default tolerance", 1e-4, "the same with the tolerance that every command uses", _by_default),
    ("gradient", 1e-5, "forward sensitivities against extrapolated differences, through doses and placement", _gradient),
    ("healthy stands still", 1e-9, "largest change of any state of a healthy subject in 10 years", _healthy),
    ("no dose, no effect", 1e-7, "infusions of no cells, against no infusions", _no_effect),
    ("mass balance", 1e-6, "cells, vesicles and medium given, against what is held and lost", _mass),
    ("workers", 0.0, "one worker, several, and each subject alone: the same to the last bit", _same_whoever_works),
    ("failure", 0.0, "a subject that cannot be simulated is a status and stops nobody (0: so it is)", _failure_is_a_status),
)  # fmt: skip
