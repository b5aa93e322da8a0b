"""Benchmarks compare like with like: the same equations, the same doses, the same error."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.model.definition import sampled_parameters
from mscrenal.model.kernels import compiled

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# Scripts of one folder, no package that is installed.
sys.path.insert(0, str(BENCHMARKS))

import problem as problems  # noqa: E402
import report  # noqa: E402
from measure import Curve, Plan, Result, cheapest, measure  # noqa: E402
from precision import Point, around, bracket, front, matched  # noqa: E402
from remote import OURS, PEERS, Entry, PeerError, Remote, installed  # noqa: E402
from run import main  # noqa: E402

PROMISED = {"peer", "task", "ours_ms", "peer_ms", "ratio", "ours_error", "peer_error"}


@pytest.fixture(scope="module")
def problem() -> problems.Problem:
    """The problem at the medians, without draws and derivatives."""
    return problems.make(0, 0, crosschecked=0)


def trials(problem: problems.Problem, n: int = 24) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """States on both sides of the patient's, parameters around the medians, inputs with and without an infusion."""
    rng = np.random.default_rng(3)
    case = problem.cases[0]
    for k in range(n):
        y = case.state * np.exp(rng.normal(0, 0.4, len(case.state))) + (k % 3) * rng.uniform(
            0, 0.3, len(case.state)
        )
        p = case.parameters * np.exp(rng.normal(0, 0.05, len(case.parameters)))
        yield y, p, problem.schedule.inputs[k % len(problem.schedule.inputs)]


def derivative(problem: problems.Problem, y: np.ndarray, p: np.ndarray, u: np.ndarray) -> np.ndarray:
    out = np.empty(len(y))
    compiled(1).rhs(y, p, u, out)
    return out


# --------------------------------------------------------------------------- the problem


def test_three_weekly_infusions_of_an_hour_are_followed_for_48_weeks(problem):
    edges, inputs = problem.schedule.edges, problem.schedule.inputs
    column = problem.structure.input_index["in_iv"]
    lengths = np.diff([*edges, problem.times[-1]])
    assert edges.tolist() == pytest.approx([0, 1 / 24, 7, 7 + 1 / 24, 14, 14 + 1 / 24])
    assert (inputs[:, column] * lengths).tolist() == pytest.approx(
        [1, 0, 1, 0, 1, 0]
    )  # 1e6 cells per kg each
    assert problem.times.tolist() == [7.0 * week for week in range(49)]


def test_the_stretches_handed_to_solvers_without_events_cover_the_horizon_once(problem):
    starts, stops, _ = zip(*problem.segments, strict=True)
    assert starts[0] == 0
    assert stops[-1] == problem.times[-1]
    assert starts[1:] == stops[:-1]


def test_derivatives_are_asked_for_25_sampled_parameters_of_biology_and_of_the_product(problem):
    assert len(set(problems.GRADIENT)) == 25
    assert set(problems.GRADIENT) <= set(sampled_parameters())
    assert sum(name.startswith("product.UC.potency") for name in problems.GRADIENT) >= 4
    assert (problem.cases[0].parameters[problem.gradient_columns] > 0).all()


def test_an_error_is_the_largest_relative_one_and_a_missing_number_is_no_small_error(problem):
    reference = problem.cases[0].reference
    wrong = reference.copy()
    wrong[7, 1] *= 1.002
    assert problem.value_error(0, reference) == 0
    assert problem.value_error(0, wrong) == pytest.approx(0.002)
    wrong[3, 0] = math.nan
    assert problem.value_error(0, wrong) == math.inf
    assert problem.value_error(0, reference[:-1]) == math.inf


def test_the_problem_is_the_same_after_it_went_through_a_file(problem, tmp_path):
    problem.save(tmp_path)
    again = problems.load(tmp_path)
    np.testing.assert_array_equal(again.cases[0].reference, problem.cases[0].reference)
    np.testing.assert_array_equal(again.schedule.inputs, problem.schedule.inputs)
    assert again.gradients.shape == (0, 49, 2, 25)


@pytest.mark.slow
def test_the_reference_is_confirmed_by_another_method_and_its_derivatives_by_finite_differences():
    whole = problems.make(2, 1, crosschecked=2)
    assert len(whole.cases) == 3
    assert whole.crosscheck < 1e-9
    assert whole.gradient_noise < 2e-4
    assert whole.gradient_error(0, unrelative(whole)) < 1e-12


def unrelative(problem: problems.Problem) -> np.ndarray:
    """The reference derivatives on the natural scale."""
    case = problem.cases[0]
    return problem.gradients[0] * case.reference[:, :, np.newaxis] / case.parameters[problem.gradient_columns]


