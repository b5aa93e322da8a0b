"""Simulated arms as a PyTensor Op: the likelihood of a PyMC model, with its gradient.

Needs the extra ``calibrate`` (PyMC 5 or later). Runs under PyTensor 2 and 3, on the C and the numba backend, and is
sampled by PyMC's NUTS and by nutpie. See docs/gradients.md for a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mscrenal.calibration.predictions import Predictions
from mscrenal.calibration.simulated import Simulated, Simulations

try:
    import pytensor.tensor as pt
    from pytensor.gradient import DisconnectedType, grad_undefined
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
    from pytensor.link.numba.dispatch.basic import numba_funcify, numba_njit
except ImportError as error:
    raise ImportError(
        f"mscrenal.calibration.op needs PyTensor, which is not there ({error}). "
        'Install the extra that brings it, and PyMC: pip install "mscrenal[calibrate]".'
    ) from error

__all__ = ["PredictionOp", "Simulated", "SimulationOp", "Simulations"]


class _FunctionOp(Op):
    """A NumPy function of a vector, with its Jacobian, as an Op: ``values, jacobian = op(vector)``."""

    def __init__(self, function: Callable[[np.ndarray], Any], names: Sequence[str], n_values: int) -> None:
        self.function, self._names, self.n_values = function, tuple(names), n_values

    @property
    def names(self) -> tuple[str, ...]:
        """What the vector holds, in its order."""
        return self._names

    def make_node(self, theta: Any) -> Apply:
        theta = pt.cast(pt.as_tensor_variable(theta), "float64")
        n, m = self.n_values, len(self.names)
        if theta.ndim != 1 or theta.type.shape[0] not in (None, m):
            raise ValueError(
                f"theta must be a vector of {m} values, {', '.join(self.names)}; got shape {theta.type.shape}."
            )
        return Apply(
            self, [theta], [pt.vector(dtype="float64", shape=(n,)), pt.matrix(dtype="float64", shape=(n, m))]
        )

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Any) -> None:
        output_storage[0][0], output_storage[1][0] = self.compute(inputs[0])

    def compute(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and Jacobian, fresh arrays that the caller may overwrite."""
        found = self.function(theta)
        return found.values.copy(), found.jacobian.copy()

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        by_values, by_jacobian = cotangents
        if not isinstance(by_jacobian.type, DisconnectedType):
            return [grad_undefined(self, 0, inputs[0], "the simulations have no second derivatives")]
        # No product of matrices: of this size a library for those costs more than it saves.
        return [pt.sum(by_values[:, None] * outputs[1], axis=0)]

    if not hasattr(Op, "pullback"):
        # What PyTensor 2 calls it.
        L_op = pullback


class SimulationOp(_FunctionOp):
    """What the arms predict, as a function of a vector of parameters.

    ``values, jacobian = op(theta)`` takes a float64 vector (n_names,) of natural values, in the order of `names`, and
    gives the predictions (n_values,) and their derivatives (n_values, n_names), in the order of
    `mscrenal.calibration.simulated.Evaluated`: arm, then day, then observable. The gradient of `values` is the second
    output times the cotangent; there are no second derivatives.

    A simulation that fails, or a parameter out of its range, makes the values of that arm NaN. A sampler sees a density
    of NaN, which PyMC and nutpie reject as they do a divergence; `simulations.failures` says what happened.

    Parameters
    ----------
    arms, names, theta, workers, rtol, atol
        As of `mscrenal.calibration.simulated.Simulations`.

    Attributes
    ----------
    simulations : Simulations
        The same function in NumPy.
    """

    def __init__(self, arms: Sequence[Simulated], names: Sequence[str], **options: Any) -> None:
        self.simulations = Simulations(arms, names, **options)
        super().__init__(self.simulations, self.simulations.names, len(self.simulations.labels))

    def values(self, theta: Mapping[str, Any]) -> Any:
        """The predictions alone, from scalars by name.

        Parameters
        ----------
        theta : mapping of str to scalar variable or float
            All of `names`, and no others.
        """
        missing, more = set(self.names) - set(theta), set(theta) - set(self.names)
        if missing or more:
            wrong = "; ".join(
                f"{what}: {', '.join(sorted(found))}"
                for what, found in (("missing", missing), ("unknown", more))
                if found
            )
            raise KeyError(f"theta must hold the names of the Op, {', '.join(self.names)}; {wrong}.")
        return self(pt.stack([pt.as_tensor_variable(theta[name]) for name in self.names]))[0]


class PredictionOp(_FunctionOp):
    """Predictions for evidence rows as a function of standardised coordinates; what fails is NaN.

    Parameters
    ----------
    predictions : mscrenal.calibration.predictions.Predictions
    """

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        super().__init__(predictions, predictions.names, len(predictions.data))


@numba_funcify.register(_FunctionOp)
def numba_funcify_simulation(op: _FunctionOp, node: Any = None, **kwargs: Any) -> Any:
    """On the numba backend: call back into Python, without the warning of PyTensor's own way of doing so."""
    import numba as nb

    found = nb.types.Tuple((nb.float64[::1], nb.float64[:, ::1]))
    compute = op.compute

    @numba_njit
    def simulation(theta):
        with nb.objmode(result=found):
            result = compute(theta)
        return result

    return simulation
