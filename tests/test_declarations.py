"""What a declaration must say, and what the builder answers when one contradicts itself or the rest."""

from __future__ import annotations

import csv
import importlib.util
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.model import units
from mscrenal.model.build import Model, build
from mscrenal.model.declare import (
    Assumed,
    DeclarationError,
    Effect,
    Fitted,
    Fixed,
    HalfNormal,
    Input,
    LogitNormal,
    LogNormal,
    Normal,
    Observable,
    Parameter,
    Process,
    Provenance,
    Quantity,
    Source,
    State,
    nearest,
)
from mscrenal.model.definition import (
    changed_files,
    definition_hash,
    model,
    model_files,
    model_hash,
    sampled_parameters,
)
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.processes.variability import RANDOM_EFFECTS
from mscrenal.model.products import PRODUCTS
from mscrenal.model.species import SPECIES

EVIDENCE = Path(__file__).resolve().parents[1] / "calibration" / "evidence"


def every_parameter() -> dict[str, Parameter]:
    """All declared numbers, with those of species, diseases and products, by a name to test under."""
    table = dict(model().parameters)
    table |= {f"drug.{d.name}.{e.size.name}": e.size for d in DRUGS.values() for e in d.effects}
    table |= {f"species.{s.name}.{p.name}": p for s in SPECIES.values() for p in s.sets}
    table |= {f"insult.{d.name}.{p.name}": p for d in DISEASES.values() for p in d.sets}
    return table | {f"product.{i.name}.{p.name}": p for i in PRODUCTS.values() for p in i.parameters}


def every_provenance() -> Iterator[tuple[str, Provenance]]:
    for name, parameter in every_parameter().items():
        yield name, parameter.source
    for effect in RANDOM_EFFECTS.values():
        yield effect.name, effect.source
    for name, (observable, _) in model().observables.items():
        if observable.residual_source is not None:
            yield f"residual of {name}", observable.residual_source


def cited() -> dict[str, list[str]]:
    """study_id -> who cites it."""
    found: dict[str, list[str]] = defaultdict(list)
    for owner, source in every_provenance():
        for one in source if isinstance(source, tuple) else (source,):
            for study in (
                (one.study_id,) if isinstance(one, Source) else one.to if isinstance(one, Fitted) else ()
            ):
                found[study].append(owner)
    return dict(sorted(found.items()))


EVERY_PARAMETER = pytest.mark.parametrize(
    "parameter", [pytest.param(p, id=n) for n, p in every_parameter().items()]
)
CITED = cited()


