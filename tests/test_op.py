"""Simulated arms as a likelihood: their values, gradient, failures; under PyMC and nutpie."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.gradient import NullTypeGradError

from mscrenal.calibration import prior_draws
from mscrenal.calibration.op import SimulationOp
from mscrenal.calibration.simulated import REMEMBERED, Simulated, Simulations
from mscrenal.model import RANDOM_EFFECTS, Dose, DrugCourse, Patient, sampled_parameters, simulate

DKD = Patient(drugs=("ras",))
TREATED = Simulated(
    DKD, [Dose(0, 1.0, "UC"), Dose(7, 1.0, "UC", "IV", 0.0)], [DrugCourse("sglt2i", 30.0)], times=[0, 28, 84],
    observables=["egfr", "uacr"], name="UC weekly",
)  # fmt: skip
PLACEBO = Simulated(DKD, times=[28, 84], observables=["uacr"], name="placebo")
RAT = Simulated(
    Patient(species="rat", disease="stz", onset_days=28.0), [Dose(0, 2.0, "AD")], times=[14, 28],
    observables=["fibrosis_area", "uacr"], name="rat",
)  # fmt: skip
ARMS = (TREATED, PLACEBO, RAT)
NAMES = ("nephron_loss_rate", "product.UC.potency_cytoprotection", "m1_loss_rate", "eta_podocyte")
MEDIAN = np.array([sampled_parameters()[n].value if n not in RANDOM_EFFECTS else 2e-4 for n in NAMES])
MODES = ("FAST_RUN", "NUMBA")  # the C linker, or Python's where there is no compiler; and numba


def differences(function, at: np.ndarray, step: float = 2e-3) -> np.ndarray:
    """Jacobian (n_values, n) of a function by extrapolated central differences, each value moved by a part of itself."""
    columns = []
    for k, size in enumerate(np.abs(at)):

        def moved(x: float, k: int = k, size: float = size) -> np.ndarray:
            there = at.copy()
            there[k] += x * size
            return np.array(function(there))

        coarse = (moved(step) - moved(-step)) / (2 * step)
        fine = (moved(step / 2) - moved(-step / 2)) / step
        columns.append((4 * fine - coarse) / 3 / size)
    return np.stack(columns, axis=-1)


# --------------------------------------------------------------------------- the function in NumPy


def test_values_come_arm_by_arm_day_by_day_observable_by_observable():
    simulations = Simulations(ARMS, NAMES)
    found = simulations(MEDIAN)
    theta = dict(zip(NAMES[:3], MEDIAN, strict=False))
    for arm in ARMS:
        patient = arm.patient.replace(eta={"eta_podocyte": MEDIAN[3]})
        run = simulate(patient, arm.doses, arm.courses, theta, arm.times)
        expected = np.column_stack([run.observable(o) for o in arm.observables])
        rows = found.values[simulations.rows(arm.name)].reshape(expected.shape)
        np.testing.assert_allclose(rows, expected, rtol=2e-5)
    assert found.status == ("ok",) * 3
    assert simulations.labels[:3] == (
        ("UC weekly", 0.0, "egfr"),
        ("UC weekly", 0.0, "uacr"),
        ("UC weekly", 28.0, "egfr"),
    )
    assert simulations.labels[-1] == ("rat", 28.0, "uacr")
    assert len(simulations.labels) == len(found.values) == 12


def test_the_jacobian_is_that_of_finite_differences():
    simulations = Simulations(ARMS, NAMES, rtol=1e-9, atol=1e-11)
    expected = differences(lambda x: simulations(x).values, MEDIAN)
    found = simulations(MEDIAN).jacobian
    size = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(found / size, expected / size, rtol=1e-5, atol=1e-6)
    assert not found[simulations.rows("placebo"), 1].any()
    assert not found[simulations.rows("rat"), 1].any()


def test_the_number_of_threads_does_not_change_a_bit():
    arms = [Simulated(DKD, [Dose(k, 1.0, "UC")], times=[28, 84], name=str(k)) for k in range(6)]
    alone = Simulations(arms, NAMES, workers=1)(MEDIAN)
    for workers in (2, 5):
        found = Simulations(arms, NAMES, workers=workers)(MEDIAN)
        assert (found.values == alone.values).all()
        assert (found.jacobian == alone.jacobian).all()


def test_a_point_asked_for_again_is_not_simulated_again():
    simulations = Simulations([PLACEBO], NAMES)
    for _ in range(3):
        simulations(MEDIAN)
    assert simulations.computed == 1
    for k in range(REMEMBERED + 1):
        simulations(MEDIAN * (1 + 1e-3 * (k + 1)))
    simulations(MEDIAN)
    assert simulations.computed == REMEMBERED + 3


def test_what_is_remembered_cannot_be_written_over():
    found = Simulations([PLACEBO], NAMES)(MEDIAN)
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 1.0


def test_parameters_that_the_vector_does_not_hold_are_those_of_theta():
    theta = prior_draws(1, seed=4).at(0)
    found = Simulations([PLACEBO], ["m1_loss_rate"], theta=theta)([theta["m1_loss_rate"]])
    run = simulate(DKD, (), (), theta, PLACEBO.times)
    np.testing.assert_allclose(found.values, run.observable("uacr"), rtol=2e-5)


def test_each_arm_can_have_a_random_effect_of_its_own():
    patients = [
        Simulated(DKD, times=[365], name=f"patient {k}", known_as={"eta_nephron": f"eta {k}"}) for k in (1, 2)
    ]
    simulations = Simulations(patients, ["eta 1", "nephron_loss_rate", "eta 2"])
    at = np.array([-2e-4, MEDIAN[0], 2e-4])
    found = simulations(at)
    assert found.values[0] != found.values[1]
    assert found.jacobian[0, 2] == found.jacobian[1, 0] == 0.0
    assert (found.jacobian[[0, 1], [0, 2]] != 0).all()
    assert (found.jacobian[:, 1] != 0).all()
    mirrored = simulations(at[::-1].copy() * [1, 1, 1])
    np.testing.assert_allclose(mirrored.values, found.values[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((-1.0, 1.0, 1.0, 0.0), "nephron_loss_rate must be positive"),
        ((1e-4, 1.0, np.nan, 0.0), "m1_loss_rate must be a finite number"),
    ],
)
def test_a_value_that_a_parameter_cannot_have_gives_nan_and_a_reason(values, reason):
    simulations = Simulations([PLACEBO], NAMES)
    found = simulations(values)
    assert found.status == ("out-of-range",)
    assert found.messages[0].startswith(reason)
    assert np.isnan(found.values).all()
    assert np.isnan(found.jacobian).all()
    assert simulations.failures[-1][:2] == ("placebo", "out-of-range")


def test_an_arm_that_fails_leaves_the_others_alone():
    nobody = Simulated(DKD.replace(egfr=149.0), times=[28], name="nobody")
    simulations = Simulations([PLACEBO, nobody], NAMES)
    found = simulations(MEDIAN)
    assert found.status == ("ok", "initial-state")
    assert np.isfinite(found.values[simulations.rows("placebo")]).all()
    assert np.isfinite(found.jacobian[simulations.rows("placebo")]).all()
    assert np.isnan(found.values[simulations.rows("nobody")]).all()
    assert np.isnan(found.jacobian[simulations.rows("nobody")]).all()


def test_another_process_gets_the_same_numbers():
    simulations = Simulations([PLACEBO, TREATED], NAMES, workers=2)
    here = simulations(MEDIAN)
    again = pickle.loads(pickle.dumps(simulations))
    assert again.computed == 0
    assert (again(MEDIAN).jacobian == here.jacobian).all()


@pytest.mark.parametrize(
    ("arms", "names", "error", "says"),
    [
        ([PLACEBO], ["nephron_los_rate"], KeyError, "Did you mean 'nephron_loss_rate'"),
        ([Simulated(DKD, observables=["egrf"])], NAMES, KeyError, "Did you mean 'egfr'"),
        ([PLACEBO], [NAMES[0], NAMES[0]], ValueError, "name 'nephron_loss_rate' stands twice"),
        ([PLACEBO, PLACEBO], NAMES, ValueError, "arm 'placebo' stands twice"),
        ([], NAMES, ValueError, "no arm is simulated"),
        ([Simulated(DKD, known_as={"eta_nephrn": "a"})], ["a"], KeyError, "Did you mean 'eta_nephron'"),
        ([Simulated(DKD, known_as={"eta_nephron": "b"})], ["a"], KeyError, "none of the names given"),
    ],
)
def test_slips_are_refused_with_the_nearest_that_is_allowed(arms, names, error, says):
    with pytest.raises(error, match=says):
        Simulations(arms, names)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 4 values"):
        Simulations([PLACEBO], NAMES)(MEDIAN[:2])
    with pytest.raises(KeyError, match="Did you mean 'placebo'"):
        Simulations([PLACEBO], NAMES).rows("placbo")


# --------------------------------------------------------------------------- the Op


def compiled(inputs, outputs, mode):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")  # of the machine, not of us
        return pytensor.function(inputs, outputs, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_op_gives_values_and_jacobian(mode):
    op = SimulationOp(ARMS, NAMES)
    theta = pt.dvector("theta")
    values, jacobian = compiled([theta], op(theta), mode)(MEDIAN)
    found = op.simulations(MEDIAN)
    assert (values == found.values).all()
    assert (jacobian == found.jacobian).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_a_density_is_that_of_finite_differences_and_computed_once(mode):
    op = SimulationOp([TREATED, PLACEBO], NAMES, rtol=1e-8, atol=1e-10)
    theta = pt.dvector("theta")
    target = op.simulations(MEDIAN * [1.02, 0.9, 1.1, 2.0]).values
    density = -0.5 * (((op(theta)[0] - target) / (0.05 * target)) ** 2).sum()
    both = compiled([theta], [density, pytensor.grad(density, theta)], mode)
    before = op.simulations.computed
    _, found = both(MEDIAN)
    assert op.simulations.computed == before + 1
    expected = differences(lambda x: both(x)[0], MEDIAN)
    size = np.abs(expected * MEDIAN).max()
    np.testing.assert_allclose(found * MEDIAN, expected * MEDIAN, rtol=1e-4, atol=1e-5 * size)


def test_the_gradient_is_the_cotangent_times_the_jacobian():
    op = SimulationOp([TREATED], NAMES)
    theta, cotangent = pt.dvector("theta"), pt.dvector("cotangent")
    pulled = pytensor.grad(None, theta, known_grads={op(theta)[0]: cotangent})
    weights = np.arange(6.0)
    found = compiled([theta, cotangent], pulled, "FAST_RUN")(MEDIAN, weights)
    np.testing.assert_allclose(found, weights @ op.simulations(MEDIAN).jacobian, rtol=1e-12)


def test_numba_compiles_the_op_without_a_warning():
    op = SimulationOp([PLACEBO], NAMES)
    theta = pt.dvector("theta")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")
        function = pytensor.function([theta], op(theta), mode="NUMBA")
    assert function(MEDIAN)[0].shape == (2,)


def test_there_are_no_second_derivatives_and_it_says_so():
    op = SimulationOp([PLACEBO], NAMES)
    theta = pt.dvector("theta")
    with pytest.raises(NullTypeGradError, match="no second derivatives"):
        pytensor.grad(op(theta)[1].sum(), theta)


def test_shapes_are_known_without_simulating():
    op = SimulationOp(ARMS, NAMES)
    values, jacobian = op(pt.dvector("theta"))
    assert values.type.shape == (12,)
    assert jacobian.type.shape == (12, 4)
    assert op.simulations.computed == 0


@pytest.mark.parametrize("theta", [pt.dmatrix("m"), pt.as_tensor_variable(np.zeros(3))])
def test_what_is_no_vector_of_the_right_length_is_refused(theta):
    with pytest.raises(ValueError, match="theta must be a vector of 4 values"):
        SimulationOp([PLACEBO], NAMES)(theta)


def test_scalars_by_name_are_put_in_order():
    op = SimulationOp([PLACEBO], NAMES)
    by_name = dict(zip(NAMES[::-1], MEDIAN[::-1], strict=True))
    assert (op.values(by_name).eval() == op.simulations(MEDIAN).values).all()
    with pytest.raises(KeyError, match="missing: m1_loss_rate; unknown: m1_los_rate"):
        op.values({("m1_los_rate" if n == "m1_loss_rate" else n): x for n, x in by_name.items()})


def test_the_op_survives_the_way_to_another_process():
    op = SimulationOp([PLACEBO, TREATED], NAMES)
    again = cloudpickle.loads(cloudpickle.dumps(op))
    assert (again.compute(MEDIAN)[1] == op.compute(MEDIAN)[1]).all()


# --------------------------------------------------------------------------- the extra


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


def test_the_package_of_calibration_imports_neither_pymc_nor_pytensor():
    code = "import sys, mscrenal.calibration, mscrenal.calibration.simulated; print(sorted({'pymc', 'pytensor', 'numba'} & set(sys.modules)))"
    assert python(code).strip() == "[]"


def test_without_pytensor_the_error_names_the_extra():
    said = python("import sys; sys.modules['pytensor'] = None; import mscrenal.calibration.op")
    assert 'pip install "mscrenal[calibrate]"' in said


# --------------------------------------------------------------------------- in a PyMC model

DAYS = (180.0, 365.0, 545.0, 730.0)
TINY = Simulated(DKD, times=DAYS, observables=["egfr", "uacr"])
FREE = ("nephron_loss_rate", "podocyte_loss_rate")
TRUTH = np.array([sampled_parameters()[n].value for n in FREE]) * [1.05, 0.8]


def tiny_model() -> tuple[pm.Model, SimulationOp]:
    """Two rates of loss seen through two years of eGFR and UACR."""
    op = SimulationOp([TINY], FREE)
    random = np.random.default_rng(8)
    seen = op.simulations(TRUTH).values.reshape(len(DAYS), 2)
    egfr = seen[:, 0] + 0.3 * random.standard_normal(len(DAYS))
    uacr = np.log(seen[:, 1]) + 0.01 * random.standard_normal(len(DAYS))
    with pm.Model() as model:
        rates = {
            n: pm.LogNormal(
                n, mu=np.log(sampled_parameters()[n].value), sigma=sampled_parameters()[n].prior.sigma
            )
            for n in FREE
        }
        predicted = op.values(rates).reshape((len(DAYS), 2))
        pm.Normal("egfr", predicted[:, 0], 0.3, observed=egfr)
        pm.Normal("log_uacr", pt.log(predicted[:, 1]), 0.01, observed=uacr)
    return model, op


def test_the_density_of_a_model_has_the_gradient_of_finite_differences():
    model, _ = tiny_model()
    density, slope = model.compile_logp(mode="FAST_RUN"), model.compile_dlogp(mode="FAST_RUN")

    def point(x: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{name}_log__": np.asarray(value) for name, value in zip(FREE, x, strict=True)}

    at = np.log(TRUTH)
    # Steps large enough for the tolerance that is used.
    expected = differences(lambda x: density(point(x)), at, step=2e-3)
    np.testing.assert_allclose(slope(point(at)), expected, rtol=2e-2, atol=2e-3 * np.abs(expected).max())


def test_a_failed_simulation_is_a_density_that_no_sampler_accepts():
    op = SimulationOp([TINY], FREE)
    with pm.Model() as model:
        x = pm.Normal("x", 1.0, 1.0)
        predicted = op.values({FREE[0]: TRUTH[0] * x, FREE[1]: TRUTH[1]})
        pm.Normal("y", predicted, 1.0, observed=op.simulations(TRUTH).values)
    density = model.compile_logp(mode="FAST_RUN")
    assert np.isfinite(density({"x": 1.0}))
    assert not np.isfinite(density({"x": -1.0}))


def sampled(model: pm.Model, sampler: str, seed: int, n: int = 300):
    """Draws by name, of one chain."""
    if sampler == "nutpie":
        import nutpie

        trace = nutpie.sample(
            nutpie.compile_pymc_model(model),
            draws=n,
            tune=200,
            chains=1,
            cores=1,
            seed=seed,
            progress_bar=False,
        )
    else:
        with model:
            trace = pm.sample(
                n, tune=200, chains=1, cores=1, random_seed=seed, progressbar=False,
                compute_convergence_checks=False,
            )  # fmt: skip
    return {name: np.asarray(trace.posterior[name]).ravel() for name in trace.posterior.data_vars}


@pytest.mark.slow
def test_pymc_and_nutpie_recover_the_truth_and_agree():
    model, _ = tiny_model()
    found = {sampler: sampled(model, sampler, seed=3) for sampler in ("pymc", "nutpie")}
    for k, name in enumerate(FREE):
        one, other = found["pymc"][name], found["nutpie"][name]
        spread = one.std()
        assert 0.5 < spread / other.std() < 2.0
        assert spread < 0.6 * sampled_parameters()[name].value * sampled_parameters()[name].prior.sigma
        for draws_of in (one, other):
            assert abs(draws_of.mean() - TRUTH[k]) < 3 * spread
        # 300 draws are worth 60 independent ones or more: five standard errors of the difference.
        assert abs(one.mean() - other.mean()) < 5 * spread * np.sqrt(2 / 60)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["pymc", "nutpie"])
def test_a_chain_goes_on_past_simulations_that_fail(sampler):
    op = SimulationOp([TINY], FREE)
    with pm.Model() as model:
        # A rate with a third of its prior below zero, and data that say little.
        x = pm.Normal("x", 0.4, 0.9, initval=0.5)
        predicted = op.values({FREE[0]: TRUTH[0] * x, FREE[1]: TRUTH[1]}).reshape((len(DAYS), 2))
        pm.Normal("y", predicted[:, 0], 40.0, observed=op.simulations(TRUTH).values.reshape(-1, 2)[:, 0])
    found = sampled(model, sampler, seed=5)["x"]
    assert len(found) == 300
    assert (found > 0).all()
    assert len(np.unique(found)) > 50
    assert {status for _, status, _ in op.simulations.failures} == {"out-of-range"}
