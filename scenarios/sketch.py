"""Quantiles of numbers that are counted and let go: histograms of fixed bins whose merging is integer addition.

The bins are those of the floating-point numbers themselves: each power of two is cut into 512 equal parts, which the
exponent and the first nine bits of the fraction name. No logarithm is taken, so that a number falls into the same
bin on every machine, and merging in any order gives the same counts. A number is read back as the middle of its bin,
at most `RELATIVE_ERROR` from it; as in DDSketch (Masson 2019, doi:10.14778/3352063.3352135), but with equal parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "RELATIVE_ERROR", "SMALLEST", "Sketch"]

BITS = 9  # of the fraction
# Half a bin, relative to the bottom of it; the bins are narrowest there, relative to their numbers widest.
RELATIVE_ERROR = 2.0 ** -(BITS + 1)
# What is nearer to zero than a billionth counts as zero, and a number beyond a trillion as infinite.
SMALLEST, LARGEST = 2.0**-30, 2.0**40
_SHIFT = 52 - BITS


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Exponent and leading bits of the fraction of positive numbers, in their order."""
    return values.view(np.int64) >> _SHIFT


_FIRST = int(_bits(np.array([SMALLEST]))[0])
_BEYOND = int(_bits(np.array([LARGEST]))[0]) - _FIRST + 1


def _codes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each number: 0 for zero, 1 and up for positive ones, -1 and down for negative ones."""
    size = np.abs(values)
    inside = np.clip(_bits(size) - _FIRST + 1, 0, _BEYOND)
    return np.where(values < 0, -inside, inside)


def _middles(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The number that stands for each bin."""
    at = np.abs(codes)
    edges = [((at + _FIRST - 1 + step) << _SHIFT).view(np.float64) for step in (0, 1)]
    middle = np.where(at == 0, 0.0, np.where(at >= _BEYOND, np.inf, 0.5 * (edges[0] + edges[1])))
    return np.where(codes < 0, -middle, middle)


class Sketch:
    """Counts of numbers in every cell of a table.

    Parameters
    ----------
    shape : sequence of int
        The cells, for instance (n_arms, n_times).

    Attributes
    ----------
    counts : ndarray of int (*shape, width)
        Numbers in the bins from `low` on; both widen with what is added.
    low : int
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.low = 0
        self.counts: NDArray[np.integer] = np.zeros((*shape, 0), dtype=np.int64)

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Sketch:
        """The sketch of some numbers, (n, *shape), those that are not NaN."""
        values = np.ascontiguousarray(values, dtype=np.float64)
        made = cls(values.shape[1:])
        cells = values.reshape(len(values), -1)
        n_cells, known = cells.shape[1], ~np.isnan(cells)
        codes = _codes(np.where(known, cells, 0.0))
        if known.any():
            made.low = int(codes[known].min())
            width = int(codes[known].max()) - made.low + 1
            at = (codes - made.low + width * np.arange(n_cells))[known]
            counts = np.bincount(at, minlength=n_cells * width).reshape(*values.shape[1:], width)
            # As small as it goes: it travels.
            made.counts = counts.astype(np.min_scalar_type(len(values)))
        return made

    @property
    def n(self) -> NDArray[np.int64]:
        """How many numbers were counted, (*shape)."""
        return np.asarray(self.counts.sum(axis=-1, dtype=np.int64))

    @property
    def beyond(self) -> NDArray[np.int64]:
        """How many of them are out of range: infinite, or beyond `LARGEST` either way, (*shape)."""
        codes = np.abs(self.low + np.arange(self.counts.shape[-1]))
        return np.asarray(self.counts[..., codes >= _BEYOND].sum(axis=-1, dtype=np.int64))

    def add(self, other: Sketch) -> None:
        """Count what another sketch of the same shape has counted."""
        if not other.counts.shape[-1]:
            return
        parts = [s for s in (self, other) if s.counts.shape[-1]]
        low, high = min(s.low for s in parts), max(s.low + s.counts.shape[-1] for s in parts)
        if (low, high - low, np.int64) != (self.low, self.counts.shape[-1], self.counts.dtype):
            wider = np.zeros((*self.counts.shape[:-1], high - low), dtype=np.int64)
            if self.counts.shape[-1]:
                wider[..., self.low - low : self.low - low + self.counts.shape[-1]] = self.counts
            self.low, self.counts = low, wider
        start = other.low - self.low
        self.counts[..., start : start + other.counts.shape[-1]] += other.counts

    def quantile(self, q: float) -> NDArray[np.float64]:
        """Quantile of each cell, (*shape): linear between the two neighbouring numbers, as `numpy.quantile`.

        Where these have one sign the quantile is within `RELATIVE_ERROR` of the exact one; else each of the two is.
        NaN where nothing was counted; infinite where it lies out of range.
        """
        n = self.n
        if not self.counts.shape[-1]:
            return np.full(n.shape, np.nan)
        place = q * np.maximum(n - 1, 0)
        below = np.floor(place)
        weight = place - below
        reached = np.cumsum(self.counts, axis=-1, dtype=np.int64)
        first, second = (
            _middles(self.low + np.argmax(reached > rank[..., np.newaxis], axis=-1))
            for rank in (below, np.minimum(below + 1, np.maximum(n - 1, 0)))
        )
        with np.errstate(
            invalid="ignore"
        ):  # infinity less infinity, and none of infinity: then `first` is it
            between = np.where((first == second) | (weight == 0), first, first + weight * (second - first))
        return np.where(n > 0, between, np.nan)
