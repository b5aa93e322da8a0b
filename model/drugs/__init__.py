"""Background and research drugs, one file each: a module of this package that defines `DRUG` is a drug."""

from __future__ import annotations

import importlib
import pkgutil

from mscrenal.model.declare import DeclarationError, nearest
from mscrenal.model.drugs.base import Drug

__all__ = ["DRUGS", "Drug", "drug"]


def _discover() -> dict[str, Drug]:
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "DRUG", None)
        if isinstance(candidate, Drug):
            if candidate.name in found:
                raise DeclarationError(
                    f"Module {module.name!r}: there is a drug named {candidate.name!r} already."
                )
            found[candidate.name] = candidate
    return dict(sorted(found.items(), key=lambda item: (item[1].kind, item[0])))


DRUGS: dict[str, Drug] = _discover()


def drug(name: str) -> Drug:
    """The drug of that name; DeclarationError, with the nearest names, if there is none."""
    if name not in DRUGS:
        raise DeclarationError(f"No drug {name!r}.{nearest(name, DRUGS)}")
    return DRUGS[name]
