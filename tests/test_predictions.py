"""The evidence as a function of standardised parameters: its derivatives, and what is a study's own."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.calibration import evidence
from mscrenal.calibration.observations import Datum, observe
from mscrenal.calibration.predictions import POTENCY, Coordinates, Predictions, study_potency
from mscrenal.calibration.studies import Study, read_studies
from mscrenal.model import sampled_parameters, simulate
from mscrenal.model.declare import HalfNormal, LogitNormal, LogNormal, Normal

# A trial against placebo, another of the same product with a level, a slope and a share, and an animal.
STUDIES = """\
[[study]]
id = "trial2016"
role = "fit"
reason = "Randomised against placebo."
[study.patient]
egfr = 45
drugs = ["ras"]
[[study.arm]]
name = "placebo"
[[study.arm]]
name = "UC"
product = "UC"
route = "IV"
dose = "1e6/kg"
days = [0, 7]
infusion = "1h"
[[study.map]]
where = { endpoint = "egfr" }
arm = "UC"
against = "placebo"
observable = "egfr"
measure = "change"
[[study.map]]
where = { endpoint = "uacr" }
arm = "UC"
observable = "uacr"
measure = "ratio"

[[study]]
id = "series2018"
role = "fit"
reason = "No control."
[study.patient]
egfr = 60
[[study.arm]]
name = "UC"
product = "UC"
route = "IV"
dose = "2e6/kg"
days = [0]
infusion = "1h"
[[study.map]]
where = { endpoint = "uacr" }
arm = "UC"
observable = "uacr"
measure = "level"
[[study.map]]
where = { endpoint = "egfr_slope" }
arm = "UC"
observable = "egfr"
measure = "slope"
from = 0
to = 84
[[study.map]]
where = { endpoint = "responder" }
arm = "UC"
observable = "uacr"
measure = "share"
of = "ratio"
below = 0.7

