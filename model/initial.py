"""Where a simulation starts: parameters of one subject, and an initial state that is found.

For a patient with an established disease one square system is solved. Fast states are in their
quasi-steady state. Matrix and scar have approached theirs for as long as the disease has lasted.
Nephrons, podocytes, β cells, creatinine and the lupus drive are placed so that eGFR, UACR, HbA1c and
SLEDAI are met at time 0. Every equation is smooth in the parameters, so the implicit-function theorem
gives the derivatives of the initial state that a calibration needs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.codegen import Compiled
from mscrenal.model.declare import nearest
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.patient import Patient
from mscrenal.model.processes.effectors import ARMS_OF_ACTION
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

__all__ = ["InitialStateError", "Subject", "parameter_vector", "start"]

CKDEPI_SEX = {"male": (0.9, -0.302, 1.0), "female": (0.7, -0.241, 1.012)}  # kappa, alpha, factor: ckdepi2021
MAX_ITERATIONS = 200
TOLERANCE = 1e-11
# Found values outside these are no patient: (state, low, high, covariate that asked for it, what to change).
LIMITS = (
    ("nephrons", 0.01, 1.6, "egfr", "functioning nephrons"),
    ("podocytes", 0.05, 2.5, "uacr", "podocytes"),
    ("beta_cells", 0.0, 4.0, "hba1c", "β-cell function"),
)


class InitialStateError(ValueError):
    """No initial state of the model meets these covariates."""


@dataclass(frozen=True)
class Subject:
    """A patient made numerical: state (n_states,) at `day`, parameters (n_parameters,), inputs at the start."""

    patient: Patient
    state: np.ndarray
    parameters: np.ndarray
    inputs: np.ndarray
    day: float


def parameter_vector(
    model: Model,
    patient: Patient,
    products: Sequence[str],
    theta: Mapping[str, float],
    knock_out: Collection[str] = (),
) -> np.ndarray:
    """Parameters of one subject, (n_parameters,), in the order of `model.parameters`.

    Parameters
    ----------
    products : sequence of str
        Product of each slot, at most `model.slots`.
    theta : mapping
        Drawn values by the names of `sampled_parameters`; missing ones take the prior's median.
    knock_out : collection of str
        Arms of action switched off.

    Raises
    ------
    ValueError
        For an unknown product or arm of action, or more products than slots.
    """
    if len(products) > model.slots:
        raise ValueError(
            f"this model mixes {model.slots} product(s) in an arm, got {len(products)}: {', '.join(products)}."
        )
    values = {name: theta.get(name, p.value) for name, p in model.parameters.items()}

    def take(prefix: str, parameters, rename=lambda name: name) -> None:
        for q in parameters:
            values[rename(q.name)] = theta.get(f"{prefix}.{q.name}", q.value)

    take(f"species.{patient.species}", SPECIES[patient.species].sets)
    take(f"insult.{patient.disease}", DISEASES[patient.disease].sets)
    for slot in range(1, model.slots + 1):
        # An empty slot carries the reference's numbers; nothing is ever given into it.
        product = products[slot - 1] if slot <= len(products) else next(iter(PRODUCTS))
        if product not in PRODUCTS:
            raise ValueError(f"No product {product!r}.{nearest(product, PRODUCTS)}")
        take(
            f"product.{product}",
            (PRODUCTS[product].parameter(q.name) for q in PRODUCT_PARAMETERS),
            lambda n, s=slot: slot_name(n, s),
        )
    if patient.species == "human":
        values["ckdepi_kappa"], values["ckdepi_alpha"], values["ckdepi_sex"] = CKDEPI_SEX[patient.sex]
        values["age"] = patient.age
    values["ageing"] = float(patient.ageing)
    if patient.insulin_share == 0:
        # Nothing to titrate: the dose grows in proportion to itself, and rounding must not start it.
        values["titration"] = 0.0
    values |= dict(patient.eta)
    if patient.uacr is not None:
        # The spread of slopes grows with albuminuria: (UACR/850)^0.306, goulooze2022.
        values["eta_nephron"] *= (patient.uacr / 850.0) ** 0.306
    for arm in knock_out:
        if arm not in ARMS_OF_ACTION:
            raise ValueError(f"No arm of action {arm!r}.{nearest(arm, ARMS_OF_ACTION)}")
        values[f"switch_{arm}"] = 0.0
    return np.array([values[name] for name in model.parameters])


def start(compiled: Compiled, patient: Patient, parameters: np.ndarray) -> Subject:
    """Place the initial state of a subject.

    Parameters
    ----------
    parameters : ndarray (n_parameters,)
        From `parameter_vector`; the values that are found (creatinine generation, β-cell set point,
        glucose goal, lupus drive) are filled into a copy.

    Raises
    ------
    InitialStateError
        If no state meets the covariates; the message names the covariate.
    """
    model = compiled.model
    p = parameters.copy()
    u = np.zeros(len(model.inputs))
    for name in patient.drugs:
        u[model.input_index[DRUGS[name].level]] = 1.0
    y = np.array([s.healthy for s in model.states.values()])
    if patient.established:
        y = _Placement(compiled, patient, p, u).solve()
    else:
        for state, factor in DISEASES[patient.disease].onset.items():
            y[model.index[state]] *= factor
    return Subject(patient, y, p, u, -patient.onset_days)


class _Placement:
    """The square system behind a patient's initial state."""

    def __init__(self, compiled: Compiled, patient: Patient, p: np.ndarray, u: np.ndarray) -> None:
        self.compiled, self.patient, self.p, self.u = compiled, patient, p, u
        model = self.model = compiled.model
        self.y = np.array([s.healthy for s in model.states.values()])
        self.rate = np.empty(len(self.y))
        self.slope = np.empty((len(self.y), len(self.y)))
        self.seen = np.empty(len(model.observables))
        self.seen_slope = np.empty((len(self.seen), len(self.y)))
        self._known()
        skip = {n for n, s in model.states.items() if s.start == "zero"} | self.known
        self.unknown = [n for n in model.states if n not in skip]
        self.columns = np.array([model.index[n] for n in self.unknown])

    def get(self, name: str) -> float:
        return float(self.p[self.model.parameter_index[name]])

    def put(self, name: str, value: float) -> None:
        self.p[self.model.parameter_index[name]] = value

    def _known(self) -> None:
        """States that covariates give outright."""
        patient, index = self.patient, self.model.index
        egfr, uacr, hba1c = (float(x) for x in (patient.egfr or 0, patient.uacr or 0, patient.hba1c or 0))
        creatinine = creatinine_for(
            egfr,
            self.get("ckdepi_kappa"),
            self.get("ckdepi_alpha"),
            self.get("ckdepi_sex"),
            self.get("age"),
            self.get("ckdepi_scale"),
        )
        glucose = (self.get("eag_slope") * hba1c - self.get("eag_intercept")) / self.get("eag_healthy")
        given = {
            "creatinine": creatinine / self.get("creatinine_healthy"),
            "glucose": glucose,
            "glycation": glucose,
            "insulin": patient.insulin_share,
            "licensing": 0.0,
        }
        if patient.sledai is not None:
            given["autoimmunity"] = given["immune_complexes"] = patient.sledai / self.get("sledai_scale")
            given["c3"] = 1 / (1 + self.get("c3_consumption") * given["autoimmunity"])
        else:
            given |= {"autoimmunity": 0.0, "immune_complexes": 0.0, "c3": 1.0}
        for name, value in given.items():
            self.y[index[name]] = value
        # Licensing is solved for like the rest; it only starts at zero.
        self.known = set(given) - {"licensing"}
        self.gfr_target, self.uacr_target = egfr, uacr
        # A start near the answer: GFR falls less than nephrons do.
        self.y[index["nephrons"]] = min(1.2, (egfr / self.get("gfr_healthy")) ** 1.2)
        self.y[index["podocytes"]] = 0.7

    def _residual(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residual (n,), its Jacobian (n, n) and which rows are algebraic, for the unknown states."""
        model, c = self.model, self.compiled
        c.rhs(self.y, self.p, self.u, self.rate)
        self.slope[:] = 0.0
        c.jac(self.y, self.p, self.u, self.slope)
        c.observe(self.y, self.p, self.u, self.seen)
        self.seen_slope[:] = 0.0
        c.observe_jac(self.y, self.p, self.u, self.seen_slope)
        f = self.rate[self.columns].copy()
        jac = self.slope[np.ix_(self.columns, self.columns)].copy()
        algebraic = np.zeros(len(f), dtype=bool)
        days = (self.patient.duration_years or 0.0) * 365.25
        for row, name in enumerate(self.unknown):
            state = model.states[name]
            if state.start == "history":
                pull = history_pull(self.get(state.history_rate) * self._pace(), days)
                f[row] -= pull * (self.y[model.index[name]] - state.healthy)
                jac[row, row] -= pull
        for name, observable, target in (
            ("nephrons", "mgfr", self.gfr_target),
            ("podocytes", "uacr", self.uacr_target),
        ):
            row, i = self.unknown.index(name), model.observable_names.index(observable)
            # A trial beyond the model's range has no logarithm; NaN makes the iteration back off.
            f[row] = math.log(self.seen[i] / target) if self.seen[i] > 0 else math.nan
            jac[row] = self.seen_slope[i, self.columns] / self.seen[i]
            algebraic[row] = True
        # β cells are placed by the glucose balance; their own balance then gives the set point.
        row, i = self.unknown.index("beta_cells"), model.index["glucose"]
        f[row], jac[row] = self.rate[i], self.slope[i, self.columns]
        algebraic[row] = True
        return f, jac, algebraic

    def _pace(self) -> float:
        return (self.get("human_weight") / self.get("body_weight")) ** self.get("allometric_exponent")

    def solve(self) -> np.ndarray:
        """Pseudo-transient Newton iteration in the states; returns the state (n_states,)."""
        step = 1.0
        f, jac, algebraic = self._residual()
        size = self._size(f, jac)
        for _ in range(MAX_ITERATIONS):
            if size < TOLERANCE:
                break
            matrix = jac.copy()
            matrix[np.diag_indices_from(matrix)] -= np.where(algebraic, 0.0, 1.0 / step)
            try:
                change = np.linalg.solve(matrix, -f)
            except np.linalg.LinAlgError:
                step *= 0.2
                continue
            before = self.y.copy()
            value = self.y[self.columns]
            # No step may take a state through zero, nor more than double it.
            self.y[self.columns] = np.clip(value + change, 0.3 * value, np.maximum(3.0 * value, value + 1.0))
            f, jac, algebraic = self._residual()
            new = self._size(f, jac)
            if not np.isfinite(new):
                self.y[:] = before
                step *= 0.1
                f, jac, algebraic = self._residual()
                continue
            # As long as the residual does not grow the pseudo-time step may; in the end this is Newton.
            step = min(step * (4.0 if new < 1.5 * size else 0.25), 1e12)
            size = new
        else:
            self._fail()
        self._check()
        self._found()
        return self.y

    def _size(self, f: np.ndarray, jac: np.ndarray) -> float:
        # Relative to the speed of each equation, so that slow states count as much as fast ones.
        return float(np.max(np.abs(f) / np.maximum(np.abs(np.diag(jac)), 1e-12)))

    def _check(self) -> None:
        for name, low, high, covariate, what in LIMITS:
            value = self.y[self.model.index[name]]
            if not low <= value <= high:
                more = value > high
                raise InitialStateError(
                    f"{covariate} = {getattr(self.patient, covariate):g} cannot be met in this patient: it would take "
                    f"{value:.3g} times the healthy {what} (allowed {low:g} to {high:g}). "
                    + (
                        f"{'Lower' if more == (covariate != 'uacr') else 'Raise'} {covariate}, or check the other covariates."
                        if covariate != "hba1c"
                        else f"{'Raise' if more else 'Lower'} hba1c, or change insulin_share."
                    )
                )

    def _fail(self) -> None:
        p = self.patient
        f, _, _ = self._residual()
        # What stays off its target says which covariate asks for too much. An eGFR out of reach drags UACR
        # along, so that the first in the order of LIMITS counts, and not the largest.
        off = {c: abs(float(f[self.unknown.index(n)])) for n, _, _, c, _ in LIMITS}
        worst = next((c for c in off if not off[c] <= 0.1 * max(off.values())), "egfr")
        mend = {
            "egfr": "no number of functioning nephrons gives it. Lower egfr",
            "uacr": "no loss of podocytes gives it. Change uacr",
            "hba1c": "no β-cell function gives it. Lower hba1c, or insulin_share",
        }
        raise InitialStateError(
            f"{worst} = {getattr(p, worst):g} cannot be met in this patient with these parameters: {mend[worst]}, or check the "
            f"other covariates (eGFR {p.egfr:g}, UACR {p.uacr:g} mg/g, HbA1c {p.hba1c:g} %, duration {p.duration_years:g} years)."
        )

    def _found(self) -> None:
        """Parameters that follow from the state placed."""
        index, state = self.model.index, self.y
        self.put("beta_set", state[index["beta_cells"]])
        self.put("glucose_goal", state[index["glucose"]])
        if self.patient.insulin_share > 0:
            self.put("insulin_start", self.patient.insulin_share)
        gfr = self.seen[self.model.observable_names.index("mgfr")] / self.get("gfr_healthy")
        self.put("creatinine_generation", gfr * state[index["creatinine"]])
        if self.patient.sledai:
            # The balance of autoimmunity is linear in the lupus drive.
            self.put("lupus", 1.0)
            self.compiled.rhs(state, self.p, self.u, self.rate)
            with_drive = self.rate[index["autoimmunity"]]
            self.put("lupus", 0.0)
            self.compiled.rhs(state, self.p, self.u, self.rate)
            without = self.rate[index["autoimmunity"]]
            self.put("lupus", without / (without - with_drive))


def history_pull(rate: float, days: float) -> float:
    """Rate that keeps a state on its way: k/(e^(kT) - 1), 1/day.

    A first-order state that left health T days ago and has been approaching its steady value since
    lies at 1 + (X_ss - 1)(1 - e^(-kT)); that is where k(X_ss - X) = (X - 1)·k/(e^(kT) - 1).
    """
    exponent = rate * days
    return 1.0 / days if exponent < 1e-8 else rate / math.expm1(min(exponent, 700.0))


def creatinine_for(
    egfr: float, kappa: float, alpha: float, sex: float, age: float, scale: float = 142.0
) -> float:
    """Serum creatinine (mg/dL) at which CKD-EPI 2021 gives this eGFR (mL/min/1.73 m²)."""
    ratio = egfr / (scale * 0.9938**age * sex)
    return kappa * (ratio ** (-1 / 1.2) if ratio < 1 else ratio ** (1 / alpha))
