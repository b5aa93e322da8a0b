"""The picture of the model: arrows from the definition, a layout without collisions, a figure and an SVG for the page."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from mscrenal.app.page.diagram import diagram_svg
from mscrenal.model import ARMS_OF_ACTION, OBSERVABLES, picture
from mscrenal.model.codegen import equations
from mscrenal.model.declare import DeclarationError
from mscrenal.model.definition import model
from mscrenal.model.drugs import DRUGS
from mscrenal.model.network import influences, nodes

DETAILS = pytest.mark.parametrize("detail", ["states", "modules"])
MM = 25.4


@pytest.fixture(scope="module")
def arrows() -> dict[tuple[str, str], int]:
    return {(a.source, a.target): a.sign for a in influences()}


# ------------------------------------------------------------------ the network


def direct_drivers(target: str) -> set[str]:
    """Boxes on which a box depends, by the symbols of its formula: through quantities that are no box of their own."""
    eq = equations(model())
    boxes = set(nodes())
    expression = eq.quantities[target] if target in eq.quantities else eq.derivatives[target]
    if target in ("blood", "lung"):
        # What leaves them is split between kidney and elsewhere; the split itself cancels.
        expression = expression.expand()
    expression = expression.subs({eq.symbols[d.level]: 0 for d in DRUGS.values()})
    pending, found, seen = [s.name for s in expression.free_symbols], set(), set()
    while pending:
        name = pending.pop()
        if name in boxes:
            found.add(name)
        elif name in eq.quantities and name not in seen:
            seen.add(name)
            pending += [s.name for s in eq.quantities[name].free_symbols]
    return found - {target}


@pytest.mark.parametrize("target", nodes())
def test_arrows_come_from_everything_that_the_formula_reads(
    target: str, arrows: dict[tuple[str, str], int]
) -> None:
    assert {source for source, end in arrows if end == target} == direct_drivers(target)


@pytest.mark.parametrize(
    ("source", "target", "sign"),
    [
        ("nrf2", "ros", -1),
        ("ros", "nrf2", +1),
        ("smad7", "psmad", -1),
        ("il10_kidney", "tnf_kidney", -1),
        ("treg", "th17", -1),
        ("tnf_serum", "insulin_sensitivity", -1),
        ("podocytes", "leak", -1),
        ("damage", "nephrons", -1),
        ("memory", "lung", -1),
        ("secretome", "effect_antifibrotic", +1),
        ("effect_immunomodulation", "tnf_kidney", -1),
        ("effect_immunomodulation", "treg", +1),
        ("effect_antifibrotic", "matrix", -1),
        ("effect_cytoprotection", "podocytes", +1),
        ("vegf", "effect_angiogenic", -1),
    ],
)
def test_signs_are_those_of_the_review(
    source: str, target: str, sign: int, arrows: dict[tuple[str, str], int]
) -> None:
    assert arrows[source, target] == sign


def test_transfers_move_matter() -> None:
    moved = {(a.source, a.target) for a in influences() if a.transfer}
    assert {("blood", "lung"), ("lung", "apoptotic"), ("ev_plasma", "ev_kidney"), ("m1", "m2")} <= moved
    assert ("tnf_kidney", "mcp1") not in moved


# ------------------------------------------------------------------ the layout


@DETAILS
def test_no_wire_runs_through_a_box(detail: picture.Detail) -> None:
    shown = picture.layout(detail)
    for wire in shown.wires:
        for (x0, y0), (x1, y1) in itertools.pairwise(wire.points):
            for box in shown.boxes:
                inside = (
                    max(x0, x1) > box.x + 1e-6
                    and min(x0, x1) < box.x + box.width - 1e-6
                    and max(y0, y1) > box.y + 1e-6
                    and min(y0, y1) < box.y + box.height - 1e-6
                )
                assert not inside, f"{wire.source} -> {wire.target} runs through {box.name}"


@DETAILS
def test_a_wire_leads_from_the_edge_of_its_source_to_that_of_its_target(detail: picture.Detail) -> None:
    shown = picture.layout(detail)
    for wire in shown.wires:
        for name, (x, y) in ((wire.source, wire.points[0]), (wire.target, wire.points[-1])):
            box = shown.box(name)
            assert min(abs(x - box.x), abs(x - box.x - box.width)) < 1e-9
            assert box.y < y < box.y + box.height


@DETAILS
def test_boxes_do_not_overlap_and_stay_on_the_page(detail: picture.Detail) -> None:
    shown = picture.layout(detail)
    for a, b in itertools.combinations(shown.boxes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, f"{a.name} overlaps {b.name}"
    for x, y in [p for w in shown.wires for p in w.points] + [
        (b.x + b.width, b.y + b.height) for b in shown.boxes
    ]:
        assert 0 <= x <= shown.width
        assert 0 <= y <= shown.height


@DETAILS
def test_wires_of_different_trunks_do_not_lie_on_each_other(detail: picture.Detail) -> None:
    segments = {
        (wire.trunk, (*sorted((a, b)),))
        for wire in picture.layout(detail).wires
        for a, b in itertools.pairwise(wire.points)
        if a != b
    }
    for (n, (a, b)), (m, (c, d)) in itertools.combinations(segments, 2):
        for across, along in ((0, 1), (1, 0)):
            if n != m and abs(a[across] - b[across]) < 1e-9 and abs(c[across] - d[across]) < 1e-9:
                shared = min(b[along], d[along]) - max(a[along], c[along])
                assert abs(a[across] - c[across]) > 0.01 or shared < 1e-6, (n, m, a, b, c, d)


def test_the_picture_of_states_holds_every_influence_but_those_of_sinks(
    arrows: dict[tuple[str, str], int],
) -> None:
    shown = picture.layout("states")
    boxes = {b.name for b in shown.boxes}
    assert {(w.source, w.target): w.sign for w in shown.wires if w.kind != "flow"} == {
        (a.source, a.target): a.sign for a in influences() if a.target in boxes and not a.transfer
    } | {(a.source, a.target): a.sign for a in influences() if a.source in picture.arm_boxes()}
    assert set(nodes()) - boxes == {"cleared", "ev_lost", "medium_lost"}


def test_the_overview_misses_no_module_arm_or_observable(arrows: dict[tuple[str, str], int]) -> None:
    shown = picture.layout("modules")
    assert {b.name.removeprefix("effect_") for b in shown.boxes if b.kind == "arm"} == set(ARMS_OF_ACTION)
    states = {b.name for b in picture.layout("states").boxes}
    members = [m for b in shown.boxes if b.kind in ("module", "arm") for m in b.members]
    assert sorted(members) == sorted(states)
    measured = [m for b in shown.boxes if b.kind == "measured" for m in b.members]
    assert sorted(measured) == sorted(o.name for o in OBSERVABLES)
    home = {m: b.name for b in shown.boxes if b.kind in ("module", "arm") for m in b.members}
    wanted = {(home[a], home[b]) for a, b in arrows if b in home and home[a] != home[b]}
    assert {(w.source, w.target) for w in shown.wires if w.kind == "influence"} == wanted


def test_an_arrow_of_the_overview_has_a_sign_only_if_all_its_influences_have_it(
    arrows: dict[tuple[str, str], int],
) -> None:
    shown = picture.layout("modules")
    home = {m: b.name for b in shown.boxes if b.kind in ("module", "arm") for m in b.members}
    for wire in (w for w in shown.wires if w.kind == "influence"):
        signs = {
            s
            for (a, b), s in arrows.items()
            if b in home and (home[a], home[b]) == (wire.source, wire.target)
        }
        assert wire.sign == (signs.pop() if len(signs) == 1 else 0)


def test_what_is_measured_hangs_on_the_module_that_its_formula_reads() -> None:
    seen = picture.observed()
    assert {"egfr", "uacr", "serum_creatinine"} <= set(seen["kidney"])
    assert {"il6_serum", "tnfa_serum", "m1m2_ratio"} <= set(seen["inflammation"])
    assert "tgfb1_serum" in seen["fibrosis"]
    assert "cells_lung" in seen["exposure"]


def test_an_unknown_box_or_arrow_names_those_there_are() -> None:
    with pytest.raises(DeclarationError, match=r"No box 'tubule'\. Did you mean 'tubules'"):
        picture.layout("states").box("tubule")
    with pytest.raises(DeclarationError, match=r"No arrow from 'nrf2' to 'matrix'.*Allowed: .*ros"):
        picture.layout("states").wire("nrf2", "matrix")


# ------------------------------------------------------------------ the figure


def drawn(detail: picture.Detail):  # type: ignore[no-untyped-def]
    """Texts of the figure with their extents in inches, and its size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = picture.diagram(detail)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for t in figure.axes[0].texts if t.get_text()]
    return figure, [(t, t.get_window_extent(canvas.get_renderer())) for t in texts]


