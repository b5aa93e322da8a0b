"""Every formula of the model has the unit that its declaration says."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
import sympy as sp

from mscrenal.model import units
from mscrenal.model.build import Model, build
from mscrenal.model.declare import (
    Assumed,
    DeclarationError,
    Effect,
    Input,
    Observable,
    Parameter,
    Process,
    State,
)
from mscrenal.model.definition import model
from mscrenal.model.symbolic import Excess
from mscrenal.model.units import UnitError, UnitReport, check_units, derive, parse, same

REPORTS: dict[str, dict[str, list[UnitReport]]] = defaultdict(lambda: defaultdict(list))
for _report in check_units(model()):
    _kind = "process" if _report.kind == "change" else _report.kind
    REPORTS[_kind][_report.name.split(" -> ")[0]].append(_report)


def check(kind: str, name: str) -> None:
    assert REPORTS[kind][name], f"no report on {kind} {name}"
    problems = [r.problem for r in REPORTS[kind][name] if not r.ok]
    assert not problems, "; ".join(problems)


# ------------------------------------------------------------------ the shipped model


@pytest.mark.parametrize("name", model().rates)
def test_a_process_has_its_declared_unit_and_changes_its_states_in_theirs_per_day(name: str) -> None:
    check("process", name)
    assert len(REPORTS["process"][name]) == 1 + len(model().rates[name].stoichiometry)


@pytest.mark.parametrize("name", model().quantities)
def test_a_quantity_has_its_declared_unit(name: str) -> None:
    check("quantity", name)


@pytest.mark.parametrize("name", model().observables)
def test_an_observable_has_its_declared_unit(name: str) -> None:
    check("observable", name)


@pytest.mark.parametrize("name", list(REPORTS["effect"]))
def test_the_size_of_an_effect_times_its_signal_is_a_bare_number(name: str) -> None:
    check("effect", name)


def test_every_effect_of_the_model_is_checked() -> None:
    owners = [(n, r.effects) for n, r in model().rates.items()]
    owners += [(n, effects) for n, (_, _, effects) in model().quantities.items()]
    assert set(REPORTS["effect"]) == {f"{n}: {e.size.name}" for n, effects in owners for e in effects}


def test_two_products_at_once_have_the_same_units_as_one() -> None:
    assert [r for r in check_units(model(2)) if not r.ok] == []


# ------------------------------------------------------------------ reading units


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Mcell/kg/day", "Mcell/day/kg", True),
        ("Gparticle/Mcell*Mcell/kg", "Gparticle/kg", True),
        ("g/day*g/mg*mg/g", "g/day", True),
        ("cell/Mcell*Mcell/kg", "cell/kg", True),
        ("mL/min/1.73m2", "mL/min", False),
        ("mg/g", "1", False),
        ("percent", "1", False),
        ("mg/dL", "g/L", False),
        ("Mcell", "cell", False),
        ("cell", "particle", False),
        ("1/day", "1/hour", False),
    ],
)
def test_units_are_the_same_when_they_measure_the_same_thing_in_the_same_size(
    one: str, other: str, equal: bool
) -> None:
    assert same(parse(one), parse(other)) is equal


@pytest.mark.parametrize("text", ["furlong_", "mg per dL", "", "3*day", "mg//dL"])
def test_a_text_that_is_no_unit_is_quoted_with_what_to_write(text: str) -> None:
    with pytest.raises(UnitError, match="Write '1' for a bare number"):
        parse(text)


# ------------------------------------------------------------------ deriving

CELLS, RATE, SHARE, WEIGHT = sp.symbols("cells rate share weight", real=True)
UNITS = {"cells": parse("Mcell/kg"), "rate": parse("1/day"), "share": parse("1"), "weight": parse("kg")}


@pytest.mark.parametrize(
    ("expression", "unit"),
    [
        (sp.Integer(3), "1"),
        (2 * RATE * CELLS, "Mcell/kg/day"),
        (CELLS**2 / (CELLS**2 + 4 * CELLS**2), "1"),
        (sp.sqrt(WEIGHT), "kg**0.5"),
        ((WEIGHT / (2 * WEIGHT + WEIGHT)) ** SHARE, "1"),
        (sp.exp(SHARE) + sp.log(SHARE + 1) + Excess(SHARE - 1), "1"),
        (sp.Piecewise((WEIGHT, SHARE < 1), (2 * WEIGHT, True)), "kg"),
        (RATE * (1 - SHARE), "1/day"),
    ],
    ids=str,
)
def test_the_unit_follows_the_algebra(expression: sp.Expr, unit: str) -> None:
    assert same(derive(expression, UNITS), parse(unit))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (CELLS + RATE, ("cannot add", "Mcell / kg", "1 / d", "cells + rate")),
        (1 - WEIGHT, ("cannot add", "1 - weight", "kg")),
        (SHARE**WEIGHT, ("share**weight", "weight must be a bare number", "kg")),
        (WEIGHT**SHARE, ("weight**share", "weight in kg", "share")),
        (sp.exp(RATE), ("exp(rate)", "rate must be a bare number", "1 / d")),
        (Excess(CELLS), ("Excess(cells)", "Mcell / kg")),
        (sp.Piecewise((WEIGHT, SHARE < 1), (RATE, True)), ("cannot choose between", "kg", "1 / d")),
        (sp.Piecewise((SHARE, WEIGHT < 1), (1, True)), ("cannot compare", "weight < 1")),
        (sp.Symbol("ghost") * SHARE, ("symbol ghost has no unit",)),
        (sp.sin(SHARE), ("sin(share)", "not known")),
        (SHARE * (1 + RATE * (CELLS + WEIGHT)), ("cannot add", "cells", "weight")),
    ],
    ids=lambda x: str(x) if isinstance(x, sp.Expr) else "",
)
def test_an_offence_names_the_sub_expression_and_both_units(
    expression: sp.Expr, words: tuple[str, ...]
) -> None:
    with pytest.raises(UnitError) as caught:
        derive(expression, UNITS)
    for word in words:
        assert word in str(caught.value)


# ------------------------------------------------------------------ checking a model


def toy(
    rate_unit: str = "1/day", declared: str = "1/day", observed: str = "1", size_unit: str = "1"
) -> Model:
    """A level that drains, is plugged by a signal and read in per cent."""
    drain = Parameter("drain", 0.5, rate_unit, "drain", Assumed("a toy"))
    plug = Parameter("plug", 0.5, size_unit, "plug", Assumed("a toy"))
    return build(
        states=[State("level", "1", "level", "toy")],
        inputs=[Input("signal", "1", "signal")],
        processes=[
            Process(
                "draining",
                {"level": -1},
                lambda drain, level: drain * level,
                declared,
                "out",
                (drain,),
                paced=False,
            )
        ],
        quantities=[],
        observables=[Observable("depth", observed, "depth", lambda level: 100 * level)],
        effects=[Effect("draining", "inhibit", plug, "signal")],
    )


def problems(toy_model: Model) -> set[str]:
    return {r.kind for r in check_units(toy_model) if not r.ok}


def test_a_consistent_toy_has_no_problem() -> None:
    assert problems(toy()) == set()
    units.require_consistent(toy())


def test_a_rate_in_another_unit_than_declared_is_found() -> None:
    assert problems(toy(declared="1/hour")) == {"process"}


def test_a_rate_that_is_not_per_day_is_found_even_if_declared_so() -> None:
    assert problems(toy(rate_unit="1/hour", declared="1/hour")) == {"change"}


def test_an_effect_whose_size_has_a_unit_is_found() -> None:
    assert "effect" in problems(toy(size_unit="kg"))


def test_only_a_hundred_times_a_share_is_per_cent() -> None:
    assert problems(toy(observed="percent")) == set()
    assert problems(toy(observed="mg/dL")) == {"observable"}


def test_require_consistent_lists_every_problem() -> None:
    with pytest.raises(DeclarationError, match="draining is declared in 1/hour, its formula yields 1 / d"):
        units.require_consistent(toy(declared="1/hour"))


# ------------------------------------------------------------------ what a warm start imports


def test_the_definition_is_imported_without_sympy_pint_pandas_or_matplotlib() -> None:
    heavy = "{'sympy', 'pint', 'pandas', 'matplotlib'}"
    code = (
        "import sys\nfrom mscrenal.model.definition import model\nmodel()\n"
        f"import mscrenal.model.codegen\nprint(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
