"""Scenarios written as files say the same when they are read."""

from __future__ import annotations

import pytest

from mscrenal.scenarios import ScenarioError, TrialSpec
from mscrenal.scenarios.gallery import gallery, load_scenario
from mscrenal.scenarios.scenario import regular_visits
from mscrenal.scenarios.scenario_text import scenario_text
from mscrenal.scenarios.schema import read_scenario
from mscrenal.scenarios.trial_spec import Rate


def again(scenario):
    return read_scenario(scenario_text(scenario), name=scenario.name, file="again.toml")


@pytest.mark.parametrize("scenario", gallery(), ids=lambda s: s.name)
def test_what_is_written_is_read_as_the_same_scenario(scenario):
    assert again(scenario) == scenario


def test_a_whole_design_comes_back_with_its_population():
    found = load_scenario("uc-dn-weekly")
    spec = TrialSpec(
        sizes=(20, 30), arms=("placebo", "UC once"), looks=(0.5,), dropout=Rate(0.1, 365.25), missed=0.01
    )
    whole = found.replace(trial=spec.of(found))
    assert again(whole) == whole
    assert again(whole).trial.population.covariates["egfr"].low == 20


def test_quotes_and_comments_survive():
    scenario = load_scenario("uc-dn-weekly").replace(
        title='the "first" \\ trial # one\nline', question="größer?"
    )
    assert again(scenario) == scenario
    assert scenario_text(scenario, head="two\nlines").startswith("# two\n# lines\n")


def test_what_a_file_cannot_say_is_refused():
    scenario = load_scenario("uc-dn-weekly")
    arms = (scenario.arms[0].replace(resets=(7.0,)), *scenario.arms[1:])
    with pytest.raises(ScenarioError, match="Write an event table"):
        scenario_text(scenario.replace(arms=arms))


def test_regular_visits_end_at_the_horizon():
    assert regular_visits(28, 84) == (0, 28, 56, 84)
    assert regular_visits(28, 90) == (0, 28, 56, 84, 90)
