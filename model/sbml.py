"""One subject under one regimen as an SBML file: Level 3 Version 2 core, to be run by other simulators.

The file is written from the symbolic model. Each process is a reaction, each quantity and observable an
assignment rule, each edge of the regimen an event. Doses enter by name, so that the file stays right when
somebody edits a dose or a parameter in it. Libsbml (the extra ``exchange``) is imported when it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.codegen import Equations, equations
from mscrenal.model.declare import Observable, Parameter
from mscrenal.model.drugs import DRUGS
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.initial import Subject
from mscrenal.model.insults import DISEASES
from mscrenal.model.patient import COVARIATES, Patient
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.simulate import ENTRY, Dose, DrugCourse, prepare, products_of, schedule_of
from mscrenal.model.solve import Schedule
from mscrenal.model.species import SPECIES

__all__ = ["ExchangeError", "check_target", "observable_id", "process_id", "sbml_document", "write_sbml"]

TOOL = "A research and teaching tool, not a medical device: never base the treatment of a patient on it."
NOT_DIMENSIONED = "dimensionless"
# Everything happens in one subject, in amounts per kg or relative to health: there is no volume to divide by.
COMPARTMENT = "subject"
# What a declared unit is in the units of SBML: (kind, exponent, power of ten, multiplier). Cells and particles
# are both items; the package's own check of units (mscrenal.model.units) tells them apart.
BASE: Mapping[str, tuple[tuple[str, int, int, float], ...]] = {
    "1": (("dimensionless", 1, 0, 1.0),),
    "percent": (("dimensionless", 1, -2, 1.0),),
    "day": (("second", 1, 0, 86_400.0),),
    "min": (("second", 1, 0, 60.0),),
    "kg": (("kilogram", 1, 0, 1.0),),
    "g": (("gram", 1, 0, 1.0),),
    "mg": (("gram", 1, -3, 1.0),),
    "pg": (("gram", 1, -12, 1.0),),
    "dL": (("litre", 1, -1, 1.0),),
    "mL": (("litre", 1, -3, 1.0),),
    "1.73m2": (("dimensionless", 1, 0, 1.73), ("metre", 2, 0, 1.0)),
    "cell": (("item", 1, 0, 1.0),),
    "Mcell": (("item", 1, 6, 1.0),),
    "Gparticle": (("item", 1, 9, 1.0),),
}


class ExchangeError(ValueError):
    """A file for other programs that cannot be written as asked."""


def _libsbml() -> Any:
    try:
        return import_module("libsbml")
    except ImportError:
        raise ExchangeError(
            "SBML is written by libsbml, which is not installed. Install the extra: pip install 'mscrenal[exchange]'"
        ) from None


def check_target(path: str | Path, *, force: bool = False) -> Path:
    """The path of a file to be written, refused before anything is computed.

    Raises
    ------
    ExchangeError
        It is a folder, its folder is not there, or the file exists and `force` is not given.
    """
    target = Path(path)
    if target.is_dir():
        raise ExchangeError(f"{target}: this is a folder. Give the name of a file in it.")
    if not target.parent.is_dir():
        raise ExchangeError(
            f"{target}: there is no folder {str(target.parent)!r}. Make it first, or choose another."
        )
    if target.exists() and not force:
        raise ExchangeError(
            f"{target}: the file exists. Give another name, or --force (force=True) to replace it."
        )
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ExchangeError(f"{target}: may not be written. Choose another place.")
    return target


def observable_id(name: str) -> str:
    """The id of an observable in the file; some states carry the same name without the prefix."""
    return f"obs_{name}"


def process_id(name: str) -> str:
    """The id of a process's reaction in the file."""
    return f"process_{name}"


# --------------------------------------------------------------------------- what is written


@dataclass(frozen=True)
class _Given:
    """What enters one input from an edge on: doses being infused (place, days each lasts) or a fixed level."""

    infused: tuple[tuple[int, float], ...]
    level: float


