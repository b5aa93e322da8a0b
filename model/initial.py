"""Where a simulation starts: parameters of one subject, and an initial state that is found.

For a patient with an established disease one square system is solved. Fast states are in their
quasi-steady state. Matrix and scar have approached theirs for as long as the disease has lasted.
Nephrons, podocytes, β cells, creatinine and the lupus drive are placed so that eGFR, UACR, HbA1c and
SLEDAI are met at time 0. Every equation is smooth in the parameters, so the implicit-function theorem
gives the derivatives of the initial state that a calibration needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.declare import nearest
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.kernels import Compiled
from mscrenal.model.patient import Patient
from mscrenal.model.placement import ANCHORS, BALANCED_BY, history_states, unknown_states
from mscrenal.model.processes.effectors import ARMS_OF_ACTION
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

__all__ = [
    "InitialStateError",
    "Placed",
    "Subject",
    "common_parameters",
    "given_states",
    "own_parameters",
    "parameter_sources",
    "parameter_vector",
    "place",
    "pulls_of",
    "start",
]

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
    values = common_parameters(model, patient.species, patient.disease, products, theta, knock_out)
    for name, value in own_parameters(patient).items():
        values[model.parameter_index[name]] = value
    return values


def parameter_sources(
    model: Model, species: str, disease: str, products: Sequence[str]
) -> dict[str, tuple[str, float]]:
    """Where each parameter of the model takes its value: the name it is drawn under, and its median.

    Raises
    ------
    ValueError
        For an unknown product, or more products than slots.
    """
    if len(products) > model.slots:
        raise ValueError(
            f"this model mixes {model.slots} product(s) in an arm, got {len(products)}: {', '.join(products)}."
        )
    table = {name: (name, p.value) for name, p in model.parameters.items()}
    table |= {q.name: (f"species.{species}.{q.name}", q.value) for q in SPECIES[species].sets}
    table |= {q.name: (f"insult.{disease}.{q.name}", q.value) for q in DISEASES[disease].sets}
    for slot in range(1, model.slots + 1):
        # An empty slot carries the reference's numbers; nothing is ever given into it.
        product = products[slot - 1] if slot <= len(products) else next(iter(PRODUCTS))
        if product not in PRODUCTS:
            raise ValueError(f"No product {product!r}.{nearest(product, PRODUCTS)}")
        for q in PRODUCT_PARAMETERS:
            own = PRODUCTS[product].parameter(q.name)
            table[slot_name(q.name, slot)] = (f"product.{product}.{q.name}", own.value)
    return table


def common_parameters(
    model: Model,
    species: str,
    disease: str,
    products: Sequence[str],
    theta: Mapping[str, float],
    knock_out: Collection[str] = (),
) -> np.ndarray:
    """What all patients of a species, a disease and a draw share, (n_parameters,); arguments as `parameter_vector`."""
    sources = parameter_sources(model, species, disease, products)
    values = np.array([theta.get(drawn, median) for drawn, median in sources.values()])
    for arm in knock_out:
        if arm not in ARMS_OF_ACTION:
            raise ValueError(f"No arm of action {arm!r}.{nearest(arm, ARMS_OF_ACTION)}")
        values[model.parameter_index[f"switch_{arm}"]] = 0.0
    return values


def own_parameters(patient: Patient) -> dict[str, float]:
    """What is a patient's own, by name of the parameter."""
    values: dict[str, float] = {}
    if patient.species == "human":
        values["ckdepi_kappa"], values["ckdepi_alpha"], values["ckdepi_sex"] = CKDEPI_SEX[patient.sex]
        values["age"] = patient.age
    values["ageing"] = float(patient.ageing)
    if patient.insulin_share == 0:
        # Nothing to titrate: the dose grows in proportion to itself, and rounding must not start it.
        values["titration"] = 0.0
    values |= dict(patient.eta)
    if patient.uacr is not None and "eta_nephron" in values:
        # The spread of slopes grows with albuminuria: (UACR/850)^0.306, goulooze2022.
        values["eta_nephron"] *= (patient.uacr / 850.0) ** 0.306
    return values


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
    placed = place(compiled, [patient], parameters[np.newaxis])
    if placed.messages[0]:
        raise InitialStateError(placed.messages[0])
    return Subject(patient, placed.states[0], placed.parameters[0], placed.inputs[0], -patient.onset_days)


