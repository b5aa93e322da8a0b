"""What is installed: all of it, under one name, quick to import; and what is said of it agrees."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points, metadata, version
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = ("model", "calibration", "scenarios", "app")
SHIPPED = (".py", ".nc", ".toml", ".csv", ".md", ".json", ".html", ".css", ".js", ".svg", ".typed")


def in_tree() -> set[str]:
    """Every file of the rooms that has to be installed, by its installed name."""
    return {
        f"mscrenal/{path.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory) -> Path:
    """The tree without what earlier builds left: setuptools would pack stale files of a `build` folder."""
    target = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        copytree(ROOT / room, target / room, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, target / name)
    return target


def build(hook: str, tree: Path, target: Path) -> Path:
    """Build as an installer does, by the hook of the build backend, with what is installed here."""
    code = f"import sys, setuptools.build_meta as b; print(b.{hook}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return target / done.stdout.strip().split("\n")[-1]


@pytest.fixture(scope="module")
def wheel_names(clean_tree, tmp_path_factory) -> set[str]:
    made = build("build_wheel", clean_tree, tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(made) as archive:
        return set(archive.namelist())


def test_the_rooms_hold_only_kinds_of_files_that_are_shipped():
    assert sorted(name for name in in_tree() if not name.endswith(SHIPPED)) == []


def test_every_folder_with_python_files_is_a_declared_package():
    folders = {
        ".".join(("mscrenal", *path.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel_names):
    assert {name for name in wheel_names if ".dist-info/" not in name} == in_tree()


def test_the_wheel_installs_one_top_level_name(wheel_names):
    assert {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name} == {"mscrenal"}
    assert "mscrenal/__init__.py" not in wheel_names  # a namespace: others may add rooms


def test_each_room_says_that_it_is_typed(wheel_names):
    assert {f"mscrenal/{room}/py.typed" for room in ROOMS} <= wheel_names


def test_the_wheel_carries_the_licence(wheel_names):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_the_source_archive_is_enough_to_build_the_wheel(clean_tree, tmp_path):
    made = build("build_sdist", clean_tree, tmp_path)
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {name.removeprefix("mscrenal/") for name in in_tree()}
    assert needed | {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_the_command_is_installed():
    (script,) = [item for item in entry_points(group="console_scripts") if item.name == "mscrenal"]
    assert script.value == "mscrenal.app.cli:main"
    assert callable(script.load())


def test_results_find_the_writer_of_the_report():
    (writer,) = entry_points(group="mscrenal.report")
    assert callable(writer.load())


def test_importing_the_model_takes_under_a_second_and_compiles_nothing():
    code = (
        "import time; start = time.process_time(); import mscrenal.model, sys; "
        "print(time.process_time() - start, 'sympy' in sys.modules, 'numba' in sys.modules)"
    )
    tries = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert {tuple(words[1:]) for words in tries} == {("False", "False")}
    # Processor time, the best of three: the first writes bytecode, any may meet a busy machine.
    assert min(float(words[0]) for words in tries) < 1.0


def test_the_version_is_the_same_wherever_it_stands():
    stated = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version("mscrenal") == stated
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == stated
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] == stated


def test_the_licence_is_the_same_wherever_it_stands():
    assert PROJECT["project"]["license"] == "BSD-3-Clause"
    assert metadata("mscrenal")["License-Expression"] == "BSD-3-Clause"
    assert "license: BSD-3-Clause" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    text = "\n".join(
        path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py")
    )
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    declared = {re.split(r"[<>=\[]", item)[0] for item in PROJECT["project"]["dependencies"]}
    assert declared - imported == set()
    # What only an extra brings is imported where it is used, behind a message that names the extra.
    extras = PROJECT["project"]["optional-dependencies"]
    offered = {re.split(r"[<>=\[]", item)[0] for name in extras if name != "test" for item in extras[name]}
    assert imported - declared - offered - {"mscrenal", "__future__"} <= set(sys.stdlib_module_names)


def test_no_file_names_a_package_index_or_a_folder_of_one_machine():
    # Written in parts, so that this file passes its own test.
    forbidden = re.compile(
        "|".join(("pypi" + r"\.org", "python" + "hosted", "/ho" + "me/", "/wo" + "rk/", "/tm" + "p/"))
    )
    kinds = (".py", ".toml", ".md", ".cff", "run")
    folders = (*ROOMS, "docs", "tests", "benchmarks", ".ci")
    files = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    texts = [path for path in files if path.is_file() and path.name.endswith(kinds)]
    assert len(texts) > 50
    found = [path for path in texts if forbidden.search(path.read_text(encoding="utf-8"))]
    assert found == []
