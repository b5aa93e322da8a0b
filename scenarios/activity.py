"""How active each box of the model's picture is in time: what the pathway shows as it plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mscrenal.model.network import nodes, quantities_at
from mscrenal.model.simulate import prepare, products_of, simulate_subject
from mscrenal.scenarios.run import RunError
from mscrenal.scenarios.scenario import Scenario

__all__ = ["Activity", "activity"]


@dataclass(frozen=True)
class Activity:
    """Activity of the boxes in one arm.

    Attributes
    ----------
    days : ndarray (n_days,)
    fold : dict of str to ndarray (n_days,)
        Logarithm to base 2 of the value over that in the reference arm on the same day, for what is there without a dose.
    level : dict of str to ndarray (n_days,)
        Value over the largest that it reaches in this arm, for what a dose brings (cells, vesicles, arms of action).
    """

    days: np.ndarray
    fold: dict[str, np.ndarray]
    level: dict[str, np.ndarray]


def activity(
    scenario: Scenario,
    arm: str,
    theta: Mapping[str, float],
    *,
    days: np.ndarray,
    knock_out: tuple[str, ...] = (),
) -> Activity:
    """Simulate an arm and the reference, and read every box of the picture.

    Parameters
    ----------
    scenario : Scenario
        With one patient.
    arm : str
    theta : mapping of str to float
        One draw of the parameters, or their medians.
    days : ndarray (n_days,)
        Increasing.
    knock_out : tuple of str
        Arms of action switched off in the arm.

    Raises
    ------
    ScenarioError
        For an arm that there is not.
    RunError
        If the scenario has a population, the arm mixes products, or one of the two simulations fails.
    """
    if scenario.population is not None:
        raise RunError(f"scenario {scenario.name!r} has a population; the pathway is of one patient.")
    chosen, reference = scenario.arm(arm), scenario.reference_arm
    if len(chosen.products) > 1:
        raise RunError(
            f"arm {arm!r} mixes {', '.join(chosen.products)}; the pathway shows one product at a time."
        )
    with_arm = _boxes(scenario, chosen.name, theta, days, knock_out)
    without = _boxes(scenario, reference.name, theta, days, ())
    fold, level = {}, {}
    for name, values in with_arm.items():
        if np.all(np.abs(without[name]) < 1e-9):
            largest = float(np.max(np.abs(values)))
            level[name] = np.abs(values) / largest if largest > 0 else np.zeros_like(values)
        else:
            fold[name] = np.log2(np.maximum(values, 1e-12) / np.maximum(without[name], 1e-12))
    return Activity(days, fold, level)


def _boxes(
    scenario: Scenario, arm: str, theta: Mapping[str, float], days: np.ndarray, knock_out: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The value of each box of the picture over time."""
    patient, regimen = scenario.subject.patient(), scenario.arm(arm)
    doses = regimen.doses(float(patient.weight_kg or 1.0))
    kernels, subject = prepare(patient, products_of(doses), theta, knock_out)
    run = simulate_subject(kernels, subject, doses, regimen.drugs_added, days, resets=regimen.resets)
    if run.status != "ok":
        raise RunError(f"arm {arm!r}: {run.message}")
    structure = run.model
    fixed = dict(zip(structure.parameter_names, subject.parameters.tolist(), strict=True))
    fixed |= dict(zip(structure.input_names, subject.inputs.tolist(), strict=True))
    names = list(nodes())
    out = {name: np.empty(len(days)) for name in names}
    for k, row in enumerate(run.states.tolist()):
        point = fixed | dict(zip(structure.state_names, row, strict=True))
        values = point | quantities_at(structure, point)
        for name in names:
            out[name][k] = values[name]
    return out
