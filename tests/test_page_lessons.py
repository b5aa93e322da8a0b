"""Lessons: what their answers claim in words holds with the posterior that ships, and what the page asks is answered."""

from __future__ import annotations

import asyncio
import string

import numpy as np
import pytest

from mscrenal.app.page import lessons
from mscrenal.app.page.explore import middle, shipped_draws
from mscrenal.app.page.lesson_experiments import (
    SIMULATE,
    TRANSLATION_DAYS,
    ArmsOfAction,
    EarlyMarker,
    Memory,
    Schedule,
    SmallTrial,
    Translation,
    chance,
    correlation,
    half_day,
    patient,
    simulated_trials,
    winners,
)
from mscrenal.app.page.lesson_findings import band, findings, long_run, said, whole
from mscrenal.app.page.lesson_texts import LESSONS
from mscrenal.app.page.setup import ArmSetup, setup_of
from mscrenal.scenarios.curves import curves

KEYS = [lesson.key for lesson in LESSONS]
KINDS = {"line", "bars", "sideways", "points", "intervals", "ticks", "upright", "level"}


def collected(channel, payload):
    """All answers of a channel to a question."""

    async def gather():
        return [answer async for answer in channel(payload)]

    return asyncio.run(gather())


def mid(value):
    return value[0] if isinstance(value, tuple) else value


# --------------------------------------------------------------------------- 1: the effect outlives the cells


def test_the_effect_on_uacr_outlives_the_cells_by_months():
    f = findings("memory")
    assert f["gone"][2] < 21, "cells are gone within days or weeks"
    assert f["outlives"] > 0.95
    assert f["half"][0] > 60
    assert f["peak"][2] < 0


def test_most_of_the_effect_is_the_memory_of_phagocytes():
    f = findings("memory")
    assert f["off_share"][0] < 15
    assert f["off_share"][2] < 50
    assert f["half_week"][0] < f["half"][0] < f["half_quarter"][0]


def test_without_memory_uacr_outlives_the_cells_and_il6_hardly_does():
    f = findings("memory")
    assert f["half_off"][1] > f["gone"][1]
    assert f["half_off"][0] > f["gone"][0] + 14
    assert f["il6_half_off"][0] < f["gone"][0] + 7
    assert abs(f["off_peak"][0]) < 5, "'could not be seen in any trial'"


# --------------------------------------------------------------------------- 2: rodents respond more


def test_the_patient_responds_with_a_small_part_of_the_rats_effect():
    f = findings("translation")
    assert f["rat"][0] < 2 * f["patient"][0] < 0
    assert f["ratio"][0] < 30
    assert f["ratio"][2] < 100


def test_trials_moved_the_factor_down_and_left_it_wide():
    f = findings("translation")
    assert f["factor"][0] < 0.6 * f["prior"]
    assert f["spread"] > 10


def test_with_a_factor_of_one_the_patient_responds_nearly_like_the_rat():
    f = findings("translation")
    assert 50 < f["one_ratio"][0] < 110
    assert f["one_ratio"][0] > 3 * f["ratio"][0], "the factor carries most of the difference"
    assert f["one_fibrosis"][0] < f["one_ratio"][0], "scar takes longer"


def test_ten_times_the_dose_makes_up_for_part_of_it():
    f = findings("translation")
    assert f["ratio"][0] * 2 < f["ten_ratio"][0] < 100


# --------------------------------------------------------------------------- 3: dose or frequency


def test_for_egfr_dividing_the_cells_makes_hardly_any_difference():
    f = findings("schedule")
    assert f["win_egfr6"][0] > f["win_egfr1"][0]
    assert 0.9 < f["egfr6"][0] < 1.15
    assert f["egfr1"][0] < 1


def test_which_schedule_wins_on_uacr_turns_round_with_the_reading():
    f = findings("schedule")
    assert f["win_end6"][0] > 90
    assert f["win_mean1"][0] > 50


