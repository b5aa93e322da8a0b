"""The page without a browser: addresses and set-ups, questions and answers, who is let in, curves."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mscrenal.app.cli import main
from mscrenal.app.page import explore, pathway
from mscrenal.app.page.config import config
from mscrenal.app.page.desk import LARGEST_QUESTION, Desk
from mscrenal.app.page.serve import CHANNELS, HOST, OnlyFromHere, PageError, application, free_port
from mscrenal.app.page.setup import DEFAULT, MOST_ARMS, MOST_DOSES, NO_CELLS, ArmSetup, Setup, setup_of
from mscrenal.model import ARMS_OF_ACTION, COVARIATES, DRUGS, PRODUCTS, simulate
from mscrenal.scenarios import RunError, compare, gallery
from mscrenal.scenarios.activity import activity
from mscrenal.scenarios.curves import curves
from mscrenal.scenarios.schema import read_scenario

ALL = list(ARMS_OF_ACTION)


def answers(channel, payload) -> list[dict]:
    async def collect():
        return [answer async for answer in channel(payload)]

    return asyncio.run(collect())


def asked(name: str, question) -> list[dict]:
    """What a page is sent for a question."""
    sent: list[dict] = []

    async def talk():
        async def send(answer):
            sent.append(answer)

        desk = Desk(CHANNELS, send)
        desk.ask(name, question)
        while not (sent and sent[-1].get("end")):
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(talk(), 60))
    return sent


# --------------------------------------------------------------------------- set-up and address

arms = st.builds(
    ArmSetup,
    product=st.sampled_from(["UC", "AD", "BM", "placenta"]),
    route=st.sampled_from(["IV", "IA-renal"]),
    dose=st.floats(0.01, 40).map(lambda x: float(f"{x:g}")),
    n=st.integers(1, 6),
    every=st.integers(1, 30).map(float),
    off=st.lists(st.sampled_from(ALL), unique=True).map(tuple),
)
setups = st.builds(
    Setup,
    egfr=st.none() | st.integers(5, 150).map(float),
    uacr=st.none() | st.integers(1, 12000).map(float),
    age=st.none() | st.integers(30, 100).map(float),
    sex=st.sampled_from(["female", "male"]),
    drugs=st.lists(st.sampled_from(list(DRUGS)), unique=True).map(tuple),
    horizon=st.integers(26, 500).map(lambda weeks: 7.0 * weeks),
    arms=st.lists(arms, max_size=MOST_ARMS).map(tuple),
)


@given(setups)
@settings(max_examples=60, deadline=None)
def test_an_address_brings_back_what_was_set_up(made):
    back, problems = setup_of(made.pairs())
    if made.pairs():
        assert (back, problems) == (made, [])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*COVARIATES, "arm", "disease", "drugs", "horizon", "x"]), st.text(max_size=30)
        ),
        max_size=6,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_address_gives_a_set_up_that_runs_and_says_what_it_left_out(pairs):
    made, problems = setup_of(pairs)
    made.scenario()
    assert all(p.message for p in problems)


@given(setups)
@settings(max_examples=20, deadline=None)
def test_the_scenario_file_of_a_set_up_is_that_scenario(made):
    read, own = read_scenario(made.toml(), name="page"), made.scenario()
    assert read.arms == own.arms
    assert read.subject == own.subject
    assert (read.horizon_days, read.reference) == (own.horizon_days, own.reference)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("egfr", "900", "5 to 150"),
        ("egfr", "x", "valid number"),
        ("egfr", "nan", "finite"),
        ("disease", "gout", "Allowed: "),
        ("drugs", "aspirin", "unknown drug"),
        ("horizon", "1000y", "less than or equal"),
        ("horizon", "48", "without a unit"),
        ("arm", "UC", "product,route,dose"),
        ("arm", "UC,IV,1,0,7", "greater than or equal to 1"),
        ("arm", "UC,IV,1,3,7,magic", "arm of action"),
        ("arm", "UC,IV,900,3,7", "Allowed: up to 5e+07 cells/kg"),
        ("arm", "UCB,SC,1,1,7", "not given by route|Allowed for this product"),
        ("colour", "red", "unknown"),
    ],
)
def test_what_an_address_says_wrongly_is_left_out_and_said(name, text, said):
    made, problems = setup_of([("uacr", "500"), (name, text)])
    assert made.uacr == 500
    assert len(problems) == 1
    assert any(word in problems[0].message for word in said.split("|")), problems


def test_an_empty_address_is_the_default():
    assert setup_of([]) == (DEFAULT, [])
    assert setup_of([("tab", "explore")]) == (DEFAULT, [])


def test_more_arms_than_fit_are_said():
    made, problems = setup_of([("arm", "UC,IV,1,3,7")] * (MOST_ARMS + 1))
    assert len(made.arms) == MOST_ARMS
    assert [p.field for p in problems] == ["arm"]


# --------------------------------------------------------------------------- answers


def test_explore_gives_the_middle_first_and_then_bands_of_all_draws():
    found = answers(explore.answer, {"setup": DEFAULT.model_dump(mode="json")})
    assert [a["stage"] for a in found] == ["middle"] + ["bands"] * len(explore.PARTS)
    assert found[-1]["draws"] == explore.DRAWS == sum(explore.PARTS)
    band = found[-1]["curves"][1]["values"]["egfr"]
    assert all(
        low <= mid <= high for low, mid, high in zip(band["low"], band["mid"], band["high"], strict=True)
    )


def test_the_table_says_what_compare_says():
    """The same draws through the command line's function."""
    (*_, last) = answers(explore.answer, {"setup": DEFAULT.model_dump(mode="json")})
    result = compare(DEFAULT.scenario(), draws=explore.DRAWS, seed=explore.SEED)
    for row, arm in zip(last["rows"][1:], result.arms[1:], strict=True):
        for name, cells in row["endpoints"].items():
            theirs = arm["endpoints"][name]["vs_reference"]
            # The page draws fewer days; UACR and cytokines are read where there is one, at the horizon.
            assert cells["difference"] == pytest.approx(
                [theirs["median"], *theirs["ci90"]], rel=1e-3, abs=1e-4
            )


