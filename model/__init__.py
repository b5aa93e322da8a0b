"""The model: one definition, and everything derived from it."""

from mscrenal.model.declare import DeclarationError, nearest
from mscrenal.model.definition import definition_hash, model, sampled_parameters
from mscrenal.model.drugs import DRUGS
from mscrenal.model.initial import InitialStateError
from mscrenal.model.insults import DISEASES
from mscrenal.model.observables import OBSERVABLES
from mscrenal.model.patient import COVARIATES, Patient, PatientError
from mscrenal.model.processes.effectors import ARM_MEANING, ARMS_OF_ACTION
from mscrenal.model.processes.variability import RANDOM_EFFECTS
from mscrenal.model.products import PRODUCTS
from mscrenal.model.simulate import ROUTES, Dose, DrugCourse, RegimenError, Trajectory, simulate
from mscrenal.model.species import SPECIES

__all__ = [
    "ARMS_OF_ACTION",
    "ARM_MEANING",
    "COVARIATES",
    "DISEASES",
    "DRUGS",
    "OBSERVABLES",
    "PRODUCTS",
    "RANDOM_EFFECTS",
    "ROUTES",
    "SPECIES",
    "DeclarationError",
    "Dose",
    "DrugCourse",
    "InitialStateError",
    "Patient",
    "PatientError",
    "RegimenError",
    "Trajectory",
    "definition_hash",
    "model",
    "nearest",
    "sampled_parameters",
    "simulate",
]