# --------------------------------------------------------------------------- the same equations for everybody


def test_the_diffsl_text_is_the_same_right_hand_side(problem):
    ds = pytest.importorskip("pydiffsol", reason="pydiffsol comes with the extra bench")
    from peers.diffsl import diffsl_text

    case = problem.cases[0]
    text = diffsl_text(
        problem.structure,
        problem.schedule,
        problems.OBSERVED,
        336.0,
        parameters=case.parameters,
        state=case.state,
    )
    ode = ds.Ode(text, matrix_type=ds.faer_sparse)
    # Its `rhs` is that of the stretch before the first edge: the first infusion.
    u = problem.schedule.inputs[0]
    for y, p, _ in trials(problem):
        theirs = ode.rhs(np.concatenate([p, case.state]), 0.0, y)
        np.testing.assert_allclose(theirs, derivative(problem, y, p, u), rtol=1e-10, atol=1e-12)


def test_the_diffsl_text_for_sensitivities_gives_the_doses_as_steps_of_time(problem):
    ds = pytest.importorskip("pydiffsol", reason="pydiffsol comes with the extra bench")
    from peers.diffsl import diffsl_text

    case = problem.cases[0]
    columns = problem.gradient_columns[:2]
    text = diffsl_text(
        problem.structure, problem.schedule, problems.OBSERVED, 336.0,
        parameters=case.parameters, state=case.state, free=columns,
    )  # fmt: skip
    ode = ds.Ode(text, matrix_type=ds.faer_sparse)
    assert ode.nparams == 2
    for start, stop, u in problem.segments:
        theirs = ode.rhs(case.parameters[columns], (start + stop) / 2, case.state)
        ours = derivative(problem, case.state, case.parameters, u)
        np.testing.assert_allclose(theirs, ours, rtol=1e-10, atol=1e-10)


def test_the_jax_function_is_the_same_right_hand_side(problem):
    pytest.importorskip("diffrax", reason="diffrax comes with the extra bench")
    from peers.diffrax_ import jax_functions

    rhs, observe = jax_functions(problem.structure, problems.OBSERVED)
    for y, p, u in trials(problem):
        np.testing.assert_allclose(rhs(y, p, u), derivative(problem, y, p, u), rtol=1e-10, atol=1e-12)
    case = problem.cases[0]
    np.testing.assert_allclose(
        observe(case.state, case.parameters, problem.schedule.inputs[0]), case.reference[0], rtol=1e-12
    )


@pytest.mark.parametrize("method", ["odeint (LSODA)", "solve_ivp Radau"])
def test_scipy_comes_to_the_reference_as_its_tolerance_tightens(problem, method):
    from peers.scipy_ import Peer

    peer = Peer(problem, method)
    loose, tight = (problem.value_error(0, peer.simulate(0, rtol)) for rtol in (1e-4, 1e-8))
    assert tight < 1e-6 < loose


def test_our_own_solver_comes_to_the_reference_as_its_tolerance_tightens(problem):
    from peers.ours import Peer

    peer = Peer(problem, "Rodas4")
    loose, tight = (problem.value_error(0, peer.simulate(0, rtol)) for rtol in (1e-2, 1e-7))
    assert tight < 1e-6 < loose


# --------------------------------------------------------------------------- time at an error


def ladder(*points: tuple[float, float]) -> list[Point]:
    return [Point(10.0**-k, error, seconds) for k, (error, seconds) in enumerate(points)]


def test_between_two_rungs_time_is_interpolated_in_logarithms():
    found = matched(ladder((1e-4, 1.0), (1e-6, 4.0)), 1e-5)
    assert found is not None
    assert found.seconds == pytest.approx(2.0)
    assert found.error == 1e-5
    assert found.tolerance == pytest.approx(10**-0.5)


@given(power=st.floats(0.05, 1.0), target=st.floats(1e-7, 1e-4))
def test_a_method_of_known_order_is_read_off_exactly(power, target):
    points = ladder(*((10.0**-k, 10.0 ** (power * k)) for k in range(3, 9)))
    found = matched(points, target)
    assert found is not None
    assert found.seconds == pytest.approx(target**-power, rel=1e-9)


def test_nothing_is_extrapolated_beyond_either_end_of_a_ladder():
    better = matched(ladder((1e-6, 1.0), (1e-8, 2.0)), 1e-5)
    assert better is not None
    assert (better.seconds, better.error) == (1.0, 1e-6)
    assert matched(ladder((1e-2, 1.0), (1e-4, 2.0)), 1e-5) is None
    assert matched([], 1e-5) is None


