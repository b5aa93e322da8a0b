"""Export: one file for another program, whole and readable by it, or a message that says the mend."""

from __future__ import annotations

import inspect
import json
import re
import zipfile
from xml.etree import ElementTree

import basico
import numpy as np
import pytest
from test_sbml import complaints, read
from typer.main import get_command
from typer.testing import CliRunner

from mscrenal.app.cli import main
from mscrenal.calibration import draws
from mscrenal.model import OBSERVABLES, simulate
from mscrenal.model.describe import equations_latex, parameter_table, state_table
from mscrenal.model.sbml import ExchangeError, observable_id
from mscrenal.scenarios import ScenarioError, export, load_scenario
from mscrenal.scenarios.events_table import write_events
from mscrenal.scenarios.export import KINDS
from mscrenal.scenarios.latex import latex_text
from mscrenal.scenarios.omex import MODEL_FILE, SIMULATION_FILE, sedml_document

runner = CliRunner()


def run(*arguments: str, code: int = 0):
    result = runner.invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == code, f"{result.exception!r}\n{result.output}"
    return result


# --------------------------------------------------------------------------- one subject


def test_sbml_holds_the_first_arm_with_a_dose_at_the_medians(tmp_path):
    path = export("sbml", tmp_path / "uc.xml")
    text = path.read_text(encoding="utf-8")
    assert complaints(text) == []
    scenario, found = load_scenario("uc-dn-weekly"), read(text)
    assert found.getName() == f"{scenario.title}: UC weekly x3, medians of the posterior"
    assert found.getParameter("dose_3").getValue() == 1.0
    assert found.getParameter("death").getValue() == 0.756  # the declared median


def test_an_arm_is_chosen_by_name(tmp_path):
    path = export("sbml", tmp_path / "a.xml", "stz-rat-uc", arm="untreated")
    found = read(path.read_text(encoding="utf-8"))
    assert found.getNumEvents() == 0
    assert "Time 0 of this file is day -42" in found.getNotesString()


@pytest.mark.parametrize("draw", [0, 3])
def test_a_draw_is_that_of_every_other_command_with_the_same_seed(tmp_path, draw):
    found = read(export("sbml", tmp_path / "a.xml", draw=draw, seed=7).read_text(encoding="utf-8"))
    theta = draws(20, seed=7).at(draw)
    assert found.getParameter("death").getValue() == pytest.approx(theta["death"], rel=1e-12)
    assert f"draw {draw} of seed 7 (posterior)" in found.getName()


def test_the_typical_patient_of_a_population_goes_by_way_of_an_event_table(tmp_path):
    with pytest.raises(ExchangeError) as caught:
        export("sbml", tmp_path / "a.xml", "t2d-uc-monthly")
    advice = re.search(r"mscrenal export (events typical.csv --scenario \S+),", str(caught.value))
    assert advice is not None
    kind, file, option, name = advice[1].split()
    run(kind, tmp_path / file, option, name)
    path = export("sbml", tmp_path / "a.xml", tmp_path / file, arm="UC monthly x3")
    typical = load_scenario("t2d-uc-monthly").subject
    assert f"hba1c {typical.hba1c:g} percent" in read(path.read_text(encoding="utf-8")).getNotesString()


# --------------------------------------------------------------------------- archive


def test_the_archive_runs_in_another_program_as_it_is_and_gives_the_same_course(tmp_path):
    scenario = load_scenario("stz-rat-uc")
    path = export("omex", tmp_path / "rat.omex", scenario, source="prior")
    loaded = basico.load_model(str(path))
    try:
        settings = basico.get_task_settings("Time-Course", model=loaded)
        found = basico.run_time_course(model=loaded, use_sbml_id=True)
    finally:
        basico.remove_datamodel(loaded)
    assert settings["problem"]["Duration"] == scenario.horizon_days + 42
    assert settings["method"]["Relative Tolerance"] == 1e-9
    days = found.index.to_numpy() - 42
    assert days[-1] == scenario.horizon_days
    arm = scenario.arm("UC once")
    patient = scenario.patient.patient()
    ours = simulate(patient, arm.doses(scenario.weight_kg), (), {}, days, rtol=1e-9, atol=1e-12)
    for name in ("mgfr", "uacr", "fibrosis_area", "hba1c"):
        assert found[observable_id(name)].to_numpy() == pytest.approx(ours.observable(name), rel=1e-6)