def test_twice_the_cells_do_more_than_dividing_them_but_not_twice_as_much():
    f = findings("schedule")
    assert f["twice"][1] > f["split"][0]
    assert 1.3 < f["twice"][0] < 2
    assert abs(f["split"][0] - 1) < 0.2


# --------------------------------------------------------------------------- 4: arms of action


def test_il6_leans_on_immunomodulation_and_fibrosis_on_the_antifibrotic_arm():
    f = findings("arms")
    assert f["first_il6"][0] > 50
    assert f["first_fibrosis"][0] > 50


def test_no_arm_carries_egfr_alone():
    f = findings("arms")
    shares = [f[name][0] for name in ("egfr_cyto", "egfr_angio", "egfr_immuno")]
    assert max(shares) < 1.5 * min(shares), "'similar shares'"
    assert f["first_egfr"][0] < 50
    assert all(f[n][2] - f[n][1] > 20 for n in ("egfr_cyto", "egfr_angio", "egfr_immuno")), "'wide bands'"


def test_knock_outs_add_up_in_people_and_less_so_where_effects_are_large():
    f = findings("arms")
    assert 90 < f["sum_off"][0] < 100 < f["sum_alone"][0] < 110
    assert f["sum_off_one"][0] < f["sum_off"][0] - 5
    assert f["sum_alone_one"][0] > f["sum_alone"][0] + 5


# --------------------------------------------------------------------------- 5: 38 patients


def test_a_small_trial_is_rarely_significant_and_then_exaggerates():
    f = findings("trial")
    assert f["hits"][0] < 10
    assert f["harmful_worlds"] == 0, "'they help in every world'"
    assert 0 < f["wrong"] < 2.6, "chance alone gives 2.5 % on a side"
    assert f["exaggeration"][0] > 3
    assert f["truth"][0] < f["least"] / 5, "'the truth is not'"
    assert f["width_double"] == pytest.approx(f["width"] / np.sqrt(2), rel=0.05)
    assert f["needed"] > 1000
    assert f["hits"][0] < f["hits_uacr"][0] < 25


def test_the_normal_approximation_gives_what_the_engine_gives():
    """Shares significant by chance drawn anew, against those of the engine's own trials, within their Monte-Carlo error."""
    for read, sign in (("egfr_change", 1), ("uacr_percent_change", -1)):
        found = {
            name: np.concatenate([simulated_trials(read, k)[name] for k in range(5)])
            for name in ("truth", "se", "effect", "p")
        }
        engine = np.mean((found["p"] <= 0.05) & (sign * found["effect"] > 0))
        drawn = long_run(found, read, 19)["hits"] / 100
        error = np.sqrt(drawn * (1 - drawn) / len(found["p"]))
        assert abs(engine - drawn) < 3 * error
        z = (found["effect"] - found["truth"]) / found["se"]
        assert abs(z.mean()) < 3 / np.sqrt(len(z))
        assert 0.8 < z.std() < 1.25


def test_a_set_of_trials_is_the_same_again_and_another_is_not():
    worlds = simulated_trials("egfr_change", 0)
    same, again, other = (chance(worlds, 19, k)["estimate"] for k in (1, 1, 2))
    assert (same == again).all()
    assert (same != other).any()
    assert chance(worlds, 76, 1)["se"] == pytest.approx(worlds["se"] / 2)


# --------------------------------------------------------------------------- 6: early UACR, late eGFR


def test_early_uacr_tells_late_egfr_closely_across_draws_and_less_across_patients():
    f = findings("early")
    assert f["rho_draws"][0] < -0.85
    assert f["rho_draws"][2] < f["rho_patients"][1] < f["rho_patients"][2] < -0.2


def test_what_a_clinic_sees_in_treated_patients_is_there_without_cells():
    f = findings("early")
    assert f["rho_seen"][2] < 0
    assert f["rho_untreated"][2] < 0
    assert abs(f["rho_seen"][0] - f["rho_untreated"][0]) < 0.1


def test_the_early_fall_buys_little_egfr_and_part_of_it_is_lost_again():
    f = findings("early")
    assert f["egfr"][0] < f["loss"][0] / 10
    assert 0 < f["egfr"][0] < f["egfr_one"][0]


