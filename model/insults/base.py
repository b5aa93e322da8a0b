"""What a disease is: parameters that it sets, states that its onset hits, and whom it befalls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mscrenal.model.declare import Parameter

__all__ = ["Disease"]


@dataclass(frozen=True)
class Disease:
    """A disease or an animal model of one.

    Attributes
    ----------
    name, title : str
    species : tuple of str
        Whom it befalls in this package.
    sets : tuple of Parameter
        Values (with their priors) of model parameters of the same name under this disease.
    onset : mapping of str to float
        What the insult does at its start to a state: it is multiplied by this (STZ, surgery).
    established : bool
        True: a patient arrives with it, and the initial state is found from covariates.
        False: it starts in a healthy animal, `Patient.onset_days` before the first dose.
    anchors : mapping of str to str
        Extra covariates that place an unknown: covariate -> parameter found (lupus: sledai -> lupus).
    fixed : mapping of str to float
        Parameters found from covariates in other diseases that this one sets outright (STZ: beta_set).
    note : str
    """

    name: str
    title: str
    species: tuple[str, ...]
    sets: tuple[Parameter, ...] = ()
    onset: Mapping[str, float] = field(default_factory=dict)
    established: bool = True
    anchors: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
