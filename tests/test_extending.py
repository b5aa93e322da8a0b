"""What the page on extending shows is true: one file, put into a copy of the package, and it is there and runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mscrenal.scenarios import validate

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "extending.md"
ROOMS = ("model", "calibration", "scenarios", "app")
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES: dict[str, str] = dict(FILE.findall(PAGE.read_text(encoding="utf-8")))
IN_THE_PACKAGE = sorted(name for name in FILES if name.startswith("model/"))

Running = Callable[[str], str]


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Running]:
    """A copy of the package with one file of the page in it, and nothing else changed."""

    def with_file(name: str) -> Running:
        package = tmp_path / "mscrenal"
        for room in ROOMS:
            shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
        target = package / name
        assert not target.exists(), f"{name} is in the package already: the page needs another example"
        target.write_text(FILES[name], encoding="utf-8")

        def run(code: str) -> str:
            # The copy goes before whatever is installed.
            environment = os.environ | {"PYTHONPATH": str(tmp_path)}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        where = run("import mscrenal.model; print(mscrenal.model.__file__)")
        assert Path(where.strip()).resolve().is_relative_to(tmp_path.resolve())
        return run

    return with_file


def test_the_page_shows_a_file_for_each_thing_that_can_be_added():
    kinds = {Path(name).parent.name for name in IN_THE_PACKAGE}
    assert kinds == {"products", "drugs", "insults", "processes"}
    assert {"study.csv", "study.toml"} <= set(FILES)


@pytest.mark.slow  # the integrator of the copy is compiled, as that of a fresh clone is
def test_a_product_is_found_and_can_be_compared(copied):
    run = copied("model/products/skin.py")
    found = run(
        """
from dataclasses import replace
from mscrenal.scenarios import compare, load_scenario
from mscrenal.model import PRODUCTS
scenario = load_scenario("uc-dn-weekly")
placebo, cord = scenario.arms[:2]
skin = replace(cord, name="skin weekly x3", courses=tuple(replace(c, product="skin") for c in cord.courses))
scenario = replace(scenario, arms=(placebo, skin), endpoints=("uacr_percent_change",))
result = compare(scenario, draws=3, workers=1)  # with the posterior that ships
print(PRODUCTS["skin"].values["potency_antioxidant"].value)
print(float(result.data["difference"].sel(arm="skin weekly x3").max()))
print("\\n".join(result.extrapolated))
"""
    )
    potency, difference, *said = found.splitlines()
    assert float(potency) == 1.4
    assert float(difference) < 0.0  # it does something, and in the right direction
    assert any(line.startswith("skin: ") and "class prior" in line for line in said)


@pytest.mark.slow
def test_a_disease_is_found_and_befalls_an_animal(copied):
    run = copied("model/insults/adenine.py")
    found = run(
        """
from mscrenal.model import Patient, simulate
sick = simulate(Patient(species="rat", disease="adenine", onset_days=28), [], times=[0.0, 28.0])
well = simulate(Patient(species="rat", disease="healthy"), [], times=[0.0, 28.0])
print(sick.status, *(t.state("tubules")[0] for t in (sick, well)))
"""
    )
    status, sick, well = found.split()
    assert status == "ok"
    assert float(sick) < 0.9 * float(well)


@pytest.mark.parametrize("name", IN_THE_PACKAGE)
def test_the_model_is_built_with_the_new_file(name, copied):
    found = copied(name)(
        """
from mscrenal.model import DISEASES, DRUGS, PRODUCTS
from mscrenal.model.definition import MODULES, model
print(*model().rates, *model().parameters, *DISEASES, *DRUGS, *PRODUCTS, *(m.MODULE for m in MODULES), sep="\\n")
"""
    )
    new = re.search(r'^(?:MODULE = |    name=)"([\w-]+)"', FILES[name], re.MULTILINE)
    assert new is not None
    assert new[1] in found.splitlines()


@pytest.mark.slow
def test_a_drug_is_found_and_does_what_it_says(copied):
    found = copied("model/drugs/il1_blockade.py")(
        """
from mscrenal.model import Patient, simulate
with_drug, without = (
    simulate(Patient(drugs=drugs), [], times=[0.0, 56.0]) for drugs in (("ras", "il1-blockade"), ("ras",))
)
print(with_drug.status, with_drug.state("il1b")[0], without.state("il1b")[0])
"""
    )
    status, treated, untreated = found.split()
    assert status == "ok"
    assert float(treated) < 0.8 * float(untreated)


@pytest.mark.slow
def test_a_process_is_found_and_acts_where_its_cause_is(copied):
    found = copied("model/processes/complement.py")(
        """
from mscrenal.model import Patient, sampled_parameters, simulate
usual = sampled_parameters()["complement_injury"].value
for patient in (Patient(disease="lupus", sledai=13.0), Patient(disease="healthy")):
    runs = [simulate(patient, [], times=[0.0, 336.0], theta={"complement_injury": k * usual}) for k in (1e-9, 1.0)]
    print(*(r.status for r in runs), *(r.state("capillaries")[-1] for r in runs))
"""
    )
    lupus, healthy = (line.split() for line in found.splitlines())
    assert lupus[:2] == healthy[:2] == ["ok", "ok"]
    assert float(lupus[3]) < float(lupus[2])
    assert float(healthy[3]) == pytest.approx(float(healthy[2]), rel=1e-6)


@pytest.mark.parametrize("mapped", [False, True], ids=["by rules", "by its own file"])
def test_a_study_is_compared_from_one_table(mapped, tmp_path):
    for name in ("study.csv", "study.toml"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    found = validate(
        tmp_path / "study.csv",
        studies_file=tmp_path / "study.toml" if mapped else None,
        draws=20,
        rivals=False,
        workers=1,
    )
    assert list(found.table["row"]) == [3, 4]
    assert set(found.table["measure"]) == {"change"}
    assert [skipped["row"] for skipped in found.skipped] == [2]