@DETAILS
def test_labels_do_not_overlap(detail: picture.Detail) -> None:
    figure, texts = drawn(detail)
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        # A line of type is higher than its letters: neighbours of a paragraph may share a hair.
        assert not a.padded(-1).overlaps(b), f"{one.get_text()!r} overlaps {other.get_text()!r}"
    for text, extent in texts:
        assert figure.bbox.x0 <= extent.x0, f"{text.get_text()!r} leaves the page"
        assert extent.x1 <= figure.bbox.x1, f"{text.get_text()!r} leaves the page"


@DETAILS
def test_a_label_fits_its_box(detail: picture.Detail) -> None:
    figure, texts = drawn(detail)
    high = figure.bbox.height
    for text, extent in texts:
        x, y = text.get_position()
        for box in picture.layout(detail).boxes:
            if box.x < x < box.x + box.width and box.y < y < box.y + box.height:
                left, right = (v / figure.dpi for v in (extent.x0, extent.x1))
                top, bottom = ((high - v) / figure.dpi for v in (extent.y1, extent.y0))
                assert box.x <= left, text.get_text()
                assert right <= box.x + box.width, text.get_text()
                assert box.y <= top, text.get_text()
                assert bottom <= box.y + box.height, text.get_text()


def test_the_overview_can_be_read_in_a_column_of_170_mm() -> None:
    figure, texts = drawn("modules")
    shrink = min(1.0, 170 / MM / figure.get_figwidth())
    assert min(t.get_fontsize() for t, _ in texts) * shrink >= 6.0


