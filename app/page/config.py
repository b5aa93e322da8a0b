"""What the browser has to know before it asks: names, titles, units and bounds, all read from the model."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mscrenal.app.console import DISCLAIMER
from mscrenal.app.page import explore, lessons
from mscrenal.app.page.setup import DEFAULT, MOST_ARMS, MOST_DOSES, NO_CELLS
from mscrenal.model import (
    ARM_MEANING,
    ARMS_OF_ACTION,
    COVARIATES,
    DISEASES,
    DRUGS,
    OBSERVABLES,
    PRODUCTS,
    SPECIES,
)
from mscrenal.scenarios import PatientSpec
from mscrenal.scenarios.scenario import LARGEST_AMOUNT, LARGEST_HUMAN_AMOUNT
from mscrenal.scenarios.style import INK, OKABE_ITO, nice_unit

__all__ = ["config"]

# How a covariate is called on a form, and the step of its control; sliders of what spans decades are logarithmic.
LABELS = {
    "age": ("Age", 1, False),
    "weight_kg": ("Weight", 1, False),
    "egfr": ("eGFR", 1, False),
    "uacr": ("UACR", 1, True),
    "hba1c": ("HbA1c", 0.1, False),
    "duration_years": ("Since diagnosis", 0.5, False),
    "sledai": ("SLEDAI", 1, False),
    "insulin_share": ("Insulin, of a healthy secretion", 0.1, False),
}
ANIMAL_START_WEEK = 8.0


@cache
def config() -> dict[str, Any]:
    """Names, titles, units and bounds as plain data."""
    observables = {o.name: o for o in OBSERVABLES}
    return {
        "version": _version(),
        "disclaimer": DISCLAIMER,
        "no_cells": NO_CELLS,
        "most_arms": MOST_ARMS,
        "most_doses": MOST_DOSES,
        "ink": INK,
        "colours": list(OKABE_ITO[:MOST_ARMS]),
        "default": DEFAULT.model_dump(mode="json"),
        "species": {name: s.title for name, s in SPECIES.items()},
        "diseases": {
            name: {"title": d.title, "typical": {s: _typical(s, name) for s in d.species}}
            for name, d in DISEASES.items()
        },
        "covariates": {
            name: {
                "label": LABELS[name][0],
                "unit": nice_unit(c.unit),
                "low": c.low,
                "high": c.high,
                "step": LABELS[name][1],
                "log": LABELS[name][2],
            }
            for name, c in COVARIATES.items()
        },
        "drugs": {name: d.title for name, d in DRUGS.items()},
        "products": {
            name: {"title": p.title, "kind": p.kind, "routes": list(p.routes), "unit": _dose_unit(p.kind)}
            for name, p in sorted(PRODUCTS.items(), key=lambda item: item[1].kind)
        },
        "largest": {
            "human": dict(LARGEST_HUMAN_AMOUNT.items()),
            "animal": dict(LARGEST_AMOUNT.items()),
        },
        "actions": {name: ARM_MEANING[name] for name in ARMS_OF_ACTION},
        "panels": [
            {
                "title": title,
                "names": list(names),
                "unit": nice_unit(observables[names[0]].unit),
                "labels": {n: observables[n].label or n for n in names},
            }
            for title, names in explore.PANELS
        ],
        "endpoints": explore.endpoint_words(),
        "draws": explore.DRAWS,
        "lessons": lessons.outline(),
    }


def _typical(species: str, disease: str) -> dict[str, float]:
    """The covariates that the form shows for a disease, at their typical values."""
    if species != "human":
        return {"start_week": ANIMAL_START_WEEK}
    spec = PatientSpec(species=species, disease=disease)
    return {name: getattr(spec, name) for name in COVARIATES if getattr(spec, name) is not None}


def _dose_unit(kind: str) -> str:
    return {"cells": "million cells/kg", "medium": "medium of million cells/kg", "ev": "billion vesicles/kg"}[
        kind
    ]


def _version() -> str:
    try:
        return version("mscrenal")
    except PackageNotFoundError:
        return "unknown"
