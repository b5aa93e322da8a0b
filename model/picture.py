"""The picture of the model: boxes and wires as data, and the figure drawn from them.

`layout` gives the data, for any drawing (the web page makes its own of it); `diagram` the matplotlib figure. Two levels:
``modules``, the overview for a column of text, and ``states``, everything, for a page of A3. Nothing is drawn that the
definition does not hold: what boxes there are, how they group and who acts on whom is read off it, and a group that has
no place in the tables below gets one at the end. Matplotlib is imported when a figure is made.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mscrenal.model.board import Arrow, Board, Place, Point, Spacing
from mscrenal.model.declare import DeclarationError, Quantity, nearest
from mscrenal.model.definition import model
from mscrenal.model.describe import counts
from mscrenal.model.network import Influence, influences, nodes
from mscrenal.model.processes.effectors import ARMS_OF_ACTION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ARM_COLOURS",
    "INKS",
    "LEADING",
    "PICTURES",
    "Box",
    "Detail",
    "Ink",
    "Layout",
    "Panel",
    "Wire",
    "arm_boxes",
    "caption",
    "colour_of",
    "diagram",
    "end_of",
    "group_of",
    "label",
    "layout",
    "legend",
    "observed",
    "rounded",
    "save_picture",
    "text_height",
    "text_on",
]

Detail = Literal["states", "modules"]
DETAILS: tuple[Detail, ...] = ("states", "modules")
# Files of the docs, and what each shows.
PICTURES: Mapping[str, Detail] = {"picture": "modules", "pathway": "states"}

# --------------------------------------------------------------------------- the tables beside the definition

INK, FAINT, PANEL, BOX, TINT = "#222222", "#8a8a8a", "#f4f4f1", "#ffffff", "#f0f3f7"
# Blue and orange differ for every common colour blindness and in brightness, arrow and bar without any colour.
STIMULATES, INHIBITS, EITHER, TRANSFERS = "#2f6fa8", "#c8502d", "#6b5b95", "#6f6f6f"
# Six of Paul Tol's "muted" qualitative scheme: apart from each other and from the two above, drawn thicker.
ARM_COLOURS: Mapping[str, str] = dict(
    zip(ARMS_OF_ACTION, ("#332288", "#44aa99", "#117733", "#999933", "#882255", "#aa4499"), strict=True)
)
ARMS = "arms of action"
# Groups side by side, from the dose to the kidney; a group not named here gets a column at the end.
COLUMNS: tuple[tuple[str, ...], ...] = (
    ("exposure",),
    ("effectors",),
    (ARMS,),
    ("metabolism", "oxidative stress"),
    ("inflammation",),
    ("fibrosis", "autoimmunity"),
    ("kidney",),
    ("kidney function",),
)
# The same in the overview, where the course of the disease runs from top to bottom; a module not named here comes last.
OVERVIEW: tuple[tuple[str, ...], ...] = (
    ("exposure", "effectors"),
    (ARMS,),
    ("metabolism", "oxidative stress", "inflammation", "autoimmunity", "fibrosis", "kidney"),
)
HEADINGS = ("what is given", ARMS, "disease and kidney", "what is measured")
# How words of a name are set in print.
PRINTED = {
    "ev": "EV",
    "ros": "ROS",
    "nrf2": "Nrf2",
    "mcp1": "MCP-1",
    "m1": "M1",
    "m2": "M2",
    "treg": "Treg",
    "th17": "Th17",
    "tnf": "TNF-α",
    "il6": "IL-6",
    "il10": "IL-10",
    "il1b": "IL-1β",
    "tgfb": "TGF-β1",
    "psmad": "pSmad2/3",
    "smad7": "Smad7",
    "vegf": "VEGF",
    "c3": "C3",
    "gfr": "GFR",
    "beta": "β",
    "age": "AGE",
}


def label(name: str) -> str:
    """A name as print has it.

    >>> label("tnf_kidney"), label("effect_antioxidant")
    ('TNF-α kidney', 'antioxidant')
    """
    return " ".join(PRINTED.get(word, word) for word in name.removeprefix("effect_").split("_"))


# --------------------------------------------------------------------------- the layout as data


@dataclass(frozen=True)
class Box:
    """Something that wires join. `x` and `y` are its left upper corner.

    Attributes
    ----------
    name : str
        Of the state, quantity or arm (``effect_…``); of a module, or ``measured_…`` with the spaces as underscores.
    label, group : str
    kind : {'state', 'quantity', 'arm', 'module', 'measured'}
    members : tuple of str
        What a module or a measurement holds, by name; a state and a quantity hold themselves, an arm what it is.
    text : tuple of str
        The same for print, in lines that fit the width.
    per_product : bool
        Whether there is one for each product that an arm of a trial mixes.
    """

    name: str
    label: str
    group: str
    kind: Literal["state", "quantity", "arm", "module", "measured"]
    x: float
    y: float
    width: float
    height: float
    members: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    per_product: bool = False

    @property
    def middle(self) -> Point:
        """Of the box."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Wire:
    """One arrow.

    Attributes
    ----------
    source, target : str
        Names of boxes.
    sign : int
        1 raises, -1 lowers, 0 either, as it comes (in the overview: some up, some down).
    kind : {'influence', 'flow', 'measured'}
        A flow is matter that leaves one state for another; measured leads from a module to what is measured of it.
    arm : str or None
        The arm of action that acts.
    points : tuple of (x, y)
        Corners from the edge of the source to the edge of the target.
    trunk : int
        Wires of one trunk share their first stretch and one colour.
    """

    source: str
    target: str
    sign: int
    kind: Literal["influence", "flow", "measured"]
    arm: str | None
    points: tuple[Point, ...]
    trunk: int

    @property
    def meaning(self) -> str:
        """What the arrow says, as a sentence without its end.

        >>> next(w for w in layout("states").wires if (w.source, w.target) == ("nrf2", "ros")).meaning
        'Nrf2 inhibits ROS'
        """
        first, last = _named(self.source), _named(self.target)
        if self.kind == "measured":
            return f"{last} is measured of {first}"
        if self.kind == "flow":
            return f"{first} turns into or moves to {last}"
        verb = {1: "stimulates", -1: "inhibits", 0: "stimulates in part and inhibits in part"}[self.sign]
        return f"{first} {verb} {last}"


