"""The one definition of the model: all modules, drugs and products put together.

What can be sampled is listed in `sampled_parameters`: biology under its own name, a species' or a
disease's value as ``species.human.translation`` or ``insult.stz.beta_set``, a product's as
``product.UC.potency_metabolic``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import ModuleType

from mscrenal.model import processes
from mscrenal.model.build import Model, build
from mscrenal.model.declare import Parameter
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.observables import OBSERVABLES
from mscrenal.model.processes import (
    autoimmunity,
    effectors,
    exposure,
    fibrosis,
    inflammation,
    kidney,
    metabolism,
    oxidative_stress,
    variability,
)
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

__all__ = [
    "MODULES",
    "changed_files",
    "definition_hash",
    "model",
    "model_files",
    "model_hash",
    "sampled_parameters",
]

# The order of states, and of the chapters of the pages.
_FIRST: tuple[ModuleType, ...] = (
    exposure,
    effectors,
    metabolism,
    oxidative_stress,
    inflammation,
    fibrosis,
    kidney,
    autoimmunity,
    variability,
)


def _modules() -> tuple[ModuleType, ...]:
    """The modules in the order of the pages, then any other file of `processes` that names itself one, by name."""
    found = (
        importlib.import_module(f"{processes.__name__}.{entry.name}")
        for entry in sorted(pkgutil.iter_modules(processes.__path__), key=lambda e: e.name)
    )
    return (*_FIRST, *(m for m in found if hasattr(m, "MODULE") and m not in _FIRST))


MODULES = _modules()

# Modules that describe or check the model and cannot change its numbers.
DESCRIPTION = frozenset(
    {"board.py", "cuts.py", "describe.py", "network.py", "pages.py", "picture.py", "sbml.py", "units.py"}
)


@cache
def model(slots: int = 1) -> Model:
    """The whole model, for arms that mix at most `slots` products."""
    return build(
        states=[s for m in MODULES for s in getattr(m, "STATES", ())],
        inputs=[*exposure.INPUTS, *(d.input for d in DRUGS.values())],
        processes=[p for m in MODULES for p in getattr(m, "PROCESSES", ())],
        quantities=[q for m in MODULES for q in getattr(m, "QUANTITIES", ())],
        observables=OBSERVABLES,
        effects=[*effectors.ARM_EFFECTS, *(e for d in DRUGS.values() for e in d.effects)],
        # A Parameter at the top level of a module is declared, whoever uses it there.
        parameters=[
            *PRODUCT_PARAMETERS,
            *variability.ETAS,
            *(p for m in MODULES for p in vars(m).values() if isinstance(p, Parameter)),
        ],
        slots=slots,
    )


@cache
def sampled_parameters() -> dict[str, Parameter]:
    """Every number with a prior that is not fixed, by the name under which it is drawn."""
    table = {p.name: p for p in model().parameters.values() if p.sampled and p.scope in ("biology", "drug")}
    for prefix, owners in (("species", SPECIES), ("insult", DISEASES)):
        for owner in owners.values():
            table |= {f"{prefix}.{owner.name}.{p.name}": p for p in owner.sets if p.sampled}
    for item in PRODUCTS.values():
        table |= {f"product.{item.name}.{p.name}": p for p in item.parameters if p.sampled}
    return table


@cache
def definition_hash() -> str:
    """SHA-256 over the source of the model package: it changes when any declaration does."""
    digest = hashlib.sha256()
    root = resources.files("mscrenal.model")
    pending = [("", root)]
    while pending:
        path, folder = pending.pop()
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            name = f"{path}/{entry.name}"
            if entry.is_dir() and entry.name != "__pycache__":
                pending.append((name, entry))
            elif entry.name.endswith(".py") and entry.name not in DESCRIPTION:
                digest.update(name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()


# Where equations, values and priors are declared.
DECLARING = (
    "processes",
    "products",
    "drugs",
    "insults",
    "species.py",
    "observables.py",
    "functions.py",
    "symbolic.py",
)


# What can be added beside what there is: a new file in one of these moves nothing that was declared before.
ADDING = ("products", "drugs", "insults")


@cache
def model_files() -> Mapping[str, str]:
    """SHA-256 of each declaring file, by its path within the package.

    Taken from the syntax without comments and prose, so that it is the same for every version of Python and of the
    libraries, and an edit of a description leaves it alone.
    """
    found: dict[str, str] = {}
    root = resources.files("mscrenal.model")
    for name in DECLARING:
        entry = root / name
        files = [entry] if entry.is_file() else sorted(entry.iterdir(), key=lambda e: e.name)
        for file in files:
            if file.name.endswith(".py"):
                digest = hashlib.sha256()
                for part in _syntax(ast.parse(file.read_text(encoding="utf-8"))):
                    digest.update(part.encode() + b"\0")
                found[file.name if entry.is_file() else f"{name}/{file.name}"] = digest.hexdigest()
    return found


@cache
def model_hash() -> str:
    """SHA-256 over the declared equations, values and priors: what a posterior belongs to."""
    digest = hashlib.sha256()
    for name, found in model_files().items():
        digest.update(f"{name} {found}\n".encode())
    return digest.hexdigest()


def changed_files(before: Mapping[str, str]) -> list[str]:
    """Declaring files that differ from what they were; those added to `ADDING` do not count.

    Parameters
    ----------
    before : mapping of str to str
        As from `model_files`.
    """
    now = model_files()
    changed = [name for name, found in before.items() if now.get(name) != found]
    added = [name for name in now if name not in before and name.split("/")[0] not in ADDING]
    return sorted(changed + added)


def _syntax(node: ast.AST) -> Iterator[str]:
    """Kinds of the nodes, names and values, in order; texts with spaces are prose and left out."""
    if isinstance(node, ast.JoinedStr):
        return
    yield type(node).__name__
    if isinstance(node, ast.Constant):
        if not (isinstance(node.value, str) and (" " in node.value or not node.value)):
            yield repr(node.value)
        return
    for field in ("id", "attr", "arg", "name", "asname", "module"):
        text = getattr(node, field, None)
        if isinstance(text, str):
            yield text
    for child in ast.iter_child_nodes(node):
        yield from _syntax(child)
