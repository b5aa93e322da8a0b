"""The command line: what it prints where, how it leaves, and what it says when the input is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from test_results import SEVEN_ARMS, toy_explanation, toy_run
from typer.testing import CliRunner

import mscrenal.scenarios
from mscrenal.app import console
from mscrenal.app.cli import Changes, main
from mscrenal.app.console import DISCLAIMER, text_tables
from mscrenal.app.report import render
from mscrenal.scenarios.results import compare_result, compare_series, scenarios_result, simulate_result

runner = CliRunner()


class ToyError(ValueError):
    """A known error: it comes from this package."""

    __module__ = "mscrenal.scenarios.toy"


class ToyScenario(SimpleNamespace):
    """A scenario that can be changed, as the options of the command line do."""

    def replace(self, **changes: Any) -> ToyScenario:
        return ToyScenario(**{**vars(self), **changes})


class ToyPatient(SimpleNamespace):
    def replace(self, **changes: Any) -> ToyPatient:
        return ToyPatient(**{**vars(self), **changes})


def toy_scenario(name: str = "uc-dn-weekly", **fields: Any) -> ToyScenario:
    patient = ToyPatient(
        species="human",
        disease="diabetic",
        age=58,
        sex="male",
        weight_kg=72,
        egfr=45,
        uacr=900,
        hba1c=7.8,
        drugs=("ras",),
    )
    base = {
        **vars(toy_run(SEVEN_ARMS[:3], draws=2).scenario),
        "name": name,
        "patient": patient,
        "population": None,
    }
    return ToyScenario(**{**base, **fields})


class ToyApi:
    """Stands in for `mscrenal.scenarios`: remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.failed: tuple[tuple[int, int, int], ...] = ()
        self.raises: BaseException | None = None

    def load_scenario(self, name: str) -> ToyScenario:
        if name == "broken":
            raise ToyError("unknown scenario 'broken'. Did you mean 'uc-dn-weekly'?")
        return toy_scenario(name)

    def gallery(self) -> list[ToyScenario]:
        return [toy_scenario("uc-dn-weekly"), toy_scenario("nephstrom")]

    def scenario_toml(self, name: str) -> str:
        if name != "uc-dn-weekly":
            raise ToyError(f"unknown scenario {name!r}.")
        return 'title = "UC"\n[[arm]]\nname = "placebo"\n'

    def _run(self, scenario: Any, options: dict[str, Any]) -> Any:
        if self.raises is not None:
            raise self.raises
        options["progress"](1, 2)
        run = toy_run(SEVEN_ARMS[:3], draws=4, failed=self.failed)
        for key in ("name", "endpoints", "horizon_days"):
            setattr(run.scenario, key, getattr(scenario, key))
        return run

    def compare(self, scenario: Any, **options: Any) -> Any:
        self.calls.append(("compare", scenario, options))
        return compare_result(self._run(scenario, options))

    def simulate(self, scenario: Any, **options: Any) -> Any:
        self.calls.append(("simulate", scenario, options))
        return simulate_result(self._run(scenario, options))

    def explain(self, scenario: Any, **options: Any) -> Any:
        self.calls.append(("explain", scenario, options))
        self._run(scenario, options)
        return toy_explanation()

    def facts(self, **options: Any) -> Any:
        self.calls.append(("facts", None, options))
        options["progress"](0, 16, "CREDENCE placebo")
        return scenarios_result([toy_scenario()])


