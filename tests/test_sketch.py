"""Sketches: counts that merge in any order to the same, and quantiles within the stated error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mscrenal.scenarios.sketch import LARGEST, RELATIVE_ERROR, SMALLEST, Sketch

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
positive = st.floats(1e-6, 1e9)
anything = st.one_of(
    st.floats(-1e9, 1e9), st.sampled_from((0.0, -0.0, 1e-300, 1e300, np.nan, np.inf, -np.inf))
)


def tables(elements, most: int = 30):
    """Numbers (n, 2, 3)."""
    return st.integers(1, most).flatmap(lambda n: arrays(np.float64, (n, 2, 3), elements=elements))


def merged(*parts: Sketch) -> Sketch:
    total = Sketch((2, 3))
    for part in parts:
        total.add(part)
    return total


def same(a: Sketch, b: Sketch) -> bool:
    return a.low == b.low and np.array_equal(a.counts, b.counts)


@given(tables(anything), tables(anything), tables(anything))
def test_merging_is_commutative_and_associative_to_the_last_count(x, y, z):
    a, b, c = (Sketch.of(values) for values in (x, y, z))
    assert same(merged(a, b, c), merged(c, a, b))
    assert same(merged(merged(a, b), c), merged(a, merged(b, c)))


@given(tables(anything), tables(anything))
def test_a_merged_sketch_is_that_of_all_numbers(x, y):
    both = np.concatenate([x, y])
    assert same(merged(Sketch.of(x), Sketch.of(y)), merged(Sketch.of(both)))


@given(tables(anything))
def test_every_number_but_nan_is_counted(x):
    assert np.array_equal(Sketch.of(x).n, (~np.isnan(x)).sum(axis=0))


@given(tables(positive), st.sampled_from(QUANTILES))
def test_a_quantile_of_positive_numbers_is_within_the_stated_error(x, q):
    exact = np.quantile(x, q, axis=0)
    assert np.all(np.abs(Sketch.of(x).quantile(q) - exact) <= RELATIVE_ERROR * exact * (1 + 1e-12))


@given(tables(st.floats(-1e9, 1e9)), st.sampled_from(QUANTILES))
def test_a_quantile_between_signs_errs_by_no_more_than_its_neighbours_do(x, q):
    exact = np.quantile(x, q, axis=0)
    place = q * (len(x) - 1)
    ordered = np.sort(x, axis=0)
    size = np.maximum(*(np.abs(ordered[int(f(place))]) for f in (np.floor, np.ceil)))
    assert np.all(np.abs(Sketch.of(x).quantile(q) - exact) <= RELATIVE_ERROR * size + SMALLEST)


def test_many_lognormal_numbers_keep_the_error_and_mirror_the_negative_ones():
    rng = np.random.default_rng(1)
    x = np.exp(rng.normal(3, 2, (20_000, 1)))
    for q in QUANTILES:
        exact = np.quantile(x, q, axis=0)
        assert Sketch.of(x).quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR)
        assert Sketch.of(-x).quantile(1 - q) == pytest.approx(-Sketch.of(x).quantile(q), rel=1e-12)


def test_zero_and_what_is_next_to_nothing_are_zero():
    x = np.array([[0.0], [-0.0], [SMALLEST / 2], [-SMALLEST / 2], [5e-324]])
    sketch = Sketch.of(x)
    assert sketch.counts.shape == (1, 1)
    assert sketch.quantile(0.5) == 0.0
    assert sketch.n == 5


def test_what_is_out_of_range_is_counted_and_never_a_finite_number():
    x = np.array([[np.inf], [2 * LARGEST], [1.0], [-np.inf]])
    sketch = Sketch.of(x)
    assert sketch.beyond == 3
    assert sketch.quantile(1.0) == np.inf
    assert sketch.quantile(0.0) == -np.inf


def test_nothing_has_no_quantile():
    nothing = Sketch.of(np.full((4, 2), np.nan))
    assert np.isnan(nothing.quantile(0.5)).all()
    assert np.isnan(Sketch((2,)).quantile(0.5)).all()
    half = Sketch.of(np.array([[1.0, np.nan], [3.0, np.nan]]))
    assert np.isnan(half.quantile(0.5)[1])
    assert half.quantile(0.5)[0] == pytest.approx(2.0, rel=RELATIVE_ERROR)


def test_a_sketch_grows_with_the_spread_of_the_numbers_and_not_with_their_count():
    rng = np.random.default_rng(2)
    few, many = (merged_of(rng.uniform(30, 60, (n, 1))) for n in (1000, 50_000))
    # 1,000 and 50,000 numbers between 30 and 60: what is left to grow are the rare outermost bins.
    assert many.counts.nbytes < 1.05 * few.counts.nbytes


def merged_of(values: np.ndarray) -> Sketch:
    total = Sketch(values.shape[1:])
    for part in np.array_split(values, 20):
        total.add(Sketch.of(part))
    return total