@dataclass(frozen=True)
class Placed:
    """Subjects at their start, one a row; the state of one that cannot be placed is NaN and has a message."""

    states: np.ndarray
    parameters: np.ndarray
    inputs: np.ndarray
    messages: list[str]


def place(compiled: Compiled, patients: Sequence[Patient], parameters: np.ndarray) -> Placed:
    """Place the initial states of many subjects, by the compiled iteration.

    Parameters
    ----------
    patients : sequence of Patient, n
    parameters : ndarray (n, n_parameters)
        From `parameter_vector`; what is found is filled into a copy.

    Returns
    -------
    Placed
        Where the compiled iteration fails the plain one decides, and says what cannot be met.
    """
    from mscrenal.model.placing import place_all

    model = compiled.model
    p = np.array(parameters, dtype=np.float64, order="C")
    n = len(patients)
    y = np.tile(np.array([s.healthy for s in model.states.values()]), (n, 1))
    u = np.zeros((n, len(model.inputs)))
    wanted, pulls = np.zeros((n, 4)), np.zeros((n, len(history_states(model))))
    messages = [""] * n
    rows = []
    for j, patient in enumerate(patients):
        for name in patient.drugs:
            u[j, model.input_index[DRUGS[name].level]] = 1.0
        if patient.established:
            rows.append(j)
            _trial(model, patient, p[j], y[j])
            wanted[j] = patient.egfr or 0, patient.uacr or 0, patient.insulin_share, patient.sledai or 0
            pulls[j] = _pulls(model, patient, p[j])
        else:
            for state, factor in DISEASES[patient.disease].onset.items():
                y[j, model.index[state]] *= factor
    at = np.array(rows, dtype=np.int64)
    if rows:
        states, found, codes = y[at], p[at], np.zeros(len(at), dtype=np.int64)
        place_all(compiled.system, compiled.placement, found, states, u[at], wanted[at], pulls[at], codes)
        y[at], p[at] = states, np.where(codes[:, np.newaxis] == 0, found, p[at])
        for j, code in zip(rows, codes, strict=True):
            try:
                if code == 0:
                    _check(model, patients[j], y[j])
                else:
                    y[j] = _Placement(compiled, patients[j], p[j], u[j]).solve()
            except InitialStateError as error:
                y[j], messages[j] = np.nan, str(error)
    return Placed(y, p, u, messages)


def given_states(patient: Patient, get: Callable[[str], Any]) -> dict[str, Any]:
    """The states that covariates give outright; `get` a parameter by name, a float or, for a derivative, complex."""
    egfr, hba1c = float(patient.egfr or 0), float(patient.hba1c or 0)
    creatinine = creatinine_for(
        egfr, get("ckdepi_kappa"), get("ckdepi_alpha"), get("ckdepi_sex"), get("age"), get("ckdepi_scale")
    )
    glucose = (get("eag_slope") * hba1c - get("eag_intercept")) / get("eag_healthy")
    given = {
        "creatinine": creatinine / get("creatinine_healthy"),
        "glucose": glucose,
        "glycation": glucose,
        "insulin": patient.insulin_share,
        "autoimmunity": 0.0,
        "immune_complexes": 0.0,
        "c3": 1.0,
    }
    if patient.sledai is not None:
        given["autoimmunity"] = given["immune_complexes"] = patient.sledai / get("sledai_scale")
        given["c3"] = 1 / (1 + get("c3_consumption") * given["autoimmunity"])
    return given


def pulls_of(model: Model, patient: Patient, get: Callable[[str], Any]) -> list[Any]:
    """How fast each state with a history is still on its way, 1/day; `get` as for `given_states`."""
    pace = (get("human_weight") / get("body_weight")) ** get("allometric_exponent")
    days = (patient.duration_years or 0.0) * 365.25
    return [history_pull(get(str(model.states[n].history_rate)) * pace, days) for n in history_states(model)]


def _trial(model: Model, patient: Patient, p: np.ndarray, y: np.ndarray) -> None:
    """Fill in the states that covariates give outright, and a start near the answer for the others."""

    def get(name: str) -> float:
        return float(p[model.parameter_index[name]])

    # GFR falls less than nephrons do. Licensing is solved for like the rest; it only starts at zero.
    trial = {"nephrons": min(1.2, (float(patient.egfr or 0) / get("gfr_healthy")) ** 1.2), "podocytes": 0.7}
    for name, value in (given_states(patient, get) | trial | {"licensing": 0.0}).items():
        y[model.index[name]] = value