# --------------------------------------------------------------------------- numbers and words


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_every_number_of_an_answer_is_computed(lesson):
    named = {
        field
        for q in lesson.questions
        for text in (q.answer, q.data, q.assumed, q.reality)
        for _, field, _, _ in string.Formatter().parse(text)
        if field
    }
    assert named <= set(findings(lesson.key))
    (answer,) = collected(lessons.answers, {"lesson": lesson.key})
    assert len(answer["answers"]) == len(lesson.questions)
    for told in answer["answers"]:
        assert not any("{" in text or "}" in text for text in told.values())
        assert all(told[part] for part in ("found", "data", "assumed", "reality"))
    assert 2 <= len(lesson.questions) <= 4
    assert any(said(mid(v)) in t["found"] for t in answer["answers"] for v in findings(lesson.key).values())


def test_numbers_are_those_of_the_packages_own_curves():
    draws = list(shipped_draws())[:5]
    ours = SIMULATE["translation"](Translation(dose=2.0), draws)["patient"]
    scenario = patient(168.0, ArmSetup(dose=2.0, n=1)).scenario()
    found = curves(scenario, draws, days=TRANSLATION_DAYS, observables=("uacr",)).values[..., 0]
    assert ours == pytest.approx(100 * (found[1] / found[0] - 1))
    # The first lesson integrates patients one by one, since it shows a state; the numbers are the same.
    days = np.array([0.0, 28.0])
    scenario = patient(336.0, ArmSetup(n=1)).scenario()
    found = curves(scenario, draws, days=days, observables=("uacr",)).values[..., 0]
    alone = SIMULATE["memory"](Memory(), draws)["change"]
    from mscrenal.app.page.lesson_experiments import MEMORY_DAYS

    at = int(np.searchsorted(MEMORY_DAYS, 28.0))
    assert alone[:, at] == pytest.approx(100 * (found[1, :, 1] / found[0, :, 1] - 1), rel=1e-3, abs=1e-4)


def test_a_fixed_factor_replaces_that_of_the_draws_in_the_patient_alone():
    draws = list(shipped_draws())[:3]
    free, fixed = (SIMULATE["translation"](Translation(factor=f), draws) for f in ("estimated", "1"))
    assert (free["rat"] == fixed["rat"]).all()
    assert (fixed["patient"].min(axis=1) <= free["patient"].min(axis=1)).all()


def test_memory_switched_off_changes_the_effect_and_not_the_cells():
    with_it, without = (SIMULATE["memory"](Memory(memory=m), [middle()]) for m in ("estimated", "off"))
    assert with_it["organs"] == pytest.approx(without["organs"], rel=1e-3, abs=1.0)
    assert np.abs(without["change"]).max() < np.abs(with_it["change"]).max()


def test_half_day_is_when_an_effect_is_back_to_half():
    days = np.arange(5.0)
    found = half_day(days, -np.array([[0, 4, 3, 2, 1.0], [0, 1, 2, 3, 4.0], [0, np.nan, 1, 1, 1]]))
    assert found[0] == 3
    assert np.isinf(found[1])
    assert np.isnan(found[2])


def test_winners_add_up_to_all_draws():
    for shares, errors in winners(whole("schedule", Schedule())).values():
        assert sum(shares) == pytest.approx(1)
        assert all(0 <= e <= 0.05 for e in errors)


def test_a_rank_correlation_has_the_interval_of_its_sample():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400)
    rho, low, high = correlation(x, x + rng.standard_normal(400))
    assert low < rho < high
    assert low < 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) < high


def test_numbers_are_said_as_people_read_them():
    assert said(0.0) == "0"
    assert said(float("inf")) == "beyond the end"
    assert said(0.0123) == "0.012"
    assert said(1e-7) == "0.000"
    assert said((0.0, 1.0)) == "0 ± 1"
    assert said(band(np.linspace(0, 100, 101))) == "50 (5.0 to 95)"