def test_the_view_of_differences_starts_at_zero_and_has_no_reference():
    (*_, last) = answers(explore.answer, {"setup": DEFAULT.model_dump(mode="json"), "view": "difference"})
    reference, arm = last["curves"]
    assert set(reference["values"]["uacr"]["mid"]) == {0.0}
    assert arm["values"]["uacr"]["mid"][0] == 0
    assert min(arm["values"]["uacr"]["mid"]) < 0


def test_all_arms_of_action_off_is_as_no_cells():
    setup = DEFAULT.model_copy(update={"arms": (ArmSetup(off=tuple(ALL)),)})
    (*_, last) = answers(explore.answer, {"setup": setup.model_dump(mode="json")})
    cells = last["rows"][1]["endpoints"]["uacr_percent_change"]
    assert abs(cells["difference"][0]) < 1e-3
    assert cells["lost"][0] == pytest.approx(cells["whole"][0], rel=1e-2)


def test_a_failed_simulation_is_said_and_left_out_of_the_band():
    scenario = DEFAULT.scenario()
    good = dict(explore.middle())
    found = curves(
        scenario,
        [good, good | {"product.UC.survival": float("nan")}],
        days=np.array([0.0, 84.0]),
        observables=("egfr",),
    )
    assert set(found.messages) == {(1, 1)}
    assert np.isfinite(found.band()[:, 1]).all()
    assert np.isnan(found.values[1, 1]).all()
    assert np.isfinite(found.values[0]).all()


