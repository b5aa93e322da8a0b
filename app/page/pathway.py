"""The pathway over time, on Explore: the picture of the model, and how active each of its boxes is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.diagram import diagram_svg
from mscrenal.app.page.explore import middle
from mscrenal.app.page.setup import Setup
from mscrenal.scenarios.activity import activity

__all__ = ["FRAMES", "answer"]

FRAMES = 61  # of the play, over the whole follow-up


@lru_cache(maxsize=1)
def picture() -> str:
    return diagram_svg("states", prefix="pathway-")


async def answer(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Activity of an arm against the arm without cells, at the medians of the posterior.

    Parameters
    ----------
    payload : mapping
        `setup`; `arm`, its place from 1 on; `picture`, whether the picture itself is wanted.
    """
    setup, place = Setup.model_validate(payload.get("setup")), payload.get("arm")
    if isinstance(place, bool) or not isinstance(place, int) or not 1 <= place <= len(setup.arms):
        raise ValueError(
            f"arm: given {str(place)[:20]!r}. Allowed: 1 to {len(setup.arms)}, the arms with cells."
        )
    if payload.get("picture"):
        yield {"picture": await work(picture)}
    name, arm = setup.named()[place - 1]
    scenario = setup.scenario()
    # Most happens while cells are there: frames are close together at first.
    days = float(scenario.horizon_days) * np.linspace(0, 1, FRAMES) ** 1.6
    found = await work(activity, scenario, name, middle(), days=days, knock_out=arm.off)
    yield {
        "arm": name,
        "days": [float(f"{d:.5g}") for d in days.tolist()],
        "fold": {box: np.round(values, 5).tolist() for box, values in found.fold.items()},
        "level": {box: np.round(values, 4).tolist() for box, values in found.level.items()},
    }
