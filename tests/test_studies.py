"""What is done with each row of the evidence is written down, whole, and checked as it is read."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from mscrenal.calibration import evidence, studies
from mscrenal.calibration.studies import ROLES, Study, held_out, read_studies, roles
from mscrenal.model import Dose, DrugCourse

FILE = """\
# One study.
[[study]]
id = "packham2016"
role = "input"
reason = "Randomised against placebo."

[study.patient]
egfr = 33
drugs = ["ras"]

[[study.arm]]
name = "placebo"

[[study.arm]]
name = "150e6"
product = "rexlemestrocel-L"
route = "IV"
dose = "150e6"
days = [0]
infusion = "60min"

[[study.map]]
where = { endpoint = "egfr", time_week = 12 }
arm = "150e6"
against = "placebo"
observable = "egfr"
measure = "change"
"""
ROW = dict.fromkeys(evidence.COLUMNS, "") | {
    "study_id": "packham2016",
    "citation": "Packham, rexlemestrocel-L in DKD, EBioMedicine, 2016",
    "species": "human",
    "arm": "treated",
    "n": "10",
    "endpoint": "egfr",
    "unit": "mL/min/1.73m2",
    "time_week": "12",
    "value": "4.4",
    "locator": "table 2",
}


def table(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "mine.csv"
    lines = [",".join(evidence.COLUMNS), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(folder: Path, text: str, *rows: dict[str, str]) -> list[Study]:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_studies(
        path, evidence.read_table(table(folder, *(rows or (ROW, ROW | {"endpoint": "uacr"}))))
    )


def complaint(folder: Path, text: str, *rows: dict[str, str]) -> str:
    with pytest.raises(evidence.EvidenceError) as error:
        read(folder, text, *rows)
    return str(error.value)


# --------------------------------------------------------------------------- what is read


def test_a_row_follows_its_map_and_else_the_study(tmp_path):
    (study,) = read(tmp_path, FILE)
    assert [entry and entry.observable for entry in study.maps] == ["egfr", None]
    assert list(study.row_roles()) == [
        ("fit", "Randomised against placebo."),
        ("input", "Randomised against placebo."),
    ]


def test_the_reason_of_a_map_comes_before_that_of_the_study(tmp_path):
    text = FILE + '\n[[study.map]]\nwhere = { endpoint = "uacr" }\nrole = "excluded"\nreason = "No spread."\n'
    (study,) = read(tmp_path, text)
    assert list(study.row_roles())[1] == ("excluded", "No spread.")


def test_an_arm_is_dosed_per_kg_of_the_patient_and_over_its_infusion(tmp_path):
    (study,) = read(tmp_path, FILE.replace("egfr = 33", "egfr = 33\nweight_kg = 75"))
    assert study.arms["placebo"].doses == ()
    assert study.arms["placebo"].product == ""
    assert study.arms["150e6"].product == "rexlemestrocel-L"
    assert study.arms["150e6"].doses == (Dose(0.0, 2.0, "rexlemestrocel-L", "IV", 1 / 24),)
    assert study.arms["150e6"].patient.drugs == ("ras",)


def test_an_arm_may_have_its_own_baseline_and_drugs(tmp_path):
    text = FILE.replace(
        'name = "placebo"', 'name = "placebo"\npatient = { egfr = 45 }\ndrugs = ["sglt2i"]\nn = 12'
    )
    (study,) = read(tmp_path, text)
    arm = study.arms["placebo"]
    assert (arm.patient.egfr, study.arms["150e6"].patient.egfr, arm.n) == (45, 33, 12)
    (course,) = arm.courses
    assert (course.drug, course.stop_day) == ("sglt2i", None)
    assert 0 < course.start_day < 0.1  # after what is read on day 0


def test_a_drug_may_start_later_and_stop(tmp_path):
    drug = '{ drug = "glp1ra", start = "4w", stop = "12w", level = 0.5 }'
    (study,) = read(tmp_path, FILE.replace('name = "placebo"', f'name = "placebo"\ndrugs = [{drug}]'))
    assert study.arms["placebo"].courses == (DrugCourse("glp1ra", 28.0, 84.0, 0.5),)


def test_a_healthy_control_needs_no_covariates_of_the_disease_taken_back(tmp_path):
    (study,) = read(
        tmp_path, FILE.replace('name = "placebo"', 'name = "placebo"\npatient = { disease = "healthy" }')
    )
    assert study.arms["placebo"].patient.egfr is None


def test_an_animal_counts_its_days_from_the_insult_and_a_patient_has_none(tmp_path):
    animal = FILE.replace("egfr = 33\n", 'species = "rat"\ndisease = "stz"\nonset = "6w"\n')
    animal = (
        animal.replace('drugs = ["ras"]', "").replace("rexlemestrocel-L", "BM").replace('"150e6"', '"2e6"')
    )
    (study,) = read(tmp_path, animal)
    assert study.arms["placebo"].patient.onset_days == 42.0
    (study,) = read(tmp_path, FILE)
    assert study.arms["placebo"].patient.onset_days == 0.0


@pytest.mark.parametrize(
    "where",
    [
        '{ endpoint = ["egfr", "mgfr"] }',
        "{ line = 2 }",
        "{ value = 4.40 }",
        '{ time_week = [4, 12], unit = "mL/min/1.73m2", endpoint = "egfr" }',
        '{ endpoint = "egfr", dose_value = "" }',
    ],
)
def test_rows_are_told_apart_by_any_of_their_cells(tmp_path, where):
    (study,) = read(tmp_path, FILE.replace('{ endpoint = "egfr", time_week = 12 }', where), ROW, ROW | {
        "endpoint": "uacr", "value": "4.5"
    })  # fmt: skip
    assert [entry is not None for entry in study.maps] == [True, False]


# --------------------------------------------------------------------------- what is refused

FAULTS = {
    "an arm that is not there": (
        ('against = "placebo"', 'against = "placbo"'),
        ("'placbo'", "Did you mean 'placebo'"),
    ),
    "an unknown observable": (
        ('observable = "egfr"', 'observable = "egrf"'),
        ("no observable 'egrf'", "Did you mean 'egfr'"),
    ),
    "an unknown drug of the patient": (
        ('drugs = ["ras"]', 'drugs = ["rass"]'),
        ("no drug 'rass'", "Did you mean 'ras'", "Allowed: "),
    ),
    "an unknown drug of an arm": (
        ('name = "placebo"', 'name = "placebo"\ndrugs = ["sglt2"]'),
        ("arm 'placebo'", "no drug 'sglt2'", "Did you mean 'sglt2i'"),
    ),
    "an unknown key of a drug": (
        ('name = "placebo"', 'name = "placebo"\ndrugs = [{ drug = "ras", strt = "4w" }]'),
        ("'strt'", "Did you mean 'start'"),
    ),
    "a drug that stops before it starts": (
        ('name = "placebo"', 'name = "placebo"\ndrugs = [{ drug = "ras", start = "4w", stop = "2w" }]'),
        ("stops on day 14", "start on day 28"),
    ),
    "an unknown product": (
        ("rexlemestrocel-L", "rexelmestrocel-L"),
        ("no product 'rexelmestrocel-L'", "Did you mean 'rexlemestrocel-L'"),
    ),
    "an unknown route": (('route = "IV"', 'route = "iv"'), ("no route 'iv'", "Did you mean 'IV'")),
    "a route by which the product is not given": (
        ('route = "IV"', 'route = "intraparenchymal"'),
        ("rexlemestrocel-L", "'intraparenchymal'", "Allowed: IA-renal, IV"),
    ),
    "a dose that cannot be read": (
        ('dose = "150e6"', 'dose = "150e6 bananas"'),
        ("'150e6 bananas'", "'bananas'", "Allowed: "),
    ),
    "an infusion without a unit": (('infusion = "60min"', 'infusion = "60"'), ("infusion", "'60'", "without a unit")),
    "a product without a regimen": (('route = "IV"\n', ""), ("a product needs route, dose and days", "'dose', 'days'")),
    "a regimen without a product": (
        ('name = "placebo"', 'name = "placebo"\nroute = "IV"'),
        ("arm 'placebo'", "route without a product"),
    ),
    "two arms of one name": (('name = "placebo"', 'name = "150e6"'), ("arm '150e6' stands twice",)),
    "arms of nobody": (
        ('[study.patient]\negfr = 33\ndrugs = ["ras"]\n', ""),
        ("arms need [study.patient]",),
    ),
    "a covariate outside its range": (("egfr = 33", "egfr = 3300"), ("egfr = 3300", "5 to 150", "Correct it")),
    "a covariate that is no number": (("egfr = 33", 'egfr = "low"'), ("patient.egfr", "'low'", "number")),
    "an unknown covariate": (("egfr = 33", "egfrr = 33"), ("'egfrr'", "Did you mean 'egfr'")),
    "an unknown covariate of an arm": (
        ('name = "placebo"', 'name = "placebo"\npatient = { egrf = 45 }'),
        ("'egrf'", "Did you mean 'egfr'"),
    ),
    "drugs of an arm's patient that are no list": (
        ('name = "placebo"', 'name = "placebo"\npatient = { drugs = 3 }'),
        ("drugs", "got 3"),
    ),
    "a spread of what is no covariate": (
        ("[study.patient]", "[study.sd]\negrf = 9.8\n[study.patient]"),
        ("'egrf'", "Did you mean 'egfr'"),
    ),
    "a disease of another species": (
        ("egfr = 33", 'disease = "stz"'),
        ("'stz'", "rat, mouse", "For human: diabetic"),
    ),
    "an assumption without its reason": (
        ("egfr = 33", 'egfr = 33\nassumed = ["egfr"]'),
        ("assumed = ['egfr'] without assumed_reason", "Say why"),
    ),
    "an effect against nothing": (
        ('against = "placebo"\nobservable = "egfr"\nmeasure = "change"', 'observable = "egfr"\nmeasure = "fold"'),
        ("measure = 'fold'", "needs against"),
    ),
    "a level against another arm, which is a difference": (
        ('measure = "change"', 'measure = "level"'),
        ("measure = 'level'", "'difference' or 'fold'"),
    ),
    "an arm against itself": (('against = "placebo"', 'against = "150e6"'), ("'150e6'", "the arm itself")),
    "a slope without its days": (('measure = "change"', 'measure = "slope"'), ("needs from and to",)),
    "a slope back in time": (
        ('measure = "change"', 'measure = "slope"\nfrom = 84\nto = 0'),
        ("needs from and to", "to after from"),
    ),
    "a share without a limit": (('measure = "change"', 'measure = "share"'), ("exactly one of below and above",)),
    "a share with two limits": (
        ('measure = "change"', 'measure = "share"\nbelow = 1\nabove = 2'),
        ("exactly one of below and above",),
    ),
    "limits of what is no share": (
        ('measure = "change"', 'measure = "change"\nbelow = 1\nabove = 2'),
        ("below and above", "'change'"),
    ),
    "an unknown measure": (('measure = "change"', 'measure = "chnge"'), ("got 'chnge'", "Did you mean 'change'")),
    "an unknown role": (('role = "input"', 'role = "inputs"'), ("got 'inputs'", "Did you mean 'input'")),
    "an unknown key of a map": (
        ('measure = "change"', 'measure = "change"\nscal = "study"'),
        ("map.0", "'scal'", "Did you mean 'scale'"),
    ),
    "a row excluded without a reason": (
        ('measure = "change"', 'measure = "change"\nrole = "excluded"'),
        ("a map to 'excluded' needs a reason",),
    ),
    "a prediction without an arm": (
        ('arm = "150e6"\nagainst = "placebo"\n', ""),
        ("a map to 'fit' needs arm and observable",),
    ),
    "a study without a reason": (('reason = "Randomised against placebo."\n', ""), ("reason", "required")),
    "a study whose reason is empty": (("Randomised against placebo.", ""), ("reason", "at least 1 character")),
    "a map that claims no row": (
        ('endpoint = "egfr", time', 'endpoint = "egrf", time'),
        ("{'endpoint': 'egrf', 'time_week': 12}", "claims no row"),
    ),
    "a map by a column that is not there": (
        ('endpoint = "egfr", time', 'endpont = "egfr", time'),
        ("no column 'endpont'", "Did you mean 'endpoint'"),
    ),
    "a row left without a prediction": (
        ('role = "input"', 'role = "fit"'),
        ("line 3", "no map says how to predict", "another role"),
    ),
    "an unknown key of a study": (
        ('id = "packham2016"', 'id = "packham2016"  # their trial\nshares_patients = []'),
        ("'shares_patients'", "Did you mean 'shares_patients_with'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_with_file_line_and_study(tmp_path, change, says):
    old, new = change
    text = FILE.replace(old, new)
    assert text != FILE
    message = complaint(tmp_path, text)
    assert message.startswith("mine.toml:3: study 'packham2016': ")
    assert [part for part in says if part not in message] == [], message


def test_a_study_that_the_evidence_does_not_have_is_told(tmp_path):
    message = complaint(tmp_path, FILE.replace("packham2016", "packam2016"))
    assert message == "mine.toml:3: study 'packam2016': no row of the evidence has this study_id."


def test_two_maps_cannot_claim_one_row(tmp_path):
    second = '\n[[study.map]]\nwhere = { time_week = 12 }\nrole = "check"\nreason = "Once more."\n'
    message = complaint(tmp_path, FILE + second)
    assert "mine.toml:3: study 'packham2016': line 2: two maps claim this row; narrow where" in message
    assert "{'time_week': 12}" in message


def test_the_line_told_is_that_of_the_study_at_fault(tmp_path):
    other = '\n[[study]]\nid = "liu2022"\nrole = "input"\n'
    message = complaint(tmp_path, FILE + other, ROW, ROW | {"study_id": "liu2022"})
    assert message.startswith(f"mine.toml:{len(FILE.splitlines()) + 3}: study 'liu2022': reason")


def test_a_study_cannot_stand_twice_in_a_file(tmp_path):
    assert "study 'packham2016': stands twice" in complaint(tmp_path, FILE + FILE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE.replace("[[study]]", "[[study]"), "mine.toml: not TOML"),
        (FILE.replace("[[study]]", "[study]"), "mine.toml:1: study"),
        ('study = ["packham2016"]', "mine.toml:1: study 'number 1'"),
        ("", "[[study]]"),
    ],
    ids=["not TOML", "a table instead of a list", "text instead of a table", "empty"],
)
def test_a_file_that_is_no_list_of_studies_is_told(tmp_path, text, says):
    assert says in complaint(tmp_path, text)


def test_a_file_that_is_missing_or_not_text_is_told(tmp_path):
    rows = evidence.read_table(table(tmp_path, ROW))
    with pytest.raises(evidence.EvidenceError, match="no such file"):
        read_studies(tmp_path / "none.toml", rows)
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(evidence.EvidenceError, match=r"mine\.toml: not UTF-8"):
        read_studies(tmp_path / "mine.toml", rows)


# --------------------------------------------------------------------------- what ships


@pytest.fixture
def shipped_with(tmp_path, monkeypatch):
    """The shipped studies, their files changed by a function of (name, text)."""

    def load(change):
        for path in studies.STUDY_FOLDER.glob("*.toml"):
            text = change(path.name, path.read_text(encoding="utf-8"))
            (tmp_path / path.name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(studies, "STUDY_FOLDER", tmp_path)
        return studies.studies.__wrapped__()

    return load


def test_every_row_of_every_table_has_one_role_and_a_reason():
    every = roles()
    spoken_of = Counter(zip(every["table"], every["line"], strict=True))
    rows = evidence.load()
    assert spoken_of == Counter(zip(rows["table"], rows["line"], strict=True))
    assert set(every["role"]) <= set(ROLES)
    assert every["reason"].str.len().min() > 10


def test_a_study_of_the_tables_without_an_entry_is_told_by_name(shipped_with):
    message = r"no entry in .* for: packham2016 \(clinical_msc\.csv\)\. Give each a role"
    with pytest.raises(evidence.EvidenceError, match=message):
        shipped_with(
            lambda name, text: (
                "[[study]]" + "[[study]]".join(
                    part for part in text.split("[[study]]")[1:] if 'id = "packham2016"' not in part
                )
                if name == "clinical_msc.toml"
                else text
            )
        )  # fmt: skip


def test_a_study_cannot_have_two_entries_for_one_table_in_different_files(shipped_with):
    entry = '\n[[study]]\nid = "jardine2020"\nrole = "prior"\nreason = "Once more."\n'
    with pytest.raises(
        evidence.EvidenceError, match=r"'jardine2020' has two entries for disease_progression\.csv"
    ):
        shipped_with(lambda name, text: text + entry * (name == "disease_progression_animal.toml"))


def test_what_is_held_out_is_predicted_by_no_likelihood():
    every = roles()
    assert set(every.loc[every["role"] == "validate", "study_id"]) == set(held_out())
    assert set(every.loc[every["role"] == "calibrate", "study_id"]).isdisjoint(held_out())


def test_about_one_study_in_five_is_held_out_and_each_says_why():
    every = roles()
    fitted = set(every.loc[every["role"] == "calibrate", "study_id"])
    assert 0.1 <= len(held_out()) / (len(held_out()) + len(fitted)) <= 0.3
    assert min(map(len, held_out().values())) > 15


def test_studies_drawn_by_their_hash_were_drawn_so():
    drawn = [study for study, reason in held_out().items() if reason.startswith("drawn")]
    assert drawn
    for study in drawn:
        assert hashlib.sha256(f"mscrenal held out: {study}".encode()).digest()[-1] % 2 == 0, study


def test_studies_that_share_patients_stand_on_the_same_side():
    exceptions = set(tomllib.loads(studies.SPLIT_FILE.read_text(encoding="utf-8"))["fitted_nevertheless"])
    sides = {
        study: {"validate" if study in held_out() else "calibrate"}
        for study in roles().query("role in ('calibrate', 'validate')")["study_id"]
    }
    for study in studies.studies().values():
        for other in study.entry.shares_patients_with:
            assert other in evidence.study_ids(), (
                f"{study.id} shares patients with {other!r}, which is no study"
            )
            if {study.id, other} & exceptions:
                continue
            if study.id in sides and other in sides:
                assert sides[study.id] == sides[other], f"{study.id} and {other}"


def test_a_held_out_study_that_is_none_is_told(tmp_path, monkeypatch):
    (tmp_path / "held_out.toml").write_text('[held_out]\npackam2016 = "A slip."\n', encoding="utf-8")
    monkeypatch.setattr(studies, "SPLIT_FILE", tmp_path / "held_out.toml")
    with pytest.raises(evidence.EvidenceError, match=r"held_out\.toml: no study 'packam2016'"):
        held_out.__wrapped__()


def test_the_likelihood_is_as_broad_as_it_has_to_be():
    fitted = roles().query("role == 'calibrate'")
    assert fitted["study_id"].nunique() >= 40


def test_a_study_whose_rows_are_fitted_from_two_tables_is_refused():
    calibrate = pytest.importorskip("mscrenal.calibration.calibrate")
    study = studies.studies()["packham2016"]
    with pytest.raises(evidence.EvidenceError, match="'packham2016' is fitted from two tables"):
        calibrate.fitted_studies({"a": study, "b": study})
    assert list(calibrate.fitted_studies({"a": study})) == ["packham2016"]