def text_on(colour: str) -> str:
    """Black or white, whichever stands out more on a colour ('#rrggbb'), by the contrast of WCAG 2.

    >>> text_on("#332288"), text_on("#44aa99")
    ('white', '#222222')
    """
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # Contrast to white against that to the ink, whose own luminance is 0.016.
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.066 else INK


def _named(name: str) -> str:
    return label(name.removeprefix("measured_"))


@dataclass(frozen=True)
class Panel:
    """The ground on which the boxes of a group stand, or only a heading (height 0)."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """Boxes, wires and panels of a picture; inches, x to the right and y downwards from the left upper corner."""

    detail: Detail
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    panels: tuple[Panel, ...]
    width: float
    height: float

    def box(self, name: str) -> Box:
        """The box of a name; DeclarationError if there is none."""
        for found in self.boxes:
            if found.name == name:
                return found
        raise DeclarationError(f"No box {name!r}.{nearest(name, [b.name for b in self.boxes])}")

    def wire(self, source: str, target: str) -> Wire:
        """The arrow from a box to another; DeclarationError if there is none."""
        for found in self.wires:
            if (found.source, found.target) == (source, target):
                return found
        ends = [w.target for w in self.wires if w.source == self.box(source).name]
        raise DeclarationError(f"No arrow from {source!r} to {target!r}.{nearest(target, ends)}")


@cache
def layout(detail: Detail = "modules") -> Layout:
    """Boxes and wires of a picture.

    Parameters
    ----------
    detail : {'modules', 'states'}
        The modules with the influences between them and what is measured of them, or every state with every direct
        influence.

    Raises
    ------
    DeclarationError
        If there is no such level, or an observable that belongs to no module or to several.
    """
    if detail not in DETAILS:
        raise DeclarationError(f"No detail {detail!r}.{nearest(detail, DETAILS)}")
    return _states_layout() if detail == "states" else _modules_layout()


@cache
def arm_boxes() -> frozenset[str]:
    """Names of the boxes of the arms of action."""
    return frozenset(f"effect_{arm}" for arm in ARMS_OF_ACTION)


def group_of(name: str) -> str:
    """The group in which a state, an arm or a quantity stands: its module, but for arms and the kidney's function."""
    item = nodes()[name]
    if name in arm_boxes():
        return ARMS
    return f"{item.module} function" if isinstance(item, Quantity) else item.module