def test_curves_are_those_of_simulate():
    scenario = DEFAULT.scenario()
    days = np.array([0.0, 28.0, 336.0])
    found = curves(
        scenario,
        [explore.middle()],
        days=days,
        observables=("egfr", "uacr"),
        knock_out={scenario.arms[1].name: ["antioxidant"]},
    )
    patient = scenario.subject.patient()
    doses = scenario.arms[1].doses(patient.weight_kg)
    assert [v for _, v in found.variants] == [(), (), ("antioxidant",)]
    for v, (arm, off) in enumerate(found.variants):
        run = simulate(patient, doses if arm != NO_CELLS else (), (), explore.middle(), days, knock_out=off)
        assert found.values[v, 0, :, 1] == pytest.approx(run.observable("uacr"), rel=1e-4)


def test_curves_name_what_there_is_not():
    scenario = DEFAULT.scenario()
    with pytest.raises(RunError, match="no arm"):
        curves(
            scenario, [], days=np.array([0.0]), observables=("egfr",), knock_out={"nobody": ["antioxidant"]}
        )
    with pytest.raises(RunError, match="no arm of action"):
        curves(scenario, [], days=np.array([0.0]), observables=("egfr",), knock_out={NO_CELLS: ["magic"]})
    populated = next(s for s in gallery() if s.population is not None)
    with pytest.raises(RunError, match="population"):
        curves(populated, [], days=np.array([0.0]), observables=("egfr",))


def test_the_pathway_is_at_rest_before_the_dose_and_moves_after_it():
    scenario = DEFAULT.scenario()
    found = activity(scenario, scenario.arms[1].name, explore.middle(), days=np.array([0.0, 1.0, 20.0]))
    assert all(abs(values[0]) < 1e-9 for values in found.fold.values())
    assert found.fold["tnf_kidney"][2] < -0.01
    assert found.level["effect_immunomodulation"].max() == 1.0
    assert found.level["ev_plasma"].min() >= 0


def test_the_pathway_without_any_arm_of_action_stays_at_rest():
    scenario = DEFAULT.scenario()
    found = activity(
        scenario, scenario.arms[1].name, explore.middle(), days=np.array([0.0, 30.0]), knock_out=tuple(ALL)
    )
    kidney = [v for name, v in found.fold.items() if name in ("tnf_kidney", "leak", "gfr", "matrix")]
    assert np.abs(kidney).max() < 1e-3


def test_the_pathway_asks_for_an_arm_with_cells():
    with pytest.raises(ValueError, match="Allowed: 1 to 1"):
        answers(pathway.answer, {"setup": DEFAULT.model_dump(mode="json"), "arm": 2})


@pytest.mark.parametrize(
    "question",
    [
        None,
        "text",
        {},
        {"id": 1},
        {"id": 1, "payload": []},
        {"id": 1, "payload": {"setup": None}},
        {"id": 1, "payload": {"setup": {"arms": [{"dose": "many"}]}}},
        {"id": 1, "payload": {"setup": {"arms": [{"n": MOST_DOSES + 1}]}}},
        {"id": 1, "payload": {"setup": {"egfr": 1e9}}},
        {"id": 1, "payload": {"setup": {"surprise": 1}}},
        {"id": 1, "payload": {"setup": {}, "view": "upside-down"}},
        {"id": 1, "payload": {"setup": {"disease": "x" * LARGEST_QUESTION}}},
    ],
)
def test_a_question_out_of_bounds_gets_words_and_not_a_crash(question):
    (*_, last) = asked("explore", question)
    assert last["problems"]
    assert all(p["message"] for p in last["problems"])
    assert "program failed" not in last["problems"][0]["message"]


def test_a_fault_of_the_program_is_said_and_the_page_lives_on(caplog):
    async def broken(payload):
        yield {"first": 1}
        raise RuntimeError("a fault")

    sent: list[dict] = []

    async def talk():
        async def send(answer):
            sent.append(answer)

        desk = Desk({"broken": broken}, send)
        for _ in range(2):
            desk.ask("broken", {"id": 3, "payload": {}})
            await asyncio.sleep(0.05)

    asyncio.run(talk())
    assert [bool(a.get("problems")) for a in sent] == [False, True] * 2
    assert "a fault" in caplog.text
    assert "a fault" not in sent[1]["problems"][0]["message"]