def test_white_or_black_on_a_colour_has_the_contrast_of_large_type() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in picture.ARM_COLOURS.values():
        ink = luminance("#ffffff" if picture.text_on(colour) == "white" else picture.text_on(colour))
        light, dark = max(ink, luminance(colour)), min(ink, luminance(colour))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


def test_the_caption_counts_what_the_model_holds() -> None:
    words = picture.caption()
    assert f"{len(model().states)} states" in words
    assert f"{len(picture.layout('states').wires)} between states" in words


def test_an_unknown_detail_names_those_there_are() -> None:
    with pytest.raises(DeclarationError, match=r"No detail 'module'\. Did you mean 'modules'"):
        picture.diagram("module")  # type: ignore[arg-type]


# ------------------------------------------------------------------ the SVG of the page

SVG = "{http://www.w3.org/2000/svg}"


def classed(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [g for g in root.iter(f"{SVG}g") if name in (g.get("class") or "").split()]


@DETAILS
def test_the_svg_has_a_button_for_every_box_and_arrow(detail: picture.Detail) -> None:
    shown, root = picture.layout(detail), ElementTree.fromstring(diagram_svg(detail))
    found, edges = classed(root, "node"), classed(root, "edge")
    assert sorted(str(g.get("data-name")) for g in found) == sorted(b.name for b in shown.boxes)
    assert sorted((g.get("data-source"), g.get("data-target"), g.get("data-sign")) for g in edges) == sorted(
        (w.source, w.target, str(w.sign)) for w in shown.wires
    )
    for g in (*found, *edges):
        assert (g.get("tabindex"), g.get("role")) == ("0", "button")
        assert g.get("aria-label")
    for g in found:
        assert g.get("id") == "node-" + str(g.get("data-name")).replace(" ", "_")
        assert [r.get("class") for r in g.iter(f"{SVG}rect")].count("heat") == 1
    for g in edges:
        assert [p.get("class") for p in g.iter(f"{SVG}path")] == ["hit", "line", "tip"]


@DETAILS
def test_the_svg_runs_no_script_and_asks_for_nothing(detail: picture.Detail) -> None:
    text = diagram_svg(detail)
    assert "<script" not in text
    assert not re.search(r"\son\w+=", text)
    assert not re.search(r"(href|src|url\()", text)


def test_ids_of_the_svg_are_unique_and_take_a_prefix() -> None:
    text = diagram_svg("modules", prefix="overview-") + diagram_svg("states")
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "overview-oxidative_stress" in ids
    assert "node-ros" in ids


def test_an_arrow_says_in_words_what_it_does() -> None:
    text = diagram_svg("states")
    assert 'aria-label="Nrf2 inhibits ROS"' in text
    assert 'aria-label="antioxidant stimulates Nrf2"' in text
