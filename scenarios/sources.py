"""Where the draws of a result come from, and what of it rests on the prior, on animals, or on nothing that was fitted."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mscrenal.calibration import Draws, Posterior, draws
from mscrenal.calibration.posterior import Source, posterior_of
from mscrenal.calibration.studies import STUDY_FOLDER

__all__ = ["BY_PRIOR", "Source", "backing", "draws_of", "origin_words", "posterior_of", "release"]

# The verdict of a parameter that the data did not move.
BY_PRIOR = "by the prior alone"


def release() -> str:
    """The version of the package; 'unknown' where it is not installed."""
    try:
        return version("mscrenal")
    except PackageNotFoundError:
        return "unknown"


def draws_of(n: int, seed: int, source: Source = "posterior") -> Draws:
    """As `mscrenal.calibration.draws`, with what results say of a posterior: draft or not, what it left to the prior, and
    which studies gave which product.
    """
    found = posterior_of(source)
    if found is None:
        return draws(n, seed, source="prior")
    drawn = draws(n, seed, source=found)
    verdicts = found.provenance.get("verdicts", {})
    told = {
        "draft": bool(found.provenance.get("draft", False)),
        "sampler": found.provenance["sampler"],
        "by_prior_alone": sorted(name for name, said in verdicts.items() if said["verdict"] == BY_PRIOR),
        "treated_studies": {name: b.record for name, b in backing(found).items()},
    }
    return replace(drawn, source=dict(drawn.source) | told)


def origin_words(provenance: Mapping[str, Any]) -> str:
    """'prior', or 'posterior' with the number of its studies and rows.

    >>> origin_words({"origin": "posterior", "posterior": {"studies": 45, "rows": 160}})
    'posterior (45 studies, 160 rows)'
    """
    origin, source = str(provenance["origin"]), provenance.get("posterior") or {}
    if origin != "posterior" or "rows" not in source:
        return origin
    draft = "draft; " if source.get("draft") else ""
    return f"posterior ({draft}{source['studies']} studies, {source['rows']} rows)"


# --------------------------------------------------------------------------- who was treated with what


@dataclass(frozen=True)
class Backing:
    """Fitted studies with an arm that got a product.

    Attributes
    ----------
    people, animals : tuple of str
        Identifiers of the studies.
    """

    people: tuple[str, ...] = ()
    animals: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, list[str]]:
        """As JSON has it."""
        return {"people": list(self.people), "animals": list(self.animals)}


def backing(posterior: Posterior) -> dict[str, Backing]:
    """For each product the studies with a treated arm that the posterior was fitted to."""
    known = _treated_arms()
    found: dict[str, dict[str, list[str]]] = {}
    for study in (str(name) for name in posterior.data["study_name"].values):
        for product, species in known.get(study, ()):
            mine = found.setdefault(product, {"people": [], "animals": []})
            mine["people" if species == "human" else "animals"].append(study)
    return {p: Backing(tuple(s["people"]), tuple(s["animals"])) for p, s in found.items()}


@cache
def _treated_arms() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Products and species of the arms of each study, as its file says; read without the tables, which takes seconds."""
    out: dict[str, tuple[tuple[str, str], ...]] = {}
    for path in sorted(STUDY_FOLDER.glob("*.toml")):
        for study in tomllib.loads(path.read_text(encoding="utf-8")).get("study", ()):
            species = study.get("patient", {}).get("species", "human")
            given = [
                (arm["product"], arm.get("patient", {}).get("species", species))
                for arm in study.get("arm", ())
                if arm.get("product")
            ]
            # A study may stand in several files, one a table.
            out[study["id"]] = tuple(dict.fromkeys((*out.get(study["id"], ()), *given)))
    return out
