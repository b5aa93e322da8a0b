"""Many subjects of one kind at once: what all share, and an array for each thing in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mscrenal.model.patient import COVARIATES, Patient, PatientError

__all__ = ["People", "kind_of"]


@dataclass(frozen=True)
class People:
    """n subjects that share species, disease, drugs, ageing and the day of the insult.

    Parameters
    ----------
    kind : Patient
        Any of them: what all share is read from it. Its covariates, sex and random effects are not used.
    male : ndarray of bool (n,)
    eta : mapping of str to ndarray (n,)
        Random effects; a missing one is 0.
    age, weight_kg, egfr, uacr, hba1c, duration_years, sledai, insulin_share : ndarray (n,) or None
        As of `Patient`; None where the kind has none.

    Notes
    -----
    Trusted as they are: `of` takes patients, who were checked one by one, and `alike` checks ranges.
    """

    kind: Patient
    male: np.ndarray
    eta: Mapping[str, np.ndarray]
    age: Any
    weight_kg: Any
    egfr: Any
    uacr: Any
    hba1c: Any
    duration_years: Any
    sledai: Any
    insulin_share: Any

    def __len__(self) -> int:
        return len(self.male)

    @classmethod
    def of(cls, patients: Sequence[Patient]) -> People:
        """Patients of one kind (`kind_of`), in their order."""
        columns = {
            name: None
            if getattr(patients[0], name) is None
            else np.array([getattr(p, name) for p in patients], dtype=np.float64)
            for name in COVARIATES
        }
        names = dict.fromkeys(name for p in patients for name in p.eta)
        eta = {name: np.array([p.eta.get(name, 0.0) for p in patients], dtype=np.float64) for name in names}
        return cls(patients[0], np.array([p.sex == "male" for p in patients]), eta, **columns)

    @classmethod
    def alike(
        cls,
        kind: Patient,
        n: int,
        *,
        covariates: Mapping[str, np.ndarray],
        eta: Mapping[str, np.ndarray],
        male: np.ndarray | None = None,
    ) -> People:
        """n subjects like `kind` but for what is given, (n,) each.

        Raises
        ------
        PatientError
            For a covariate that this kind does not have, or a value out of its range.
        """
        columns: dict[str, np.ndarray | None] = {}
        for name, c in COVARIATES.items():
            shared = getattr(kind, name)
            given = covariates.get(name)
            if given is None:
                columns[name] = None if shared is None else np.full(n, float(shared))
                continue
            if shared is None:
                raise PatientError(
                    f"{name} was given for disease {kind.disease!r}, which has none. Leave it out."
                )
            wrong = ~((given >= c.low) & (given <= c.high))
            if wrong.any():
                raise PatientError(
                    f"{name} = {given[wrong][0]:g} {c.unit} is outside {c.low:g} to {c.high:g}. Correct it, or the unit."
                )
            columns[name] = np.asarray(given, dtype=np.float64)
        sexes = np.full(n, kind.sex == "male") if male is None else male
        shared_eta = {name: np.full(n, value) for name, value in kind.eta.items() if name not in eta}
        return cls(kind, sexes, {**eta, **shared_eta}, **columns)

    @classmethod
    def together(cls, groups: Sequence[People]) -> People:
        """Groups of one kind, one after the other."""

        def joined(name: str) -> np.ndarray | None:
            if getattr(groups[0], name) is None:
                return None
            return np.concatenate([getattr(g, name) for g in groups])

        eta = {name: np.concatenate([g.eta[name] for g in groups]) for name in groups[0].eta}
        male = np.concatenate([g.male for g in groups])
        return cls(groups[0].kind, male, eta, **{name: joined(name) for name in COVARIATES})

    def some(self, index: np.ndarray) -> People:
        """The subjects of these numbers, (n_chosen,), in that order."""
        columns = {name: None if (v := getattr(self, name)) is None else v[index] for name in COVARIATES}
        eta = {name: v[index] for name, v in self.eta.items()}
        return People(self.kind, self.male[index], eta, **columns)

    def patient(self, j: int) -> Patient:
        """Subject `j` alone."""
        own = {name: None if (v := getattr(self, name)) is None else float(v[j]) for name in COVARIATES}
        eta = {name: float(values[j]) for name, values in self.eta.items()}
        return self.kind.replace(sex="male" if self.male[j] else "female", eta=eta, **own)


def kind_of(patient: Patient) -> tuple[object, ...]:
    """What `People` share: patients with the same answer can be taken together."""
    has = tuple(getattr(patient, name) is not None for name in COVARIATES)
    return patient.species, patient.disease, patient.drugs, patient.ageing, patient.onset_days, has
