"""Diseases: small objects that drive the same network, one file each (a module that defines `DISEASE`)."""

from __future__ import annotations

import importlib
import pkgutil

from mscrenal.model.declare import DeclarationError, nearest
from mscrenal.model.insults.base import Disease

__all__ = ["DISEASES", "Disease", "disease"]


def _discover() -> dict[str, Disease]:
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "DISEASE", None)
        if isinstance(candidate, Disease):
            found[candidate.name] = candidate
    return found


DISEASES: dict[str, Disease] = _discover()


def disease(name: str) -> Disease:
    """The disease of that name; DeclarationError, with the nearest names, if there is none."""
    if name not in DISEASES:
        raise DeclarationError(f"No disease {name!r}.{nearest(name, DISEASES)}")
    return DISEASES[name]
