"""`mscrenal calibrate`: its folder, its settings, what it says when it cannot run, and how it leaves."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
import typer
from report_reader import read_report
from toy_posterior import toy_posterior
from typer.testing import CliRunner

pytest.importorskip("pymc")

import mscrenal.calibration.calibrate
from mscrenal.app.cli import main
from mscrenal.calibration.calibrate import Calibration, prepare
from mscrenal.calibration.inference import ModeError
from mscrenal.calibration.journal import JournalError
from mscrenal.calibration.posterior import SHIPPED
from mscrenal.calibration.sampler import Settings
from mscrenal.calibration.studies import studies
from mscrenal.scenarios import calibrate
from mscrenal.scenarios.calibrate import CalibrateError

runner = CliRunner()


class Stand:
    """In the place of the calibration proper: remembers what it was asked, writes the file."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.raises: BaseException | None = None

    def __call__(self, folder, *, settings, draft, prepared, workers, progress) -> Calibration:
        self.calls.append({"folder": folder, "settings": settings, "draft": draft, "workers": workers})
        if progress is not None:
            progress(0.2, "NUTS: 10 of 50 draws, about 3 min left")
        (folder / "mode.npz").write_bytes(b"mode")
        if self.raises is not None:
            raise self.raises
        found = toy_posterior(draft=draft)
        found.save(folder / "posterior.nc")
        return Calibration(found, 1.5, found.provenance["diagnostics"], draft)


@pytest.fixture
def stand(monkeypatch) -> Stand:
    made = Stand()
    monkeypatch.setattr(mscrenal.calibration.calibrate, "calibrate", made)
    return made


def run(*arguments: str) -> Any:
    return runner.invoke(main, ["calibrate", *arguments])


def one_line(text: str) -> str:
    return " ".join(text.split())


# --------------------------------------------------------------------------- what comes back


