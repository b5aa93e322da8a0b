"""Draws from the priors: named streams, shared parents, and the declared distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest, norm

from mscrenal.calibration import numbered_normals, numbered_uniforms, prior_draws, stream
from mscrenal.calibration import sampling as module
from mscrenal.model import PRODUCTS, sampled_parameters
from mscrenal.model.declare import HalfNormal, LogitNormal, LogNormal, Normal

DRAWN = prior_draws(400, seed=1)
PARAMETERS = sampled_parameters()


def test_every_sampled_parameter_is_drawn_and_nothing_else():
    assert set(DRAWN.values) == set(PARAMETERS)
    assert len(DRAWN) == 400
    assert all(v.shape == (400,) for v in DRAWN.values.values())


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    again, other = prior_draws(400, seed=1), prior_draws(400, seed=2)
    assert again.hash == DRAWN.hash
    assert other.hash != DRAWN.hash
    assert all(np.array_equal(again.values[n], DRAWN.values[n]) for n in DRAWN.values)
    assert not any(np.array_equal(other.values[n], DRAWN.values[n]) for n in DRAWN.values)


def test_more_draws_begin_with_the_fewer():
    few = prior_draws(50, seed=1)
    assert all(np.array_equal(few.values[n], DRAWN.values[n][:50]) for n in few.values)


def test_a_parameter_is_drawn_the_same_when_others_come_and_go_or_change_places(monkeypatch):
    some = {n: PARAMETERS[n] for n in reversed(list(PARAMETERS)) if not n.startswith("drug")}
    some.pop("death")
    monkeypatch.setattr(module, "sampled_parameters", lambda: some)
    fewer = prior_draws(400, seed=1)
    assert "death" not in fewer.values
    assert all(np.array_equal(fewer.values[n], DRAWN.values[n]) for n in some)


def test_streams_are_named_and_do_not_collide():
    a, b = (stream(1, *names).standard_normal(4) for names in (("x", "y"), ("x", "y")))
    assert np.array_equal(a, b)
    others = [
        stream(1, "xy"),
        stream(1, "x", "y", ""),
        stream(1, "y", "x"),
        stream(2, "x", "y"),
        stream(1, "x"),
    ]
    assert not any(np.array_equal(o.standard_normal(4), a) for o in others)


def test_a_borrowed_number_is_drawn_with_its_owner_and_an_own_number_is_not():
    shared = own = 0
    for item in PRODUCTS.values():
        if not item.parent:
            continue
        for p in item.parameters:
            name, parent = f"product.{item.name}.{p.name}", f"product.{item.parent}.{p.name}"
            if name not in PARAMETERS or parent not in PARAMETERS:
                continue
            q = PRODUCTS[item.parent].parameter(p.name)
            if (p.value, p.prior) == (q.value, q.prior):
                assert np.array_equal(DRAWN.values[name], DRAWN.values[parent]), name
                shared += 1
            else:
                assert abs(np.corrcoef(DRAWN.values[name], DRAWN.values[parent])[0, 1]) < 0.25, name
                own += 1
    assert shared > 0
    assert own > 0


def test_two_products_of_the_class_prior_are_drawn_apart():
    a, b = (DRAWN.values[f"product.{n}.potency_metabolic"] for n in ("UC", "placenta"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_parameter_keeps_to_the_support_of_its_prior(name):
    values, prior = DRAWN.values[name], PARAMETERS[name].prior
    assert np.isfinite(values).all()
    if isinstance(prior, LogNormal):
        assert (values > 0).all()
    elif isinstance(prior, LogitNormal):
        assert ((values > 0) & (values < 1)).all()
    elif isinstance(prior, HalfNormal):
        assert (values >= 0).all()


def standardised(name: str) -> np.ndarray:
    """Draws mapped back to the standard normal variable by the textbook formula of the prior."""
    p, v = PARAMETERS[name], DRAWN.values[name]
    if isinstance(p.prior, LogNormal):
        return np.log(v / p.value) / p.prior.sigma
    if isinstance(p.prior, LogitNormal):
        return (np.log(v / (1 - v)) - math.log(p.value / (1 - p.value))) / p.prior.sigma
    if isinstance(p.prior, Normal):
        return (v - p.value) / p.prior.sd
    assert isinstance(p.prior, HalfNormal)
    return norm.ppf(2 * norm.cdf(v / p.prior.scale) - 1)


def test_draws_follow_their_declared_distributions():
    rejected = [n for n in PARAMETERS if kstest(standardised(n), "norm").pvalue < 0.001]
    # At this level one in a thousand is rejected by chance.
    assert len(rejected) <= 3, rejected


def test_the_median_is_that_of_the_prior_and_not_of_the_draws():
    assert prior_draws(1, seed=5).median() == {n: p.value for n, p in PARAMETERS.items()}


def test_one_draw_is_a_mapping_of_plain_numbers():
    theta = DRAWN.at(7)
    assert theta["death"] == DRAWN.values["death"][7]
    assert all(type(v) is float for v in theta.values())
    assert [t["death"] for t in DRAWN] == list(DRAWN.values["death"])


@pytest.mark.parametrize("n", [0, -1, 100_001, 2.0, True, "5"])
def test_an_impossible_number_of_draws_is_refused(n):
    with pytest.raises(ValueError, match="draws must be a whole number from 1 to 100,000"):
        prior_draws(n)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "1"])
def test_an_impossible_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        prior_draws(1, seed)


def test_an_unknown_parameter_offers_the_nearest():
    module.check_names({"death": 0.5})
    with pytest.raises(ValueError, match="Did you mean 'death'"):
        module.check_names({"deaths": 0.5})


# --------------------------------------------------------------------------- numbered numbers


@pytest.mark.parametrize("numbered", [numbered_uniforms, numbered_normals])
def test_any_stretch_of_a_numbered_sequence_is_that_of_the_whole(numbered):
    whole = numbered(3, "population", "eta", first=0, n=500)
    for first, n in ((0, 1), (1, 7), (2, 100), (63, 64), (499, 1), (7, 0)):
        part = numbered(3, "population", "eta", first=first, n=n)
        assert np.array_equal(part, whole[first : first + n])


def test_numbered_sequences_differ_by_seed_name_and_turn_and_are_unrelated():
    n = 4000
    sequences = [
        numbered_normals(1, "a", first=0, n=n),
        numbered_normals(2, "a", first=0, n=n),
        numbered_normals(1, "b", first=0, n=n),
        numbered_normals(1, "a", "b", first=0, n=n),
        numbered_normals(1, "a", first=0, n=n, turn=1),
        numbered_normals(1, "a", first=10**12, n=n),
        numbered_normals(1, "a", first=1, n=n),
    ]
    related = np.abs(np.corrcoef(sequences) - np.eye(len(sequences)))
    assert related.max() < 4 / math.sqrt(n)


def test_numbered_numbers_follow_their_distributions():
    uniforms = numbered_uniforms(1, "a", first=0, n=20_000)
    assert 0 < uniforms.min() < uniforms.max() < 1
    assert kstest(uniforms, "uniform").pvalue > 0.001
    assert kstest(numbered_normals(1, "a", first=0, n=20_000), "norm").pvalue > 0.001


def test_a_negative_place_in_a_sequence_is_refused():
    with pytest.raises(ValueError, match="must be zero or more, got -1, 5 and 0"):
        numbered_uniforms(1, "a", first=-1, n=5)
