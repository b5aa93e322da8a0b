"""The behaviours that the model must show (the brief's 1-4, 6 and 8): at the medians, and over draws from the priors."""

from __future__ import annotations

import numpy as np
import pytest

from mscrenal.calibration import prior_draws
from mscrenal.model import ARMS_OF_ACTION
from mscrenal.scenarios import behaviours as module
from mscrenal.scenarios.behaviours import BEHAVIOURS, Laboratory, Outcome, check, shares

NUMBERS = [b.number for b in BEHAVIOURS]


@pytest.fixture(scope="module")
def median() -> dict[str, Outcome]:
    return check({})


@pytest.mark.parametrize("number", NUMBERS, ids=[f"{b.number} {b.statement}" for b in BEHAVIOURS])
def test_holds_at_the_medians(median, number):
    outcome = median[number]
    assert outcome.holds, (dict(outcome.numbers), outcome.note)
    assert all(np.isfinite(v) for v in outcome.numbers.values())


@pytest.fixture(scope="module")
def over_the_priors():
    return shares(prior_draws(200, seed=1), workers=2).set_index("number")


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS, ids=[f"{b.number} {b.statement}" for b in BEHAVIOURS])
def test_holds_in_nineteen_of_twenty_draws(over_the_priors, number):
    row = over_the_priors.loc[number]
    assert row["share"] >= 0.95, (
        f"{row['holds']} of {row['draws']}; not in draws {row['not_shown'][:10]}, {row['failed']} of them failed"
    )


# --------------------------------------------------------------------------- the statements themselves


def test_the_statements_cover_the_brief_and_every_arm():
    assert len(set(NUMBERS)) == len(NUMBERS)
    assert {n[0] for n in NUMBERS} == {"1", "2", "3", "4", "6", "8"}
    assert all(any(arm in b.statement for b in BEHAVIOURS) for arm in ARMS_OF_ACTION)
    assert all(b.judge.__doc__ and b.statement for b in BEHAVIOURS)


# A statement that could not fail would say nothing: each of these breaks one mechanism, and its statement must notice.
@pytest.mark.parametrize(
    ("number", "theta"),
    [
        ("1a", {"lung_trapping": 0.01}),
        ("1b", {"death": 0.05}),
        ("1c", {"kidney_share": 5.0}),
        ("1d", {"homing_gain": -0.5}),
        ("1f", {"memory_weight": 1e-6, "death": 5.0, "secretome_decay": 50.0}),
        ("2b", None),
        ("3b", {"species.human.translation": 0.0}),
        ("3c", {"ec50_effect": 1e9}),
        ("3e", {"embolic_load": 1e6}),
        ("3f", {"licensed_gain": 1.0, "memory_weight": 1e-6, "systemic_share": 3.0}),
        ("3g", {"sensitisation": 0.0}),
        ("4a", {"immunomodulation_on_tnf_kidney_synthesis": -3.0}),
        ("4d", {f"product.UC.potency_{a}": 0.0 for a in ("antifibrotic",)}),
        ("6a", {"hyperfiltration": 0.0}),
        ("6c", {"leak_pressure": 0.0, "leak_slit": 0.0, "leak_podocyte": 0.01}),
        ("6e", {"scar_turnover": 0.05, "matrix_turnover": 0.05}),
        ("8a", {"memory_weight": 0.0, "species.human.translation": 0.0}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_statement_fails_when_its_mechanism_is_broken(number, theta, monkeypatch):
    behaviour = next(b for b in BEHAVIOURS if b.number == number)
    if theta is None:
        monkeypatch.setattr(module, "POTENCIES", ())  # the cells keep their potency
        theta = {}
    assert not behaviour(theta).holds


def test_a_failed_simulation_is_not_a_behaviour_shown():
    outcomes = check({"tnf_turnover": float("nan")})
    assert not any(o.holds for o in outcomes.values())
    assert all(o.note for o in outcomes.values())


def test_half_times_and_peaks_of_a_known_course():
    days = np.arange(0.0, 400.0, 1.0)
    effect = -(np.exp(-days / 50.0) - np.exp(-days / 5.0))
    peak = np.log(10.0) / (1 / 5.0 - 1 / 50.0)
    assert days[module._peak(effect)] == pytest.approx(peak, abs=0.5)
    up, down = module._half_time_up(days, effect), module._half_time_down(days, effect)
    for t in (up, down):
        assert np.interp(t, days, effect) == pytest.approx(effect.min() / 2, rel=1e-9)
    assert up < peak < down
    assert module._half_time_down(days, days) == np.inf


def test_a_laboratory_simulates_each_thing_once_and_tells_changes_apart():
    lab = Laboratory({})
    assert lab.see("dkd", 1.0) is lab.see("dkd", 1.0)
    assert lab.see("dkd", 1.0) is not lab.see("dkd", 1.0, changes={"crowding": 0.5})
    assert lab.see("dkd", 1.0, knock_out=("metabolic",)) is not lab.see("dkd", 1.0)


def test_shares_count_draws_and_do_not_depend_on_the_workers():
    told: list[tuple[int, int]] = []
    drawn = prior_draws(3, seed=2)
    table = shares(drawn, progress=lambda *x: told.append(x))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert list(table["number"]) == NUMBERS
    assert (table["holds"] == (table["share"] * 3).round()).all()
    assert [len(x) for x in table["not_shown"]] == list(3 - table["holds"])
    assert table.equals(shares(drawn, workers=2))


def test_the_command_prints_a_line_per_statement_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = module.main(["--draws", "1", "--seed", "3"])
    printed = capsys.readouterr().out
    assert code in (0, 1)
    assert all(any(line.startswith(f"{n} ") for line in printed.splitlines()) for n in NUMBERS)
    assert not list(tmp_path.iterdir())