@pytest.fixture
def api(monkeypatch) -> ToyApi:
    toy = ToyApi()
    for name in ("load_scenario", "gallery", "scenario_toml", "compare", "simulate", "explain", "facts"):
        monkeypatch.setattr(mscrenal.scenarios, name, getattr(toy, name), raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return toy


def run(*arguments: str) -> Any:
    return runner.invoke(main, list(arguments))


# --------------------------------------------------------------------------- what is printed where


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--json"),
        ("compare", "a", "b", "--json"),
        ("scenarios", "--json"),
        ("scenarios", "uc-dn-weekly", "--json"),
        ("simulate", "a", "--json"),
        ("explain", "a", "--json"),
        ("facts", "--json"),
    ],
)
def test_json_is_one_document_on_standard_output_and_nothing_else(api, arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert {"provenance", "extrapolated"} <= set(document)


def test_compare_without_arguments_runs_the_weekly_trial(api):
    assert run("compare", "--json").exit_code == 0
    assert [scenario.name for _, scenario, _ in api.calls] == ["uc-dn-weekly"]


def test_several_scenarios_are_compared_one_after_the_other(api):
    document = json.loads(run("compare", "a", "b", "--json").stdout)
    assert {arm["scenario"] for arm in document["arms"]} == {"a", "b"}


def test_draws_seed_workers_and_patients_reach_the_function(api):
    assert (
        run("compare", "--draws", "7", "--seed", "3", "--workers", "2", "--patients", "5", "--json").exit_code
        == 0
    )
    options = {key: value for key, value in api.calls[0][2].items() if key != "progress"}
    expected = {"draws": 7, "seed": 3, "source": "posterior", "workers": 2, "cluster": None, "patients": 5}
    assert options == expected


@pytest.mark.parametrize("command", [("compare", "a"), ("simulate", "a"), ("explain", "a"), ("facts",)])
def test_draws_come_from_the_shipped_posterior_a_file_or_the_priors(api, command):
    for options in ((), ("--posterior", "mine.nc"), ("--prior",)):
        assert run(*command, *options, "--json").exit_code == 0
    assert [str(options["source"]) for _, _, options in api.calls] == ["posterior", "mine.nc", "prior"]


@pytest.mark.parametrize(
    "command",
    [
        ("compare", "a"),
        ("simulate", "a"),
        ("population", "a"),
        ("explain", "a"),
        ("sensitivity", "a"),
        ("optimise", "a"),
        ("facts",),
        ("export", "sbml", "never.xml"),
    ],
)
def test_a_posterior_and_the_priors_at_once_are_refused(api, command):
    result = run(*command, "--posterior", "mine.nc", "--prior")
    assert result.exit_code == 2
    assert "--posterior mine.nc and --prior were both given; choose one" in " ".join(result.stderr.split())
    assert api.calls == []


@pytest.mark.parametrize("command", ["compare", "simulate", "explain"])
def test_the_address_of_a_cluster_reaches_the_function(api, command):
    assert run(command, "uc-dn-weekly", "--cluster", "tcp://10.0.0.1:8786", "--json").exit_code == 0
    assert api.calls[0][2]["cluster"] == "tcp://10.0.0.1:8786"


@pytest.mark.parametrize("command", ["compare", "simulate", "explain"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cluster", "10.0.0.1:8786"), "Did you mean 'tcp://10.0.0.1:8786'?"),
        (("--cluster", "tcp://10.0.0.1:8786", "--workers", "2"), "were both given; choose one"),
    ],
    ids=["malformed", "and workers"],
)
def test_a_cluster_that_cannot_be_had_is_one_message_and_exit_code_2(command, options, message):
    result = run(command, "uc-dn-weekly", "--draws", "1", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_the_terminal_shows_arms_bands_and_what_is_extrapolated(api):
    shown = run("compare").stdout
    for words in (
        "UC once",
        "placebo (reference)",
        "90 % of prior draws (n=4)",
        "UC: class prior",
        "mL/min/1.73 m²",
    ):
        assert words in shown


def test_a_scenario_by_name_is_printed_as_toml_to_edit(api):
    assert run("scenarios", "uc-dn-weekly").stdout == api.scenario_toml("uc-dn-weekly")


def test_out_writes_the_report_and_says_where(api, tmp_path):
    result = run("compare", "--out", str(tmp_path / "result"))
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "result" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "report.html" in result.stderr


# --------------------------------------------------------------------------- options that change the scenario


def test_patient_options_change_the_patient(api):
    run(
        "simulate",
        "a",
        "--egfr",
        "35",
        "--weight",
        "80",
        "--sex",
        "female",
        "--drug",
        "ras",
        "--drug",
        "sglt2i",
        "--json",
    )
    patient = api.calls[0][1].patient
    assert (patient.egfr, patient.weight_kg, patient.sex, patient.drugs) == (
        35,
        80,
        "female",
        ("ras", "sglt2i"),
    )
    assert patient.uacr == 900


def test_drug_none_takes_all_background_drugs_away(api):
    run("simulate", "a", "--drug", "none", "--json")
    assert api.calls[0][1].patient.drugs == ()


def test_patient_options_do_not_go_with_a_population():
    with pytest.raises(ValueError, match=r"describes a population, but egfr would change one.*mine\.toml"):
        Changes(patient={"egfr": 30.0}).apply(toy_scenario(patient=None))


def test_a_shorter_horizon_keeps_the_visits_before_it_and_is_a_visit_itself():
    changed = Changes(horizon="10w").apply(toy_scenario())
    assert changed.horizon_days == 70
    assert changed.visits == (0.0, 28.0, 56.0, 70.0)


def test_endpoints_replace_those_of_the_scenario(api):
    document = json.loads(
        run("compare", "--endpoint", "hba1c_change", "--endpoint", "egfr_change", "--json").stdout
    )
    assert list(document["arms"][0]["endpoints"]) == ["hba1c_change", "egfr_change"]


# --------------------------------------------------------------------------- leaving


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "broken"), "Did you mean 'uc-dn-weekly'?"),
        (("compare", "--endpoint", "egfr_chnge"), "Did you mean 'egfr_change'"),
        (("compare", "--horizon", "soon"), "48w"),
        (("scenarios", "nothing"), "unknown scenario 'nothing'"),
    ],
)
def test_bad_input_leaves_with_2_one_message_and_no_traceback(api, arguments, message):
    for extra in ((), ("--json",)):
        result = run(*arguments, *extra)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert message in result.stderr
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "option", ["--draws=0", "--draws=many", "--seed=-1", "--workers=0", "--patients=0", "--egfr=x"]
)
def test_numbers_that_make_no_sense_leave_with_2(api, option):
    result = run("compare", option)
    assert result.exit_code == 2
    assert option.split("=")[0] in result.stderr
    assert api.calls == []