def _module_of(name: str) -> str:
    return group_of(name).removesuffix(" function")


def _shown() -> tuple[dict[str, str], list[Influence]]:
    """Boxes with their group, and arrows; the sinks that only keep the mass balance are left out."""
    arrows = list(influences())
    driven = {a.source for a in arrows}
    inflows = defaultdict(list)
    for a in arrows:
        inflows[a.target].append(a.transfer)
    sinks = {n for n in nodes() if n not in driven and inflows[n] and all(inflows[n])}
    groups = {n: group_of(n) for n in nodes() if n not in sinks}
    return groups, [a for a in arrows if a.target in groups]


def _columns(groups: Iterable[str], table: Sequence[Sequence[str]]) -> list[list[str]]:
    present = list(dict.fromkeys(groups))
    columns = [[g for g in column if g in present] for column in table]
    columns += [[g] for g in present if all(g not in column for column in table)]
    return [column for column in columns if column]


def _ink(a: Influence) -> tuple[str, int]:
    """What arrows have in common that share a trunk: the arm, or the kind, and the sign where a line shows it."""
    if a.source in arm_boxes():
        return a.source.removeprefix("effect_"), a.sign
    return ("flow", 1) if a.transfer else ("influence", a.sign)


def _wires(board: Board, arrows: Sequence[Arrow], ground: Point) -> tuple[Wire, ...]:
    """The wires of a board, moved so that the ground (x, y of the page's left upper corner) is at zero."""
    left, top = ground
    out = []
    for trunk, a, points in board.routes():
        kind, sign = a.ink if isinstance(a.ink, tuple) else ("influence", 0)
        arm = kind if kind in ARM_COLOURS else None
        corners = tuple((x - left, top - y) for x, y in points)
        out.append(Wire(a.source, a.target, sign, "influence" if arm else kind, arm, corners, trunk))
    # Thin ones beneath, arms of action on top.
    return tuple(sorted(out, key=lambda w: (w.kind != "measured", w.arm is not None, w.trunk)))


def _at(place: Place, ground: Point) -> tuple[float, float, float, float]:
    """x, y, width and height of a box on the page."""
    left, top = ground
    return place.x - left, top - place.y - place.height / 2, place.width, place.height


# --------------------------------------------------------------------------- all states


def _states_layout() -> Layout:
    groups, arrows = _shown()
    places = _state_places(groups)
    board = Board(places, wanted := [Arrow(a.source, a.target, _ink(a)) for a in arrows], Spacing())
    left, top = -0.15, max(0.3, max(board.heights, default=0.0) + 0.15)
    low = min(board.edge(board.rows), min(board.heights, default=0.0)) - 0.15
    boxes = tuple(
        Box(
            p.name,
            label(p.name),
            groups[p.name],
            _kind(p.name),
            *_at(p, (left, top)),
            members=(p.name,),
            text=tuple(_wrapped(label(p.name)).split("\n")),
            per_product=nodes()[p.name].per_slot,
        )
        for p in places
    )
    return Layout(
        "states",
        boxes,
        _wires(board, wanted, (left, top)),
        _panels(boxes),
        board.total + 0.3,
        top - low,
    )


def _kind(name: str) -> Literal["state", "quantity", "arm"]:
    if name in arm_boxes():
        return "arm"
    return "quantity" if isinstance(nodes()[name], Quantity) else "state"


