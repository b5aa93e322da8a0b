"""The tab Evidence: what its channels answer."""

from __future__ import annotations

import asyncio
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mscrenal.app.page import evidence
from mscrenal.app.page.evidence import View, covered, filtered, places, view_of
from mscrenal.app.page.serve import CHANNELS
from mscrenal.calibration.studies import roles, studies
from mscrenal.scenarios.evidence import evidence_rows, shipped_predictions


def asked(channel, payload):
    """The last answer to a question, as the browser gets it: through JSON."""

    async def all_of_them():
        return [a async for a in channel(payload)]

    return json.loads(json.dumps(asyncio.run(all_of_them())[-1], allow_nan=False))


def test_the_channels_are_open():
    assert {"evidence", "evidence_study", "evidence_file"} <= set(CHANNELS)


def test_without_filters_everything_is_counted_by_its_role():
    found = asked(evidence.answer, {"view": {}, "everything": True})
    assert found["roles"] == roles()["role"].value_counts().to_dict()
    assert found["counts"]["rows"] == found["counts"]["of_rows"] == sum(found["roles"].values())
    assert len(found["studies"]) == len(found["all_studies"]) == len(studies())
    assert len(found["rows"]) == len(found["all_rows"]) == len(shipped_predictions().rows)
    assert all(s["reason"] for s in found["all_studies"])


def test_held_out_studies_come_first():
    found = asked(evidence.answer, {"view": {}, "everything": True})
    assert "validate" in found["all_studies"][0]["roles"]
    order = [r["role"] for r in found["all_rows"]]
    assert order == sorted(order, key=["validate", "calibrate", "check"].index)


def test_coverage_is_told_for_each_role_and_never_for_several():
    rows = evidence_rows()
    found = {c["role"]: c for c in covered(rows)}
    assert list(found) == ["validate", "calibrate", "check"]
    for role, c in found.items():
        mine = rows[(rows["role"] == role) & rows["predicted"].notna()]
        assert c["rows"] == len(mine)
        assert c["inside90"] == int(mine["inside90"].astype(bool).sum())
        assert c["share90"][1] < c["share90"][0] < c["share90"][2]
        assert c["z_rms"] == pytest.approx(np.sqrt((mine["z"].astype(float) ** 2).mean()))


def test_filters_leave_what_they_say():
    rows = evidence_rows()
    found = filtered(View(role="validate", species="human", product="UC"))
    assert len(found)
    assert set(found["role"]) == {"validate"}
    assert set(found["given"]) == {"UC"}
    assert set(found["kinds"]) == {"human"}
    pooled = filtered(View(species="mouse"))
    assert (pooled["kinds"] == "rat;mouse").any(), "a pool of rats and mice is of mice, too"
    assert len(filtered(View(disease="lupus"))) + len(filtered(View(disease="not-simulated"))) < len(rows)
    assert set(filtered(View(endpoint="sledai"))["endpoint"]) == {"sledai"}


def test_a_search_finds_rows_with_all_its_words_whatever_their_case():
    found = filtered(View(search="Zhou LUPUS"))
    assert "zhou2020_meta" in set(found["key"])
    assert len(found) < len(filtered(View(search="lupus")))
    assert not len(filtered(View(search="zhou no-such-word")))


def test_a_search_is_text_and_no_pattern():
    assert not len(filtered(View(search=".*")))
    assert len(filtered(View(search="(")))


def test_a_forest_holds_each_predicted_row_once_and_those_without_cells_last():
    found = asked(evidence.answer, {"view": {"show": "forest", "by": "product"}})
    places_of = [k for g in found["groups"] for k in g["rows"]]
    assert sorted(places_of) == sorted(found["rows"])
    assert found["groups"][-1]["name"] == "no cells"
    for group in found["groups"]:
        assert sum(c["rows"] for c in group["coverage"]) == len(group["rows"])


@pytest.mark.parametrize("by", evidence.BY)
def test_groups_are_of_one_kind(by):
    found = asked(evidence.answer, {"view": {"show": "forest", "by": by}, "everything": True})
    for group in found["groups"]:
        assert {found["all_rows"][k][by] for k in group["rows"]} == {group["name"]}


def test_a_scatter_never_mixes_units():
    found = asked(evidence.answer, {"view": {"show": "scatter"}, "everything": True})
    assert sorted(k for s in found["scales"] for k in s["rows"]) == sorted(found["rows"])
    for scale in found["scales"]:
        rows = [found["all_rows"][k] for k in scale["rows"]]
        if scale["name"] not in ("ratio", "smd", "share"):
            assert len({(r["measure"], r["unit"]) for r in rows}) == 1
        assert len({r["log"] for r in rows}) == 1