@dataclass(frozen=True)
class _Case:
    """One subject under one regimen, with the symbolic model that it follows."""

    model: Model
    hash: str
    patient: Patient
    subject: Subject
    doses: tuple[Dose, ...]
    courses: tuple[DrugCourse, ...]
    theta: Mapping[str, float]
    knock_out: tuple[str, ...]
    horizon_days: float
    title: str

    @cached_property
    def equations(self) -> Equations:
        return equations(self.model)

    @cached_property
    def schedule(self) -> Schedule:
        return schedule_of(self.model, self.subject.day, self.subject.inputs, self.doses, self.courses)

    def column(self, dose: Dose) -> str:
        """The input that a dose enters by."""
        slot = products_of(self.doses).index(dose.product) + 1
        return slot_name(ENTRY[dose.kind][dose.route], slot)

    def given(self, edge: float, row: np.ndarray) -> dict[str, _Given]:
        """What each input is from an edge on, doses by place instead of by number."""
        infused: dict[str, list[tuple[int, float]]] = {}
        for place, dose in enumerate(self.doses):
            if dose.duration_days > 0 and dose.day <= edge < dose.day + dose.duration_days:
                # The length as the edges have it: see `schedule_of`.
                length = (dose.day + dose.duration_days) - dose.day
                infused.setdefault(self.column(dose), []).append((place, length))
        levels = zip(self.model.inputs, row, strict=True)
        return {
            n: _Given(tuple(infused.get(n, ())), 0.0 if n in infused else float(level)) for n, level in levels
        }

    def declared(self) -> dict[str, Parameter]:
        """Each parameter as the species, the disease or the product of this subject declares it."""
        table = dict(self.model.parameters)
        owned = (*SPECIES[self.patient.species].sets, *DISEASES[self.patient.disease].sets)
        table |= {p.name: p for p in owned if p.name in table}
        for slot, product in enumerate(products_of(self.doses), start=1):
            for p in PRODUCT_PARAMETERS:
                table[slot_name(p.name, slot)] = PRODUCTS[product].parameter(p.name)
        return table


def sbml_document(
    patient: Patient,
    doses: Sequence[Dose] = (),
    courses: Sequence[DrugCourse] = (),
    theta: Mapping[str, float] | None = None,
    *,
    knock_out: Collection[str] = (),
    horizon_days: float,
    title: str = "",
) -> str:
    """One subject under one regimen in SBML, Level 3 Version 2 core.

    Time 0 of the file is the start of the simulation: day 0 for patients, the insult for animals (its day
    stands in the notes of the model). States are species (ids as in `model.states`), processes reactions
    (`process_id`), observables parameters with assignment rules (`observable_id`), doses the parameters
    ``dose_1``, ``dose_2``… in the order of their days.

    Parameters
    ----------
    patient, doses, courses, theta, knock_out
        As in `mscrenal.model.simulate`.
    horizon_days : float
        Edges of the regimen on or after this day are left out.
    title : str
        What the file calls itself.

    Raises
    ------
    ExchangeError
        Libsbml is not installed, or the horizon does not lie behind the start.
    InitialStateError, RegimenError, ValueError
        As in `prepare` and `schedule_of`.

    Examples
    --------
    >>> from mscrenal.model import Dose, Patient
    >>> text = sbml_document(Patient(), [Dose(0, 1.0, "UC")], horizon_days=84)  # doctest: +SKIP
    """
    sbml = _libsbml()
    ordered = tuple(sorted(doses, key=lambda d: (d.day, d.duration_days, d.product, d.route, d.amount)))
    kernels, subject = prepare(patient, products_of(ordered), theta or {}, knock_out)
    if not horizon_days > subject.day:
        raise ExchangeError(
            f"horizon_days must lie behind the start on day {subject.day + 0.0:g}, got {horizon_days!r}."
        )
    case = _Case(
        kernels.model,
        kernels.hash,
        patient,
        subject,
        ordered,
        tuple(courses),
        dict(theta or {}),
        tuple(knock_out),
        float(horizon_days),
        title or "mscrenal",
    )
    return _Document(sbml, case).text()


def write_sbml(
    path: str | Path,
    patient: Patient,
    doses: Sequence[Dose] = (),
    courses: Sequence[DrugCourse] = (),
    theta: Mapping[str, float] | None = None,
    *,
    knock_out: Collection[str] = (),
    horizon_days: float,
    title: str = "",
    force: bool = False,
) -> Path:
    """Write `sbml_document` to a file; ExchangeError as there and of `check_target`."""
    target = check_target(path, force=force)
    text = sbml_document(
        patient, doses, courses, theta, knock_out=knock_out, horizon_days=horizon_days, title=title
    )
    try:
        target.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExchangeError(
            f"{target}: cannot be written ({error.strerror}). Choose another place."
        ) from None
    return target


