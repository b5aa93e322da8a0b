"""Draws of the parameters: of the posterior, or of the priors.

Every parameter has a random stream of its own, named by the seed and the parameter, so that a draw does
not change when another parameter is added, and the same seed gives the same numbers whatever the
number of workers. What was calibrated comes jointly from the posterior's draws, the rest from its prior. A product that borrows a number from another product shares its stream: the
comparison of the two then carries what they do not share, and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from scipy.special import ndtri

from mscrenal.calibration.posterior import Posterior, Source, posterior_of
from mscrenal.model import PRODUCTS, nearest, sampled_parameters
from mscrenal.model.declare import Parameter

__all__ = ["POTENCY", "Draws", "draws", "numbered_normals", "numbered_uniforms", "prior_draws", "stream"]

MOST_DRAWS = 100_000
# The one parameter through which a study's cells may act more or less strongly than others'.
POTENCY = "ec50_effect"


def stream(seed: int, *names: object) -> np.random.Generator:
    """A random generator named by what it is for: the same names give the same numbers."""
    return np.random.default_rng(_digest(seed, names, np.uint32))


def _digest(seed: int, names: tuple[object, ...], kind: type[np.unsignedinteger]) -> np.ndarray:
    """256 bits that stand for a name."""
    text = "\x1f".join(str(n) for n in (seed, *names))
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=kind)


def numbered_uniforms(seed: int, *names: object, first: int, n: int, turn: int = 0) -> np.ndarray:
    """Numbers `first` to ``first + n - 1`` of an endless named sequence, uniform between 0 and 1, (n,).

    Number j depends on (seed, names, turn, j) alone, and any part of the sequence costs the same: virtual patient j
    gets the same number whatever the size of the population and however it is shared out. `stream` does as much for a
    thousandfold of the time, since each patient needs a generator of its own.

    Parameters
    ----------
    seed : int
    names : objects
        What the numbers are for.
    first, n : int
        Zero or more.
    turn : int
        Another number for the same j, where one is drawn again; zero or more.

    Notes
    -----
    Philox (Salmon 2011, doi:10.1145/2063384.2063405) turns a key and a counter into four random words: the name is
    the key, j the counter. Each uniform number takes one word, its upper 52 bits centred between their neighbours,
    so that neither 0 nor 1 comes up.

    Examples
    --------
    >>> whole = numbered_uniforms(1, "age", first=0, n=10)
    >>> bool((numbered_uniforms(1, "age", first=7, n=3) == whole[7:]).all())
    True
    """
    if min(first, n, turn) < 0:
        raise ValueError(f"first, n and turn must be zero or more, got {first}, {n} and {turn}.")
    block, skip = divmod(int(first), 4)
    generator = np.random.Philox(
        key=_digest(seed, names, np.uint64)[:2], counter=np.array([block, turn, 0, 0], dtype=np.uint64)
    )
    words = generator.random_raw(skip + int(n))[skip:]
    return ((words >> np.uint64(12)) + 0.5) * 2.0**-52


def numbered_normals(seed: int, *names: object, first: int, n: int, turn: int = 0) -> np.ndarray:
    """As `numbered_uniforms`, standard normal: one uniform number through the inverse distribution, (n,)."""
    return np.asarray(ndtri(numbered_uniforms(seed, *names, first=first, n=n, turn=turn)))


@dataclass(frozen=True)
class Draws:
    """Joint draws of the sampled parameters.

    Attributes
    ----------
    values : dict of str to ndarray (n,)
        By the names of `sampled_parameters`, in the units declared there.
    origin : {'prior', 'posterior'}
    seed : int
    hash : str
        SHA-256 of names and values.
    middle : mapping of str to float
        Posterior medians of the calibrated parameters; empty for the prior.
    source : mapping
        Of a posterior: what results say of where it comes from.
    """

    values: Mapping[str, np.ndarray]
    origin: str
    seed: int
    hash: str
    middle: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __iter__(self) -> Iterator[dict[str, float]]:
        for k in range(len(self)):
            yield self.at(k)

    def at(self, k: int) -> dict[str, float]:
        """Draw `k` as a mapping of name to value."""
        return {name: float(v[k]) for name, v in self.values.items()}

    def median(self) -> dict[str, float]:
        """The median of each parameter under the posterior or, where it has none, its prior (not of these draws)."""
        return {name: p.value for name, p in sampled_parameters().items()} | dict(self.middle)


def draws(n: int, seed: int = 1, *, source: Source = "posterior") -> Draws:
    """Draw all sampled parameters.

    Parameters
    ----------
    n : int
        Number of draws, 1 to 100,000.
    seed : int
        Zero or more.
    source : {'posterior', 'prior'}, path or Posterior
        The posterior that ships, the priors, or a posterior of one's own.

    Returns
    -------
    Draws
        Of a posterior: its calibrated parameters jointly; the others from their priors, the secretion of products
        that no study of the evidence used with the estimated spread between products. The half-effective dose
        carries the estimated spread between studies: what is predicted is one more study, not the mean of all.

    Raises
    ------
    ValueError
        For a number of draws or a seed out of range.
    PosteriorError
        For a file that is no posterior, or one of another model.
    """
    found = posterior_of(source)
    return prior_draws(n, seed) if found is None else _posterior_draws(found, n, seed)


def prior_draws(n: int, seed: int = 1) -> Draws:
    """Draw all sampled parameters from their priors; arguments and errors as of `draws`."""
    _check_size(n, seed)
    return _hashed(_prior_values(n, seed), "prior", seed)


def _check_size(n: int, seed: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= MOST_DRAWS:
        raise ValueError(f"draws must be a whole number from 1 to {MOST_DRAWS:,}, got {n!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number of zero or more, got {seed!r}.")


def _normals(n: int, seed: int, name: str) -> np.ndarray:
    return stream(int(seed), "prior", _stream_name(name)).standard_normal(int(n))


def _prior_values(n: int, seed: int) -> dict[str, np.ndarray]:
    return {
        name: np.array([parameter.at(float(z)) for z in _normals(n, seed, name)])
        for name, parameter in sampled_parameters().items()
    }


def _hashed(values: Mapping[str, np.ndarray], origin: str, seed: int, **more: Any) -> Draws:
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode() + values[name].tobytes())
    return Draws(values, origin, int(seed), digest.hexdigest(), **more)


def _posterior_draws(posterior: Posterior, n: int, seed: int) -> Draws:
    _check_size(n, seed)
    order = stream(int(seed), "posterior").permutation(len(posterior))
    # Beyond the draws that there are they come again, each time with other values of what keeps its prior.
    taken = order[np.arange(int(n)) % len(order)]
    known = sampled_parameters()
    values = _prior_values(n, seed)
    z = posterior.flat("z")[taken]
    columns = {name: z[:, k] for k, name in enumerate(posterior.parameters)}
    if "between_products" in posterior.hyper_names:
        spread = posterior.hyper("between_products")[taken]
        for name in known:
            if name.startswith("product.") and name.endswith(".secretion") and name not in columns:
                columns[name] = _normals(n, seed, name) * spread
    if POTENCY in columns and "between_studies" in posterior.hyper_names:
        between = posterior.hyper("between_studies")[taken] / float(getattr(known[POTENCY].prior, "sigma"))  # noqa: B009
        columns[POTENCY] = columns[POTENCY] + between * stream(int(seed), "new study").standard_normal(int(n))
    for name, column in columns.items():
        values[name] = np.array([known[name].at(float(x)) for x in column])
    kept = ("version", "model_hash", "evidence_hash", "seed", "studies", "rows")
    source = {k: posterior.provenance[k] for k in kept if k in posterior.provenance}
    return _hashed(values, "posterior", seed, middle=posterior.median(), source=source)


@cache
def _stream_name(name: str) -> str:
    """The name under which a parameter is drawn: a borrowed number, under its owner's."""
    if not name.startswith("product."):
        return name
    _, owner, parameter = name.split(".", 2)
    item = PRODUCTS[owner]
    while item.parent and _same(item.parameter(parameter), PRODUCTS[item.parent].parameter(parameter)):
        item = PRODUCTS[item.parent]
    return f"product.{item.name}.{parameter}"


def _same(a: Parameter, b: Parameter) -> bool:
    return (a.value, a.prior) == (b.value, b.prior)


def check_names(names: Mapping[str, float]) -> None:
    """Raise ValueError for a name that is not sampled, with the nearest that are."""
    known = sampled_parameters()
    for name in names:
        if name not in known:
            raise ValueError(f"No sampled parameter {name!r}.{nearest(name, known)}")
