"""What `mscrenal posterior` says: intervals, verdicts, what keeps its prior; and that results say where draws come from."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from report_reader import read_report
from scipy import stats
from toy_posterior import PARAMETERS, toy_posterior

from mscrenal.app.console import text_tables
from mscrenal.app.report import render
from mscrenal.calibration import PosteriorError, draws, shipped_posterior
from mscrenal.calibration.studies import held_out, maps_hash
from mscrenal.model import sampled_parameters
from mscrenal.scenarios import compare, facts, load_scenario, population, posterior
from mscrenal.scenarios.posterior_result import module_of, posterior_result
from mscrenal.scenarios.run import extrapolations
from mscrenal.scenarios.sources import backing, draws_of, origin_words


@pytest.fixture(scope="module")
def result():
    return posterior_result(toy_posterior(), "toy.nc")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return toy_posterior().save(tmp_path_factory.mktemp("posterior") / "posterior.nc")


# --------------------------------------------------------------------------- numbers


def test_intervals_are_the_quantiles_of_the_natural_values(result):
    natural = result.posterior.natural()
    for record in result.records:
        low, median, high = np.quantile(natural[record["name"]], (0.05, 0.5, 0.95))
        assert record["posterior"]["median"] == pytest.approx(median, rel=1e-3)
        assert record["posterior"]["low"] == pytest.approx(low, rel=0.01)
        assert record["posterior"]["high"] == pytest.approx(high, rel=0.01)


def test_the_prior_is_that_of_the_declaration(result):
    record = next(r for r in result.records if r["name"] == "nephron_loss_rate")
    declared = sampled_parameters()["nephron_loss_rate"]
    reach = np.exp(stats.norm.ppf(0.95) * declared.prior.sigma)
    assert record["prior"] == pytest.approx(
        {"median": declared.value, "low": declared.value / reach, "high": declared.value * reach}
    )
    assert record["unit"] == declared.unit


def test_parameters_stand_by_the_module_that_declares_them(result):
    assert module_of("product.UC.secretion") == "products"
    assert module_of("species.human.translation") == "species"
    assert module_of("ras_on_leak") == "drugs"
    assert module_of("nephron_loss_rate") == "kidney"
    modules = [record["module"] for record in result.records]
    assert modules == sorted(modules, key=modules.index)


def test_every_uncertain_parameter_is_either_moved_or_listed_as_keeping_its_prior(result):
    alone = result.by_prior_alone
    moved = [r["name"] for r in result.records if r["verdict"] != "by the prior alone"]
    assert sorted([*alone["not_sampled"], *alone["sampled_not_moved"], *moved]) == sorted(
        sampled_parameters()
    )
    assert alone["sampled_not_moved"] == ["ec50_effect"]
    assert alone["n"] == len(sampled_parameters()) - len(PARAMETERS) + 1


def test_the_document_holds_what_the_interface_promises(result):
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    promised = {
        "studies", "rows", "divergences", "rhat_max", "ess_bulk_min", "ess_tail_min", "parameters", "hashes", "draft",
        "provenance", "extrapolated", "by_prior_alone",
    }  # fmt: skip
    assert promised <= set(document)
    fields = {"name", "unit", "prior", "posterior", "contraction", "verdict", "sources"}
    assert all(fields <= set(record) for record in document["parameters"])
    assert (document["studies"], document["rows"], document["draft"]) == (3, 3, False)


def test_a_draft_has_no_diagnostics_and_says_that_it_is_one():
    document = posterior_result(toy_posterior(draft=True)).to_json()
    assert document["rhat_max"] is None
    assert document["draft"] is True
    assert any("draft" in sentence for sentence in document["extrapolated"])


def test_products_are_backed_by_the_treated_studies_that_were_fitted():
    found = backing(toy_posterior())
    assert found["UC"].people == ("wang2014",)
    assert found["rexlemestrocel-L"].people == ("packham2016",)
    assert "BM" not in found


# --------------------------------------------------------------------------- tables, figure, files


def test_the_terminal_shows_module_prior_posterior_and_verdict(result):
    shown = "\n".join(" ".join(row) for t in text_tables(result, brief=True) for row in t.rows)
    for words in ("Kidney", "Drugs", "60%, identified", "by the prior alone"):
        assert words in shown


def test_the_figure_has_a_row_for_each_parameter_the_most_narrowed_on_top(result):
    figure = result.plot()["posterior"]
    words = [t.get_text() for t in figure.texts]
    narrowed = [t for t in words if t.endswith("%")]
    assert narrowed[: len(PARAMETERS)] == ["60%", "30%", "20%", "10%", "0%"]
    below = [t.get_text() for t in result.plot()["hyper_parameters"].texts]
    assert "Parameters of the probability model" in below


def test_all_files_are_written_and_the_report_shows_the_figure(result, tmp_path):
    folder = result.save(tmp_path / "out", report=render)
    names = {p.name for p in folder.iterdir()}
    assert {
        "parameters.csv",
        "hyper_parameters.csv",
        "by_prior_alone.csv",
        "posterior.svg",
        "report.html",
    } <= names
    kept = pd.read_csv(folder / "by_prior_alone.csv")
    assert len(kept) == result.by_prior_alone["n"]
    page = read_report(
        (folder / "report.html").read_text(), figures=len(result.plot()), sections=("figures",)
    ).body
    assert f"Of {len(result.records)} sampled parameters" in page


def test_reading_another_file_gives_the_same_numbers(result, file):
    read = posterior(file)
    assert read.file == str(file)
    assert read.table["posterior_median"].to_numpy() == pytest.approx(
        result.table["posterior_median"].to_numpy(), rel=1e-5
    )


def test_the_priors_are_no_posterior():
    with pytest.raises(ValueError, match="Allowed: 'posterior', or the path"):
        posterior("prior")


# --------------------------------------------------------------------------- where draws come from


def test_results_say_what_the_posterior_was_fitted_to(file):
    result = compare("uc-dn-weekly", draws=2, source=file)
    assert result.origin == "posterior"
    assert result.provenance["posterior"]["rows"] == 3
    assert "3 studies, 3 rows" in result.band_note
    assert "posterior (3 studies, 3 rows)" in render(result)


def test_the_priors_are_taken_if_asked_for():
    result = compare("uc-dn-weekly", draws=2, source="prior")
    assert result.origin == "prior"
    assert "posterior" not in result.provenance
    assert "90 % of prior draws (n=2)" in result.band_note


def test_a_posterior_object_and_its_file_give_the_same_draws(file):
    from mscrenal.calibration import read_posterior

    read = read_posterior(file)
    assert draws_of(5, 1, read).hash == draws_of(5, 1, file).hash == draws(5, 1, source=file).hash


def test_a_population_and_the_facts_take_a_posterior_too(file):
    found = population("uc-dn-weekly", patients=16, draws=4, endpoints=["egfr_change"], source=file)
    assert found.provenance["origin"] == "posterior"
    assert "posterior (3 studies, 3 rows)" in found.band_note
    told = facts(draws=0, patients=2, only=[1], source=file).provenance
    assert (told["origin"], told["posterior"]["studies"]) == ("posterior", 3)


def test_a_file_that_is_no_posterior_is_refused_with_the_mend(tmp_path):
    path = tmp_path / "posterior.nc"
    path.write_bytes(b"not netCDF")
    with pytest.raises(PosteriorError, match="mscrenal calibrate"):
        compare("uc-dn-weekly", draws=1, source=path)


def test_origin_is_told_in_words():
    assert origin_words({"origin": "prior"}) == "prior"
    told = {"origin": "posterior", "posterior": {"studies": 45, "rows": 160, "draft": True}}
    assert origin_words(told) == "posterior (draft; 45 studies, 160 rows)"


# --------------------------------------------------------------------------- what stays extrapolated


def sentences(source, name="uc-dn-weekly"):
    return extrapolations(load_scenario(name), draws_of(3, 1, source))


def test_a_product_that_no_fitted_study_gave_is_named():
    said = sentences(toy_posterior())
    assert any(s.startswith("BM: no fitted study gave it") for s in said)
    assert not any(s.startswith("UC: no fitted study") for s in said)


def test_a_product_fitted_to_animals_only_is_named():
    import dataclasses

    drawn = draws_of(3, 1, toy_posterior())
    only = {**drawn.source, "treated_studies": {"UC": {"people": [], "animals": ["rats2020"]}}}
    said = extrapolations(load_scenario("uc-dn-weekly"), dataclasses.replace(drawn, source=only))
    assert any(s.startswith("UC: fitted to 1 study in animals only") for s in said)


def test_what_the_data_did_not_move_is_named_where_cells_are_given():
    assert any("hardly moved" in s and "ec50_effect" in s for s in sentences(toy_posterior()))
    assert not any("hardly moved" in s for s in sentences("prior"))


def test_the_translation_factor_is_told_with_its_posterior_median():
    median = toy_posterior().median()["species.human.translation"]
    assert any(
        f"{median:.2g} of theirs at the median of the posterior" in s for s in sentences(toy_posterior())
    )


def test_a_number_that_was_learnt_no_longer_counts_as_a_class_prior():
    learnt = next(s for s in sentences(toy_posterior()) if s.startswith("UC:") and "class prior" in s)
    assert "secretion" not in learnt
    before = next(s for s in sentences("prior") if s.startswith("UC:") and "class prior" in s)
    assert "secretion" in before


def test_the_priors_are_called_priors():
    assert sentences("prior")[0] == "All bands come from the priors: no study was fitted."
    assert any("draft" in s for s in sentences(toy_posterior(draft=True)))


# --------------------------------------------------------------------------- the one that ships


def test_the_posterior_that_ships_was_fitted_to_the_studies_as_they_stand():
    assert shipped_posterior().provenance["maps_hash"] == maps_hash(), (
        "calibration/evidence/studies or held_out.toml changed since; run: mscrenal calibrate"
    )


def test_the_posterior_that_ships_meets_the_bar_and_saw_no_held_out_study():
    found = shipped_posterior().provenance
    checks = found["diagnostics"]
    assert not found["draft"]
    assert checks["divergences"] == 0
    assert checks["rhat_max"] < 1.01
    assert min(checks["ess_bulk_min"], checks["ess_tail_min"], checks["weight_ess"]) > 400
    assert checks["pareto_k"] < 0.7
    seen = {name.split(", ")[-1] for name in shipped_posterior().data["study_name"].values.astype(str)}
    seen |= {name.split(" | ")[0] for name in shipped_posterior().data["level_name"].values.astype(str)}
    assert not seen & set(held_out())