# --------------------------------------------------------------------------- units


def unit_id(text: str) -> str:
    """The id of a declared unit in the file.

    >>> unit_id("Mcell/kg/day"), unit_id("1/day"), unit_id("mL/min/1.73m2"), unit_id("1")
    ('Mcell_per_kg_per_day', 'per_day', 'mL_per_min_per_1_73m2', 'dimensionless')
    """
    if text == "1":
        return NOT_DIMENSIONED
    named = re.sub(r"^1/", "/", text).replace("/", "_per_").replace("*", "_").replace(".", "_")
    return named.lstrip("_")


def unit_parts(text: str) -> list[tuple[str, int, int, float]]:
    """A declared unit in the base units of SBML: kind, exponent, power of ten and multiplier of each.

    Raises
    ------
    ExchangeError
        For a unit that has no entry in `BASE`.
    """
    parts = []
    for sign, name in re.findall(r"([*/]?)([^*/]+)", text):
        if name == "1" and text != "1":
            continue
        if name not in BASE:
            raise ExchangeError(
                f"unit {text!r}: {name!r} has no counterpart in SBML yet. Add it to BASE in mscrenal.model.sbml."
            )
        parts += [
            (kind, -power if sign == "/" else power, scale, multiplier)
            for kind, power, scale, multiplier in BASE[name]
        ]
    return parts


# --------------------------------------------------------------------------- formulas


class _Math:
    """Sympy expressions and small formulas as trees of libsbml."""

    def __init__(self, sbml: Any) -> None:
        self.sbml = sbml

    def number(self, value: float, units: str = NOT_DIMENSIONED) -> Any:
        node = self.sbml.ASTNode()
        # A number without unit would leave the units of the whole formula unchecked.
        node.setValue(int(value) if value == int(value) and abs(value) < 1e9 else float(value))
        node.setUnits(units)
        return node

    def name(self, name: str) -> Any:
        node = self.sbml.ASTNode(self.sbml.AST_NAME)
        node.setName(name)
        return node

    def apply(self, kind: str, *children: Any, function: str = "") -> Any:
        node = self.sbml.ASTNode(getattr(self.sbml, f"AST_{kind}"))
        if function:
            node.setName(function)
        for child in children:
            node.addChild(child)
        return node

    def of(self, e: Any) -> Any:
        """The tree of a sympy expression of the kinds that the model uses."""
        import sympy as sp

        from mscrenal.model.symbolic import Excess

        if e.is_Symbol:
            return self.name(e.name)
        if e.is_Rational and not e.is_Integer:
            return self.apply("DIVIDE", self.number(int(e.p)), self.number(int(e.q)))
        if e.is_Number:
            return self.number(float(e))
        if e.is_Add:
            return self.sum(e)
        if e.is_Mul:
            return self.product(e)
        if isinstance(e, sp.exp):
            return self.apply("FUNCTION_EXP", self.of(e.args[0]))
        if e.is_Pow:
            return self.product(e)
        if isinstance(e, Excess):
            return self.apply("FUNCTION", self.of(e.args[0]), function="excess")
        if isinstance(e, sp.Piecewise):
            return self.piecewise(e)
        raise ExchangeError(
            f"{e}: {type(e).__name__} has no counterpart in SBML yet. Teach mscrenal.model.sbml about it."
        )

    def sum(self, e: Any) -> Any:
        """A sum: what is added first, then what is taken away."""
        added = [t for t in e.args if not t.could_extract_minus_sign()]
        taken = [-t for t in e.args if t.could_extract_minus_sign()]
        down = self._all("PLUS", [self.of(t) for t in taken]) if taken else None
        if not added:
            return self.apply("MINUS", down)
        up = self._all("PLUS", [self.of(t) for t in added])
        return up if down is None else self.apply("MINUS", up, down)

    def product(self, e: Any) -> Any:
        """A product or power as one fraction."""
        over, under = [], []
        coefficient, rest = e.as_coeff_mul()
        negative = bool(coefficient < 0)
        if abs(coefficient) != 1:
            over.append(self.of(abs(coefficient)))
        for factor in rest:
            base, exponent = factor.as_base_exp()
            if factor.is_Pow and exponent.is_Number and exponent < 0:
                under.append(self.power(base, -exponent))
            elif factor.is_Pow:
                over.append(self.power(base, exponent))
            else:
                over.append(self.of(factor))
        node = self._all("TIMES", over) if over else self.number(1)
        if under:
            node = self.apply("DIVIDE", node, self._all("TIMES", under))
        return self.apply("MINUS", node) if negative else node

    def power(self, base: Any, exponent: Any) -> Any:
        return self.of(base) if exponent == 1 else self.apply("POWER", self.of(base), self.of(exponent))

    def piecewise(self, e: Any) -> Any:
        import sympy as sp

        children = []
        for value, condition in e.args:
            children.append(self.of(value))
            if condition is sp.true:
                break
            if not isinstance(condition, sp.StrictLessThan):
                raise ExchangeError(f"{condition}: only conditions x < y are written to SBML so far.")
            children.append(self.apply("RELATIONAL_LT", self.of(condition.lhs), self.of(condition.rhs)))
        return self.apply("FUNCTION_PIECEWISE", *children)

    def excess(self) -> Any:
        """The definition of `mscrenal.model.symbolic.Excess`."""
        squared = self.apply("POWER", self.name("d"), self.number(2))
        ratio = self.apply("DIVIDE", squared, self.apply("PLUS", self.name("d"), self.number(EXCESS_WIDTH)))
        above = self.apply("RELATIONAL_GT", self.name("d"), self.number(0))
        chosen = self.apply("FUNCTION_PIECEWISE", ratio, above, self.number(0))
        argument = self.name("d")
        argument.setBvar()
        return self.apply("LAMBDA", argument, chosen)

    def _all(self, kind: str, nodes: list[Any]) -> Any:
        return nodes[0] if len(nodes) == 1 else self.apply(kind, *nodes)


