"""Scenarios: regimens compared, simulated and explained, and the published facts."""

from mscrenal.scenarios.api import compare, explain, simulate
from mscrenal.scenarios.calibrate import calibrate
from mscrenal.scenarios.export import ExchangeError, export
from mscrenal.scenarios.facts import facts
from mscrenal.scenarios.gallery import gallery, load_scenario, scenario_toml
from mscrenal.scenarios.optimise import optimise
from mscrenal.scenarios.population import population
from mscrenal.scenarios.posterior_result import posterior
from mscrenal.scenarios.run import Run, RunError, run
from mscrenal.scenarios.scenario import Arm, Course, PatientSpec, PopulationSpec, Scenario, ScenarioError
from mscrenal.scenarios.sensitivity import sensitivity
from mscrenal.scenarios.trial import trial
from mscrenal.scenarios.trial_spec import TrialError, TrialSpec
from mscrenal.scenarios.validate import validate
from mscrenal.scenarios.verify import verify

__all__ = [
    "Arm",
    "Course",
    "ExchangeError",
    "PatientSpec",
    "PopulationSpec",
    "Run",
    "RunError",
    "Scenario",
    "ScenarioError",
    "TrialError",
    "TrialSpec",
    "calibrate",
    "compare",
    "explain",
    "export",
    "facts",
    "gallery",
    "load_scenario",
    "optimise",
    "population",
    "posterior",
    "run",
    "scenario_toml",
    "sensitivity",
    "simulate",
    "trial",
    "validate",
    "verify",
]
