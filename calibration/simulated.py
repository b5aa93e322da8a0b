"""Several simulated arms as one function of a vector of parameters: what they predict, and its Jacobian.

Plain NumPy: an optimiser can call it as it is, and `mscrenal.calibration.op` gives it to PyMC.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mscrenal.model import RANDOM_EFFECTS, Dose, DrugCourse, Patient, nearest, sampled_parameters
from mscrenal.model.declare import HalfNormal, LogitNormal, LogNormal
from mscrenal.model.gradient import ATOL, RTOL, PreparedGradient

__all__ = ["Evaluated", "Simulated", "Simulations"]

# A sampler asks for the density and its gradient at one point in turn, and chains may share the function.
REMEMBERED = 16
MOST_FAILURES = 100


@dataclass(frozen=True)
class Simulated:
    """One arm: who is treated how, and what is observed when.

    Parameters
    ----------
    patient, doses, courses, knock_out, resets
        As of `mscrenal.model.simulate`.
    times : sequence of float (n_times,)
        Days, increasing.
    observables : sequence of str
    name : str
        Of the arm, for labels and messages; empty: its number.
    known_as : mapping of str to str
        Parameters or random effects that are this arm's own, and the name under which the vector holds them, such
        as ``{"eta_nephron": "eta_nephron, patient 3"}``. Others are known by their own name.
    blind_to : collection of str
        Names of the vector whose derivatives this arm leaves out, because they are known to be zero or not to matter;
        the values still follow them.
    """

    patient: Patient
    doses: Sequence[Dose] = ()
    courses: Sequence[DrugCourse] = ()
    times: Sequence[float] = (0.0,)
    observables: Sequence[str] = ("egfr",)
    knock_out: Collection[str] = ()
    resets: Sequence[float] = ()
    name: str = ""
    known_as: Mapping[str, str] = field(default_factory=dict)
    blind_to: Collection[str] = ()


@dataclass(frozen=True)
class Evaluated:
    """What the arms predict.

    Attributes
    ----------
    values : ndarray (n_values,)
        Arm by arm, within an arm day by day, within a day observable by observable, in the order given:
        those of an arm are ``values[simulations.rows(arm)].reshape(n_times, n_observables)``.
    jacobian : ndarray (n_values, n_names)
    status, messages : tuple of str, one an arm
        As of `mscrenal.model.gradient.Gradient`, and 'out-of-range' for a value that the parameter cannot have; the
        numbers of an arm that failed are NaN.
    """

    values: np.ndarray
    jacobian: np.ndarray
    status: tuple[str, ...]
    messages: tuple[str, ...]


class Simulations:
    """Arms as a function of the values of some parameters, with its Jacobian.

    Parameters
    ----------
    arms : sequence of Simulated
    names : sequence of str
        What the vector holds, in its order: names of `sampled_parameters`, of `RANDOM_EFFECTS` (which replace the
        patient's own), or names that an arm gives in `known_as`.
    theta : mapping of str to float, optional
        Values of parameters that the vector does not hold; missing ones take their median.
    workers : int, optional
        Threads among which the arms are shared; default as many as processors. The numbers do not depend on it.
    rtol, atol : float
        As of `mscrenal.model.gradient.gradient`.

    Attributes
    ----------
    labels : tuple of (arm, day, observable)
        Of each value.
    failures : deque of (arm, status, message)
        The latest simulations that failed, up to 100.
    computed : int
        How often the arms were simulated; a point asked for again is remembered.

    Raises
    ------
    KeyError
        For an unknown name or observable, with the nearest that there is.
    ValueError
        For no arm, a name given twice, or two arms of one name.
    """

    def __init__(
        self,
        arms: Sequence[Simulated],
        names: Sequence[str],
        *,
        theta: Mapping[str, float] | None = None,
        workers: int | None = None,
        rtol: float = RTOL,
        atol: float = ATOL,
    ) -> None:
        self.arms, self.names, self.theta = tuple(arms), tuple(names), dict(theta or {})
        self.workers, self.rtol, self.atol = workers, rtol, atol
        self.arm_names = tuple(arm.name or str(k) for k, arm in enumerate(self.arms))
        self._check()
        self._members = [self._members_of(arm) for arm in self.arms]
        self._moving = [
            {name: column for name, column in mine.items() if self.names[column] not in arm.blind_to}
            for arm, mine in zip(self.arms, self._members, strict=True)
        ]
        self._ready = [
            PreparedGradient(
                arm.patient, arm.doses, arm.courses, tuple(moving), arm.times, arm.observables,
                knock_out=arm.knock_out, resets=arm.resets,
            )
            for arm, moving in zip(self.arms, self._moving, strict=True)
        ]  # fmt: skip
        self.labels = tuple(
            (name, float(day), observable)
            for name, arm in zip(self.arm_names, self.arms, strict=True)
            for day in arm.times
            for observable in arm.observables
        )
        sizes = [len(arm.times) * len(arm.observables) for arm in self.arms]
        ends = np.cumsum(sizes)
        self._rows = [slice(int(e) - n, int(e)) for n, e in zip(sizes, ends, strict=True)]
        self.failures: deque[tuple[str, str, str]] = deque(maxlen=MOST_FAILURES)
        self.computed = 0
        self._remembered: OrderedDict[bytes, Evaluated] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code has addresses of one process: another one prepares the arms anew.
        return _rebuilt, (self.arms, self.names, self.theta, self.workers, self.rtol, self.atol)

    def rows(self, arm: str) -> slice:
        """Where the values of an arm stand, by its name."""
        if arm not in self.arm_names:
            raise KeyError(f"No arm {arm!r}.{nearest(arm, self.arm_names)}")
        return self._rows[self.arm_names.index(arm)]

    def __call__(self, values: Sequence[float] | np.ndarray) -> Evaluated:
        """Simulate all arms.

        Parameters
        ----------
        values : array-like (n_names,)
            In the order of `names`, on the natural scale.

        Returns
        -------
        Evaluated
            Its arrays are remembered and read-only. An arm that fails is NaN, never an exception.
        """
        at = np.array(values, dtype=np.float64)
        if at.shape != (len(self.names),):
            raise ValueError(
                f"expected {len(self.names)} values, one for each name, got an array of shape {at.shape}."
            )
        key = at.tobytes()
        with self._lock:
            known = self._remembered.get(key)
        if known is not None:
            return known
        found = self._evaluate(at)
        with self._lock:
            self.computed += 1
            self._remembered[key] = found
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            for name, status, message in zip(self.arm_names, found.status, found.messages, strict=True):
                if status != "ok":
                    self.failures.append((name, status, message))
        return found

    def _evaluate(self, at: np.ndarray) -> Evaluated:
        values = np.full(len(self.labels), np.nan)
        jacobian = np.zeros((len(values), len(self.names)))

        def run(k: int) -> tuple[str, str]:
            return self._arm(k, at, values[self._rows[k]], jacobian[self._rows[k]])

        workers = min(self.workers or os.cpu_count() or 1, len(self.arms))
        every = range(len(self.arms))
        outcome = list(map(run, every) if workers == 1 else self._threads(workers).map(run, every))
        values.flags.writeable = jacobian.flags.writeable = False
        return Evaluated(values, jacobian, tuple(s for s, _ in outcome), tuple(m for _, m in outcome))

    def _arm(self, k: int, at: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> tuple[str, str]:
        """Simulate arm k into its rows; its status and message."""
        mine = self._members[k]
        theta = self.theta | {n: float(at[c]) for n, c in mine.items() if n not in RANDOM_EFFECTS}
        eta = {n: float(at[c]) for n, c in mine.items() if n in RANDOM_EFFECTS}
        fault = next((text for n, x in {**theta, **eta}.items() if (text := _out_of_range(n, x))), "")
        if fault:
            jacobian[:] = np.nan
            return "out-of-range", fault
        found = self._ready[k].at(theta, eta, rtol=self.rtol, atol=self.atol)
        if found.status != "ok":
            jacobian[:] = np.nan
            return found.status, found.message
        values[:] = found.values.ravel()
        slopes = found.derivatives.reshape(len(values), -1)
        for i, column in enumerate(self._moving[k].values()):
            jacobian[:, column] += slopes[:, i]
        return "ok", ""

    def _threads(self, workers: int) -> ThreadPoolExecutor:
        # Threads do not survive a fork: a child process makes its own.
        with self._lock:
            if self._pool is None or self._pool[0] != os.getpid():
                self._pool = os.getpid(), ThreadPoolExecutor(workers, "mscrenal-arms")
            return self._pool[1]

    def _members_of(self, arm: Simulated) -> dict[str, int]:
        """What of the vector this arm reads: its own names, and their columns."""
        own = {known: name for name, known in arm.known_as.items()}
        taken = set(arm.known_as)
        out: dict[str, int] = {}
        for column, name in enumerate(self.names):
            if name in own:
                out[own[name]] = column
            elif (name in RANDOM_EFFECTS or name in sampled_parameters()) and name not in taken:
                out[name] = column
        return out

    def _check(self) -> None:
        if not self.arms:
            raise ValueError("no arm is simulated. Give one or more.")
        for what, given in (("name", self.names), ("arm", self.arm_names)):
            twice = sorted({n for n in given if given.count(n) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands twice. Give each {what} once.")
        known = {*sampled_parameters(), *RANDOM_EFFECTS}
        for arm in self.arms:
            for name, other in arm.known_as.items():
                if name not in known:
                    raise KeyError(f"known_as: no parameter {name!r}.{nearest(name, known)}")
                if other not in self.names:
                    raise KeyError(
                        f"known_as: {other!r} is none of the names given.{nearest(other, self.names)}"
                    )
        allowed = known | {other for arm in self.arms for other in arm.known_as.values()}
        for name in self.names:
            if name not in allowed:
                raise KeyError(f"No sampled parameter {name!r}.{nearest(name, allowed)}")
        for name in self.theta:
            if name not in sampled_parameters():
                raise KeyError(f"theta: no sampled parameter {name!r}.{nearest(name, sampled_parameters())}")


def _rebuilt(
    arms: Sequence[Simulated],
    names: Sequence[str],
    theta: Mapping[str, float],
    workers: int | None,
    rtol: float,
    atol: float,
) -> Simulations:
    return Simulations(arms, names, theta=theta, workers=workers, rtol=rtol, atol=atol)


def _out_of_range(name: str, value: float) -> str:
    """What is wrong with a value that a parameter cannot have; empty if nothing is."""
    if not np.isfinite(value):
        return f"{name} must be a finite number, got {value:g}."
    if name in RANDOM_EFFECTS:
        return ""
    prior = sampled_parameters()[name].prior
    if isinstance(prior, LogNormal) and not value > 0:
        return f"{name} must be positive, got {value:g}."
    if isinstance(prior, HalfNormal) and not value >= 0:
        return f"{name} must be zero or more, got {value:g}."
    if isinstance(prior, LogitNormal) and not 0 < value < 1:
        return f"{name} must lie between 0 and 1, got {value:g}."
    return ""