def _pulls(model: Model, patient: Patient, p: np.ndarray) -> list[float]:
    return pulls_of(model, patient, lambda name: float(p[model.parameter_index[name]]))


def _check(model: Model, patient: Patient, y: np.ndarray) -> None:
    """Refuse values that no patient has."""
    for name, low, high, covariate, what in LIMITS:
        value = y[model.index[name]]
        if not low <= value <= high:
            more = value > high
            raise InitialStateError(
                f"{covariate} = {getattr(patient, covariate):g} cannot be met in this patient: it would take "
                f"{value:.3g} times the healthy {what} (allowed {low:g} to {high:g}). "
                + (
                    f"{'Lower' if more == (covariate != 'uacr') else 'Raise'} {covariate}, or check the other covariates."
                    if covariate != "hba1c"
                    else f"{'Raise' if more else 'Lower'} hba1c, or change insulin_share."
                )
            )


class _Placement:
    """The square system behind a patient's initial state, plainly: what the compiled iteration is checked against."""

    def __init__(self, compiled: Compiled, patient: Patient, p: np.ndarray, u: np.ndarray) -> None:
        self.compiled, self.patient, self.p, self.u = compiled, patient, p, u
        model = self.model = compiled.model
        self.y = np.array([s.healthy for s in model.states.values()])
        self.rate = np.empty(len(self.y))
        self.slope = np.empty((len(self.y), len(self.y)))
        self.seen = np.empty(len(model.observables))
        self.seen_slope = np.empty((len(self.seen), len(self.y)))
        self.unknown = unknown_states(model)
        self.columns = np.array([model.index[n] for n in self.unknown])
        _trial(model, patient, p, self.y)
        self.pulls = dict(zip(history_states(model), _pulls(model, patient, p), strict=True))
        self.targets = {"nephrons": float(patient.egfr or 0), "podocytes": float(patient.uacr or 0)}

    def get(self, name: str) -> float:
        return float(self.p[self.model.parameter_index[name]])

    def put(self, name: str, value: float) -> None:
        self.p[self.model.parameter_index[name]] = value

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
        for name, pull in self.pulls.items():
            row = self.unknown.index(name)
            f[row] -= pull * (self.y[model.index[name]] - model.states[name].healthy)
            jac[row, row] -= pull
        for name, observable in ANCHORS.items():
            row, i = self.unknown.index(name), model.observable_names.index(observable)
            # A trial beyond the model's range has no logarithm; NaN makes the iteration back off.
            f[row] = math.log(self.seen[i] / self.targets[name]) if self.seen[i] > 0 else math.nan
            jac[row] = self.seen_slope[i, self.columns] / self.seen[i]
            algebraic[row] = True
        for name, other in BALANCED_BY.items():
            row, i = self.unknown.index(name), model.index[other]
            f[row], jac[row] = self.rate[i], self.slope[i, self.columns]
            algebraic[row] = True
        return f, jac, algebraic

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
        _check(self.model, self.patient, self.y)
        self._found()
        return self.y

    def _size(self, f: np.ndarray, jac: np.ndarray) -> float:
        # Relative to the speed of each equation, so that slow states count as much as fast ones.
        return float(np.max(np.abs(f) / np.maximum(np.abs(np.diag(jac)), 1e-12)))

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


def history_pull(rate: Any, days: float) -> Any:
    """Rate that keeps a state on its way: k/(e^(kT) - 1), 1/day.

    A first-order state that left health T days ago and has been approaching its steady value since
    lies at 1 + (X_ss - 1)(1 - e^(-kT)); that is where k(X_ss - X) = (X - 1)·k/(e^(kT) - 1).
    """
    exponent = rate * days
    if abs(exponent) < 1e-8:
        return 1.0 / days - rate / 2  # its limit, to first order
    return rate / np.expm1(exponent) if exponent.real < 700.0 else rate * 0.0


def creatinine_for(egfr: float, kappa: Any, alpha: Any, sex: Any, age: Any, scale: Any = 142.0) -> Any:
    """Serum creatinine (mg/dL) at which CKD-EPI 2021 gives this eGFR (mL/min/1.73 m²)."""
    ratio = egfr / (scale * 0.9938**age * sex)
    return kappa * (ratio ** (-1 / 1.2) if ratio.real < 1 else ratio ** (1 / alpha))