def _state_places(groups: Mapping[str, str]) -> list[Place]:
    columns = _columns(groups.values(), COLUMNS)
    sizes = [sum(1 for g in groups.values() if g in column) + len(column) - 1 for column in columns]
    tall, places = max(sizes), []
    for number, column in enumerate(columns):
        names = [n for g in column for n, own in groups.items() if own == g]
        step = max(1, (tall - len(column) + 1) // len(names))
        row = (tall - (len(names) - 1) * step - 1 - (len(column) - 1)) // 2
        before = column[0]
        for name in names:
            row += groups[name] != before
            headed = groups[name] != before or name == names[0]
            before = groups[name]
            places.append(Place(name, number, row, headed=headed))
            row += step
    return places


def _panels(boxes: Sequence[Box]) -> tuple[Panel, ...]:
    grouped: dict[str, list[Box]] = defaultdict(list)
    for b in boxes:
        grouped[b.group].append(b)
    out = []
    for name, members in grouped.items():
        left, right = min(b.x for b in members) - 0.09, max(b.x + b.width for b in members) + 0.09
        top, bottom = min(b.y for b in members) - 0.3, max(b.y + b.height for b in members) + 0.12
        out.append(Panel(name, left, top, right - left, bottom - top))
    return tuple(out)


def _wrapped(text: str, most: int = 13) -> str:
    if len(text) <= most or " " not in text:
        return text
    words = text.split(" ")
    cuts = range(1, len(words))
    return min(
        (" ".join(words[:c]) + "\n" + " ".join(words[c:]) for c in cuts),
        key=lambda s: max(map(len, s.split("\n"))),
    )


# --------------------------------------------------------------------------- the overview

# Inches, for a text width of 170 mm: widths of the columns, and what a row takes.
WIDTHS = (0.98, 1.1, 1.55, 1.5)
ROOMY = Spacing(between=0.12, port=0.075, lane=0.062, track=0.055, margin=0.1)
HEADING, FOOT = 0.24, 0.05
# Mean width of a letter over its size, in the sans-serif of the figure; the tests measure every line.
LETTER = 0.55
TITLE_SIZE, TEXT_SIZE, LEADING = 7.6, 6.2, 1.2


def observed() -> dict[str, tuple[str, ...]]:
    """The observables of each module: the one whose states and quantities the formula reads.

    Raises
    ------
    DeclarationError
        If an observable reads several modules, or none.
    """
    structure, out = model(), defaultdict(list)
    for name, (_, term) in structure.observables.items():
        modules = {_module_of(n) for n in _read(term.arguments.values())}
        if len(modules) != 1:
            raise DeclarationError(
                f"Observable {name!r} reads {', '.join(sorted(modules)) or 'no module'}: the picture needs one module for each. "
                "Split it, or group it in mscrenal.model.picture."
            )
        out[modules.pop()].append(name)
    return {module: tuple(names) for module, names in out.items()}


def _read(arguments: Iterable[str]) -> set[str]:
    """Nodes that a formula reads, through quantities that are none."""
    structure, found, pending, seen = model(), set(), list(arguments), set()
    while pending:
        name = pending.pop()
        if name in nodes():
            found.add(name)
        elif name in structure.quantities and name not in seen:
            seen.add(name)
            pending += [a for term in structure.quantities[name][1] for a in term.arguments.values()]
    return found


def _module_arrows(groups: Mapping[str, str], arrows: Iterable[Influence]) -> list[Influence]:
    """Arrows between modules: one for all, without a sign where they differ in it."""
    signs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for a in arrows:
        ends = [n if n in arm_boxes() else groups[n].removesuffix(" function") for n in (a.source, a.target)]
        if ends[0] != ends[1]:
            signs[ends[0], ends[1]].add(a.sign)
    return [Influence(s, t, next(iter(found)) if len(found) == 1 else 0) for (s, t), found in signs.items()]


def _measured(module: str) -> str:
    return f"measured_{module.replace(' ', '_')}"


def _modules_layout() -> Layout:
    groups, every = _shown()
    arrows = _module_arrows(groups, every)
    members: dict[str, list[str]] = defaultdict(list)
    for name in groups:
        members[name if name in arm_boxes() else _module_of(name)].append(name)
    seen = observed()
    places = _module_places(members, arrows, seen)
    text = {p.name: _members_text(p, members, seen) for p in places}
    tall = max(round(p.row + p.rows) for p in places)
    lines = [
        max(len(text[p.name]) for p in places if p.column > 1 and p.row <= row < p.row + p.rows)
        for row in range(tall)
    ]
    pitch = tuple(ROOMY.between + 0.08 + text_height(max(2, n)) for n in lines)
    wanted = [Arrow(a.source, a.target, _ink(a)) for a in arrows]
    wanted += [Arrow(m, _measured(m), ("measured", 1)) for m in seen]
    board = Board(places, wanted, replace(ROOMY, pitch=pitch))
    left, top = (
        min(p.x for p in places) - 0.02,
        max([HEADING - ROOMY.between / 2, *(h + 0.08 for h in board.heights)]),
    )
    low = min([p.y - p.height / 2 for p in places] + [h - 0.04 for h in board.heights]) - FOOT
    boxes = tuple(_module_box(p, members, seen, text[p.name], (left, top)) for p in places)
    by_column = {p.column: b for p, b in zip(reversed(places), reversed(boxes), strict=True)}
    panels = tuple(
        Panel(text, by_column[c].x, 0.0, by_column[c].width, 0.0)
        for c, text in enumerate(HEADINGS)
        if c in by_column
    )
    wide = max(b.x + b.width for b in boxes) + 0.02
    return Layout("modules", boxes, _wires(board, wanted, (left, top)), panels, wide, top - low)


def _module_places(
    members: Mapping[str, Sequence[str]],
    arrows: Sequence[Influence],
    seen: Mapping[str, Sequence[str]],
) -> list[Place]:
    given, _, disease = _columns([ARMS if n in arm_boxes() else n for n in members], OVERVIEW)[:3]
    # A module that the table does not name stands with the disease.
    disease += [n for n in members if n not in arm_boxes() and n not in (*given, *disease)]
    row_of = {name: i for i, name in enumerate(disease)}

    def aim(arm: str) -> float:
        """Mean row of what an arm acts on: arms in this order cross each other least."""
        rows = [row_of[a.target] for a in arrows if a.source == arm and a.target in row_of]
        return sum(rows) / len(rows) if rows else math.inf

    arms = sorted((n for n in members if n in arm_boxes()), key=lambda n: (aim(n), n))
    tall = max(len(arms), len(disease))
    # What is measured stands to the right of its module, and of what is given below it: nothing runs across the page.
    beside = [_measured(n) for n in disease if n in seen]
    stacks = [[x for n in given for x in (n, _measured(n)) if n in seen or x == n], arms, disease]
    places = [
        Place(n, column, i * tall / len(stack), tall / len(stack), width=WIDTHS[column])
        for column, stack in enumerate(stacks)
        for i, n in enumerate(stack)
    ]
    share = tall / len(disease)
    places += [
        Place(n, 3, disease.index(m) * share, share, width=WIDTHS[3])
        for n, m in zip(beside, (m for m in disease if m in seen), strict=True)
    ]
    return places


def _members_text(
    place: Place, members: Mapping[str, Sequence[str]], seen: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """What stands below the name of a box, in lines."""
    table, observables = model().observables, {_measured(m): m for m in seen}
    if place.name in arm_boxes():
        return ()
    if place.name in observables:
        words = [table[o][0].label or label(o) for o in seen[observables[place.name]]]
    else:
        words = [label(m) for m in members[place.name]]
    return _paragraph(words, place.width)


def _module_box(
    place: Place,
    members: Mapping[str, Sequence[str]],
    seen: Mapping[str, Sequence[str]],
    text: tuple[str, ...],
    ground: Point,
) -> Box:
    name, at = place.name, _at(place, ground)
    if name in arm_boxes():
        return Box(name, label(name), ARMS, "arm", *at, members=(name,))
    module = next((m for m in seen if _measured(m) == name), None)
    if module is not None:
        return Box(name, f"of {module}", "measured", "measured", *at, members=tuple(seen[module]), text=text)
    return Box(name, name, name, "module", *at, members=tuple(members[name]), text=text)


def text_height(lines: int) -> float:
    """Of a box's name and lines, inches."""
    return (TITLE_SIZE + 3.5 + lines * TEXT_SIZE * LEADING) / 72


def _paragraph(words: Sequence[str], width: float) -> tuple[str, ...]:
    """Words with dots between, in lines of at most the width (inches)."""
    most = int((width - 0.1) * 72 / (LETTER * TEXT_SIZE))
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(DOT) + len(word) <= most:
            lines[-1] += DOT + word
        else:
            lines.append(word)
    return tuple(lines)


DOT = " · "


def caption() -> str:
    """What the overview shows, in a few sentences for the figure's legend."""
    c, whole, parts = counts(), layout("states"), layout("modules")
    arms = sum(w.arm is not None for w in whole.wires)
    inside = [w for w in parts.wires if w.kind == "influence"]
    return (
        f"The model in one picture. What is given ({c['products']} products) passes through {len(ARMS_OF_ACTION)} arms of "
        f"action into disease and kidney; on the right what is measured. Behind it stand {c['states']} states, "
        f"{c['processes']} processes, {c['parameters']} parameters and {c['observables']} observables; the {len(inside)} arrows "
        f"between modules sum up {len(whole.wires)} between states, of which {arms} are of arms of action. An arrow head "
        "stimulates, a bar inhibits, a dot does both, to different states of the module. Generated from the definition."
    )


# --------------------------------------------------------------------------- the figure


@dataclass(frozen=True)
class Ink:
    """How a level is drawn: sizes in points, but for `head`, the size of an arrow head in inches."""

    line: float
    arm_line: float
    casing: float
    head: float
    title: float
    small: float
    heading: float
    legend: float


INKS: Mapping[Detail, Ink] = {
    "states": Ink(0.9, 1.7, 1.8, 0.05, 9.0, 7.3, 8.5, 9.0),
    "modules": Ink(0.8, 1.5, 1.4, 0.042, TITLE_SIZE, TEXT_SIZE, 6.6, 6.4),
}


def colour_of(wire: Wire) -> str:
    """The colour of a wire, '#rrggbb'."""
    if wire.arm:
        return ARM_COLOURS[wire.arm]
    if wire.kind != "influence":
        return TRANSFERS if wire.kind == "flow" else FAINT
    return {1: STIMULATES, -1: INHIBITS, 0: EITHER}[wire.sign]


def _towards(start: Point, end: Point, far: float) -> Point:
    share = far / math.dist(start, end)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def rounded(points: Sequence[Point], radius: float = 0.055) -> list[tuple[Literal["M", "L", "Q"], Point]]:
    """The steps of a path along the points with rounded corners; a corner is a Q and the L after it, its end."""
    kept = [p for i, p in enumerate(points) if i == 0 or math.dist(p, points[i - 1]) > 1e-9]
    steps: list[tuple[Literal["M", "L", "Q"], Point]] = [("M", kept[0])]
    for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        enter, leave = (_towards(corner, other, r) for other in (before, after))
        steps += [("L", enter), ("Q", corner), ("L", leave)]
    return [*steps, ("L", kept[-1])]


def _outline(points: Sequence[Point]) -> Any:
    from matplotlib.path import Path as Outline

    vertices, codes, after_corner = [], [], False
    for code, point in rounded(points):
        vertices.append(point)
        curve = code == "Q" or after_corner
        codes.append(Outline.MOVETO if code == "M" else Outline.CURVE3 if curve else Outline.LINETO)
        after_corner = code == "Q"
    return Outline(vertices, codes)


def end_of(wire: Wire, short: float) -> tuple[tuple[Point, ...], int]:
    """The corners with the last one `short` of the box, where the head begins, and the head's direction (1: rightwards)."""
    (x0, _), (x1, y1) = wire.points[-2:]
    direction = 1 if x1 >= x0 else -1
    return (*wire.points[:-1], (x1 - direction * short, y1)), direction


def _tip(axes: Any, end: Point, direction: int, sign: int, colour: str, size: float, width: float) -> None:
    """An arrow head, a bar, or a dot where the sign depends on circumstance."""
    from matplotlib.patches import Circle, Polygon

    x, y = end
    if sign > 0:
        back = x - direction * size * 1.7
        head = [(x, y), (back, y + size * 0.62), (back, y - size * 0.62)]
        axes.add_patch(Polygon(head, fc=colour, ec="none", zorder=6))
    elif sign < 0:
        at, span = [x - direction * size * 0.5] * 2, [y - size * 0.78, y + size * 0.78]
        axes.plot(at, span, color=colour, lw=width + 0.9, solid_capstyle="butt", zorder=6)
    else:
        axes.add_patch(Circle((x - direction * size * 0.6, y), size * 0.6, fc=colour, ec="none", zorder=6))


def _draw_wires(axes: Any, picture: Layout) -> None:
    from matplotlib.patches import PathPatch

    ink, count = INKS[picture.detail], len(picture.wires)
    for _, trunk in groupby(enumerate(picture.wires), key=lambda item: item[1].trunk):
        wires = list(trunk)
        z = 3 + wires[0][0] / count
        # The white casing of a trunk lies beneath all its branches, and shows which of two crossing lines runs above.
        for casing in (True, False):
            for _, wire in wires:
                size = ink.head * (1.24 if wire.arm else 1)
                width = ink.arm_line if wire.arm else ink.line
                points, direction = end_of(wire, size * (0.5 if wire.sign < 0 else 1.2))
                paint: dict[str, Any] = {"ec": "white" if casing else colour_of(wire), "zorder": z}
                if wire.kind == "measured" and not casing:
                    paint["ls"] = (0, (1, 1.2))
                extra = ink.casing if casing else 0
                axes.add_patch(
                    PathPatch(_outline(points), fc="none", lw=width + extra, capstyle="butt", **paint)
                )
                if not casing:
                    _tip(axes, wire.points[-1], direction, wire.sign, colour_of(wire), size, width)


def _draw_boxes(axes: Any, picture: Layout) -> None:
    for b in picture.boxes:
        _draw_box(axes, b, INKS[picture.detail])


def _draw_box(axes: Any, b: Box, ink: Ink) -> None:
    from matplotlib.patches import FancyBboxPatch

    arm = b.kind == "arm"
    face = ARM_COLOURS[b.name.removeprefix("effect_")] if arm else TINT if b.kind == "measured" else BOX
    shape = (
        "round,pad=0,rounding_size=0.07"
        if b.kind in ("module", "measured")
        else "round,pad=0,rounding_size=0.1"
    )

    def patch(shift: float, **paint: Any) -> None:
        axes.add_patch(FancyBboxPatch((b.x + shift, b.y + shift), b.width, b.height, boxstyle=shape, **paint))

    if b.per_product:
        patch(0.035, fc=BOX, ec=FAINT, lw=0.6, zorder=4.9)
    edge = face if arm else FAINT if b.kind == "measured" else INK
    style: Any = (0, (3, 1.5)) if b.kind == "quantity" else "-"
    patch(0.0, fc=face, ec=edge, lw=0.8, ls=style, zorder=5)
    x, y = b.middle
    paint: dict[str, Any] = {"ha": "center", "color": text_on(face) if arm else INK, "zorder": 7}
    if b.kind in ("state", "quantity", "arm"):
        text = "\n".join(b.text) or b.label
        size = ink.small if arm and ink.title > 8 else ink.title - (0.6 if arm else 0)
        axes.text(
            x, y, text, va="center", fontsize=size, fontweight="bold" if arm else "normal", linespacing=1.0, **paint
        )  # fmt: skip
        return
    line, room = ink.small * LEADING / 72, (ink.title + 3.5) / 72
    top = y - text_height(len(b.text)) / 2
    axes.text(
        x, top + room * 0.42, b.label[:1].upper() + b.label[1:], va="center", fontsize=ink.title - (b.kind == "measured"),
        fontweight="bold" if b.kind == "module" else "normal", fontstyle="italic" if b.kind == "measured" else "normal",
        **paint,
    )  # fmt: skip
    for i, text in enumerate(b.text):
        axes.text(x, top + room + line * (i + 0.5), text, va="center_baseline", fontsize=ink.small, **paint)


def _draw_panels(axes: Any, picture: Layout) -> None:
    from matplotlib.patches import FancyBboxPatch

    for p in picture.panels:
        if p.height:
            axes.add_patch(
                FancyBboxPatch(
                    (p.x, p.y), p.width, p.height, boxstyle="round,pad=0,rounding_size=0.12", fc=PANEL, ec="none",
                    zorder=1,
                )
            )  # fmt: skip
        axes.text(
            p.x + p.width / 2, p.y + 0.04, p.label.upper(), ha="center", va="top",
            fontsize=INKS[picture.detail].heading, color="#444444", fontweight="bold", zorder=7,
        )  # fmt: skip


def legend(picture: Layout) -> list[tuple[str, Wire | None]]:
    """Words and a wire that shows what they say, of what the picture holds."""
    some = {(w.kind, w.sign if w.kind == "influence" else 1): w for w in picture.wires if not w.arm}
    words = {
        ("influence", 1): "stimulates",
        ("influence", -1): "inhibits",
        ("influence", 0): "some up, some down",
        ("flow", 1): "cells or vesicles move",
        ("measured", 1): "is measured",
    }
    out: list[tuple[str, Wire | None]] = [(text, some[key]) for key, text in words.items() if key in some]
    acts = next((w for w in picture.wires if w.arm == "cytoprotection"), None)
    out.append(("arm of action, in its colour", acts))
    if picture.detail == "states":
        out += [("double edge: one per product", None), ("dashed edge: computed, not integrated", None)]
    return out


def _draw_legend(axes: Any, picture: Layout, y: float) -> None:
    ink, entries = INKS[picture.detail], legend(picture)
    letter = LETTER * ink.legend / 72
    long = ink.legend / 20
    sizes = [(long + 0.08 if wire else 0) + letter * len(text) for text, wire in entries]
    x = 0.06
    space = min(0.5, (picture.width - 0.1 - sum(sizes)) / (len(entries) - 1))
    for (text, wire), size in zip(entries, sizes, strict=True):
        start = x
        if wire:
            width = ink.arm_line if wire.arm else ink.line
            style: Any = (0, (1, 1.2)) if wire.kind == "measured" else "-"
            axes.plot(
                [x, x + long - 0.05], [y, y], color=colour_of(wire), lw=width, ls=style, solid_capstyle="butt"
            )
            _tip(axes, (x + long, y), 1, wire.sign, colour_of(wire), ink.head, width)
            start += long + 0.06
        axes.text(start, y, text, va="center", fontsize=ink.legend, color=INK)
        x += size + space


def diagram(detail: Detail = "states") -> Figure:
    """The network as a picture, drawn from stoichiometry and partial derivatives.

    Parameters
    ----------
    detail : {'states', 'modules'}
        Every state with every direct influence (for a page of A3), or the overview, 170 mm wide.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: save it with ``figure.savefig``.

    Raises
    ------
    DeclarationError
        If there is no such level.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    picture = layout(detail)
    foot = 0.45 if detail == "states" else 0.24
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "mscrenal"}):
        figure = Figure(figsize=(picture.width, picture.height + foot), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, picture.width), ylim=(picture.height + foot, 0), aspect="equal")
        axes.axis("off")
        _draw_panels(axes, picture)
        _draw_wires(axes, picture)
        _draw_boxes(axes, picture)
        _draw_legend(axes, picture, picture.height + foot * 0.45)
    return figure


def save_picture(path: Path, detail: Detail) -> None:
    """Write a picture as .svg, .png or .pdf; the same definition gives the same file, byte for byte."""
    import matplotlib as mpl

    dates: Mapping[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    figure = diagram(detail)
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "mscrenal"}):
        figure.savefig(
            path, dpi=200 if detail == "states" else 300, metadata=dates.get(path.suffix, {"Software": None})
        )