[[study]]
id = "rats2014"
role = "fit"
reason = "Streptozotocin."
[study.patient]
species = "rat"
disease = "stz"
onset = "4w"
[[study.arm]]
name = "control"
[[study.arm]]
name = "AD"
product = "AD"
route = "IV"
dose = "2e6"
days = [0]
[[study.map]]
where = { endpoint = "fibrosis_area" }
arm = "AD"
against = "control"
observable = "fibrosis_area"
measure = "fold"
"""
ROWS = (
    ("trial2016", "egfr", "mL/min/1.73m2", "2.0"),
    ("trial2016", "uacr", "ratio", "0.8"),
    ("series2018", "uacr", "mg/g", "700"),
    ("series2018", "egfr_slope", "mL/min/1.73m2/yr", "-3"),
    ("series2018", "responder", "percent", "40"),
    ("rats2014", "fibrosis_area", "fold", "0.7"),
)
TRIAL, SERIES, RATS = (study_potency(s) for s in ("trial2016", "series2018", "rats2014"))
# One of each kind of prior among them, beside the studies' own half-effective doses.
NAMES = (
    "nephron_loss_rate", "lung_trapping", "allometric_exponent", "species.human.translation",
    "product.UC.potency_cytoprotection", TRIAL, SERIES, RATS,
)  # fmt: skip
AT = np.array([0.3, -0.4, 0.5, 0.6, -0.2, 0.1, -0.6, 0.4])
TIGHT = {"rtol": 1e-9, "atol": 1e-11, "workers": 1}


@pytest.fixture(scope="module")
def problem(tmp_path_factory) -> tuple[list[Datum], dict[str, Study]]:
    folder: Path = tmp_path_factory.mktemp("studies")
    empty = dict.fromkeys(evidence.COLUMNS, "")
    rest = {"citation": "c", "species": "s", "arm": "a", "n": "20", "time_week": "12", "locator": "l"}
    rest["species"] = "human"
    lines = [",".join(evidence.COLUMNS)]
    for study, endpoint, unit, value in ROWS:
        cells = empty | rest | {"study_id": study, "endpoint": endpoint, "unit": unit, "value": value}
        lines.append(",".join(cells.values()))
    (folder / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "mine.toml").write_text(STUDIES, encoding="utf-8")
    found = read_studies(folder / "mine.toml", evidence.read_table(folder / "mine.csv"))
    return observe(found), {study.id: study for study in found}


@pytest.fixture(scope="module")
def predictions(problem) -> Predictions:
    return Predictions(*problem, NAMES, **TIGHT)


def differences(predict: Predictions, at: np.ndarray, step: float = 4e-3) -> np.ndarray:
    """Jacobian by extrapolated central differences in the standardised coordinates."""
    columns = []
    for move in np.eye(len(at)):
        coarse, fine = (
            (predict(at + h * move).values - predict(at - h * move).values) / (2 * h)
            for h in (step, step / 2)
        )
        columns.append((4 * fine - coarse) / 3)
    return np.stack(columns, axis=-1)


# --------------------------------------------------------------------------- values and derivatives


def test_the_predictions_are_the_functionals_of_simulated_arms(problem, predictions):
    data, studies = problem
    natural = dict(zip(NAMES, Coordinates(NAMES).values(AT), strict=True))
    shared = {name: value for name, value in natural.items() if ", " not in name}

    def value(study: str, arm: str, day: float, observable: str) -> float:
        who = studies[study].arms[arm]
        theta = shared | ({POTENCY: natural[study_potency(study)]} if who.doses else {})
        days = [0.0, day] if day else [0.0, 1.0]
        found = simulate(who.patient, who.doses, who.courses, theta, days, rtol=1e-9, atol=1e-11)
        assert found.status == "ok"
        return float(found.observable(observable)[1 if day else 0])

    by_hand = [
        value("trial2016", "UC", 84, "egfr") - value("trial2016", "UC", 0, "egfr")
        - value("trial2016", "placebo", 84, "egfr") + value("trial2016", "placebo", 0, "egfr"),
        math.log(value("trial2016", "UC", 84, "uacr") / value("trial2016", "UC", 0, "uacr")),
        math.log(value("series2018", "UC", 84, "uacr")),
    ]  # fmt: skip
    by_hand.append(
        math.log(
            value("rats2014", "AD", 84, "fibrosis_area") / value("rats2014", "control", 84, "fibrosis_area")
        )
    )
    found = predictions(AT)
    assert found.failures == ()
    np.testing.assert_allclose(found.values[[0, 1, 2, 5]], by_hand, rtol=1e-5, atol=1e-5)
    assert [d.study for d in data] == [study for study, *_ in ROWS]


def test_the_jacobian_is_that_of_finite_differences_in_standardised_coordinates(predictions):
    found = predictions(AT).jacobian
    assert found.shape == (len(ROWS), len(NAMES))
    np.testing.assert_allclose(found, differences(predictions, AT), rtol=2e-4, atol=2e-6)
    assert (np.abs(found[:, 0]) > 1e-4).any()  # not zeros against zeros


def test_a_study_s_own_potency_moves_that_study_alone(predictions):
    before = predictions(AT)
    for name, study in ((TRIAL, "trial2016"), (SERIES, "series2018"), (RATS, "rats2014")):
        own = np.array([d.study == study for d in predictions.data])
        column = before.jacobian[:, NAMES.index(name)]
        assert (column[~own] == 0).all()
        assert (np.abs(column[own]) > 1e-6).any()
        moved = predictions(AT + 0.5 * (np.array(NAMES) == name)).values
        np.testing.assert_array_equal(moved[~own], before.values[~own])
        assert (moved[own] != before.values[own]).any()


def test_studies_without_a_potency_of_their_own_share_the_parameter(problem):
    predict = Predictions(*problem, (POTENCY, TRIAL), **TIGHT)
    jacobian = predict(np.zeros(2)).jacobian
    own = np.array([d.study == "trial2016" for d in predict.data])
    assert (jacobian[own, 0] == 0).all()
    assert (jacobian[~own, 0] != 0).any()
    # At the same place a study's own half-effective dose is the shared one.
    shared = Predictions(*problem, (POTENCY,), **TIGHT)
    np.testing.assert_allclose(predict([0.7, 0.7]).values, shared([0.7]).values, rtol=1e-6, atol=1e-7)


def test_untreated_arms_know_nothing_of_potency(problem):
    data, studies = problem
    untreated = [d for d in data if d.study == "rats2014"]
    predict = Predictions(untreated, studies, (RATS,), **TIGHT)
    assert (
        dict(zip(predict.simulations.arm_names, predict.arms, strict=True))["rats2014: control"].known_as
        == {}
    )
    rows = predict.simulations.rows("rats2014: control")
    assert (predict.simulations([0.02]).jacobian[rows] == 0).all()


def test_each_arm_is_simulated_once_with_the_days_and_observables_that_rows_ask_for(predictions):
    arms = {arm.name: arm for arm in predictions.arms}
    assert sorted(arms) == sorted(
        ["trial2016: placebo", "trial2016: UC", "series2018: UC", "rats2014: control", "rats2014: AD"]
    )
    assert tuple(arms["trial2016: UC"].times) == (0.0, 84.0)
    assert tuple(arms["trial2016: UC"].observables) == ("egfr", "uacr")
    assert len(arms["series2018: UC"].times) == 7  # those of the slope


def test_a_direction_left_out_has_no_derivative_but_still_moves_the_values(problem, predictions):
    blind = {
        "trial2016: UC": ("nephron_loss_rate", "lung_trapping"),
        "trial2016: placebo": ("nephron_loss_rate",),
    }
    short = Predictions(*problem, NAMES, blind=blind, **TIGHT)
    found, full = short(AT), predictions(AT)
    trial = np.array([d.study == "trial2016" for d in short.data])
    np.testing.assert_allclose(found.values, full.values, rtol=1e-6, atol=1e-7)
    assert (found.jacobian[trial, 0] == 0).all()
    assert (found.jacobian[trial, 1] == 0).all()  # an arm without cells never sees lung trapping
    assert (full.jacobian[trial, :2] != 0).any(axis=0).all()
    np.testing.assert_allclose(found.jacobian[~trial], full.jacobian[~trial], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.jacobian[trial, 2:], full.jacobian[trial, 2:], rtol=1e-4, atol=1e-7)
    moved = short(AT + np.eye(len(AT))[0])
    assert (moved.values[trial] != found.values[trial]).all()


@pytest.mark.parametrize("beyond", [2000.0, np.inf, np.nan])
def test_an_arm_that_fails_leaves_its_rows_without_numbers_and_is_named(problem, beyond):
    # A sampler that looks for its step size asks for such points: they are no exceptions.
    predict = Predictions(*problem, ("nephron_loss_rate", TRIAL), **TIGHT)
    found = predict([0.0, beyond])
    trial = np.array([d.study == "trial2016" for d in predict.data])
    assert np.isnan(found.values[trial]).all()
    assert np.isnan(found.jacobian[trial]).any(axis=1).all()
    assert np.isfinite(found.values[~trial]).all()
    ((arm, status, message),) = found.failures
    assert (arm, status) == ("trial2016: UC", "out-of-range")
    assert POTENCY in message


@pytest.mark.parametrize("kind", [LogNormal, LogitNormal, Normal, HalfNormal], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("z", [-1e6, 1e6, np.inf, -np.inf])
def test_a_coordinate_beyond_what_a_computer_can_hold_has_a_value_and_a_slope(kind, z):
    place = Coordinates((KINDS[kind][0],))
    assert place.values(np.array([z])).shape == place.slopes(np.array([z])).shape == (1,)


def test_predictions_travel_to_another_process(predictions):
    there = pickle.loads(pickle.dumps(predictions))
    np.testing.assert_array_equal(there(AT).values, predictions(AT).values)


def test_an_unknown_coordinate_is_refused_with_the_nearest():
    with pytest.raises(KeyError, match=r"'nephron_los_rate'.*Did you mean 'nephron_loss_rate'"):
        Coordinates(("nephron_los_rate",))


def test_a_potency_of_a_study_that_treats_nobody_is_refused(problem):
    with pytest.raises(KeyError, match="nobody2020"):
        Predictions(*problem, (study_potency("nobody2020"),), **TIGHT)


# --------------------------------------------------------------------------- coordinates

KINDS = {
    kind: [name for name, p in sampled_parameters().items() if isinstance(p.prior, kind)]
    for kind in (LogNormal, LogitNormal, Normal, HalfNormal)
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data(), z=st.floats(-4, 4))
def test_the_slope_of_a_coordinate_is_that_of_finite_differences(kind, data, z):
    name = data.draw(st.sampled_from(KINDS[kind]))
    place = Coordinates((name,))
    step = 1e-4
    ahead, behind = (place.values(np.array([z + s])) for s in (step, -step))
    np.testing.assert_allclose(
        place.slopes(np.array([z])), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-12
    )
    assert place.slopes(np.array([z]))[0] > 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_origin_is_the_median_of_every_parameter(kind):
    names = tuple(KINDS[kind])
    medians = [sampled_parameters()[name].value for name in names]
    np.testing.assert_allclose(Coordinates(names).values(np.zeros(len(names))), medians, rtol=1e-9)


def test_a_study_s_potency_has_the_prior_of_the_parameter():
    own, shared = Coordinates((TRIAL,)), Coordinates((POTENCY,))
    z = np.array([0.8])
    assert own.values(z) == shared.values(z)
    assert own.slopes(z) == shared.slopes(z)
