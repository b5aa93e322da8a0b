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
from mscrenal.model.people import People, kind_of
from mscrenal.model.placement import ANCHORS, BALANCED_BY, history_states, unknown_states
from mscrenal.model.processes.effectors import ARMS_OF_ACTION
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

__all__ = [
    "InitialStateError",
    "Placed",
    "Subject",
    "common_parameters",
    "common_rows",
    "fill_own",
    "given_states",
    "own_parameters",
    "parameter_sources",
    "parameter_vector",
    "place",
    "place_people",
    "place_plainly",
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
    fill_own(model, People.of([patient]), values[np.newaxis])
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
    _switch_off(model, knock_out, values)
    return values


def common_rows(
    model: Model,
    species: str,
    disease: str,
    products: Sequence[str],
    drawn: Mapping[str, np.ndarray],
    n: int,
    knock_out: Collection[str] = (),
) -> np.ndarray:
    """`common_parameters` of n subjects, one a row; `drawn` holds the draw of each subject, (n,) by name."""
    sources = parameter_sources(model, species, disease, products)
    rows = np.empty((n, len(sources)))
    for i, (name, median) in enumerate(sources.values()):
        rows[:, i] = drawn.get(name, median)
    _switch_off(model, knock_out, rows)
    return rows


def _switch_off(model: Model, knock_out: Collection[str], values: np.ndarray) -> None:
    for arm in knock_out:
        if arm not in ARMS_OF_ACTION:
            raise ValueError(f"No arm of action {arm!r}.{nearest(arm, ARMS_OF_ACTION)}")
        values[..., model.parameter_index[f"switch_{arm}"]] = 0.0


def own_parameters(patient: Patient) -> dict[str, float]:
    """What is a patient's own, by name of the parameter."""
    columns = _own_columns(People.of([patient]))
    return {name: float(column[0]) for name, column in columns.items() if not np.isnan(column[0])}


def fill_own(model: Model, people: People, rows: np.ndarray) -> None:
    """Fill in what is each subject's own, in place; rows (n, n_parameters)."""
    for name, column in _own_columns(people).items():
        at = model.parameter_index[name]
        rows[:, at] = np.where(np.isnan(column), rows[:, at], column)


def _own_columns(people: People) -> dict[str, np.ndarray]:
    """What is each subject's own, (n,) by name of the parameter; NaN where it is what all share."""
    values: dict[str, np.ndarray] = {}
    if people.kind.species == "human":
        names = ("ckdepi_kappa", "ckdepi_alpha", "ckdepi_sex")
        for name, male, female in zip(names, CKDEPI_SEX["male"], CKDEPI_SEX["female"], strict=True):
            values[name] = np.where(people.male, male, female)
        values["age"] = people.age
    values["ageing"] = np.full(len(people), float(people.kind.ageing))
    # Nothing to titrate: the dose grows in proportion to itself, and rounding must not start it.
    values["titration"] = np.where(people.insulin_share == 0, 0.0, np.nan)
    values |= people.eta
    if people.uacr is not None:
        # The spread of slopes grows with albuminuria, goulooze2022.
        values["drift_spread"] = (people.uacr / 850.0) ** 0.306
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
    placed = place_people(compiled, People.of([patient]), parameters[np.newaxis])
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
    """Place the initial states of many subjects, of any kinds.

    Parameters
    ----------
    patients : sequence of Patient, n
    parameters : ndarray (n, n_parameters)
        From `parameter_vector`; what is found is filled into a copy.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for j, patient in enumerate(patients):
        kinds.setdefault(kind_of(patient), []).append(j)
    if len(kinds) == 1:
        return place_people(compiled, People.of(patients), parameters)
    n, model = len(patients), compiled.model
    p = np.array(parameters, dtype=np.float64, order="C")
    y, u, messages = np.empty((n, len(model.states))), np.empty((n, len(model.inputs))), [""] * n
    for rows in kinds.values():
        placed = place_people(compiled, People.of([patients[j] for j in rows]), p[rows])
        y[rows], p[rows], u[rows] = placed.states, placed.parameters, placed.inputs
        for j, message in zip(rows, placed.messages, strict=True):
            messages[j] = message
    return Placed(y, p, u, messages)


def place_people(compiled: Compiled, people: People, parameters: np.ndarray) -> Placed:
    """Place the initial states of many subjects of one kind, by the compiled iteration.

    Parameters
    ----------
    people : People, n
    parameters : ndarray (n, n_parameters)
        With what is each one's own (`fill_own`); what is found is filled into a copy.

    Returns
    -------
    Placed
        Where the compiled iteration fails the plain one decides, and says what cannot be met.
    """
    from mscrenal.model.placing import place_all

    model, kind, n = compiled.model, people.kind, len(people)
    p = np.array(parameters, dtype=np.float64, order="C")
    y = np.tile(np.array([s.healthy for s in model.states.values()]), (n, 1))
    u = np.zeros((n, len(model.inputs)))
    messages = [""] * n
    for name in kind.drugs:
        u[:, model.input_index[DRUGS[name].level]] = 1.0
    if not kind.established:
        for state, factor in DISEASES[kind.disease].onset.items():
            y[:, model.index[state]] *= factor
        return Placed(y, p, u, messages)
    _trial(model, people, p, y)
    sledai = np.zeros(n) if people.sledai is None else people.sledai
    wanted = np.column_stack([people.egfr, people.uacr, people.insulin_share, sledai])
    found, codes = p.copy(), np.zeros(n, dtype=np.int64)
    place_all(compiled.system, compiled.placement, found, y, u, wanted, _pulls(model, people, p), codes)
    p = np.where(codes[:, np.newaxis] == 0, found, p)
    for j in np.flatnonzero((codes != 0) | ~_within_limits(model, y)):
        patient = people.patient(int(j))
        try:
            if codes[j] == 0:
                _check(model, patient, y[j])
            else:
                y[j] = _Placement(compiled, patient, p[j], u[j]).solve()
        except InitialStateError as error:
            y[j], messages[j] = np.nan, str(error)
    return Placed(y, p, u, messages)


def place_plainly(compiled: Compiled, patient: Patient, parameters: np.ndarray) -> Subject:
    """As `place`, for one patient with an established disease, by the plain iteration: the reference of the compiled one.

    Raises
    ------
    InitialStateError
    """
    model, p = compiled.model, np.array(parameters, dtype=np.float64)
    u = np.zeros(len(model.inputs))
    for name in patient.drugs:
        u[model.input_index[DRUGS[name].level]] = 1.0
    y = _Placement(compiled, patient, p, u).solve()
    return Subject(patient, y, p, u, -patient.onset_days)


def given_states(patient: Patient | People, get: Callable[[str], Any]) -> dict[str, Any]:
    """The states that covariates give outright; `get` a parameter by name.

    A parameter is a float, (n,) for people, or complex for a derivative.
    """
    creatinine = creatinine_for(
        patient.egfr, get("ckdepi_kappa"), get("ckdepi_alpha"), get("ckdepi_sex"), get("age"), get("ckdepi_scale")
    )  # fmt: skip
    glucose = (get("eag_slope") * patient.hba1c - get("eag_intercept")) / get("eag_healthy")
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


def pulls_of(model: Model, patient: Patient | People, get: Callable[[str], Any]) -> list[Any]:
    """How fast each state with a history is still on its way, 1/day; `get` as for `given_states`."""
    pace = (get("human_weight") / get("body_weight")) ** get("allometric_exponent")
    years = 0.0 if patient.duration_years is None else patient.duration_years
    days = 365.25 * years
    return [history_pull(get(str(model.states[n].history_rate)) * pace, days) for n in history_states(model)]


def _getter(model: Model, p: np.ndarray) -> Callable[[str], np.ndarray]:
    """A parameter of each subject by name, (n,)."""
    return lambda name: np.ascontiguousarray(p[:, model.parameter_index[name]])


def _trial(model: Model, people: People, p: np.ndarray, y: np.ndarray) -> None:
    """Fill in the states that covariates give outright, and a start near the answer for the others."""
    get = _getter(model, p)
    # GFR falls less than nephrons do. Licensing is solved for like the rest; it only starts at zero.
    trial = {"nephrons": np.minimum(1.2, (people.egfr / get("gfr_healthy")) ** 1.2), "podocytes": 0.7}
    for name, value in (given_states(people, get) | trial | {"licensing": 0.0}).items():
        y[:, model.index[name]] = value


def _pulls(model: Model, people: People, p: np.ndarray) -> np.ndarray:
    """`pulls_of` people, (n, n_history)."""
    return np.column_stack(pulls_of(model, people, _getter(model, p)))


def _within_limits(model: Model, y: np.ndarray) -> np.ndarray:
    """Whether `_check` has nothing to say, (n,)."""
    values = [(y[:, model.index[name]], low, high) for name, low, high, _, _ in LIMITS]
    return np.all([(low <= value) & (value <= high) for value, low, high in values], axis=0)


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
        people = People.of([patient])
        _trial(model, people, p[np.newaxis], self.y[np.newaxis])
        self.pulls = dict(zip(history_states(model), _pulls(model, people, p[np.newaxis])[0], strict=True))
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
    small, large = np.abs(exponent) < 1e-8, np.real(exponent) > 700.0
    fine = np.where(small | large, 1.0, exponent)
    # Its limit to first order at one end, and nothing at the other, where the exponential overflows.
    return np.where(small, 1.0 / days - rate / 2, np.where(large, 0.0, rate / np.expm1(fine)))


def creatinine_for(egfr: Any, kappa: Any, alpha: Any, sex: Any, age: Any, scale: Any = 142.0) -> Any:
    """Serum creatinine (mg/dL) at which CKD-EPI 2021 gives this eGFR (mL/min/1.73 m²)."""
    ratio = egfr / (scale * 0.9938**age * sex)
    return kappa * ratio ** np.where(np.real(ratio) < 1, -1 / 1.2, 1 / alpha)