# --------------------------------------------------------------------------- the document


class _Document:
    """Fills one SBML document; each method one list of it."""

    def __init__(self, sbml: Any, case: _Case) -> None:
        self.sbml, self.case, self.math = sbml, case, _Math(sbml)
        self.document = sbml.SBMLDocument(3, 2)
        self.model = self.document.createModel()
        self.units: dict[str, str] = {}

    def text(self) -> str:
        """The document as XML."""
        self._header()
        self._functions()
        self._states()
        self._parameters()
        self._inputs()
        self._quantities()
        self._processes()
        self._observables()
        self._events()
        written: str = self.sbml.writeSBMLToString(self.document)
        return written

    def _set(self, element: Any, **attributes: Any) -> Any:
        """Set attributes of an element; libsbml reports a refusal by a code that nobody would see."""
        for name, value in attributes.items():
            code = getattr(element, f"set{name[0].upper()}{name[1:]}")(value)
            if code != self.sbml.LIBSBML_OPERATION_SUCCESS:
                raise ExchangeError(f"libsbml refuses {name} = {value!r} of a {element.getElementName()}.")
        return element

    def _note(self, element: Any, *lines: str) -> None:
        body = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
        self._set(element, notes=f'<body xmlns="http://www.w3.org/1999/xhtml">{body}</body>')

    def _unit(self, text: str) -> str:
        """The id of a declared unit, defined on first use."""
        name = unit_id(text)
        if name != NOT_DIMENSIONED and name not in self.units:
            self.units[name] = text
            definition = self._set(self.model.createUnitDefinition(), id=name, name=text)
            for kind, exponent, scale, multiplier in unit_parts(text):
                code = getattr(self.sbml, f"UNIT_KIND_{kind.upper()}")
                self._set(
                    definition.createUnit(),
                    kind=code,
                    exponent=float(exponent),
                    scale=scale,
                    multiplier=multiplier,
                )
        return name

    # ------------------------------------------------------------------ lists

    def _header(self) -> None:
        case = self.case
        self._set(
            self.model,
            id="mscrenal",
            name=case.title,
            timeUnits=self._unit("day"),
            substanceUnits=NOT_DIMENSIONED,
            extentUnits=NOT_DIMENSIONED,
        )
        self._note(self.model, *_about(case))
        where = self._set(
            self.model.createCompartment(),
            id=COMPARTMENT,
            spatialDimensions=3,
            size=1.0,
            units=NOT_DIMENSIONED,
            constant=True,
        )
        self._note(where, "The subject. States are relative to health or per kg of body weight: no volume.")

    def _functions(self) -> None:
        function = self._set(self.model.createFunctionDefinition(), id="excess", math=self.math.excess())
        self._note(function, "How far a difference lies above zero, rounded off near it; zero below.")

    def _states(self) -> None:
        for (name, state), start in zip(self.case.model.states.items(), self.case.subject.state, strict=True):
            species = self._set(
                self.model.createSpecies(),
                id=name,
                name=state.meaning,
                compartment=COMPARTMENT,
                initialAmount=float(start),
                substanceUnits=self._unit(state.unit),
                hasOnlySubstanceUnits=True,
                boundaryCondition=False,
                constant=False,
            )
            if state.unit != "1":
                # Extents of reactions are bare numbers, in one unit for the whole model.
                self._set(species, conversionFactor=self._one(state.unit))
            slot = f" Product: {self._product(name, state.name)}." if state.per_slot else ""
            self._note(species, f"Module: {state.module}.{slot} Unit: {state.unit}.")

    def _one(self, unit: str) -> str:
        """The id of a parameter that is one of a unit."""
        name = f"one_{unit_id(unit)}"
        if self.model.getParameter(name) is None:
            one = self._set(
                self.model.createParameter(), id=name, value=1.0, units=self._unit(unit), constant=True
            )
            self._note(one, f"One {unit}: what an extent of a reaction counts.")
        return name

    def _product(self, state: str, declared: str) -> str:
        """The product that a state of a product slot belongs to."""
        products = products_of(self.case.doses)
        slots = range(1, self.case.model.slots + 1)
        slot = next(k for k in slots if slot_name(declared, k) == state)
        return products[slot - 1] if slot <= len(products) else "none given"

    def _parameters(self) -> None:
        declared = self.case.declared()
        for name, value in zip(self.case.model.parameters, self.case.subject.parameters, strict=True):
            own = declared[name]
            parameter = self._set(
                self.model.createParameter(),
                id=name,
                name=own.meaning,
                value=float(value),
                units=self._unit(self.case.model.parameters[name].unit),
                constant=True,
            )
            self._note(parameter, *_origin(own, float(value)))

    def _inputs(self) -> None:
        start = self.case.subject.inputs
        for (name, item), value in zip(self.case.model.inputs.items(), start, strict=True):
            parameter = self._set(
                self.model.createParameter(),
                id=name,
                name=item.meaning,
                value=float(value),
                units=self._unit(item.unit),
                constant=False,
            )
            self._note(parameter, "An input: constant between the events that set it.")
        for place, dose in enumerate(self.case.doses):
            parameter = self._set(
                self.model.createParameter(),
                id=_dose_id(place),
                name=_dose_text(dose),
                value=float(dose.amount),
                units=self._unit(self._dose_unit(dose)),
                constant=True,
            )
            self._note(parameter, "The amount; its times stand in the events.")

    def _dose_unit(self, dose: Dose) -> str:
        return self.case.model.inputs[self.case.column(dose)].unit.removesuffix("/day")

    def _assigned(self, name: str, meaning: str, unit: str, math: Any, *notes: str) -> None:
        parameter = self._set(
            self.model.createParameter(), id=name, name=meaning, units=self._unit(unit), constant=False
        )
        self._note(parameter, *notes)
        self._set(self.model.createAssignmentRule(), variable=name, math=math)

    def _quantities(self) -> None:
        for name, (quantity, _, _) in self.case.model.quantities.items():
            math = self.math.of(self.case.equations.quantities[name])
            self._assigned(name, quantity.meaning, quantity.unit, math, f"Module: {quantity.module}.")

    def _processes(self) -> None:
        for name, rate in self.case.model.rates.items():
            expression = self.case.equations.rates[name]
            meaning, module = rate.declaration.meaning, rate.declaration.module
            whole = {s: c for s, c in rate.stoichiometry.items() if not isinstance(c, str)}
            self._reaction(process_id(name), meaning, whole, expression, module)
            for state, factor in rate.stoichiometry.items():
                # Few simulators know a stoichiometry that is a parameter: a reaction of its own all do.
                if isinstance(factor, str):
                    scaled = self.case.equations.symbols[factor] * expression
                    twin = f"{process_id(name)}_to_{state}"
                    self._reaction(twin, f"{meaning}: what {state} gains", {state: 1}, scaled, module)

    def _reaction(
        self, name: str, meaning: str, changes: Mapping[str, float | str], expression: Any, module: str
    ) -> None:
        reaction = self._set(self.model.createReaction(), id=name, name=meaning, reversible=False)
        self._note(reaction, f"Module: {module}.")
        for state, factor in changes.items():
            made = reaction.createProduct() if float(factor) > 0 else reaction.createReactant()
            self._set(made, species=state, stoichiometry=abs(float(factor)), constant=True)
        used = {symbol.name for symbol in expression.free_symbols}
        for state in sorted(used & set(self.case.model.states) - set(changes)):
            self._set(reaction.createModifier(), species=state)
        unit = self.case.model.states[next(iter(changes))].unit
        math = self.math.of(expression)
        if unit != "1":
            math = self.math.apply("DIVIDE", math, self.math.name(self._one(unit)))
        self._set(reaction.createKineticLaw(), math=math)

    def _observables(self) -> None:
        for name, (observable, _) in self.case.model.observables.items():
            expression = self.case.equations.observables[name]
            coefficient, rest = expression.as_coeff_Mul()
            if observable.unit == "percent" and coefficient == 100:
                # A share times a hundred per cent: the number carries the unit (see mscrenal.model.units).
                math = self.math.apply(
                    "TIMES", self.math.number(100, self._unit("percent")), self.math.of(rest)
                )
            else:
                math = self.math.of(expression)
            self._assigned(
                observable_id(name), observable.meaning, observable.unit, math, _measured(observable)
            )

    # ------------------------------------------------------------------ the regimen

    def _events(self) -> None:
        case = self.case
        background = zip(case.model.inputs, case.subject.inputs, strict=True)
        before = {name: _Given((), float(level)) for name, level in background}
        for edge, row in zip(case.schedule.edges, case.schedule.inputs, strict=True):
            if edge >= case.horizon_days:
                break  # what is given at the end or later shows nowhere
            now = case.given(edge, row)
            changed = {name: given for name, given in now.items() if given != before[name]}
            at_once = [k for k, d in enumerate(case.doses) if d.duration_days == 0 and d.day == edge]
            if edge == case.subject.day:
                # Not by an event: libRoadRunner, set to fixed initial amounts, gives it again on each reset.
                self._given_at_the_start(at_once)
                at_once = []
            if changed or at_once:
                self._event(float(edge), changed, at_once)
            before = now

    def _given_at_the_start(self, at_once: Sequence[int]) -> None:
        for state, jump in self._jumps(at_once).items():
            declared = self.case.model.states[state]
            before = float(self.case.subject.state[self.case.model.index[state]])
            start = self.math.number(before, self._unit(declared.unit))
            math = self.math.apply("PLUS", start, self.math.of(jump))
            self._set(self.model.createInitialAssignment(), symbol=state, math=math)

    def _event(self, edge: float, changed: Mapping[str, _Given], at_once: Sequence[int]) -> None:
        said = [_dose_text(self.case.doses[k]) for k in at_once]
        said += [
            f"{name} {'on' if given.infused or given.level else 'off'}" for name, given in changed.items()
        ]
        place = self.model.getNumEvents() + 1
        # Edges that a rounding error parts may fire together: then in their order, each on what the last left.
        event = self._set(
            self.model.createEvent(),
            id=f"edge_{place}",
            name=f"day {edge + 0.0:g}: {'; '.join(said)}",
            useValuesFromTriggerTime=False,
        )
        self._set(event.createPriority(), math=self.math.number(-place))
        # False before the start, so that what is given at time 0 is given.
        trigger = self._set(event.createTrigger(), initialValue=False, persistent=True)
        reached = self.math.apply(
            "RELATIONAL_GEQ",
            self.math.apply("NAME_TIME", function="time"),
            self.math.number(edge - self.case.subject.day, self._unit("day")),
        )
        self._set(trigger, math=reached)
        for name, given in changed.items():
            self._set(event.createEventAssignment(), variable=name, math=self._input_math(name, given))
        for state, jump in self._jumps(at_once).items():
            math = self.math.apply("PLUS", self.math.name(state), self.math.of(jump))
            self._set(event.createEventAssignment(), variable=state, math=math)

    def _input_math(self, name: str, given: _Given) -> Any:
        """The sum of what is being infused, by the names of the doses; a level as the number it is."""
        if not given.infused:
            return self.math.number(given.level, self._unit(self.case.model.inputs[name].unit))
        rates = [
            self.math.apply(
                "DIVIDE", self.math.name(_dose_id(place)), self.math.number(length, self._unit("day"))
            )
            for place, length in given.infused
        ]
        return rates[0] if len(rates) == 1 else self.math.apply("PLUS", *rates)

    def _jumps(self, at_once: Sequence[int]) -> dict[str, Any]:
        """What each state gains by the doses given at once: rates are linear in the inputs of doses."""
        import sympy as sp

        eq = self.case.equations
        jumps: dict[str, Any] = {}
        for place in at_once:
            entry = eq.symbols[self.case.column(self.case.doses[place])]
            amount = sp.Symbol(_dose_id(place), real=True)
            for state, derivative in eq.derivatives.items():
                share = sp.diff(derivative, entry)
                if share != 0:
                    jumps[state] = jumps.get(state, sp.Integer(0)) + amount * share
        return jumps