@pytest.fixture(scope="module")
def study_ids() -> frozenset[str]:
    found: set[str] = set()
    for table in sorted(EVIDENCE.glob("*.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            found |= {row["study_id"] for row in csv.DictReader(file)}
    assert found, f"no evidence tables in {EVIDENCE}"
    return frozenset(found)


# ------------------------------------------------------------------ the shipped declarations


@EVERY_PARAMETER
def test_a_parameter_has_a_unit_a_meaning_and_a_source(parameter: Parameter) -> None:
    units.parse(parameter.unit)
    assert parameter.meaning.strip()
    sources = parameter.source if isinstance(parameter.source, tuple) else (parameter.source,)
    assert sources
    for source in sources:
        said = (
            source.why
            if isinstance(source, Assumed)
            else source.how
            if isinstance(source, Fitted)
            else source.study_id
        )
        assert said.strip(), f"{parameter.name}: an empty {type(source).__name__}"


@pytest.mark.parametrize("study", CITED)
def test_a_cited_study_is_a_row_of_the_evidence_tables(study: str, study_ids: frozenset[str]) -> None:
    assert study in study_ids, (
        f"{study!r} is cited by {', '.join(CITED[study])}, and no table of the evidence has it"
    )


@pytest.mark.parametrize("module", sorted({s.how for _, s in every_provenance() if isinstance(s, Fitted)}))
def test_what_is_fitted_names_the_module_that_fits_it(module: str) -> None:
    assert module.startswith("mscrenal.calibration."), f"{module!r}: name the module that fits it"
    assert importlib.util.find_spec(module) is not None, f"{module!r} does not exist"


@pytest.mark.parametrize(
    ("owner", "parameter"),
    [
        pytest.param(name, p, id=f"{name}-{p.name}")
        for name, sets in [(s.name, s.sets) for s in SPECIES.values()]
        + [(d.name, d.sets) for d in DISEASES.values()]
        for p in sets
    ],
)
def test_what_a_species_or_disease_sets_exists_with_the_same_unit(owner: str, parameter: Parameter) -> None:
    assert parameter.name in model().parameters, (
        f"{owner} sets {parameter.name!r}.{nearest(parameter.name, model().parameters)}"
    )
    assert parameter.unit == model().parameters[parameter.name].unit


@pytest.mark.parametrize("disease", DISEASES.values(), ids=lambda d: d.name)
def test_what_a_disease_hits_or_finds_exists_in_the_model(disease: Any) -> None:
    assert set(disease.onset) <= set(model().states)
    assert set(disease.anchors.values()) <= set(model().parameters)
    assert set(disease.species) <= set(SPECIES)


@pytest.mark.parametrize(
    "state", [s for s in model().states.values() if s.history_rate], ids=lambda s: s.name
)
def test_the_history_rate_of_a_slow_state_is_a_rate_constant(state: State) -> None:
    assert model().parameters[state.history_rate].unit == "1/day"


def test_every_state_starts_where_the_model_says_health_is() -> None:
    for state in model().states.values():
        assert state.healthy in (0.0, 1.0), (
            f"{state.name}: healthy is 1 by definition, or 0 for what only disease brings"
        )


def test_sampled_numbers_have_a_prior_with_their_value_at_its_median() -> None:
    for name, parameter in sampled_parameters().items():
        assert parameter.sampled, name
        assert parameter.at(0.0) == pytest.approx(parameter.value), name


def test_the_definition_has_one_hash() -> None:
    assert definition_hash() == definition_hash()
    assert len(definition_hash()) == 64


# ------------------------------------------------------------------ priors


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e3))
def test_a_log_normal_read_from_a_range_holds_95_percent_between_its_ends(low: float, fold: float) -> None:
    prior = LogNormal.from_range(low, low * fold)
    median = low * math.sqrt(fold)
    assert prior.at(median, -1.959964) == pytest.approx(low)
    assert prior.at(median, 1.959964) == pytest.approx(low * fold)