def test_a_rung_that_another_beats_in_both_error_and_time_does_not_count():
    points = ladder((1e-3, 1.0), (1e-4, 9.0), (1e-5, 2.0), (2e-7, 3.0))
    assert [p.seconds for p in front(points)] == [1.0, 2.0, 3.0]
    assert [p.error for p in bracket(points, 1e-4)] == [1e-3, 1e-5]


def test_the_rungs_to_time_with_care_are_those_next_to_the_error_whatever_time_they_took():
    points = ladder((1e-3, 1.0), (1e-4, 9.0), (1e-6, 2.0), (1e-7, 3.0), (math.inf, 0.1))
    assert [p.error for p in around(points, 1e-5)] == [1e-4, 1e-6]
    assert [p.error for p in around(points, 1e-5, each=2)] == [1e-3, 1e-4, 1e-6, 1e-7]


def test_a_rung_that_failed_in_one_case_does_not_count():
    points = ladder((1e-4, 1.0), (math.inf, 0.5), (1e-6, 4.0))
    assert [p.seconds for p in front(points)] == [1.0, 4.0]


def test_of_several_configurations_the_one_that_gets_there_first_is_taken():
    slow, never, fast = (
        Curve("x", "single", name, ladder(*points))
        for name, points in (
            ("slow", [(1e-4, 2.0), (1e-6, 8.0)]),
            ("never", [(1e-3, 0.1)]),
            ("fast", [(1e-4, 1.0), (1e-6, 4.0)]),
        )
    )
    assert cheapest([slow, never, fast]) is fast
    assert cheapest([never]) is None


# --------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def short_run(problem, tmp_path_factory) -> tuple[Result, problems.Problem]:
    """Our own solver and SciPy's, one case, for a moment."""
    folder = tmp_path_factory.mktemp("bench")
    problem.save(folder)
    plan = Plan(
        cases=1, gradient_cases=0, blocks=1, block_seconds=0.01, configurations=1, fold=2, cores=(1,),
        tasks=("single", "population"),
    )  # fmt: skip
    return measure(folder, [PEERS["scipy"]], plan, {}, lambda _: None), problem


def test_a_run_gives_the_promised_keys_and_serialises(short_run):
    document = json.loads(json.dumps(report.document(*short_run, quick=True), allow_nan=False))
    assert [(row["peer"], row["task"]) for row in document["ratios"]] == [
        ("scipy", "single"),
        ("scipy", "population"),
    ]
    for row in document["ratios"]:
        assert row.keys() >= PROMISED
        assert row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"], rel=1e-2)
        assert row["ours_error"] <= document["matched_error"]
        assert row["peer_error"] <= document["matched_error"]
        assert row["spread"]["min"] <= row["spread"]["median"] <= row["spread"]["max"]
    assert document["problem"]["states"] == len(short_run[1].structure.states)
    assert document["machine"]["cores"] >= 1


def test_the_page_shows_every_ratio_and_its_picture_every_simulator(short_run):
    result, problem = short_run
    text = report.page(report.document(result, problem, quick=False))
    for row in result.rows:
        assert f"| {row['peer']} {row['version']} |" in text
    assert "figures/work-precision.png" in text
    (panel,) = report.figure(result).axes
    shown = {line.get_label() for line in panel.get_lines()}
    assert {"mscrenal", "scipy"} <= shown


def test_a_peer_that_is_not_installed_is_no_error():
    assert installed(OURS)
    assert not installed(Entry("nobody", "nobody_", "no_such_module_here", "nobody"))


def test_a_simulator_that_crashes_is_reported_and_stops_nobody(problem, tmp_path):
    problem.save(tmp_path)
    worker = Remote(Entry("nobody", "no_such_peer", "nobody", "nobody"), tmp_path)
    with pytest.raises(PeerError, match="no_such_peer"):
        worker.ask("describe", timeout=60)
    worker.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--peers", "pydifsol"], "allowed: pydiffsol"), (["--python", "nobody=x"], "--python takes PEER=PATH")],
)
def test_a_wrong_option_says_what_is_allowed(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_quick_run_prints_one_json_document_and_nothing_else():
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--json", "--peers", "scipy"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(run.stdout)["ratios"][0].keys() >= PROMISED


def test_every_peer_has_its_module_and_comes_with_an_extra():
    text = (BENCHMARKS.parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    declared = " ".join(extras["bench"] + extras["bench-amici"])
    for entry in PEERS.values():
        assert (BENCHMARKS / "peers" / f"{entry.module}.py").exists()
        # SciPy is there without an extra.
        assert entry.name == "scipy" or f"{entry.distribution}>=" in declared
