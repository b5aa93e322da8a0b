"""The picture of the model as interactive SVG: boxes and arrows that a page can select, highlight and colour.

The layout is that of `mscrenal.model.picture`. Nothing here runs: the page listens to clicks and keys on ``.node`` and
``.edge``, sets the class ``selected``, ``faded`` or ``cut`` on them, and the custom property ``--heat`` of a node to the
colour that shows its activity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby

from mscrenal.model import ARM_MEANING, OBSERVABLES
from mscrenal.model.network import nodes
from mscrenal.model.picture import (
    ARM_COLOURS,
    BOX,
    EITHER,
    FAINT,
    INHIBITS,
    INK,
    INKS,
    LEADING,
    PANEL,
    STIMULATES,
    TINT,
    TRANSFERS,
    Box,
    Detail,
    Layout,
    Wire,
    arm_boxes,
    end_of,
    label,
    layout,
    legend,
    rounded,
    text_height,
    text_on,
)

__all__ = ["diagram_svg"]

# Units of the SVG in an inch of the layout, and in a point of type.
INCH, POINT = 100.0, 100.0 / 72
# Reach of the invisible line beneath a wire, by level: wide enough for a finger where lines leave room.
REACH: Mapping[Detail, float] = {"states": 6.0, "modules": 7.0}
SIGNS = {1: "stimulates", -1: "inhibits", 0: "either"}


def diagram_svg(detail: Detail = "modules", *, prefix: str = "node-") -> str:
    """The picture as an SVG element for a page.

    Parameters
    ----------
    detail : {'modules', 'states'}
        The overview or all states.
    prefix : str
        Of the ids of boxes; give another where both levels stand on one page.

    Returns
    -------
    str
        ``<svg>`` with a view box and the width of its parent. A box is ``<g class="node KIND" id="PREFIX+NAME"
        data-name data-kind data-group>`` with a ``<rect class="heat">`` that is filled with ``var(--heat)``; blanks in
        a name are underscores in the id. An arrow is ``<g class="edge …" data-source data-target data-sign data-kind
        data-arm>``. Both take the focus, have the role of a button, and a label in words.

    Raises
    ------
    DeclarationError
        If there is no such level.

    Examples
    --------
    >>> diagram_svg("states").count('class="node ')
    65
    """
    picture = layout(detail)
    foot = 0.3
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="network network-{detail}" width="100%" role="group" '
        f'viewBox="0 0 {_n(picture.width)} {_n(picture.height + foot)}" aria-label="{_title(picture)}">',
        f"<style>{_style(detail)}</style>",
        *_panels(picture),
        '<g class="edges">',
        *_edges(picture),
        "</g>",
        '<g class="nodes">',
        *(_node(b, prefix, detail) for b in picture.boxes),
        "</g>",
        *_legend(picture, picture.height + foot * 0.5),
        "</svg>",
    ]
    return "\n".join(parts)


def _title(picture: Layout) -> str:
    what = "modules" if picture.detail == "modules" else "states, arms of action and shared quantities"
    return f"The model: {len(picture.boxes)} boxes ({what}) and {len(picture.wires)} arrows"


def _n(inches: float) -> str:
    """A length in units of the SVG, to a hundredth."""
    return f"{inches * INCH:.2f}".rstrip("0").rstrip(".")


# --------------------------------------------------------------------------- colours and type


def _style(detail: Detail) -> str:
    """Everything below the class of the element, so that two pictures and a page do not disturb each other."""
    ink, own = INKS[detail], f".network-{detail}"
    properties = {
        "ink": INK,
        "faint": FAINT,
        "panel": PANEL,
        "box": BOX,
        "tint": TINT,
        "ground": "#ffffff",
        "stimulates": STIMULATES,
        "inhibits": INHIBITS,
        "either": EITHER,
        "flow": TRANSFERS,
        "measured": FAINT,
        **{f"arm-{arm}": colour for arm, colour in ARM_COLOURS.items()},
        **{f"on-{arm}": text_on(colour) for arm, colour in ARM_COLOURS.items()},
    }
    line, arm_line = ink.line * POINT, ink.arm_line * POINT
    rules = [
        "{" + ";".join(f"--{name}:{colour}" for name, colour in properties.items()),
        "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}",
    ]
    rules = [";".join(rules)]
    rules += [
        " text{fill:var(--ink);text-anchor:middle;pointer-events:none}",
        " .panel{fill:var(--panel)}",
        f" .heading{{font-size:{ink.heading * POINT:.2f}px;font-weight:700;letter-spacing:.02em;fill:#444}}",
        f" .box{{fill:var(--box);stroke:var(--ink);stroke-width:{0.8 * POINT:.2f}}}",
        " .shadow{fill:var(--box);stroke:var(--faint);stroke-width:.8}",
        " .quantity .box{stroke-dasharray:4.5 2.5}",
        " .measured .box{fill:var(--tint);stroke:var(--faint)}",
        " .heat{fill:var(--heat,none);fill-opacity:.85;pointer-events:none;transition:fill .15s linear}",
        f" .title{{font-size:{ink.title * POINT:.2f}px}}",
        " .module .title{font-weight:700}",
        " .measured .title{font-style:italic}",
        f" .member{{font-size:{ink.small * POINT:.2f}px}}",
        f" .arm .title{{font-weight:700;font-size:{(ink.small if detail == 'states' else ink.title - 0.6) * POINT:.2f}px}}",
        f" .legend text{{font-size:{ink.legend * POINT:.2f}px;text-anchor:start}}",
        f" .line{{fill:none;stroke:var(--colour);stroke-width:{line:.2f}}}",
        f" .acts .line{{stroke-width:{arm_line:.2f}}}",
        " .tip{fill:var(--colour);stroke:none}",
        f" .casing{{fill:none;stroke:var(--ground);stroke-width:{line + ink.casing * POINT:.2f};pointer-events:none}}",
        f" .casing.acts{{stroke-width:{arm_line + ink.casing * POINT:.2f}}}",
        f" .hit{{fill:none;stroke:transparent;stroke-width:{REACH[detail]};pointer-events:stroke}}",
        " .to-measured .line{stroke-dasharray:1.6 2}",
        " .node,.edge{cursor:pointer;outline:none}",
        *(f" .{name}{{--colour:var(--{name})}}" for name in ("stimulates", "inhibits", "either", "flow")),
        " .to-measured{--colour:var(--measured)}",
        *(f" .arm-{arm}{{--colour:var(--arm-{arm})}}" for arm in ARM_COLOURS),
        *(f" .node.arm-{arm} .box{{fill:var(--arm-{arm});stroke:var(--arm-{arm})}}" for arm in ARM_COLOURS),
        *(f" .node.arm-{arm} text{{fill:var(--on-{arm})}}" for arm in ARM_COLOURS),
        " .edge:hover .line,.edge:focus-visible .line,.edge.selected .line{stroke-width:4}",
        " .node:hover .box,.node:focus-visible .box,.node.selected .box{stroke:var(--ink);stroke-width:2.6}",
        " .faded{opacity:.14}",
        " .edge.cut .line{stroke-dasharray:5 5;stroke-width:3}",
    ]
    selectors = (f"{own}{rule}" for rule in rules)
    # A rule for several selectors holds them only below this element.
    return "\n".join(s.replace(",.", f",{own} .") if "font-family" not in s else s for s in selectors)


# --------------------------------------------------------------------------- wires


def _path(points: Sequence[tuple[float, float]]) -> str:
    out, corner = [], ""
    for code, (x, y) in rounded(points):
        at = f"{_n(x)} {_n(y)}"
        if code == "Q":
            corner = f"Q{at} "
        else:
            out.append(f"{corner}{at}" if corner else f"{code}{at}")
            corner = ""
    return "".join(out)


def _tip(wire: Wire, direction: int, size: float) -> str:
    """A head, a bar or a dot as a path."""
    x, y = wire.points[-1]
    if wire.sign > 0:
        back = x - direction * size * 1.7
        return f"M{_n(x)} {_n(y)}L{_n(back)} {_n(y + size * 0.62)}L{_n(back)} {_n(y - size * 0.62)}Z"
    if wire.sign < 0:
        near, far, up = x - direction * size * 0.2, x - direction * size * 0.75, size * 0.78
        return (
            f"M{_n(near)} {_n(y - up)}L{_n(near)} {_n(y + up)}L{_n(far)} {_n(y + up)}L{_n(far)} {_n(y - up)}Z"
        )
    r = size * 0.6
    turn = f"a{_n(r)} {_n(r)} 0 1 0 "
    return f"M{_n(x - direction * r - r)} {_n(y)}{turn}{_n(2 * r)} 0{turn}{_n(-2 * r)} 0Z"


def _classes(wire: Wire) -> str:
    if wire.arm:
        return f"acts arm-{wire.arm} {SIGNS[wire.sign]}-arm"
    return {"flow": "flow", "measured": "to-measured"}.get(wire.kind, SIGNS[wire.sign])


def _edges(picture: Layout) -> Iterator[str]:
    ink = INKS[picture.detail]
    for _, trunk in groupby(picture.wires, key=lambda w: w.trunk):
        drawn = []
        for wire in trunk:
            size = ink.head * (1.24 if wire.arm else 1)
            points, direction = end_of(wire, size * (0.5 if wire.sign < 0 else 1.2))
            drawn.append((wire, _path(points), _tip(wire, direction, size)))
        # The casing of a trunk lies beneath all its branches, as in the figure.
        for wire, path, _ in drawn:
            yield f'<path class="casing{" acts" if wire.arm else ""}" d="{path}"/>'
        for wire, path, tip in drawn:
            words = escape(wire.meaning)
            arm = f' data-arm="{wire.arm}"' if wire.arm else ""
            yield (
                f'<g class="edge {_classes(wire)}" data-source="{escape(wire.source)}" '
                f'data-target="{escape(wire.target)}" data-sign="{wire.sign}" data-kind="{wire.kind}"{arm} '
                f'tabindex="0" role="button" aria-label="{words}"><title>{words}</title>'
                f'<path class="hit" d="{path}"/><path class="line" d="{path}"/><path class="tip" d="{tip}"/></g>'
            )


# --------------------------------------------------------------------------- boxes


def _words(b: Box) -> str:
    """What a box is, for its label."""
    if b.kind == "arm":
        return f"{b.label}: {ARM_MEANING[b.name.removeprefix('effect_')]}"
    if b.kind == "measured":
        table = {o.name: o.label or o.meaning for o in OBSERVABLES}
        return f"Measured {b.label}: {', '.join(table[m] for m in b.members)}"
    if b.kind == "module":
        return f"{b.label}: {', '.join(label(m) for m in b.members)}"
    return f"{b.label}: {nodes()[b.name].meaning}"


def _rect(kind: str, b: Box, radius: float, shift: float = 0.0) -> str:
    return (
        f'<rect class="{kind}" x="{_n(b.x + shift)}" y="{_n(b.y + shift)}" width="{_n(b.width)}" '
        f'height="{_n(b.height)}" rx="{_n(radius)}"/>'
    )


def _node(b: Box, prefix: str, detail: Detail) -> str:
    arm = f" arm-{b.name.removeprefix('effect_')}" if b.name in arm_boxes() else ""
    radius = 0.07 if b.kind in ("module", "measured") else 0.1
    words = escape(_words(b))
    parts = [
        f'<g class="node {b.kind}{arm}" id="{escape(prefix + b.name.replace(" ", "_"))}" data-name="{escape(b.name)}" '
        f'data-kind="{b.kind}" data-group="{escape(b.group)}" tabindex="0" role="button" aria-label="{words}">',
        f"<title>{words}</title>",
    ]
    if b.per_product:
        parts.append(_rect("shadow", b, radius, 0.035))
    parts += [_rect("box", b, radius), _rect("heat", b, radius), *_text(b, detail), "</g>"]
    return "".join(parts)


# From the middle of a line of type to its base, over its size.
BASE = 0.35


def _text(b: Box, detail: Detail) -> Iterator[str]:
    ink, (x, y) = INKS[detail], b.middle
    if b.kind in ("state", "quantity", "arm"):
        lines = b.text or (b.label,)
        step = ink.title * 1.08 / 72
        for i, line in enumerate(lines):
            at = y + (i - (len(lines) - 1) / 2) * step + BASE * ink.title / 72
            yield f'<text class="title" x="{_n(x)}" y="{_n(at)}">{escape(line)}</text>'
        return
    leading, room = ink.small * LEADING / 72, (ink.title + 3.5) / 72
    top = y - text_height(len(b.text)) / 2
    first = b.label[:1].upper() + b.label[1:]
    yield f'<text class="title" x="{_n(x)}" y="{_n(top + room * 0.42 + BASE * ink.title / 72)}">{escape(first)}</text>'
    for i, words in enumerate(b.text):
        at = top + room + leading * (i + 0.5) + BASE * ink.small / 72
        yield f'<text class="member" x="{_n(x)}" y="{_n(at)}">{escape(words)}</text>'


# --------------------------------------------------------------------------- grounds and legend


def _panels(picture: Layout) -> Iterator[str]:
    ink = INKS[picture.detail]
    yield '<g class="panels" aria-hidden="true">'
    for p in picture.panels:
        if p.height:
            yield (
                f'<rect class="panel" x="{_n(p.x)}" y="{_n(p.y)}" width="{_n(p.width)}" height="{_n(p.height)}" rx="12"/>'
            )
        at = p.y + 0.04 + ink.heading * 0.95 / 72
        yield f'<text class="heading" x="{_n(p.x + p.width / 2)}" y="{_n(at)}">{escape(p.label.upper())}</text>'
    yield "</g>"


def _legend(picture: Layout, y: float) -> Iterator[str]:
    ink, entries = INKS[picture.detail], legend(picture)
    letter, long = 0.53 * ink.legend / 72, ink.legend / 20
    sizes = [(long + 0.06 if wire else 0) + letter * len(text) for text, wire in entries]
    space = min(0.5, (picture.width - 0.1 - sum(sizes)) / (len(entries) - 1))
    x = 0.06
    yield '<g class="legend" aria-hidden="true">'
    for (text, wire), size in zip(entries, sizes, strict=True):
        start = x
        if wire:
            shown = Wire(
                "", "", wire.sign, wire.kind, wire.arm, ((x, y), (x + long / 2, y), (x + long, y)), 0
            )
            points, direction = end_of(shown, ink.head)
            yield (
                f'<g class="{_classes(wire)}"><path class="line" d="{_path(points)}"/>'
                f'<path class="tip" d="{_tip(shown, direction, ink.head)}"/></g>'
            )
            start += long + 0.06
        at = y + BASE * ink.legend / 72
        yield f'<text x="{_n(start)}" y="{_n(at)}">{escape(text)}</text>'
        x += size + space
    yield "</g>"