def test_a_newer_question_takes_the_place_of_the_older():
    sent: list[dict] = []

    async def slowly(payload):
        for k in range(5):
            await asyncio.sleep(0.02)
            yield {"k": k}

    async def talk():
        async def send(answer):
            sent.append(answer)

        desk = Desk({"slow": slowly}, send)
        desk.ask("slow", {"id": 1, "payload": {}})
        await asyncio.sleep(0.03)
        desk.ask("slow", {"id": 2, "payload": {}})
        await asyncio.sleep(0.3)

    asyncio.run(talk())
    assert [a["id"] for a in sent].count(1) == 1
    assert sent[-1] == {"channel": "slow", "id": 2, "end": True}


# --------------------------------------------------------------------------- who is let in


def knocked(headers: dict[str, str], kind: str = "http") -> list[dict]:
    """What a server sends to a request with these headers; [{'inner': True}] if it was let in."""
    sent: list[dict] = []

    async def inner(scope, receive, send):
        sent.append({"inner": True})

    async def talk():
        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
        await OnlyFromHere(inner)(scope, receive, send)

    asyncio.run(talk())
    return sent


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost:8642", "127.0.0.1"])
def test_the_page_answers_to_this_machine(host):
    assert knocked({"host": host}) == [{"inner": True}]
    assert knocked({"host": host, "origin": f"http://{host}"}, "websocket") == [{"inner": True}]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8642", "192.168.1.2:8642", ""])
def test_another_name_for_this_machine_is_refused(host):
    assert knocked({"host": host})[0]["status"] == 403


def test_a_page_of_another_site_opens_no_socket():
    (said,) = knocked({"host": "127.0.0.1:8642", "origin": "https://evil.example"}, "websocket")
    assert (said["type"], said["code"]) == ("websocket.close", 1008)


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match="something listens already"):
            free_port(port)
        result = CliRunner().invoke(main, ["app", "--port", str(port), "--no-open"])
    assert result.exit_code == 2
    assert "something listens already" in " ".join(result.stderr.split())


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_there_is_not_is_said(port):
    with pytest.raises(PageError, match="Allowed: 1 to 65535"):
        free_port(port)


def test_without_the_extra_the_mend_is_said(monkeypatch):
    monkeypatch.setattr("mscrenal.app.page.serve.find_spec", lambda name: None)
    with pytest.raises(PageError, match=r"pip install"):
        application()


def test_the_form_knows_every_product_drug_disease_and_arm_of_action():
    said = config()
    assert set(said["products"]) == set(PRODUCTS)
    assert set(said["drugs"]) == set(DRUGS)
    assert list(said["actions"]) == ALL
    for disease in said["diseases"].values():
        for species, typical in disease["typical"].items():
            assert typical, f"{disease['title']} in {species} has nothing to fill the form with"


def test_the_page_needs_no_package_of_other_extras():
    """PyMC and its like belong to the extra `calibrate`, a cluster to `cluster`."""
    said = """
import asyncio, sys
for name in ("pymc", "pytensor", "arviz", "nutpie", "distributed", "libsbml"):
    sys.modules[name] = None  # as if it were not installed
from mscrenal.app.page.serve import CHANNELS, application
application()
setup = {"arms": [{}]}
ask = {
    "explore": {"setup": setup},
    "mechanism_picture": {},
    "mechanism_about": {"source": "tgfb_kidney", "target": "psmad"},
    "evidence": {"view": {}},
}
async def all_of():
    for name, payload in ask.items():
        async for answer in CHANNELS[name](payload):
            assert not answer.get("problems"), answer
asyncio.run(all_of())
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