@pytest.mark.parametrize(
    ("prior", "median"),
    [
        (LogNormal(0.5), 3.0),
        (LogitNormal(0.8), 0.2),
        (Normal(0.3), -1.0),
        (HalfNormal(0.4), HalfNormal(0.4).median),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else "",
)
@given(z=st.floats(-5, 5), step=st.floats(0.01, 2))
def test_a_prior_rises_with_z_and_has_its_median_at_zero(
    prior: Any, median: float, z: float, step: float
) -> None:
    assert prior.at(median, 0.0) == pytest.approx(median)
    assert prior.at(median, z + step) > prior.at(median, z)


@given(st.floats(-8, 8))
def test_bounded_priors_keep_their_bounds(z: float) -> None:
    assert 0 < LogitNormal(1.0).at(0.3, z) < 1
    assert LogNormal(1.0).at(0.3, z) > 0
    assert HalfNormal(1.0).at(HalfNormal(1.0).median, z) >= 0
    assert Fixed().at(0.3, z) == 0.3


def test_a_half_normal_median_is_the_one_of_the_distribution() -> None:
    assert HalfNormal(2.0).median == pytest.approx(2.0 * 0.67449, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "2k"}, "use letters, digits and underscores"),
        ({"value": math.nan}, "value must be finite"),
        ({"meaning": ""}, "say what it means"),
        ({"value": -1.0, "prior": LogNormal(0.5)}, "log-normal median must be positive"),
        ({"value": 1.5, "prior": LogitNormal(0.5)}, "lies in \\(0, 1\\)"),
        ({"value": 1.0, "prior": HalfNormal(1.0)}, "Use HalfNormal\\(scale\\).median"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_parameter_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    sound: dict[str, Any] = {
        "name": "k",
        "value": 1.0,
        "unit": "1/day",
        "meaning": "a rate",
        "source": Assumed("a toy"),
    }
    Parameter(**sound)
    with pytest.raises(DeclarationError, match=said):
        Parameter(**(sound | changes))


@pytest.mark.parametrize(
    "make", [lambda: LogNormal(0.0), lambda: Normal(-1.0), lambda: LogNormal.from_range(2.0, 1.0)]
)
def test_a_prior_without_width_is_refused(make: Any) -> None:
    with pytest.raises(DeclarationError):
        make()


def test_a_slow_state_without_its_history_rate_is_refused() -> None:
    with pytest.raises(DeclarationError, match="start='history' goes with a history_rate"):
        State("matrix", "1", "matrix", "toy", start="history")


# ------------------------------------------------------------------ building a toy model


def number(name: str, unit: str = "1/day", **rest: Any) -> Parameter:
    return Parameter(name, 0.5, unit, f"a toy's {name}", Assumed("a toy"), **rest)


def toy(**changes: Any) -> Model:
    """A tank with an inflow and an outlet that a valve narrows; `changes` replace or add parts."""
    parts: dict[str, Any] = {
        "states": [State("level", "1", "level", "toy")],
        "inputs": [Input("inflow", "1/day", "what comes in")],
        "processes": [
            Process("filling", {"level": +1}, lambda inflow: inflow * 1, "1/day", "inflow"),
            Process(
                "draining",
                {"level": -1},
                lambda drain, level, valve: drain * level * valve,
                "1/day",
                "outlet",
                (number("drain"),),
            ),
        ],
        "quantities": [
            Quantity("valve", "1", "opening", lambda opening: opening * 1, (number("opening", "1"),))
        ],
        "observables": [Observable("depth", "1", "depth", lambda level: level * 1)],
        "effects": [],
    }
    return build(**(parts | changes))


def plus(what: str, *more: Any) -> dict[str, list[Any]]:
    """The toy's parts of one kind, and some more."""
    sound = toy()
    own: dict[str, list[Any]] = {
        "states": list(sound.states.values()),
        "processes": [r.declaration for r in sound.rates.values()],
        "quantities": [q for q, _, _ in sound.quantities.values()],
    }
    return {what: [*own[what], *more]}


def test_the_sound_toy_builds() -> None:
    assert toy().state_names == ("level",)
    assert set(toy().parameters) == {"drain", "opening"}


def test_a_misspelt_argument_is_named_with_the_nearest_name() -> None:
    bad = Process("leak", {"level": -1}, lambda drian: drian, "1/day", "a leak")
    with pytest.raises(
        DeclarationError, match=r"Process 'leak': argument 'drian' is not declared\. Did you mean 'drain'"
    ):
        toy(**plus("processes", bad))


def test_a_parameter_that_nothing_uses_is_named() -> None:
    with pytest.raises(DeclarationError, match="Parameter declared and never used: forgotten"):
        toy(parameters=[number("forgotten")])


def test_an_input_that_nothing_uses_is_named() -> None:
    with pytest.raises(DeclarationError, match="Input declared and never used: rain"):
        toy(inputs=[Input("inflow", "1/day", "in"), Input("rain", "1/day", "rain")])


def test_a_quantity_that_nothing_uses_is_named() -> None:
    with pytest.raises(DeclarationError, match="Quantity declared and never used: idle"):
        toy(**plus("quantities", Quantity("idle", "1", "idle", lambda level: level * 1)))


def test_a_state_that_nothing_changes_is_named() -> None:
    with pytest.raises(DeclarationError, match="State that no process changes: still"):
        toy(**plus("states", State("still", "1", "still", "toy")))


def test_quantities_in_a_circle_are_named() -> None:
    circle = (
        Quantity("hen", "1", "hen", lambda egg: egg * 1),
        Quantity("egg", "1", "egg", lambda hen: hen * 1),
    )
    with pytest.raises(DeclarationError, match="in a circle: egg, hen"):
        toy(**plus("quantities", *circle))


def test_quantities_are_put_in_an_order_in_which_they_can_be_computed() -> None:
    late_first = (
        Quantity("area", "1", "area", lambda valve: valve * valve),
        Quantity("valve", "1", "opening", lambda opening: opening * 1, (number("opening", "1"),)),
    )
    leak = Process("leak", {"level": -1}, lambda drain, area: drain * area, "1/day", "a leak")
    built = toy(quantities=late_first, **plus("processes", leak))
    assert list(built.quantities) == ["valve", "area"]


@pytest.mark.parametrize(
    ("what", "second", "said"),
    [
        ("states", State("level", "1", "another", "toy"), "State 'level' is declared twice"),
        (
            "quantities",
            Quantity("valve", "1", "another", lambda level: level * 1),
            "Quantity 'valve' is declared twice",
        ),
        (
            "processes",
            Process("filling", {"level": +1}, lambda inflow: inflow * 2, "1/day", "another"),
            "Process 'filling' is declared twice",
        ),
        (
            "quantities",
            Quantity("level", "1", "a state's name", lambda opening: opening * 1),
            "quantity 'level': the name is taken by a state",
        ),
    ],
    ids=("state", "quantity", "process", "across kinds"),
)
def test_a_name_is_declared_once(what: str, second: Any, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        toy(**plus(what, second))


def test_two_parameters_of_one_name_are_refused_and_one_shared_parameter_is_not() -> None:
    sound = plus("processes")["processes"]
    drain = sound[1].parameters[0]
    for owned, fine in ((drain, True), (number("drain"), False)):
        leak = Process("leak", {"level": -1}, lambda drain: drain * 1, "1/day", "a leak", (owned,))
        if fine:
            assert list(toy(processes=[*sound, leak]).parameters).count("drain") == 1
        else:
            with pytest.raises(DeclarationError, match="Parameter 'drain' is declared twice"):
                toy(processes=[*sound, leak])


def test_an_effect_on_nothing_is_named_with_the_nearest_target() -> None:
    effect = Effect("drainning", "inhibit", number("plug", "1"), "inflow")
    with pytest.raises(
        DeclarationError, match=r"no process or quantity 'drainning'\. Did you mean 'draining'"
    ):
        toy(effects=[effect])


def test_an_effect_of_an_unknown_signal_is_named_with_the_nearest_signal() -> None:
    effect = Effect("draining", "inhibit", number("plug", "1"), "inflw")
    with pytest.raises(DeclarationError, match=r"no signal 'inflw'\. Did you mean 'inflow'"):
        toy(effects=[effect])


def test_a_process_that_changes_no_known_state_is_named_with_the_nearest_state() -> None:
    with pytest.raises(DeclarationError, match=r"changes 'levle', which is no state\. Did you mean 'level'"):
        toy(**plus("processes", Process("leak", {"levle": -1}, lambda drain: drain * 1, "1/day", "a leak")))


def test_a_process_that_changes_nothing_is_refused() -> None:
    with pytest.raises(DeclarationError, match="'idle' changes no state"):
        Process("idle", {}, lambda drain: drain, "1/day", "nothing")


def test_a_value_that_exists_once_per_product_cannot_be_read_without_saying_which() -> None:
    cells = State("cells", "1", "cells", "toy", per_slot=True)
    death = Process(
        "death", {"cells": -1}, lambda drain, cells: drain * cells, "1/day", "death", per_slot=True
    )
    crowd = Quantity("crowd", "1", "all cells", lambda cells: cells * 1, sum_slots=True)
    reads = Process("leak", {"level": -1}, lambda drain, crowd: drain * crowd, "1/day", "a leak")
    own = plus("processes", death, reads)["processes"]
    states = plus("states", cells)["states"]
    built = toy(states=states, processes=own, **plus("quantities", crowd), slots=2)
    assert {"cells", "cells_2"} <= set(built.states)
    assert {"death", "death_2"} <= set(built.rates)
    blind = Process("leak", {"level": -1}, lambda drain, cells: drain * cells, "1/day", "a leak")
    with pytest.raises(DeclarationError, match="'cells' exists once per product slot"):
        toy(states=states, **plus("processes", death, blind), slots=2)


def test_a_model_has_at_least_one_slot() -> None:
    with pytest.raises(DeclarationError, match="slots must be 1 or more, got 0"):
        toy(slots=0)


def test_nearest_puts_the_likely_name_first_and_spares_long_lists() -> None:
    assert nearest("egf", ["egfr", "uacr"]) == " Did you mean 'egfr'? Allowed: egfr, uacr."
    many = [f"name{i}" for i in range(100)]
    assert "Allowed" not in nearest("nme7", many)
    assert "name7" in nearest("nme7", many)


def test_what_a_posterior_belongs_to_is_every_declaring_file_but_not_a_product_added_since():
    now = dict(model_files())
    assert len(model_hash()) == 64
    assert changed_files(now) == []
    before = {name: found for name, found in now.items() if name not in ("products/uc.py", "drugs/sglt2i.py")}
    assert len(before) == len(now) - 2
    assert changed_files(before) == []  # both were added since
    assert changed_files({**now, "products/uc.py": "0"}) == ["products/uc.py"]
    assert changed_files({**now, "products/gone.py": "0"}) == ["products/gone.py"]
    without = {name: found for name, found in now.items() if name != "species.py"}
    assert changed_files(without) == ["species.py"]
