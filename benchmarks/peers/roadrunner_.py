"""libRoadRunner: SUNDIALS' CVODE on SBML that LLVM compiles.

Two ways of dosing are measured: the events of the file, and restarting `simulate` at each edge with the
inputs set in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import roadrunner

from mscrenal.model.sbml import observable_id

from .base import Simulator
from .sbml_file import sbml_file

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "CVODE, restarted at edges": {"events": False},
    "CVODE, events": {"events": True},
}
GRADIENT_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {}
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
GRADIENT_LADDER = ()


def version() -> str:
    """The version installed."""
    return str(roadrunner.__version__)


class Peer(Simulator):
    """One loaded file; parameters and initial state of a case are set before each run."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        self.events = CONFIGURATIONS[configuration]["events"]
        roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
        self.runner = roadrunner.RoadRunner(str(sbml_file(problem, doses=self.events)))
        structure, model = problem.structure, self.runner.model
        known = {name: k for k, name in enumerate(model.getGlobalParameterIds())}
        self.parameters = [known[name] for name in structure.parameters]
        self.inputs = [known[name] for name in structure.inputs]
        species = {name: k for k, name in enumerate(model.getFloatingSpeciesIds())}
        self.species = [species[name] for name in structure.states]
        self.runner.timeCourseSelections = ["time", observable_id("egfr"), observable_id("uacr")]

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """Set the case, run, and read eGFR and UACR."""
        problem, runner, model = self.problem, self.runner, self.runner.model
        one, times = problem.cases[case], problem.times
        settings = runner.getIntegrator()
        settings.setValue("relative_tolerance", rtol)
        # One number is multiplied by each state as it stands at a restart: with hardly a cell left in blood,
        # it asks for the impossible, and CVODE fails. A vector is taken as it is.
        settings.setValue("absolute_tolerance", [rtol] * len(one.state))
        runner.reset()
        model.setGlobalParameterValues(self.parameters, one.parameters)
        model.setFloatingSpeciesAmounts(self.species, one.state)
        if self.events:
            return np.array(runner.simulate(times=list(times)))[:, 1:]
        values = np.empty((len(times), 2))
        for start, stop, u in problem.segments:
            model.setGlobalParameterValues(self.inputs, u)
            # Without it CVODE goes on with the history of the stretch before, and fails at the edge.
            settings.restart(start)
            due = (times > start) & (times < stop)
            found = np.array(runner.simulate(times=[start, *times[due], stop]))[:, 1:]
            values[due] = found[1:-1]
            values[times == start], values[times == stop] = found[0], found[-1]
        return values
