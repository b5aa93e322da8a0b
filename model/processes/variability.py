"""What differs between patients and between species: random effects and the translation factor."""

from __future__ import annotations

from dataclasses import dataclass

from mscrenal.model.declare import Assumed, Parameter, Provenance, Quantity, Source
from mscrenal.model.functions import exponential

MODULE = "variability"


@dataclass(frozen=True)
class RandomEffect:
    """Between-patient variation (IIV) of one mechanism: a normal variable, 0 in the typical patient.

    `sd` is in the unit of the parameter that carries it: an additive amount, or the SD of a logarithm.
    """

    name: str
    sd: float
    meaning: str
    source: Provenance


RANDOM_EFFECTS: dict[str, RandomEffect] = {
    effect.name: effect
    for effect in (
        RandomEffect(
            "eta_nephron", 0.96, "damage to nephrons beyond what the patient's state explains, in units of the reference patient's",
            Source("goulooze2022", "additive variance of the slope 8.62 over a typical slope of 3.01: SD 2.94/3.01"),
        ),
        RandomEffect(
            "eta_podocyte", 1.0, "stress on podocytes beyond what the patient's state explains, in units of SD 0.485 a year in log UACR",
            Source("goulooze2022", "additive variance of the UACR progression rate 0.235"),
        ),
        RandomEffect("eta_potency", 0.5, "responsiveness to cells (log)", Assumed("responders and non-responders differ; no study separates patients from products")),
        RandomEffect(
            "eta_sensitisation", 1.2, "readiness to form alloantibody (log)",
            Source("sanabria2021", "one patient in nine has any antibody after a course: most have none, a few have much"),
        ),
    )
}

ETAS = tuple(
    Parameter(effect.name, 0.0, "1", effect.meaning, Assumed("0 in the typical patient"), scope="patient")
    for effect in RANDOM_EFFECTS.values()
)
TRANSLATION = Parameter(
    "translation", 1.0, "1", "effect of a dose per kg relative to rodents", Assumed("1 in rodents by definition; set by the species"), scope="species",
)


def eta_sensitisation_factor(eta_sensitisation):
    """The patient's own readiness to form alloantibody."""
    return exponential(eta_sensitisation)


QUANTITIES = (
    Quantity("eta_sensitisation_factor", "1", "the patient's readiness to form alloantibody", eta_sensitisation_factor, (), MODULE),
)
