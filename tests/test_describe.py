"""What is said of the model is read off the model: tables, equations, the pages of the docs."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest

from mscrenal.model import describe, pages, picture
from mscrenal.model.codegen import equations
from mscrenal.model.definition import model, sampled_parameters
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

DOCS = Path(__file__).resolve().parents[1] / "docs" / "model"
# ------------------------------------------------------------------ tables


def test_the_tables_have_a_row_for_everything_declared() -> None:
    assert list(describe.state_table()["name"]) == list(model().states)
    assert list(describe.parameter_table()["name"]) == list(model().parameters)
    assert list(describe.process_table()["name"]) == list(model().rates)
    assert len(describe.product_table()) == len(PRODUCTS) * len(PRODUCT_PARAMETERS)
    assert len(describe.drug_table()) == sum(len(d.effects) for d in DRUGS.values())
    assert set(describe.disease_table()["disease"]) == set(DISEASES)
    assert set(describe.species_table()["species"]) == set(SPECIES)


def test_a_parameter_row_holds_what_the_declaration_says() -> None:
    table = describe.parameter_table().set_index("name")
    for name, p in model().parameters.items():
        row = table.loc[name]
        assert (row["value"], row["unit"], row["meaning"], row["scope"]) == (
            p.value,
            p.unit,
            p.meaning,
            p.scope,
        )
        assert row["source"]
        if p.sampled:
            assert row["low"] < p.value < row["high"], name
        else:
            assert math.isnan(row["low"]), name


def test_a_range_holds_the_central_95_percent_of_the_prior() -> None:
    row = describe.parameter_table().set_index("name").loc["priming_time"]
    assert (row["low"], row["high"]) == (pytest.approx(7.0), pytest.approx(28.0))


def test_a_drug_factor_is_what_the_usual_dose_multiplies_its_target_by() -> None:
    table = describe.drug_table()
    row = table[(table["drug"] == "sglt2i") & (table["target"] == "pressure")].iloc[0]
    assert row["factor"] == pytest.approx(math.exp(row["value"]))
    assert row["factor_low"] < row["factor"] < row["factor_high"] < 1


def test_a_product_row_says_what_it_rests_on() -> None:
    table = describe.product_table()
    for name, rows in table.groupby("product"):
        inherited = set(PRODUCTS[str(name)].inherited)
        assert set(rows.loc[rows["basis"] == "class prior", "parameter"]) <= inherited
        assert not set(rows.loc[rows["basis"] == "data", "parameter"]) & inherited


def test_a_species_row_tells_own_values_from_defaults() -> None:
    table = describe.species_table().set_index(["species", "parameter"])
    assert table.loc[("rat", "body_weight"), "own"]
    assert not table.loc[("rat", "c3_healthy"), "own"]
    assert table.loc[("mouse", "body_weight"), "value"] == 0.025


def test_the_counts_add_up() -> None:
    c = describe.counts()
    assert c["sourced"] + c["fitted"] + c["assumed"] == c["parameters"] == len(model().parameters)
    assert c["sampled"] == len(sampled_parameters())
    for what in ("states", "processes", "quantities", "parameters"):
        assert sum(m.get(what, 0) for m in c["modules"].values()) == c[what], what


# ------------------------------------------------------------------ symbols and equations


def test_no_two_names_share_a_symbol() -> None:
    symbols = describe.symbols()
    assert set(symbols) == {*model().states, *model().parameters, *model().inputs, *model().quantities}
    assert len(set(symbols.values())) == len(symbols)


def test_a_declared_symbol_is_used() -> None:
    for name, state in model().states.items():
        assert describe.symbols()[name].replace(r"\mathrm{", "").replace("}}", "}") in (
            state.symbol,
            state.symbol + "}",
        )


def test_every_rate_quantity_state_and_observable_has_one_equation() -> None:
    found = [(f.kind, f.name) for formulas in describe.equations_latex().values() for f in formulas]
    expected = [("rate", n) for n in model().rates] + [("quantity", n) for n in model().quantities]
    expected += [("balance", n) for n in model().states] + [("observable", n) for n in model().observables]
    assert sorted(found) == sorted(expected)


def test_an_equation_shows_every_symbol_on_which_it_depends() -> None:
    eq = equations(model())
    wanted = {"rate": eq.rates, "quantity": eq.quantities, "observable": eq.observables}
    for formula in itertools.chain.from_iterable(describe.equations_latex().values()):
        if formula.kind != "balance":
            for symbol in wanted[formula.kind][formula.name].free_symbols:
                assert describe.symbols()[symbol.name] in formula.latex, f"{formula.name} hides {symbol}"


def test_a_balance_holds_each_rate_that_changes_the_state_with_its_sign() -> None:
    balances = {
        f.name: f.latex
        for formulas in describe.equations_latex().values()
        for f in formulas
        if f.kind == "balance"
    }
    for name, rate in model().rates.items():
        words = name.replace("_", r"\,")
        symbol = rf"r_{{\mathrm{{{words}}}}}"
        for state, coefficient in rate.stoichiometry.items():
            assert symbol in balances[state]
            before = balances[state][: balances[state].index(symbol)]
            sign = re.findall(r"[-+=]", before)[-1]
            assert (sign == "-") == (not isinstance(coefficient, str) and coefficient < 0), (
                f"{name} in d{state}/dt"
            )


def test_latex_is_well_formed() -> None:
    for formula in itertools.chain.from_iterable(describe.equations_latex().values()):
        assert formula.latex.count("{") == formula.latex.count("}"), formula.name
        assert formula.latex.count(r"\left") == formula.latex.count(r"\right"), formula.name
        assert formula.latex.count(r"\begin{") == formula.latex.count(r"\end{"), formula.name


@pytest.mark.parametrize("name", model().rates)
def test_folding_a_rate_for_print_loses_nothing(name: str) -> None:
    import sympy as sp

    exact = equations(model()).rates[name]
    printed = describe.unfold(describe.fold(exact))
    values = {s: 0.3 + 0.05 * i for i, s in enumerate(sorted(exact.free_symbols, key=lambda s: s.name))}
    assert float(printed.subs(values)) == pytest.approx(float(exact.subs(values)), rel=1e-12)
    assert isinstance(exact, sp.Expr)


def test_stimulations_are_printed_as_functions_of_their_driver() -> None:
    latex = next(
        f.latex for f in describe.equations_latex()["oxidative stress"] if f.name == "nrf2_synthesis"
    )
    assert r"\mathcal{S}\left(O;\," in latex


# ------------------------------------------------------------------ pages


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_committed_page_is_the_one_the_definition_gives(name: str) -> None:
    path = DOCS / f"{name}.md"
    assert path.exists(), f"{path} is missing. Make it: {pages.HOW_TO_REGENERATE}"
    assert path.read_text(encoding="utf-8") == pages.page(name), (
        f"docs/model/{name}.md is not what the definition says. Do not edit it; run: {pages.HOW_TO_REGENERATE}"
    )


@pytest.mark.parametrize("name", picture.PICTURES)
def test_the_committed_pictures_are_there(name: str) -> None:
    for suffix in (".svg", ".png"):
        assert (DOCS / f"{name}{suffix}").stat().st_size > 10_000


def test_pages_are_written_the_same_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = pages.write_pages(tmp_path / "new" / "folder")
    assert [p.name for p in written] == [f"{n}.md" for n in pages.PAGES] + [
        f"{n}{s}" for n in picture.PICTURES for s in (".svg", ".png")
    ]
    again = tmp_path / "again.svg"
    assert pages.main(["diagram", "--detail", "modules", "--out", str(again)]) == 0
    assert again.read_bytes() == (tmp_path / "new" / "folder" / "picture.svg").read_bytes()


def test_a_table_in_markdown_has_as_many_cells_in_every_row() -> None:
    for name in pages.PAGES:
        for block in pages.page(name).split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1, (
                f"{name}: {rows[0] if rows else ''}"
            )


# ------------------------------------------------------------------ the command


def test_the_command_prints_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["species"]) == 0
    assert capsys.readouterr().out == pages.page("species")


def test_the_command_writes_a_table(tmp_path: Path) -> None:
    import pandas as pd

    assert pages.main(["parameters", "--out", str(tmp_path / "p.csv")]) == 0
    assert list(pd.read_csv(tmp_path / "p.csv")["name"]) == list(model().parameters)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["equatons"], "Nothing to describe under 'equatons'. Did you mean 'equations'"),
        (["diagram"], "diagram needs --out FILE that ends in .svg, .png or .pdf"),
        (["diagram", "--out", "x.bmp"], "got 'x.bmp'"),
        (["states", "--out", "x.xls"], "cannot write states as .xls. Use states.md or states.csv"),
        (["equations", "--out", "x.csv"], "Use equations.md"),
        (["states", "--out", "no/such/folder/x.csv"], "no/such/folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_the_mend(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pages.main(arguments) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""