def test_a_taken_output_folder_is_refused_before_anything_is_computed(api, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = run("compare", "--out", str(tmp_path / "mine"))
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert api.calls == []


def test_failed_subjects_leave_with_3_after_all_is_written_and_are_named(api, tmp_path):
    api.failed = ((1, 0, 0), (2, 3, 0))
    result = run("compare", "--json", "--out", str(tmp_path / "r"))
    assert result.exit_code == 3
    assert len(json.loads(result.stdout)["failures"]) == 2
    assert "2 subjects failed" in result.stderr
    assert "arm UC once, draw 3, patient 0: step-underflow" in result.stderr
    assert (tmp_path / "r" / "failures.csv").exists()


def test_an_interruption_leaves_with_130_and_no_traceback(api):
    api.raises = KeyboardInterrupt()
    result = run("compare")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr


def test_an_interruption_keeps_the_scenarios_that_are_finished(api, tmp_path, monkeypatch):
    finished = api.compare

    def interrupted(scenario: Any, **options: Any) -> Any:
        if scenario.name == "b":
            raise KeyboardInterrupt
        return finished(scenario, **options)

    monkeypatch.setattr(mscrenal.scenarios, "compare", interrupted)
    result = run("compare", "a", "b", "--out", str(tmp_path / "r"))
    assert result.exit_code == 130
    assert json.loads((tmp_path / "r" / "result.json").read_text())["scenario"] == "a"
    assert "1 of 2" in result.stderr


def test_a_defect_of_ours_keeps_its_traceback(api):
    api.raises = ValueError("not a known error")
    result = run("compare")
    assert isinstance(result.exception, ValueError)
    assert result.exit_code == 1


# --------------------------------------------------------------------------- help


@pytest.mark.parametrize(
    "command",
    ["compare", "scenarios", "simulate", "explain", "sensitivity", "trial", "optimise", "facts", "app"],
)
def test_the_help_of_each_command_has_a_worked_example(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"mscrenal {command}" in result.stdout.split("Example:")[1]


def test_help_says_that_this_is_no_medical_advice():
    assert DISCLAIMER in " ".join(run("--help").stdout.split())


def test_only_commands_that_work_are_offered():
    names = {command.name or command.callback.__name__ for command in main.registered_commands}
    assert names == {
        "app", "calibrate", "compare", "explain", "export", "facts", "optimise", "population", "posterior", "scenarios", "sensitivity",
        "simulate", "trial", "validate", "verify",
    }  # fmt: skip


def test_version_is_printed():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("mscrenal ")


def test_help_answers_without_loading_the_model():
    code = (
        "import sys; from mscrenal.app.cli import main\n"
        "heavy = {'numpy', 'pandas', 'xarray', 'matplotlib', 'sympy', 'numba'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------- tables and report


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width):
    result = compare_result(
        toy_run(SEVEN_ARMS, endpoints=("egfr_change", "uacr_percent_change", "time_to_eskd"))
    )
    out = Console(width=width, record=True, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.show(result, out)
    text = out.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    cells = [
        line for row in text_tables(result)[1].rows for cell in row[1:] for line in cell.split("\n") if line
    ]
    assert all(cell in text for cell in cells)


def test_a_result_with_a_summary_prints_it_and_counts_what_passes():
    whole = pd.DataFrame({"check": ["a", "b", "c"], "predicted": [1.0, 2.0, 3.0]})
    brief = pd.DataFrame({"fact": ["one"], "checks_passed": ["3 of 3"]})
    result = SimpleNamespace(
        command="facts", title="Facts", table=whole, summary=brief, passed={1: True, 2: False}
    )
    (table,) = text_tables(result)
    assert table.rows == (("one", "3 of 3"),)
    assert table.headings == ("fact", "checks passed")
    assert table.note.startswith("1 of 2 pass.")


def test_numbers_keep_two_digits_and_never_show_a_negative_zero():
    assert console.interval((-0.001, -0.002, 0.001), 1, sign=True) == "0.0 (0.0, 0.0)"
    assert console.decimals_for([4.2]) == 1
    assert console.decimals_for([0.042]) == 3
    assert console.interval((float("nan"), 0.0, 1.0), 1) == "–"


def test_the_report_of_several_scenarios_shows_each():
    one, two = toy_run(draws=3), toy_run(draws=3, seed=2)
    two.scenario.name, two.scenario.title = "other", "Another trial"
    page = render(compare_series([compare_result(one), compare_result(two)]))
    assert page.count("<figure id=") == 6
    assert "Regimens: Another trial" in page
