"""What an arrow of the picture rests on, and what becomes of a patient without it.

`arrow` and `node` say it as data: equations, numbers with prior, posterior and verdict, sources. `cut` simulates an arm of a
scenario twice, intact and with an arrow cut from day 0 (`mscrenal.model.cuts`).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from mscrenal.calibration import Draws
from mscrenal.calibration.evidence.loader import EVIDENCE_FOLDER, TABLES
from mscrenal.model import OBSERVABLES, SPECIES, Dose, DrugCourse, Patient, nearest
from mscrenal.model import model as the_model
from mscrenal.model.cuts import Cut, acting, cut_of
from mscrenal.model.declare import Parameter, Quantity, State
from mscrenal.model.declare import Source as Citation
from mscrenal.model.definition import sampled_parameters
from mscrenal.model.describe import Writer, kind_of, prior_text, source_text, symbols
from mscrenal.model.initial import InitialStateError
from mscrenal.model.network import influences, nodes
from mscrenal.model.picture import label, layout
from mscrenal.model.simulate import Trajectory, prepare, products_of, simulate_subject
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.posterior_result import LIMIT, posterior
from mscrenal.scenarios.results import QUANTILES, plain
from mscrenal.scenarios.run import output_days, provenance_of
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sources import BY_PRIOR, Source, draws_of

__all__ = [
    "ArrowNote",
    "CutError",
    "CutResult",
    "NodeNote",
    "ParameterNote",
    "Reference",
    "Step",
    "arrow",
    "arrows",
    "cut",
    "math_ml",
    "node",
    "simulate_cut",
]


# --------------------------------------------------------------------------- what is said


@dataclass(frozen=True)
class Reference:
    """A study behind a number; `doi` is empty where the evidence tables have none (a number of a registry is no DOI)."""

    study_id: str
    citation: str
    locator: str
    doi: str


@dataclass(frozen=True)
class ParameterNote:
    """One number of an equation, and how well it is known.

    Attributes
    ----------
    name, symbol, unit, meaning : str
        The symbol in LaTeX.
    value : float
        Median of the prior; of people where the species differ.
    prior : str
        In words; 'fixed' if it is not sampled.
    prior_range, posterior : dict of str to float, or None
        ``low``, ``median``, ``high``: 90 % interval; None for what is not sampled, or not calibrated.
    contraction : float or None
        1 less the posterior SD over the prior's.
    verdict : str
        Of the calibration, or why there is none.
    kind : {'sourced', 'fitted', 'assumed'}
    source : str
        In words.
    references : tuple of Reference
    cuts : bool
        Whether the arrow is cut by setting it to zero.
    """

    name: str
    symbol: str
    unit: str
    meaning: str
    value: float
    prior: str
    prior_range: Mapping[str, float] | None
    posterior: Mapping[str, float] | None
    contraction: float | None
    verdict: str
    kind: str
    source: str
    references: tuple[Reference, ...]
    cuts: bool = False


@dataclass(frozen=True)
class Step:
    """One equation on the way from source to target, in LaTeX and MathML."""

    kind: Literal["rate", "quantity", "balance"]
    name: str
    meaning: str
    unit: str
    latex: str
    mathml: str


@dataclass(frozen=True)
class ArrowNote:
    """What an arrow of the picture of states rests on.

    Attributes
    ----------
    source, target, sign, kind, arm
        As of `mscrenal.model.picture.Wire`.
    meaning : str
        The arrow as a sentence.
    steps : tuple of Step
        Quantities on the way, then the rates of the target through which the source acts (or the target's formula).
    parameters : tuple of ParameterNote
        Of these equations, those that cut the arrow first.
    cut : Cut
        How it can be cut, or why not.
    """

    source: str
    target: str
    sign: int
    kind: str
    arm: str | None
    meaning: str
    steps: tuple[Step, ...]
    parameters: tuple[ParameterNote, ...]
    cut: Cut

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return _json(self)


@dataclass(frozen=True)
class NodeNote:
    """What a box of the picture of states is.

    Attributes
    ----------
    name, label, group, unit, meaning : str
    kind : {'state', 'quantity', 'arm'}
    healthy : float or None
        Of a state.
    symbol : str
        LaTeX.
    equations : tuple of Step
        The balance of a state and its rates, or the formula.
    arrows_in, arrows_out : tuple of str
        Names of the boxes at the other end.
    observables : tuple of str
        What is measured of it directly.
    """

    name: str
    label: str
    group: str
    kind: str
    unit: str
    meaning: str
    healthy: float | None
    symbol: str
    equations: tuple[Step, ...]
    arrows_in: tuple[str, ...]
    arrows_out: tuple[str, ...]
    observables: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return _json(self)


def _json(note: Any) -> dict[str, Any]:
    document: dict[str, Any] = plain(asdict(note))
    return document


# --------------------------------------------------------------------------- equations


@cache
def _writer() -> Writer:
    return Writer(the_model())


LETTER = re.compile(r'<(?:mi mathvariant="normal"|mn)>([^<]+)</(?:mi|mn)>')
WORD = re.compile(r'<mi mathvariant="normal">\w</mi>(?:<mi mathvariant="normal">\w</mi>|<mn>\d+</mn>)+')


@cache
def math_ml(latex: str) -> str:
    """A formula of the pages as MathML, for browsers without a network.

    Raises
    ------
    ImportError
        Without the package latex2mathml, which the extra ``app`` brings.
    """
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise ImportError(
            "formulas as MathML need latex2mathml. Install it: pip install 'mscrenal[app]'."
        ) from None
    # The package knows the environment by the name that it has outside of a formula.
    text = str(convert(latex.replace("{aligned}", "{align*}"), display="block"))
    # A word in upright letters is one word, for eyes and for screen readers.
    text = WORD.sub(lambda m: f"<mtext>{''.join(LETTER.findall(m[0]))}</mtext>", text)
    # Browsers centre every cell unless told where the equation signs are.
    text = text.replace("<mtd", '<mtd style="text-align:left"')
    return re.sub(r'<mtr>\s*<mtd style="text-align:left"', '<mtr><mtd style="text-align:right"', text)


@cache
def _step(kind: Literal["rate", "quantity", "balance"], name: str) -> Step:
    structure, writer = the_model(), _writer()
    if kind == "rate":
        process = structure.rates[name].declaration
        latex, meaning, unit = writer.rate(name), process.meaning, process.unit
    elif kind == "quantity":
        quantity = structure.quantities[name][0]
        latex, meaning, unit = writer.quantity(name), quantity.meaning, quantity.unit
    else:
        state = structure.states[name]
        latex, meaning, unit = writer.balance(state), f"change of {state.meaning}", f"{state.unit}/day"
    return Step(kind, name, meaning, unit, latex, math_ml(latex))


@cache
def _reads(kind: str, name: str) -> frozenset[str]:
    """Names in a rate or a quantity, effects included, drugs left out."""
    structure = the_model()
    if kind == "rate":
        rate = structure.rates[name]
        found, effects = set(rate.term.arguments.values()), rate.effects
        if rate.paced:
            found.add("time_scale")
    else:
        _, terms, effects = structure.quantities[name]
        found = {a for term in terms for a in term.arguments.values()}
    for e in effects:
        if e.signal not in structure.inputs:
            found |= {n for n in (e.size.name, e.signal, e.modulated_by) if n}
    return frozenset(found)


@cache
def _leads(source: str, name: str) -> bool:
    """Whether a quantity that is no box depends on a box."""
    reads = _reads("quantity", name)
    return source in reads or any(
        _leads(source, n) for n in reads if n in the_model().quantities and n not in nodes()
    )


def _way(source: str, target: str) -> list[tuple[Literal["rate", "quantity"], str]]:
    """Equations from source to target, each after those that it needs."""
    out: list[tuple[Literal["rate", "quantity"], str]] = []

    def visit(kind: Literal["rate", "quantity"], name: str) -> None:
        for inner in sorted(_reads(kind, name)):
            if inner in the_model().quantities and inner not in nodes() and _leads(source, inner):
                visit("quantity", inner)
        if (kind, name) not in out:
            out.append((kind, name))

    for kind, name in acting(source, target):
        visit("rate" if kind == "rate" else "quantity", name)
    return out


# --------------------------------------------------------------------------- numbers and sources


@cache
def _citations() -> Mapping[str, tuple[str, str]]:
    """Citation and DOI of every study of the evidence tables; read without their checks, which take seconds."""
    out: dict[str, tuple[str, str]] = {}
    for table in TABLES:
        with (EVIDENCE_FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                doi = row["doi_or_pmid"] if row["doi_or_pmid"].startswith("10.") else ""
                citation, known = out.get(row["study_id"], ("", ""))
                out[row["study_id"]] = citation or row["citation"], known or doi
    return out


def _references(p: Parameter) -> tuple[Reference, ...]:
    sources = p.source if isinstance(p.source, tuple) else (p.source,)
    known = _citations()
    found = [s for s in sources if isinstance(s, Citation)]
    told = [known.get(s.study_id, (s.study_id, "")) for s in found]
    return tuple(Reference(s.study_id, t[0], s.locator, t[1]) for s, t in zip(found, told, strict=True))


@cache
def _learnt() -> Mapping[str, Mapping[str, Any]]:
    """Records of the shipped posterior by name."""
    return {r["name"]: r for r in posterior().records}


SPREAD = {"product": "one value for each product", "patient": "each patient's own", "arm": "a switch"}


@cache
def _parameter(name: str) -> ParameterNote:
    declared, drawn = the_model().parameters[name], name
    own = next((p for p in SPECIES["human"].sets if p.name == name), None)
    if own is not None:
        declared, drawn = own, f"species.human.{name}"
    told = _learnt().get(drawn)
    ends = (declared.at(-LIMIT), declared.value, declared.at(LIMIT)) if declared.sampled else None
    if told is not None:
        verdict = str(told["verdict"])
    elif declared.scope in SPREAD and the_model().parameters[name].scope == declared.scope:
        verdict = SPREAD[declared.scope]
    else:
        verdict = f"{BY_PRIOR}: not calibrated" if drawn in sampled_parameters() else "fixed"
    return ParameterNote(
        name=name,
        symbol=symbols()[name],
        unit=declared.unit,
        meaning=declared.meaning,
        value=declared.value,
        prior=prior_text(declared.prior),
        prior_range=None if ends is None else dict(zip(("low", "median", "high"), ends, strict=True)),
        posterior=None if told is None else dict(told["posterior"]),
        contraction=None if told is None else float(told["contraction"]),
        verdict=verdict,
        kind=kind_of(declared.source),
        source=source_text(declared.source),
        references=_references(declared),
    )


# --------------------------------------------------------------------------- arrows and boxes


@cache
def arrow(source: str, target: str) -> ArrowNote:
    """What an arrow of the picture of states rests on.

    Parameters
    ----------
    source, target : str
        Names of boxes, as of `mscrenal.model.picture.layout`.

    Raises
    ------
    DeclarationError
        If there is no such arrow; the nearest names are offered.

    Examples
    --------
    >>> arrow("nrf2", "ros").cut.parameters
    ('scavenging_nrf2',)
    """
    wire = layout("states").wire(source, target)
    way, how = _way(source, target), cut_of(source, target)
    names = dict.fromkeys(
        n for kind, name in reversed(way) for n in sorted(_reads(kind, name)) if n in the_model().parameters
    )
    notes = [replace(_parameter(n), cuts=n in how.parameters) for n in names]
    return ArrowNote(
        source, target, wire.sign, wire.kind, wire.arm, wire.meaning,
        tuple(_step(kind, name) for kind, name in way),
        tuple(sorted(notes, key=lambda p: not p.cuts)),
        how,
    )  # fmt: skip


def arrows() -> tuple[ArrowNote, ...]:
    """Every arrow of the picture of states; takes some seconds, a single one takes milliseconds."""
    return tuple(arrow(w.source, w.target) for w in layout("states").wires)


@cache
def node(name: str) -> NodeNote:
    """What a box of the picture of states is, and how it changes.

    Raises
    ------
    DeclarationError
        If there is no such box; the nearest names are offered.
    """
    box, structure = layout("states").box(name), the_model()
    item: State | Quantity = nodes()[name]
    if isinstance(item, State):
        rates = [r for r, rate in structure.rates.items() if name in rate.stoichiometry]
        equations = (_step("balance", name), *(_step("rate", r) for r in rates))
    else:
        equations = (_step("quantity", name),)
    found = influences()
    shown = {b.name for b in layout("states").boxes}
    return NodeNote(
        name, label(name), box.group, box.kind, item.unit, item.meaning,
        item.healthy if isinstance(item, State) else None,
        symbols()[name],
        equations,
        tuple(a.source for a in found if a.target == name),
        tuple(a.target for a in found if a.source == name and a.target in shown),
        tuple(o for o, (_, term) in structure.observables.items() if name in term.arguments.values()),
    )  # fmt: skip


# --------------------------------------------------------------------------- without an arrow


class CutError(ValueError):
    """An arrow that cannot be cut, or a cut that cannot be simulated."""


def simulate_cut(
    patient: Patient,
    doses: Sequence[Dose] = (),
    courses: Sequence[DrugCourse] = (),
    theta: Mapping[str, float] | None = None,
    times: Sequence[float] | np.ndarray = (0.0,),
    *,
    arrow: tuple[str, str] | None,
    resets: Sequence[float] = (),
) -> Trajectory:
    """As `mscrenal.model.simulate`, with an arrow of the network cut from day 0.

    The patient is placed by the intact model, and an animal lives intact until day 0, so that both courses start from
    the same state. What is computed from states (a box with a dashed edge, and what is measured of it) answers at once.

    Parameters
    ----------
    arrow : (source, target) or None
        None cuts nothing: the same numbers as `simulate`, bit by bit.

    Returns
    -------
    Trajectory
        A failure is a status with a message; its numbers are NaN.

    Raises
    ------
    CutError
        If the arrow cannot be cut, or an animal gets a dose before day 0.
    DeclarationError
        If there is no such arrow.
    """
    at = np.ascontiguousarray(times, dtype=np.float64)
    intact, without = _both(
        patient,
        doses,
        courses,
        theta or {},
        at,
        arrow and _possible(*arrow),
        resets,
        only_cut=arrow is not None,
    )
    return intact if without is None else without


def _possible(source: str, target: str) -> Cut:
    how = cut_of(source, target)
    if not how.possible:
        raise CutError(f"The arrow from {source} to {target} cannot be cut: {how.why_not}.")
    return how


def _both(
    patient: Patient,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    theta: Mapping[str, float],
    times: np.ndarray,
    how: Cut | None,
    resets: Sequence[float],
    *,
    only_cut: bool = False,
) -> tuple[Trajectory, Trajectory | None]:
    """The intact course and the one without an arrow, from one placement."""
    early = [d.day for d in doses if d.day < 0]
    if how is not None and early:
        raise CutError(
            f"an arrow is cut on day 0, and a dose is given on day {min(early):g}. Allowed: doses from day 0 on."
        )
    try:
        kernels, subject = prepare(patient, products_of(doses), theta)
    except InitialStateError as error:
        failed = _unplaced(patient, doses, times, str(error))
        return failed, None if how is None else failed
    model = kernels.model
    intact = None
    if not only_cut:
        intact = simulate_subject(kernels, subject, doses, courses, times, resets=resets)
    if how is None:
        return intact or simulate_subject(kernels, subject, doses, courses, times, resets=resets), None
    before, day_0 = None, subject
    if subject.day < 0:
        early_times = np.append(times[times < 0], 0.0)
        before = simulate_subject(kernels, subject, (), courses, early_times)
        if before.status != "ok":
            return intact or before, _stretched(before, times)
        day_0 = replace(subject, state=before.states[-1].copy(), day=0.0)
    parameters = subject.parameters.copy()
    for name, declared in model.parameters.items():
        # Products have a copy each of what is theirs.
        if declared.name in how.parameters:
            parameters[model.parameter_index[name]] = 0.0
    late = times[times >= 0]
    without = simulate_subject(
        kernels, replace(day_0, parameters=parameters), doses, courses, late if len(late) else np.zeros(1), resets=resets
    )  # fmt: skip
    if before is not None:
        without = _joined(before, without, times)
    return intact or without, without


def _unplaced(patient: Patient, doses: Sequence[Dose], times: np.ndarray, message: str) -> Trajectory:
    from mscrenal.model.kernels import compiled

    structure = compiled(max(1, len(products_of(doses)))).model
    states = np.full((len(times), len(structure.states)), np.nan)
    seen = np.full((len(times), len(structure.observables)), np.nan)
    return Trajectory(times, states, seen, "initial-state", message, math.nan, structure)


def _stretched(failed: Trajectory, times: np.ndarray) -> Trajectory:
    """A failure with nothing at all times."""
    states = np.full((len(times), failed.states.shape[1]), np.nan)
    seen = np.full((len(times), failed.observables.shape[1]), np.nan)
    return replace(failed, times=times, states=states, observables=seen)


def _joined(before: Trajectory, after: Trajectory, times: np.ndarray) -> Trajectory:
    if after.status != "ok":
        return _stretched(after, times)
    n = int((times < 0).sum())
    late = slice(None) if (times >= 0).any() else slice(0, 0)
    return replace(
        after,
        times=times,
        states=np.concatenate([before.states[:n], after.states[late]]),
        observables=np.concatenate([before.observables[:n], after.observables[late]]),
    )


@dataclass(frozen=True, eq=False)
class CutResult:
    """An arm of a scenario, intact and with an arrow cut from day 0.

    Attributes
    ----------
    how : Cut
    scenario, arm : str
    days : ndarray (n_days,)
    observables : tuple of str
    intact, without : ndarray (n_draws, n_days, n_observables)
        NaN where a draw failed, in either course.
    failures : tuple of dict
        course ('intact' or 'cut'), draw, status, message.
    provenance : dict
    """

    how: Cut
    scenario: str
    arm: str
    days: np.ndarray
    observables: tuple[str, ...]
    intact: np.ndarray
    without: np.ndarray
    failures: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]

    @property
    def draws(self) -> int:
        """How many; those that failed included."""
        return len(self.intact)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: what else is cut, whether health stands still, and what the bands are."""
        how = self.how
        out = [f"Cut from day 0 by setting {', '.join(how.parameters)} to zero."]
        if how.also:
            out.append(
                "The same numbers also cut: "
                + "; ".join(f"{label(a)} → {label(b)}" for a, b in how.also)
                + "."
            )
        if not how.still_in_health:
            out.append("A healthy subject would move under this cut.")
        if how.at_once:
            out.append(f"{label(how.target)} is computed from states: it answers on day 0 itself.")
        if self.failures:
            failed = len({f["draw"] for f in self.failures})
            out.append(f"{failed} of {self.draws} draws failed and are left out of both courses.")
        return tuple(out)

    def band(self, observable: str) -> dict[str, Any]:
        """Median and 90 % interval over draws of both courses and of their difference, draw by draw.

        Returns
        -------
        dict
            ``unit``, ``label``, and for each of ``intact``, ``cut``, ``difference`` the lists ``q05``, ``q50``, ``q95``.

        Raises
        ------
        CutError
            For an observable that was not asked for.
        """
        if observable not in self.observables:
            raise CutError(f"No observable {observable!r}.{nearest(observable, self.observables)}")
        at, item = self.observables.index(observable), next(o for o in OBSERVABLES if o.name == observable)
        courses = {"intact": self.intact[:, :, at], "cut": self.without[:, :, at]}
        courses["difference"] = courses["cut"] - courses["intact"]
        told: dict[str, Any] = {"unit": item.unit, "label": item.label or item.meaning}
        for name, values in courses.items():
            kept = values[np.isfinite(values).all(axis=1)]
            levels = (
                np.quantile(kept, QUANTILES, axis=0) if len(kept) else np.full((3, len(self.days)), np.nan)
            )
            told[name] = dict(zip(("q05", "q50", "q95"), levels.tolist(), strict=True))
        return told

    def to_json(self) -> dict[str, Any]:
        """Cut, days, bands by observable, failures, notes, provenance."""
        document: dict[str, Any] = plain(
            {
                "arrow": asdict(self.how),
                "scenario": self.scenario,
                "arm": self.arm,
                "draws": self.draws,
                "days": self.days,
                "bands": {o: self.band(o) for o in self.observables},
                "failures": self.failures,
                "notes": self.notes,
                "provenance": self.provenance,
            }
        )
        return document


SHOWN = ("egfr", "uacr", "il6_serum", "tnfa_serum", "tgfb1_kidney", "fibrosis_area")


def cut(
    scenario: Scenario | str,
    arrow: tuple[str, str],
    *,
    arm: str | None = None,
    draws: int | Draws | None = None,
    seed: int = 1,
    source: Source = "posterior",
    observables: Sequence[str] = SHOWN,
    days: Sequence[float] | np.ndarray | None = None,
) -> CutResult:
    """An arm of a scenario in its (typical) patient, intact and with an arrow cut from day 0.

    Parameters
    ----------
    scenario : Scenario or str
        Or the name of one of the gallery, or a file.
    arrow : (source, target)
        Names of boxes of the picture of states.
    arm : str, optional
        Default: the first arm that is not the reference.
    draws : int, Draws or None
        None: one simulation with the medians of the posterior, for a first look.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
    observables : sequence of str
    days : array-like, optional
        Default: those of a run of the scenario.

    Returns
    -------
    CutResult
        A draw that fails is listed, and left out of both courses.

    Raises
    ------
    CutError
        If the arrow cannot be cut, or an observable is unknown.
    DeclarationError, ScenarioError
        If there is no such arrow, scenario or arm.

    Examples
    --------
    >>> result = cut("uc-dn-weekly", ("tgfb_kidney", "psmad"))
    >>> result.how.parameters
    ('psmad_tgfb',)
    """
    asked = load_scenario(scenario) if isinstance(scenario, str) else scenario
    how = _possible(*arrow)
    names = [o.name for o in OBSERVABLES]
    for wanted in observables:
        if wanted not in names:
            raise CutError(f"No observable {wanted!r}.{nearest(wanted, names)}")
    given = asked.arm(arm) if arm is not None else _first_treated(asked)
    at = output_days(asked) if days is None else np.ascontiguousarray(days, dtype=np.float64)
    drawn = draws if isinstance(draws, Draws) else draws_of(draws or 1, seed, source)
    thetas = [drawn.median()] if draws is None else list(drawn)
    patient = asked.subject.patient()
    doses = given.doses(float(patient.weight_kg or 1.0))
    columns = [names.index(o) for o in observables]
    shape = (len(thetas), len(at), len(columns))
    both = {"intact": np.full(shape, np.nan), "cut": np.full(shape, np.nan)}
    failures: list[dict[str, Any]] = []
    for k, theta in enumerate(thetas):
        runs = _both(patient, doses, given.drugs_added, theta, at, how, given.resets)
        courses = dict(zip(("intact", "cut"), runs, strict=True))
        failed = [
            {"course": name, "draw": k, "status": run.status, "message": run.message}
            for name, run in courses.items()
            if run is not None and run.status != "ok"
        ]
        failures += failed
        for name, run in courses.items():
            if run is not None and not failed:
                both[name][k] = run.observables[:, columns]
    provenance = provenance_of(asked, drawn, seed, 1) | {
        "arm": given.name,
        "cut": list(how.parameters),
        "parameters": "medians" if draws is None else "draws",
    }
    return CutResult(
        how, asked.name, given.name, at, tuple(observables), both["intact"], both["cut"], tuple(failures), provenance
    )  # fmt: skip


def _first_treated(scenario: Scenario) -> Any:
    return next((a for a in scenario.arms if a.name != scenario.reference), scenario.reference_arm)