# --------------------------------------------------------------------------- channels


@pytest.mark.parametrize("key", KEYS)
def test_an_experiment_is_answered_at_once_and_then_with_bands(key):
    found = collected(lessons.answer, {"lesson": key, "controls": {}})
    assert found[-1]["stage"] == "done"
    assert found[-1]["draws"] == found[-1]["of"]
    for answer in found:
        assert len(answer["plots"]) == 2
        for plot in answer["plots"]:
            assert plot["x"]["title"]
            assert plot["y"]["title"] or plot["id"] == "bars", "an axis of names needs no title"
            assert len(plot["words"]) > 10
            assert {t["kind"] for t in plot["traces"]} <= KINDS
        assert any(plot.get("table") for plot in answer["plots"])
    for link in answer["links"]:
        if link["tab"] == "explore":
            setup, problems = setup_of([tuple(p) for p in link["pairs"] if p[0] != "view"])
            assert not problems
            assert setup.arms


@pytest.mark.parametrize(
    ("key", "controls"),
    [
        ("memory", {"read": "serum"}),
        ("memory", {"memory": "for ever"}),
        ("translation", {"dose": 0}),
        ("translation", {"dose": float("inf")}),
        ("translation", {"factor": "2"}),
        ("schedule", {"every": 1000}),
        ("schedule", {"total": -1}),
        ("arms", {"how": "half"}),
        ("trial", {"n": 7}),
        ("trial", {"n": 1_000_000}),
        ("early", {"week": "3"}),
        ("early", {"weeks": "12"}),
    ],
)
def test_bad_controls_are_refused(key, controls):
    with pytest.raises(ValueError, match=next(iter(controls))):
        collected(lessons.answer, {"lesson": key, "controls": controls})


@pytest.mark.parametrize("channel", [lessons.answer, lessons.answers])
def test_a_lesson_that_there_is_not_is_refused(channel):
    with pytest.raises(ValueError, match="Allowed: memory"):
        collected(channel, {"lesson": "seventh", "controls": {}})


def test_an_address_sets_lesson_and_controls():
    (found,) = collected(lessons.address, {"pairs": [["lesson", "3"], ["total", "6"], ["every", "14"]]})
    assert (found["lesson"], found["problems"]) == (3, [])
    assert found["controls"] == {"total": 6.0, "every": 14.0}


def test_what_is_wrong_in_an_address_is_said_and_left_out():
    pairs = [["lesson", "3"], ["total", "99"], ["evry", "14"], ["every", "14"]]
    (found,) = collected(lessons.address, {"pairs": pairs})
    assert [p["field"] for p in found["problems"]] == ["total", "evry"]
    assert "every" in found["problems"][1]["message"]
    assert found["controls"] == {"total": 3.0, "every": 14.0}
    for wrong in ("0", "7", "x", "²", "-1", "9" * 5000):
        (found,) = collected(lessons.address, {"pairs": [["lesson", wrong]]})
        assert found["lesson"] == 1
        assert "1 to 6" in found["problems"][0]["message"]


@pytest.mark.parametrize("pairs", [None, "lesson=1", [["lesson"]], [["lesson", 1]]])
def test_pairs_that_are_none_are_refused(pairs):
    with pytest.raises(ValueError, match="pairs"):
        collected(lessons.address, {"pairs": pairs})


def test_the_outline_has_what_the_browser_draws_controls_of():
    told = lessons.outline()
    assert [x["number"] for x in told["lessons"]] == [1, 2, 3, 4, 5, 6]
    for lesson, model in zip(
        told["lessons"], (Memory, Translation, Schedule, ArmsOfAction, SmallTrial, EarlyMarker), strict=True
    ):
        assert {c["name"] for c in lesson["controls"]} == set(model.model_fields)
        for control in lesson["controls"]:
            values = (
                [v for v, _ in control["options"]]
                if "options" in control
                else [control["low"], control["high"]]
            )
            for value in values:
                model.model_validate({control["name"]: value})
