"""What a background drug is: a level between 0 and 1 (of the usual dose) and what it multiplies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mscrenal.model.declare import DeclarationError, Effect, Input, Normal, Parameter, Provenance

__all__ = ["Drug", "scales"]

_NAME = re.compile(r"^[a-z][a-z0-9-]*$")


@dataclass(frozen=True)
class Drug:
    """A drug that patients take beside the cells.

    Attributes
    ----------
    name : str
        As written in scenarios.
    title : str
    kind : {'background', 'research'}
        Research drugs (single-pathway blockers) are there to test the network against published ceilings.
    effects : tuple of Effect
        Their `signal` is filled in: the drug's own level.
    note : str
        What the numbers rest on.
    """

    name: str
    title: str
    kind: str
    effects: tuple[Effect, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise DeclarationError(f"Drug name {self.name!r}: use lower-case letters, digits and hyphens.")
        if not self.effects:
            raise DeclarationError(f"Drug {self.name!r} does nothing.")
        object.__setattr__(self, "effects", tuple(replace(e, signal=self.level) for e in self.effects))

    @property
    def level(self) -> str:
        """Name of the input that carries the drug's level."""
        return f"level_{self.name.replace('-', '_')}"

    @property
    def input(self) -> Input:
        return Input(self.level, "1", f"{self.title}: 1 at the usual dose, 0 without")


def scales(
    drug: str,
    rows: Iterable[tuple[str, float, float, str, Provenance]],
    modulated: Mapping[str, str] | None = None,
) -> tuple[Effect, ...]:
    """Effects that multiply by exp(size): rows of (target, log ratio, SD, meaning, source).

    `modulated` names, by target, the quantity or parameter by which that effect grows. A number
    that was fitted to nothing but rows of the likelihood has an SD about three times as wide as those rows
    alone would leave it: narrower, and they count twice, in the prior and in the likelihood.
    """
    prefix = drug.replace("-", "_")
    return tuple(
        Effect(
            on,
            "scale",
            Parameter(f"{prefix}_on_{on}", value, "1", meaning, source, Normal(sd), scope="drug"),
            modulated_by=(modulated or {}).get(on, ""),
        )
        for on, value, sd, meaning, source in rows
    )