def test_the_archive_lists_what_it_holds_and_is_the_same_each_time(tmp_path):
    first, second = (export("omex", tmp_path / name) for name in ("a.omex", "b.omex"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as zipped:
        names = zipped.namelist()
        manifest = ElementTree.fromstring(zipped.read("manifest.xml"))
        model = zipped.read(MODEL_FILE).decode()
    listed = {item.attrib["location"].removeprefix("./") for item in manifest}
    assert listed - {"."} == set(names) == {"manifest.xml", MODEL_FILE, SIMULATION_FILE}
    assert [item.attrib["location"] for item in manifest if item.get("master") == "true"] == [
        f"./{SIMULATION_FILE}"
    ]
    assert complaints(model) == []


def test_the_simulation_reports_every_observable_by_a_path_that_leads_into_the_model():
    root = ElementTree.fromstring(sedml_document(336, title="a & b"))
    space = {"s": "http://sed-ml.org/sed-ml/level1/version3"}
    targets = [v.attrib["target"] for v in root.iterfind(".//s:variable[@target]", space)]
    ids = [re.search(r"@id='(\w+)'", target)[1] for target in targets]
    assert ids == [observable_id(o.name) for o in OBSERVABLES]
    generators = [g.attrib["id"] for g in root.iterfind(".//s:dataGenerator", space)]
    assert [d.attrib["dataReference"] for d in root.iterfind(".//s:dataSet", space)] == generators
    assert root.find(".//s:model", space).attrib["name"] == "a & b"


@pytest.mark.parametrize(("days", "points"), [(336.0, 336), (0.25, 1), (547.875, 548), (18262.5, 2000)])
def test_there_is_about_a_point_a_day_and_never_too_many(days, points):
    found = re.search(r'outputEndTime="([\d.]+)" numberOfPoints="(\d+)"', sedml_document(days, title="t"))
    assert found is not None
    assert (float(found[1]), int(found[2])) == (days, points)


# --------------------------------------------------------------------------- LaTeX

# Of LaTeX itself, amsmath, array, geometry and longtable.
COMMANDS = """
    documentclass usepackage setlength parindent parskip allowdisplaybreaks title author date begin end maketitle
    section subsection texttt allowbreak scriptsize tabcolsep raggedright arraybackslash hline endhead
    mathrm mathcal left right frac dfrac qquad quad times exp min max sum le ge pm cdot dots ell
    alpha beta gamma delta epsilon eta kappa lambda mu pi sigma tau chi Sigma
    textbackslash textasciitilde textasciicircum
"""


@pytest.fixture(scope="module")
def tex(tmp_path_factory) -> str:
    return export("latex", tmp_path_factory.mktemp("tex") / "model.tex").read_text(encoding="ascii")


def test_the_equations_are_all_there(tex):
    missing = [f.name for fs in equations_latex().values() for f in fs if f"\\[\n{f.latex}\n\\]" not in tex]
    assert missing == []


def test_every_state_and_parameter_stands_in_a_table(tex):
    for name in (*state_table()["name"], *parameter_table()["name"]):
        assert rf"\texttt{{{latex_text(name)}}}".replace(r"\_", r"\_\allowbreak ") in tex


def test_the_file_uses_only_commands_of_the_packages_that_it_names(tex):
    assert set(re.findall(r"\\([A-Za-z]+)", tex)) <= set(COMMANDS.split())


def test_groups_environments_and_formulas_are_closed_in_the_order_they_are_opened(tex):
    opened: list[str] = []
    for mark in re.findall(r"\\begin\{\w+\*?\}|\\end\{\w+\*?\}|\\[\[\]]|\\\\|\\[{}]|[{}]", tex):
        if mark in (r"\\", r"\{", r"\}"):
            continue
        if mark.startswith((r"\begin", r"\[")) or mark == "{":
            opened.append(mark)
        else:
            partner = {"}": "{", r"\]": r"\["}.get(mark, mark.replace("end", "begin"))
            assert opened.pop() == partner
    assert opened == []
    assert tex.replace(r"\$", "").count("$") % 2 == 0


def test_words_with_greek_letters_and_special_characters_survive():
    assert latex_text("TNF-α at 50 % of m_1 & β<1") == r"TNF-$\alpha$ at 50 \% of m\_1 \& $\beta$$<$1"


# --------------------------------------------------------------------------- events, and what is refused


def test_events_are_the_table_that_is_read_back(tmp_path):
    path = export("events", tmp_path / "uc.csv", "uc-dn-weekly")
    assert path.read_text(encoding="utf-8") == write_events(load_scenario("uc-dn-weekly"))
    back = load_scenario(path)
    assert [arm.name for arm in back.arms] == [arm.name for arm in load_scenario("uc-dn-weekly").arms]


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("sbm", {}, "No kind of export 'sbm'. Did you mean 'sbml'? Allowed: events, latex, omex, sbml."),
        (
            "latex",
            {"arm": "placebo"},
            "latex does not depend on arm: it holds the whole model. Leave --arm out",
        ),
        ("events", {"arm": "x", "draw": 1}, "does not depend on arm and draw: it holds all arms, and no"),
        ("sbml", {"draw": -1}, "draw: given -1. Allowed: a whole number from 0 to 99999."),
        ("sbml", {"draw": True}, "draw: given True. Allowed: a whole number"),
        ("sbml", {"draw": 1, "seed": -4}, "seed: given -4. Allowed: a whole number, zero or more."),
    ],
)
def test_what_cannot_be_exported_says_given_allowed_and_mend(tmp_path, kind, options, says):
    with pytest.raises(ExchangeError) as caught:
        export(kind, tmp_path / "a", **options)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_arm_or_scenario_names_the_nearest(tmp_path):
    with pytest.raises(ScenarioError, match=r"unknown arm 'UC onse'. Did you mean 'UC once'"):
        export("sbml", tmp_path / "a.xml", arm="UC onse")
    with pytest.raises(ScenarioError, match="unknown scenario 'uc-dn-weekli'"):
        export("sbml", tmp_path / "a.xml", "uc-dn-weekli")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    # The package's attribute of that name is the function; what it calls is looked up in its module.
    monkeypatch.setitem(export.__globals__, "load_scenario", lambda *_: pytest.fail("too late"))
    with pytest.raises(ExchangeError, match=r"there is no folder '.*nowhere'. Make it first"):
        export("sbml", tmp_path / "nowhere" / "a.xml")
    with pytest.raises(ExchangeError, match="this is a folder"):
        export("sbml", tmp_path)
    (tmp_path / "a.xml").write_text("mine", encoding="utf-8")
    with pytest.raises(ExchangeError, match=r"the file exists. Give another name, or --force"):
        export("sbml", tmp_path / "a.xml")
    assert (tmp_path / "a.xml").read_text(encoding="utf-8") == "mine"


