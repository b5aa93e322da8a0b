"""The self-check passes here, and would not pass on numbers that are wrong."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from report_reader import read_report
from typer.testing import CliRunner

from mscrenal.app.cli import main
from mscrenal.app.report import render
from mscrenal.scenarios import verify
from mscrenal.scenarios import verify as module_function
from mscrenal.scenarios.executor import ExecutorError

module = __import__("sys").modules["mscrenal.scenarios.verify"]


@pytest.fixture(scope="module")
def result():
    return verify()


def test_every_check_passes_on_this_machine(result):
    assert all(result.passed.values()), result.table.to_string()


def test_each_check_states_its_error_its_limit_and_what_was_compared(result):
    assert list(result.table.columns) == ["name", "error", "limit", "pass", "what", "seconds"]
    assert (result.table["error"] >= 0).all()
    assert result.table["what"].str.len().min() > 20
    assert {"gradient", "placement", "mass balance", "workers"} <= set(result.table["name"])


def test_the_document_is_that_of_the_interface(result):
    document = result.to_json()
    assert {"checks", "provenance", "extrapolated"} <= set(document)
    assert {"name", "error", "limit", "pass"} <= set(document["checks"][0])


def test_the_figure_names_every_check_and_both_axes_make_sense(result):
    axes = result.plot()["verify"].axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [c.name for c in result.checks]
    assert "share of its limit" in axes.get_xlabel()


def test_the_report_says_what_passing_does_not_mean(result):
    page = read_report(render(result), figures=1).body
    assert f"All {len(result.checks)} checks pass on this machine." in page
    assert "not that the equations are right" in page


@pytest.mark.parametrize("error", [math.nan, math.inf, 2.0])
def test_an_error_that_is_no_number_or_too_large_does_not_pass(error):
    assert not module.Check("x", error, 1.0, "something", 0.0).passed


def wrong_by(factor, solve):
    def solved(*arguments, **options):
        out = solve(*arguments, **options)
        return type(out)(**{**vars(out), "observables": out.observables * factor})

    return solved


def test_a_solver_that_is_wrong_in_the_fourth_digit_is_found(monkeypatch):
    monkeypatch.setattr(module, "solve", wrong_by(1.0003, module.solve))
    assert module._by_default(None) > 1e-4


def test_a_wrong_derivative_is_found(monkeypatch):
    def doubled(*arguments, **options):
        found = gradient(*arguments, **options)
        return type(found)(**{**vars(found), "derivatives": found.derivatives * 1.001})

    gradient = module.gradient
    monkeypatch.setattr(module, "gradient", doubled)
    assert module._gradient(None) > 1e-5


def test_results_that_depend_on_company_are_found(monkeypatch):
    def noisy(*arguments, **options):
        found = cohort(*arguments, **options)
        return type(found)(**{**vars(found), "values": found.values + 1e-12 * len(arguments[0])})

    cohort = module.simulate_cohort
    monkeypatch.setattr(module, "simulate_cohort", noisy)
    assert module._same_whoever_works(2) > 0.0


def test_workers_are_checked_before_anything_is_computed():
    with pytest.raises(ExecutorError, match="workers must be"):
        module_function(workers=0)


def run_with(monkeypatch, checks, *arguments):
    monkeypatch.setattr(module, "_CHECKS", checks)
    return CliRunner().invoke(main, ["verify", *arguments])


GOOD = ("good", 1.0, "something that is right", lambda workers: 0.5)
BAD = ("bad", 1.0, "something that is wrong", lambda workers: np.float64("nan"))


def test_the_command_prints_one_document_and_leaves_with_0(monkeypatch):
    done = run_with(monkeypatch, (GOOD,), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["checks"][0]["pass"] is True


def test_the_command_prints_a_table_that_says_how_many_pass(monkeypatch):
    done = run_with(monkeypatch, (GOOD,))
    assert done.exit_code == 0
    assert "something that is right" in " ".join(done.stdout.split())
    assert "1 of 1 pass" in done.stdout


def test_the_command_leaves_with_3_and_names_what_does_not_pass(monkeypatch):
    done = run_with(monkeypatch, (GOOD, BAD))
    assert done.exit_code == 3
    assert "1 of 2 checks do not pass: bad" in done.output + done.stderr