# --------------------------------------------------------------------------- words


def _dose_id(place: int) -> str:
    return f"dose_{place + 1}"


def _dose_text(dose: Dose) -> str:
    length = "at once" if dose.duration_days == 0 else f"over {24 * dose.duration_days:g} h"
    return f"{dose.product} by {dose.route} on day {dose.day:g}, {length}"


def _origin(declared: Parameter, value: float) -> Iterator[str]:
    """What a parameter rests on, and why its value is another than the declared one."""
    sources = declared.source if isinstance(declared.source, tuple) else (declared.source,)
    yield f"Source: {'; '.join(map(str, sources))}."
    if value == declared.value:
        return
    why = "drawn from its prior" if declared.sampled else "set for this subject"
    yield f"Value {why}; declared: {declared.value:g}."


def _measured(observable: Observable) -> str:
    """What an observable is called, and how far a measurement lies from it."""
    label = observable.label or observable.name
    errors = ", ".join(f"{kind} {size:g}" for kind, size in observable.residual.items())
    lasting = f" Errors of one person resemble one another for {observable.residual_memory:g} days ({observable.memory_source})."
    return f"Observable: {label}." + (
        f" Residual SD: {errors} ({observable.residual_source})." + lasting * (observable.residual_memory > 0)
        if errors
        else ""
    )


