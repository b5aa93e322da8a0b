"""The tab Mechanism without a browser."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mscrenal.app.page import mechanism
from mscrenal.app.page.setup import DEFAULT
from mscrenal.model.picture import layout

SETUP = DEFAULT.model_dump(mode="json")


def answers(channel, payload) -> list[dict]:
    async def collect():
        return [answer async for answer in channel(payload)]

    return asyncio.run(collect())


@pytest.mark.parametrize("detail", ["modules", "states"])
def test_the_picture_comes_with_every_arrow_between_its_boxes(detail):
    (answer,) = answers(mechanism.picture, {"detail": detail})
    boxes = {b.name for b in layout("states").boxes}
    assert len(answer["arrows"]) > 150
    assert all({a["source"], a["target"]} <= boxes for a in answer["arrows"])
    assert answer["picture"].startswith("<svg")


def test_every_arrow_of_the_overview_stands_for_arrows_between_boxes():
    (answer,) = answers(mechanism.picture, {"detail": "modules"})
    bundles = {(a["from"], a["to"]) for a in answer["arrows"]}
    missing = [
        (w.source, w.target)
        for w in layout("modules").wires
        if w.kind != "measured" and (w.source, w.target) not in bundles
    ]
    assert not missing


def test_a_cut_starts_where_the_intact_course_starts_and_bands_follow():
    found = answers(mechanism.knock_out, {"setup": SETUP, "source": "tgfb_kidney", "target": "psmad"})
    assert [a["stage"] for a in found] == ["middle"] + ["bands"] * len(mechanism.PARTS)
    difference = found[-1]["bands"]["fibrosis_area"]["difference"]
    assert difference["mid"][0] == pytest.approx(0, abs=1e-9)
    assert difference["high"][-1] < 0
    assert found[-1]["draws"] == found[-1]["of"]


def test_an_arm_of_action_that_is_off_in_nobody_treated_changes_nothing():
    found = answers(mechanism.knock_out, {"setup": SETUP, "arm": 0, "action": "effect_metabolic"})
    assert np.abs(found[-1]["bands"]["uacr"]["difference"]["mid"]).max() < 1e-6


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"setup": SETUP}, "Allowed: one of them"),
        ({"setup": SETUP, "arm": 3, "action": "effect_metabolic"}, "Allowed: 0"),
        ({"setup": SETUP, "action": "effect_magic"}, "arm of action"),
        ({"setup": SETUP, "source": "moon", "target": "sun"}, "moon"),
        ({"setup": SETUP, "source": "x" * 100, "target": "psmad"}, "80 characters"),
        ({"setup": SETUP, "surprise": 1}, "surprise"),
    ],
)
def test_a_knock_out_of_what_there_is_not_is_said(payload, said):
    with pytest.raises(ValueError, match=said):
        answers(mechanism.knock_out, payload)


def test_about_asks_for_one_thing():
    with pytest.raises(ValueError, match="Allowed: one of them"):
        answers(mechanism.about, {})
    with pytest.raises(ValueError, match="detail"):
        answers(mechanism.picture, {"detail": "atoms"})
