"""The tab Trial without a browser: designs and their addresses, power, single trials, files."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from mscrenal.app.page import trial as tab
from mscrenal.app.page.serve import CHANNELS
from mscrenal.app.page.setup import DEFAULT, ArmSetup, Setup
from mscrenal.app.page.trial import Design, design_of
from mscrenal.scenarios import ScenarioError, TrialError, load_scenario, trial
from mscrenal.scenarios.schema import read_scenario
from mscrenal.scenarios.trial_spec import TRIAL_ENDPOINTS

SMALL = {"n": 6, "horizon": 84, "every": 84, "endpoint": "uacr_percent_change"}


def answers(channel, payload) -> list[dict]:
    async def collect():
        return [answer async for answer in channel(payload)]

    return asyncio.run(collect())


def form(*pairs):
    return answers(tab.form, {"pairs": [list(p) for p in pairs]})[0]


@pytest.fixture
def few(monkeypatch):
    """As many trials as a test can wait for."""
    monkeypatch.setattr(tab, "MOST_TRIALS", 24)
    monkeypatch.setattr(tab, "LEAST_TRIALS", 24)
    monkeypatch.setattr(tab, "MOST_CURVE", 20)
    monkeypatch.setattr(tab, "LEAST_CURVE", 20)
    monkeypatch.setattr(tab, "FIXED_SHARE", 1)
    monkeypatch.setattr(tab, "CURVE_N", 24)
    tab._run.cache_clear()
    yield
    tab._run.cache_clear()


# --------------------------------------------------------------------------- the design


@pytest.mark.parametrize("name", tab._scenarios())
def test_an_untouched_scenario_keeps_its_design(name):
    shipped = load_scenario(name)
    found = Design(scenario=name).protocol()
    assert found.trial.arms[0] == shipped.reference
    assert found.arm(found.trial.arms[1]) == shipped.arm(found.trial.arms[1]).replace(n=None)
    if shipped.trial is not None:
        spec = shipped.trial.of(shipped.trial.read_at(shipped))
        assert found.trial.replace(arms=spec.arms, sizes=spec.sizes, at_days=spec.at_days) == spec
        assert dict(zip(spec.arms, spec.sizes, strict=True))[found.trial.arms[1]] == found.trial.sizes[1]


def test_every_choice_reaches_the_design():
    design = Design(
        scenario="uc-dn-weekly", arm=ArmSetup(product="AD", dose=2, n=4, every=14), horizon=168, every=56, n=20, ratio="2:1",
        endpoint="uacr_percent_change", analysis="mmrm", alpha=0.1, looks="half", dropout=0.2, death=0.0, missed=0.1,
    )  # fmt: skip
    found = design.protocol()
    spec = found.trial
    assert found.visits == (0, 56, 112, 168)
    assert found.arms[1].dose_days == (0, 14, 28, 42)
    assert (spec.sizes, spec.ratio) == ((20, 40), (1, 2))
    assert (spec.endpoint, spec.analysis, spec.alpha, spec.looks) == (
        "uacr_percent_change",
        "mmrm",
        0.1,
        (0.5,),
    )
    assert (spec.dropout.share, spec.death.share, spec.missed) == (0.2, 0.0, 0.1)


def test_a_patient_of_explore_is_treated_against_no_cells():
    found = Design(scenario=None, setup=DEFAULT, arm=ArmSetup(n=2)).protocol()
    assert found.patient == DEFAULT.scenario().patient
    assert [a.name for a in found.arms] == ["no cells", "UC 1e6/kg x2 every 1w"]
    assert found.trial.population.covariates["egfr"].centre == 45


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 3}, "greater than or equal to 4"),
        ({"n": 301}, "less than or equal to 300"),
        ({"scenario": "nephstorm"}, "Did you mean 'nephstrom'"),
        ({"scenario": "stz-rat-uc"}, "unknown scenario"),
        ({"ratio": "5:1"}, "Allowed: 1:1, 1:2, 2:1, 3:1"),
        ({"alpha": float("nan")}, "alpha"),
        ({"arm": {"off": ["antioxidant"]}}, "a trial gives a whole product"),
        ({"seed": 0}, "greater than or equal to 1"),
        ({"colour": "blue"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_out_of_bounds_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        Design(**fields)


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"treatment": "placebo"}, "treatment", "Allowed: .*UC weekly x3"),
        ({"horizon": 1400, "every": 7}, "every", "Allowed: up to 70"),
        ({"endpoint": "egfr_change", "analysis": "mixed"}, "analysis", "Allowed for it: ancova"),
        ({"endpoint": "egfr_slope_chronic", "horizon": 56}, "visits", "Measure later"),
        ({"arm": ArmSetup(n=20, every=28), "horizon": 84}, "arm", "Move the horizon"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_place(fields, key, words):
    with pytest.raises(ScenarioError, match=words) as caught:
        Design(**fields).protocol()
    assert caught.value.key[0] == key


def test_animals_are_refused():
    with pytest.raises(TrialError, match="virtual trials are of people"):
        Design(scenario=None, setup=Setup(species="rat", disease="stz")).protocol()


# --------------------------------------------------------------------------- the address


@pytest.mark.parametrize(
    "design",
    [
        Design(),
        Design(scenario="nephstrom", treatment="160e6 cells", n=30, ratio="1:2"),
        Design(arm=ArmSetup(n=2, every=28), horizon=168, every=42, alpha=0.025, looks="thirds", seed=7),
        Design(scenario=None, setup=Setup(egfr=35.0, drugs=("ras",)), arm=ArmSetup(), dropout=0.1),
        Design(
            scenario=None, setup=Setup(), arm=ArmSetup(), endpoint="uacr_responder", analysis="proportions"
        ),
    ],
)
def test_a_design_comes_back_from_its_address(design):
    assert design_of(design.pairs()) == (design, [])


def test_the_pairs_of_explore_are_understood():
    design, problems = design_of(DEFAULT.pairs())
    assert problems == []
    assert (design.scenario, design.arm) == (None, ArmSetup())
    assert design.setup.egfr == DEFAULT.egfr


@pytest.mark.parametrize(
    ("pair", "field", "words"),
    [
        (("n", "many"), "n", "given 'many'"),
        (("visits", "3d"), "visits", "greater than or equal to 7"),
        (("endpoint", "egfr"), "endpoint", "Allowed: "),
        (("analysis", "mixed"), "analysis", "Allowed for it"),
        (("arm", "UC,IV"), "arm", "Allowed: product,route"),
        (("arm", "UC,IV,1,26,90"), "arm", "Move the horizon"),
        (("siez", "3"), "siez", "unknown"),
        (("treatment", "gold"), "treatment", "UC weekly x3"),
    ],
)
def test_what_an_address_says_wrongly_is_left_out_with_the_reason(pair, field, words):
    design, problems = design_of([("n", "40"), pair] if pair[0] != "n" else [pair, ("seed", "2")])
    assert [p.field for p in problems] == [field]
    assert words in problems[0].message
    assert design == (Design(n=40) if pair[0] != "n" else Design(seed=2))


def test_an_impossible_covariate_is_left_out_and_the_patient_stays():
    design, problems = design_of([("egfr", "500"), ("age", "60"), ("arm", "UC,IV,1,3,7")])
    assert [p.field for p in problems] == ["egfr"]
    assert (design.setup.age, design.setup.egfr, design.arm) == (60, None, ArmSetup())


def test_an_animal_of_explore_is_refused_in_words():
    design, problems = design_of(
        [("species", "rat"), ("disease", "stz"), ("start_week", "8"), ("arm", "UC,IV,1,3,7")]
    )
    assert "virtual trials are of people" in problems[0].message
    assert design.scenario is not None


@pytest.mark.parametrize("text", ["<script>", "1e400", "9" * 300, "\x00", "-inf", ""])
@pytest.mark.parametrize("name", ["n", "arm", "horizon", "endpoint", "seed", "looks", "egfr", "treatment"])
def test_no_text_of_an_address_is_a_fault(name, text):
    design, _ = design_of([(name, text)])
    design.protocol()


# --------------------------------------------------------------------------- the form


def test_the_form_shows_what_stands_for_what_is_left_out():
    found = form(("scenario", "nephstrom"))["choices"]
    assert (found["n"], found["endpoint"], found["analysis"], found["horizon"]) == (
        12,
        "egfr_slope_total",
        "slopes",
        547.875,
    )
    assert found["treatments"] == ["80e6 cells", "160e6 cells", "240e6 cells"]
    assert found["arm"]["dose"] == pytest.approx(80 / 85, rel=1e-2)
    assert 0.06 < found["dropout"] < 0.08


def test_the_form_offers_all_endpoints_with_their_analyses():
    offered = form()["options"]["endpoints"]
    assert {n: tuple(e["analyses"]) for n, e in offered.items()} == {
        n: e.analyses for n, e in TRIAL_ENDPOINTS.items()
    }


@pytest.mark.parametrize("pairs", [None, "n=3", [["n"]], [["n", 3]]])
def test_pairs_of_another_shape_are_refused(pairs):
    with pytest.raises(ValueError, match="a list of names and values"):
        answers(tab.form, {"pairs": pairs})


# --------------------------------------------------------------------------- power


def test_the_numbers_are_those_of_the_command(few):
    design = Design(**SMALL)
    found = answers(tab.answer, {"design": design.model_dump(mode="json")})
    assert [a["stage"] for a in found] == ["design", *["curve"] * (len(found) - 1)]
    last = found[-1]
    assert last["done"] == last["of"] == {"design": 24, "fixed": 24, "curve": 20}
    text = answers(tab.downloads, {"design": design.model_dump(mode="json")})[0]["text"]
    same = trial(
        read_scenario(text, name="trial", file="trial.toml"),
        trials=24,
        draws=tab.DRAWS,
        seed=1,
        workers=1,
        curve=False,
    )
    rows = tab._run(design).result().rows
    mine = rows[rows["series"] == "design"].reset_index(drop=True)
    np.testing.assert_array_equal(mine["p"], same.rows[same.rows["series"] == "design"]["p"])
    c, n = same.comparisons[0], last["numbers"]
    assert n["assurance"]["value"] == pytest.approx(c.assurance.value, rel=1e-4)
    assert n["type1"]["value"] == pytest.approx(c.type1.value, rel=1e-4)
    assert n["detectable"] == pytest.approx(c.detectable, rel=1e-4)


def test_the_first_curve_comes_of_few_trials_and_says_so(few):
    found = answers(tab.answer, {"design": SMALL})
    first, last = found[1], found[-1]
    assert first["done"] == {"design": 10, "fixed": 10, "curve": 0}
    widths = [np.array(a["line"]["high"]) - np.array(a["line"]["low"]) for a in (first, last)]
    assert (widths[0] > 0).all()
    assert widths[1].mean() < widths[0].mean()
    assert (np.diff(last["line"]["mid"]) > 0).mean() > 0.9


def test_what_was_done_is_not_done_again(few):
    answers(tab.answer, {"design": SMALL})
    again = answers(tab.answer, {"design": SMALL})
    assert len(again) == 2
    assert again[1]["done"] == again[1]["of"]
    doubled = answers(tab.answer, {"design": SMALL, "more": 2})
    assert doubled[1]["done"]["design"] == 24
    assert doubled[-1]["done"]["design"] == 48


def test_no_success_in_few_trials_has_an_interval_all_the_same():
    share = tab._share(tab.Share.of(np.zeros(10, dtype=bool)))
    assert (share["value"], share["low"]) == (0, 0)
    assert share["high"] == pytest.approx(
        stats.binomtest(0, 10).proportion_ci(method="wilson").high, rel=1e-4
    )


@pytest.mark.parametrize("more", [0, 9, "2", True, None])
def test_more_is_bounded(more):
    with pytest.raises(ValueError, match="whole number from 1 to 8"):
        answers(tab.answer, {"design": {}, "more": more})


# --------------------------------------------------------------------------- one trial


@pytest.mark.parametrize("world", ["own", "medians"])
def test_drawn_trials_are_those_that_are_counted(few, world):
    answers(tab.answer, {"design": SMALL})
    rows = tab._run(Design(**SMALL)).result().rows
    rows = rows[rows["series"] == ("design" if world == "own" else "fixed")].set_index("trial")
    drawn = [
        t
        for a in answers(tab.single, {"design": SMALL, "first": 2, "n": 9, "world": world})
        for t in a["trials"]
    ]
    assert [t["number"] for t in drawn] == list(range(2, 11))
    for t in drawn:
        assert t["p"] == pytest.approx(rows.loc[t["number"], "p"], rel=1e-4)
        assert t["effect"] == pytest.approx(math.exp(rows.loc[t["number"], "effect"]), rel=1e-4)


def test_the_last_trial_is_shown_patient_by_patient(few):
    last = answers(tab.single, {"design": SMALL, "first": 0})[-1]["last"]
    assert [a["n"] for a in last["arms"]] == [6, 6]
    assert last["days"] == [0, 84]
    assert last["unit"] == "mg/g"
    assert last["arms"][0]["there"][0] == len(last["arms"][0]["patients"]) == 6
    for arm in last["arms"]:
        assert arm["low"][0] < arm["mean"][0] < arm["high"][0]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"n": 26}, "1 to 25"),
        ({"n": "1"}, "1 to 25"),
        ({"first": -1}, "from 0"),
        ({"first": 1e9}, "from 0"),
        ({"world": "x"}, "own, medians"),
    ],
)
def test_what_is_asked_of_single_trials_is_bounded(payload, words):
    with pytest.raises(ValueError, match=words):
        answers(tab.single, {"design": SMALL, **payload})


def test_all_channels_are_served():
    assert set(tab.CHANNELS) <= set(CHANNELS)