def _about(case: _Case) -> Iterator[str]:
    """The notes of the model, paragraph by paragraph."""
    patient, day = case.patient, case.subject.day
    yield case.title
    yield TOOL
    covariates = {name: getattr(patient, name) for name in COVARIATES}
    known = ", ".join(f"{n} {v:g} {COVARIATES[n].unit}" for n, v in covariates.items() if v is not None)
    drugs = ", ".join(DRUGS[name].title for name in patient.drugs) or "none"
    yield f"Subject: {patient.species}, {patient.sex}, {patient.disease}; {known}. Background drugs: {drugs}."
    yield f"Doses: {'; '.join(map(_dose_text, case.doses)) or 'none'}."
    if case.courses:
        yield (
            "Drugs added: "
            + "; ".join(
                f"{c.drug} at {c.level:g} from day {c.start_day:g}"
                + ("" if c.stop_day is None else f" to day {c.stop_day:g}")
                for c in case.courses
            )
            + "."
        )
    if case.knock_out:
        yield f"Arms of action switched off: {', '.join(case.knock_out)}."
    yield (
        f"Time is in days. Time 0 of this file is day {day + 0.0:g}; simulate to time {case.horizon_days - day:g}."
    )
    yield (
        "States are relative to health (1) or amounts per kg of body weight. Species are states, reactions "
        "processes; parameters with assignment rules are quantities and, as obs_*, what is measured."
    )
    drawn = "drawn parameters" if case.theta else "parameters at the medians of their priors"
    yield f"Initial state found by mscrenal for this subject and {drawn}: change a covariate there, not here."
    yield f"Written by mscrenal {_version()}; model {case.hash}."


def _version() -> str:
    try:
        return version("mscrenal")
    except PackageNotFoundError:
        return "(not installed as a package)"