# --------------------------------------------------------------------------- the command


def test_the_command_writes_the_file_and_prints_its_path(tmp_path):
    result = run("sbml", tmp_path / "uc.xml", "--arm", "UC once", "--draw", "2", "--seed", "3")
    assert result.stdout.split() == [str(tmp_path / "uc.xml")]
    other = export("sbml", tmp_path / "b.xml", "uc-dn-weekly", arm="UC once", draw=2, seed=3)
    assert (tmp_path / "uc.xml").read_bytes() == other.read_bytes()


def test_json_is_one_document_with_the_path(tmp_path):
    said = json.loads(run("latex", tmp_path / "m.tex", "--json").stdout)
    assert (said["kind"], said["path"]) == ("latex", str(tmp_path / "m.tex"))
    assert said["provenance"]["package"] == "mscrenal"


def test_bad_input_leaves_with_code_2_and_one_message(tmp_path):
    assert "Error: No kind of export 'petap'" in run("petap", tmp_path / "a", code=2).stderr
    run("events", tmp_path / "a.csv")
    assert "the file exists" in run("events", tmp_path / "a.csv", code=2).stderr
    run("events", tmp_path / "a.csv", "--force")


def test_the_command_has_the_options_of_the_function_and_help_names_every_kind():
    command = get_command(main).commands["export"]
    options = {p.name for p in command.params} - {"as_json", "file", "posterior_file", "prior"}
    assert options == set(inspect.signature(export).parameters) - {"path", "source"}
    text = runner.invoke(main, ["export", "--help"]).stdout
    assert all(kind in text for kind in KINDS)
    assert "Example:" in text


def test_numbers_of_the_file_are_written_to_fifteen_digits(tmp_path):
    found = read(export("sbml", tmp_path / "a.xml", draw=1).read_text(encoding="utf-8"))
    written = np.array([found.getParameter(n).getValue() for n in ("death", "lung_trapping", "ev_release")])
    wanted = np.array([draws(2, seed=1).at(1)[n] for n in ("death", "lung_trapping", "ev_release")])
    assert np.max(np.abs(written / wanted - 1)) < 1e-14