def test_the_ends_of_an_interval_lie_at_one_half_width():
    row = {
        "measure": "fold",
        "log": True,
        "predicted": 2.0,
        "low90": 1.0,
        "high90": 8.0,
        "low50": 1.5,
        "high50": 3.0,
    }
    row |= {"observed": 8.0, "observed_low": 1.0, "observed_high": math.nan}
    found = places(row)
    assert found["observed"] == pytest.approx(1.0)
    assert found["observed_low"] == pytest.approx(-1.0)
    assert found["observed_high"] is None
    assert found["high50"] == pytest.approx(math.log(1.5) / math.log(4), rel=1e-3)


def test_a_published_number_is_drawn_outside_exactly_if_it_is_counted_so():
    found = asked(evidence.answer, {"view": {}, "everything": True})
    for row in found["all_rows"]:
        assert (abs(row["place"]["observed"]) <= 1.0001) == row["inside90"], row["name"]


def test_an_address_comes_back_and_what_is_wrong_in_it_is_said_and_left_out():
    view, problems = view_of(
        [("role", "validate"), ("show", "forest"), ("by", "species"), ("study", "zheng2022")]
    )
    assert not problems
    assert view_of(view.pairs()) == (view, [])
    view, problems = view_of(
        [("role", "validated"), ("species", "rat"), ("colour", "red"), ("search", "x" * 101)]
    )
    assert view == View(species="rat")
    told = {p.field: p.message for p in problems}
    assert "validate" in told["role"]
    assert "'validated'" in told["role"]
    assert "colour" in told
    assert "100" in told["search"]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "View"),
        ({"view": {"role": "validated"}}, "unknown role 'validated'.*validate"),
        ({"view": {"search": 7}}, "string"),
        ({"view": {"by": ""}}, "empty. Allowed: product"),
        ({"view": {"colour": "red"}}, "colour"),
        ({"pairs": "role"}, "pairs: Allowed"),
        ({"pairs": [["role"]]}, "pairs: Allowed"),
    ],
)
def test_bad_questions_are_refused_with_what_is_allowed(payload, said):
    with pytest.raises(ValueError, match=said):
        asked(evidence.answer, payload)


def test_a_study_shows_what_was_done_and_all_its_rows():
    found = asked(evidence.study, {"study": "zhou2020_meta"})
    assert found["address"] == "https://doi.org/10.1155/2020/6518508"
    assert found["held_out_because"]
    assert [a["name"] for a in found["arms"]] == ["induction", "induction and UC"]
    assert found["arms"][1]["cells"].startswith("UC IV, 0.909 million cells/kg, day 0, 7")
    assert len(found["rows"]) == len(studies()["zhou2020_meta"].rows)
    assert all(r["role"] and r["reason"] for r in found["rows"])
    by_name = {r["name"]: r for r in found["rows"]}
    row = evidence_rows().loc["clinical_msc:147"]
    assert by_name["clinical_msc:147"]["predicted"] == pytest.approx(
        [row["predicted"], row["low90"], row["high90"]]
    )
    assert by_name["clinical_msc:147"]["published"] == "-0.92 (CI95 -1.05 to -0.79) g/day"


@pytest.mark.parametrize("key", list(studies()))
def test_every_study_can_be_opened(key):
    found = asked(evidence.study, {"study": key})
    assert found["reason"]
    assert len(found["rows"]) == len(studies()[key].rows)


@pytest.mark.parametrize("given", ["zhou2020", "", None, 7])
def test_an_unknown_study_is_refused(given):
    with pytest.raises(ValueError, match=r"study|string") as error:
        asked(evidence.study, {"study": given})
    if given == "zhou2020":
        assert isinstance(error.value, ValidationError)
        assert "zhou2020ln" in str(error.value)


def test_the_file_holds_the_filtered_rows_and_says_how_each_was_predicted():
    answer = asked(evidence.downloads, {"view": {"role": "validate"}})
    lines = answer["text"].splitlines()
    head = [line for line in lines if line.startswith("# ")]
    assert "not medical advice" in head[0]
    assert any(line == f"# model: {shipped_predictions().stamp['model']}" for line in head)
    rows = pd.read_csv(io.StringIO("\n".join(lines[len(head) :])), keep_default_na=False)
    assert len(rows) == len(filtered(View(role="validate")))
    predicted = rows[rows["predicted_median"] != ""]
    assert set(predicted["predicted_as"]) == {"held out"}
    assert set(rows.loc[rows["predicted_median"] == "", "predicted_as"]) == {""}
    assert (rows.loc[rows["predicted_median"] == "", "not_compared_because"] != "").all()
