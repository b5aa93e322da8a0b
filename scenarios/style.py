"""How figures look: colours, line styles and markers that survive colour blindness and a grey printer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap

__all__ = ["DIVERGING", "FAINT", "INK", "OKABE_ITO", "ArmStyle", "arm_styles", "house_style", "nice_unit"]

INK = "#222222"
FAINT = "#757575"  # on white still 4.6 to 1, what small print needs

# Okabe & Ito, "Color Universal Design" (2008). Black is the reference arm's; yellow is left out, since
# it vanishes as a line on white paper.
OKABE_ITO: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Colour, line and marker cycle with different lengths (6, 5, 7): 210 arms before a look repeats, and
# neighbours differ in all three, so that a grey print can be read by line and marker alone.
_LINES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (3, 1.4, 1, 1.4)), (0, (1.2, 1.2)), (0, (8, 2, 1, 2, 1, 2)))
_MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "<", ">")

# Orange (worse) over near-white (no difference) to blue (better): both ends are of the same lightness,
# and apart for every common kind of colour blindness. The sign is printed in each cell as well.
DIVERGING = LinearSegmentedColormap.from_list(
    "mscrenal_diverging", ["#b35806", "#e8a25c", "#f7f2ec", "#8cb8dc", "#2166ac"]
)

_RC: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # looks the same where the font is missing
    "svg.hashsalt": "mscrenal",  # the same result gives the same file
}


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn, in every panel of every figure."""

    colour: str
    line: Any
    marker: str
    width: float = 1.6

    @property
    def drawn(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot`."""
        return {"color": self.colour, "linestyle": self.line, "linewidth": self.width}


def arm_styles(arms: Sequence[str], reference: str) -> dict[str, ArmStyle]:
    """One style per arm; the reference is black and solid whatever its place.

    >>> arm_styles(["placebo", "UC"], "placebo")["placebo"].colour
    '#222222'
    """
    styles, place = {}, 0
    for arm in arms:
        if arm == reference:
            styles[arm] = ArmStyle(INK, "-", "o", 2.0)
            continue
        # From the second line style on: solid is the reference's as long as there are enough others.
        line = _LINES[(place + 1) % len(_LINES)]
        marker = _MARKERS[(place + 1) % len(_MARKERS)]
        styles[arm] = ArmStyle(OKABE_ITO[place % len(OKABE_ITO)], line, marker)
        place += 1
    return styles


def house_style() -> AbstractContextManager[None]:
    """Matplotlib's settings for our figures, for the length of a ``with`` block."""
    settings: Any = dict(_RC)
    context: AbstractContextManager[None] = matplotlib.rc_context(settings)
    return context


def nice_unit(unit: str) -> str:
    """A unit as print has it; a bare number has none.

    >>> nice_unit("mL/min/1.73m2"), nice_unit("percent"), nice_unit("1")
    ('mL/min/1.73 m²', '%', '')
    """
    plain = {"1": "", "": "", "dimensionless": "", "percent": "%", "cell/kg": "cells/kg"}
    return plain.get(unit, unit.replace("1.73m2", "1.73 m²").replace("m2", "m²"))