def test_json_holds_diagnostics_minutes_and_parameters(stand, tmp_path):
    result = run("--out", str(tmp_path / "run"), "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    told = {k: document[k] for k in ("divergences", "rhat_max", "ess_bulk_min", "ess_tail_min", "minutes")}
    assert told == {
        "divergences": 0,
        "rhat_max": 1.004,
        "ess_bulk_min": 812,
        "ess_tail_min": 640,
        "minutes": 1.5,
    }
    assert document["meets_the_bar"] is True
    first = document["parameters"][0]
    assert set(first["prior"]) == set(first["posterior"]) == {"median", "low", "high"}
    assert {"name", "unit", "contraction", "verdict", "sources"} <= set(first)


def test_progress_goes_to_standard_error_and_the_folder_holds_a_report(stand, tmp_path):
    result = run("--out", str(tmp_path / "run"))
    assert "NUTS: 10 of 50 draws" in result.stderr
    assert "--posterior" in one_line(result.stderr)
    read_report((tmp_path / "run" / "report" / "report.html").read_text())
    assert (tmp_path / "run" / "posterior.nc").is_file()


def test_without_a_folder_it_goes_to_one_of_its_own(stand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--json").exit_code == 0
    assert (tmp_path / "calibration-run" / "posterior.nc").is_file()


def test_a_draft_says_that_it_is_one(stand, tmp_path):
    result = run("--draft", "--out", str(tmp_path / "run"), "--json")
    assert json.loads(result.stdout)["draft"] is True
    assert "A draft, for a quick look" in one_line(result.stderr)


def test_a_sample_below_the_bar_says_so(stand, tmp_path, monkeypatch):
    monkeypatch.setitem(toy_posterior.__globals__["DIAGNOSTICS"], "rhat_max", 1.2)
    result = run("--out", str(tmp_path / "run"), "--json")
    assert json.loads(result.stdout)["meets_the_bar"] is False
    assert "does not meet the bar" in one_line(result.stderr)


# --------------------------------------------------------------------------- settings and going on


def test_settings_reach_the_sampler(stand, tmp_path):
    run(
        "--chains",
        "3",
        "--tune",
        "40",
        "--draws",
        "60",
        "--seed",
        "5",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "r"),
    )
    settings = stand.calls[0]["settings"]
    assert (settings.chains, settings.tune, settings.draws, settings.seed) == (3, 40, 60, 5)
    assert stand.calls[0]["workers"] == 1


def test_the_help_tells_the_sampler_s_own_defaults():
    options = {p.name: p.show_default for p in typer.main.get_command(main).commands["calibrate"].params}
    settings = Settings()
    for name in ("chains", "tune", "draws", "seed"):
        assert options[name] == str(getattr(settings, name))


def test_a_resumed_run_has_the_settings_it_was_begun_with(stand, tmp_path):
    folder = tmp_path / "run"
    stand.raises = KeyboardInterrupt()
    run("--tune", "40", "--draws", "60", "--seed", "5", "--out", str(folder))
    stand.raises = None
    assert run("--resume", str(folder), "--json").exit_code == 0
    assert stand.calls[0]["settings"] == stand.calls[1]["settings"]


def test_another_seed_than_that_of_the_run_is_refused_with_both(stand, tmp_path):
    folder = str(tmp_path / "run")
    assert run("--seed", "5", "--out", folder).exit_code == 0
    result = run("--resume", folder, "--seed", "6")
    assert result.exit_code == 2
    assert "was begun with --seed 5, not 6. Leave --seed out to go on" in one_line(result.stderr)


def test_a_sample_may_follow_a_draft_in_its_folder_but_not_the_other_way_round(stand, tmp_path):
    folder = str(tmp_path / "run")
    assert run("--draft", "--out", folder).exit_code == 0
    assert run("--tune", "40", "--out", folder).exit_code == 0
    result = run("--draft", "--out", folder)
    assert result.exit_code == 2
    assert "a draft would replace it" in one_line(result.stderr)
    assert len(stand.calls) == 2


def test_a_damaged_file_of_settings_is_named(stand, tmp_path):
    folder = tmp_path / "run"
    assert run("--out", str(folder)).exit_code == 0
    (folder / "settings.json").write_text("{")
    result = run("--resume", str(folder))
    assert result.exit_code == 2
    assert "settings.json is damaged" in one_line(result.stderr)


@pytest.mark.parametrize("option", ["chains", "tune", "draws", "seed"])
def test_a_number_out_of_range_is_refused_with_what_is_allowed(stand, tmp_path, option):
    with pytest.raises(CalibrateError, match=f"{option}: given -1. Allowed: a whole number from"):
        calibrate(out=tmp_path / "run", **{option: -1})
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------- what is refused


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(stand, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("--out", str(tmp_path))
    assert result.exit_code == 2
    assert "'thesis.tex', which is no part of a calibration" in one_line(result.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    assert stand.calls == []


def test_the_shipped_posterior_is_never_overwritten(stand):
    result = run("--out", str(SHIPPED.parent))
    assert result.exit_code == 2
    assert stand.calls == []


def test_there_must_be_something_to_resume(stand, tmp_path):
    result = run("--resume", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "holds no calibration to resume" in one_line(result.stderr)


def test_out_and_resume_exclude_each_other(stand, tmp_path):
    result = run("--out", str(tmp_path / "a"), "--resume", str(tmp_path / "b"))
    assert result.exit_code == 2
    assert "were both given; choose one" in one_line(result.stderr)


@pytest.mark.parametrize(
    "error", [JournalError("chain_0.journal is damaged"), ModeError("no mode after 40 problems")]
)
def test_what_the_calibration_refuses_is_one_message_and_exit_code_2(stand, tmp_path, error):
    stand.raises = error
    result = run("--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert str(error) in one_line(result.stderr)
    assert "Traceback" not in result.stderr


def test_a_defect_keeps_its_traceback(stand, tmp_path):
    stand.raises = RuntimeError("a defect")
    result = run("--out", str(tmp_path / "run"))
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


def test_an_interruption_leaves_with_130_and_says_how_to_go_on(stand, tmp_path):
    stand.raises = KeyboardInterrupt()
    result = run("--out", str(tmp_path / "run"))
    assert result.exit_code == 130
    assert f"what is computed is kept; go on with --resume {tmp_path / 'run'}" in one_line(result.stderr)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(stand, tmp_path, monkeypatch):
    module = sys.modules[
        "mscrenal.scenarios.calibrate"
    ]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "pymc" else object())
    result = run("--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert 'pip install "mscrenal[calibrate]"' in one_line(result.stderr)
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------- for real


@pytest.mark.slow
def test_a_small_calibration_runs_and_resumes_to_the_same_posterior(tmp_path):
    """Two untreated arms, two short chains: from the evidence to a file that other commands draw from."""
    chosen = {name: studies()[name] for name in ("jardine2020", "brenner2001")}
    ready = prepare(chosen, workers=2, offset=False)
    first = calibrate(chains=2, tune=60, draws=40, out=tmp_path / "run", prepared=ready)
    next((tmp_path / "run").glob("round_1_1.npz")).unlink()
    again = calibrate(resume=tmp_path / "run", prepared=ready)
    assert np.array_equal(first.posterior.data["z"].values, again.posterior.data["z"].values)
    assert len(first.records) == len(ready.problem.names)
    assert first.diagnostics["rhat_max"] is not None
