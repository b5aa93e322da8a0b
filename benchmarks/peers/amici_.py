"""AMICI: SUNDIALS' CVODES on C++ that it generates from SBML, with a sparse Jacobian and KLU.

Doses are the events of the file, forward sensitivities its own. The C++ takes minutes to write and compile, once;
it is kept in the cache folder. What it would need for adjoint sensitivities through events alone is 15 MB of
C++, which takes compilers gigabytes; forward is the better way for 25 parameters and 98 outputs, and those two
functions are left empty.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import amici
import numpy as np
from amici.exporters.sundials.compile import build_model_extension
from amici.sim import sundials
from problem import GRADIENT

from mscrenal.model.kernels import cache_folder
from mscrenal.model.sbml import observable_id

from .base import Simulator
from .sbml_file import sbml_file

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "CVODES, KLU": {"method": sundials.InternalSensitivityMethod_simultaneous},
}
GRADIENT_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "CVODES, KLU, simultaneous": {"method": sundials.InternalSensitivityMethod_simultaneous},
    "CVODES, KLU, staggered": {"method": sundials.InternalSensitivityMethod_staggered},
}
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
GRADIENT_LADDER = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
NAME = "mscrenal_bench"
ADJOINT_ONLY = ("deltaxB", "deltaqB")


def version() -> str:
    """The version installed."""
    return str(amici.__version__)


def built(source: Path) -> Path:
    """Folder of the compiled model, made if it is not there."""
    # Notes and comments aside, the same file is the same model, whatever became of our own code meanwhile.
    text = re.sub(r"<notes>.*?</notes>", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = cache_folder() / f"benchmark_amici_{version()}_{digest}"
    done = folder / "built"
    if done.exists():
        return folder
    if os.environ.get("MSCRENAL_BENCH_BUILD") == "no":
        raise RuntimeError("AMICI's C++ is not built yet, which takes minutes. Run once without --quick.")
    os.environ.setdefault("AMICI_PARALLEL_COMPILE", "2")
    # The swig that pip installs beside AMICI, before any other: the two must be of one version.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    free = {name.split(".")[-1] for name in GRADIENT}
    importer = amici.SbmlImporter(source)
    declared = importer.sbml_model.getListOfParameters()
    constant = [parameter.getId() for parameter in declared if parameter.getConstant()]
    importer.sbml2amici(
        NAME,
        folder,
        fixed_parameters=[name for name in constant if name not in free],
        observation_model=[
            amici.MeasurementChannel(f"seen_{name}", formula=observable_id(name)) for name in ("egfr", "uacr")
        ],
        simplify=None,  # takes most of the time and makes no faster code
        compute_conservation_laws=False,
        compile=False,
    )
    for name in ADJOINT_ONLY:
        path = folder / f"{name}.cpp"
        head, found, _ = path.read_text(encoding="utf-8").partition("    switch(ie) {")
        if found:
            path.write_text(f"{head}}}\n\n}}\n}}\n", encoding="utf-8")
    build_model_extension(folder, verbose=False)
    done.touch()
    return folder


class Peer(Simulator):
    """One compiled model; parameters and initial state of a case are set before each run."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        folder = built(sbml_file(problem))
        self.model = amici.import_model_module(NAME, folder).get_model()
        self.model.set_timepoints(problem.times)
        self.solver = self.model.create_solver()
        self.solver.set_return_data_reporting_mode(sundials.RDataReporting_observables_likelihood)
        self.solver.set_internal_sensitivity_method(
            {**CONFIGURATIONS, **GRADIENT_CONFIGURATIONS}[configuration]["method"]
        )
        self.solver.set_max_steps(100_000)
        index = problem.structure.parameter_index
        # Doses and inputs are numbers of the file too, which stay as they are.
        self.free = list(self.model.get_free_parameters())
        self.fixed = list(self.model.get_fixed_parameters())
        names = list(self.model.get_free_parameter_ids())
        self.free_known = [(place, index[name]) for place, name in enumerate(names) if name in index]
        self.fixed_known = [
            (place, index[name])
            for place, name in enumerate(self.model.get_fixed_parameter_ids())
            if name in index
        ]
        wanted = [problem.structure.parameter_names[column] for column in problem.gradient_columns]
        self.model.set_parameter_list([names.index(name) for name in wanted])
        places = {name: k for k, name in enumerate(self.model.get_state_ids())}
        self.states = [places[name] for name in problem.structure.states]
        self.initial = np.array(self.model.get_initial_state())

    def _run(self, case: int, rtol: float, order: int) -> Any:
        one, model, solver = self.problem.cases[case], self.model, self.solver
        for values, known in ((self.free, self.free_known), (self.fixed, self.fixed_known)):
            for place, column in known:
                values[place] = one.parameters[column]
        model.set_free_parameters(self.free)
        model.set_fixed_parameters(self.fixed)
        self.initial[self.states] = one.state
        model.set_initial_state(self.initial)
        solver.set_relative_tolerance(rtol)
        solver.set_absolute_tolerance(rtol)
        solver.set_sensitivity_order(order)
        solver.set_sensitivity_method(
            sundials.SensitivityMethod_forward if order else sundials.SensitivityMethod_none
        )
        found = sundials.run_simulation(model, solver)
        if found.status != sundials.AMICI_SUCCESS:
            raise ArithmeticError(f"AMICI stopped at day {found.t_last:g} with status {found.status}.")
        self.inside = found.cpu_time_total / 1e3
        return found

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """One call of `run_simulation`."""
        return np.array(self._run(case, rtol, sundials.SensitivityOrder_none).y)

    def gradient(self, case: int, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """The same with forward sensitivities."""
        found = self._run(case, rtol, sundials.SensitivityOrder_first)
        return np.array(found.y), np.transpose(np.array(found.sy), (0, 2, 1))
