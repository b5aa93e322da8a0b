"""The pages tell the truth: their code runs, their links lead somewhere, their tables are complete."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mscrenal.app.cli import main
from mscrenal.calibration import shipped_posterior
from mscrenal.calibration.evidence import load
from mscrenal.scenarios import ScenarioError, load_scenario, schema
from mscrenal.scenarios.endpoints import ENDPOINTS
from mscrenal.scenarios.gallery import gallery_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEW = "2"  # draws: the examples show how, not how much
COMPUTING = ("compare", "simulate", "explain", "optimise", "facts")


def by_name(path: Path) -> str:
    return path.name


def blocks(page: Path, *kinds: str) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def with_blocks(*kinds: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *kinds)]


@dataclass(frozen=True)
class Example:
    """A command as it stands in a page, and what the page says comes of it."""

    page: Path
    line: str
    says: tuple[str, ...]
    code: int

    @property
    def slow(self) -> bool:
        """Facts simulate whole trials, and --out draws many figures."""
        return "facts" in self.line or "--out" in self.line


def examples(page: Path) -> Iterator[Example]:
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *rest = part.strip().split("\n")
            codes = [int(found[1]) for text in rest if (found := re.fullmatch(r"\[exit code (\d+)\]", text))]
            says = tuple(text for text in rest if not text.startswith("[exit code"))
            yield Example(page, line, says, codes[0] if codes else 0)


def run(example: Example) -> None:
    """Run a command line with few draws, in the current folder; `> file` keeps its output."""
    line, _, file = example.line.partition(" > ")
    program, *arguments = shlex.split(line)
    assert program == "mscrenal", f"only mscrenal is run from console blocks, not {program!r}; use ```sh"
    if arguments[0] in COMPUTING:
        if "--draws" in arguments:
            arguments[arguments.index("--draws") + 1] = FEW
        else:
            arguments += ["--draws", FEW]
        arguments += ["--workers", "1"]
    result = CliRunner().invoke(main, arguments)
    # A subject that no state can meet under one of two draws (code 3) is no fault of the page.
    expected = {0, 3} if arguments[0] in COMPUTING and example.code == 0 else {example.code}
    assert result.exit_code in expected, f"{example.line}: {result.exception!r}\n{result.output}"
    said = " ".join((result.stdout + result.stderr).split())
    for text in example.says:
        assert " ".join(text.split()) in said, f"{example.line} says: {said}"
    if file:
        Path(file).write_text(result.stdout, encoding="utf-8")


@pytest.mark.parametrize("page", with_blocks("console"), ids=by_name)
def test_the_commands_of_a_page_run_and_say_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = [example for example in examples(page) if not example.slow]
    assert chosen
    for example in chosen:
        run(example)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks("console"), ids=by_name)
def test_the_long_commands_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in examples(page):
        if example.slow or ">" in example.line:  # files that the long ones read
            run(example)


@pytest.mark.parametrize("page", with_blocks("python"), ids=by_name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shown.py").write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    assert runpy.run_path("shown.py")


def completed(fragment: str) -> str:
    """A fragment of a scenario file as the smallest whole one that holds it."""
    if re.search(r"^title", fragment, re.MULTILINE):
        return fragment
    patient = "" if "[population]" in fragment else "\n[patient]\n"
    return f'title = "t"\nhorizon = "2y"\n\n{fragment}{patient}\n[[arm]]\nname = "placebo"\n'


@pytest.mark.parametrize("place", range(len(blocks(ROOT / "docs" / "scenario-files.md", "toml"))))
def test_the_scenario_files_shown_can_be_read(place, tmp_path):
    text = completed(blocks(ROOT / "docs" / "scenario-files.md", "toml")[place])
    (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
    assert load_scenario(tmp_path / "shown.toml").arms


def test_the_event_table_shown_is_three_weekly_doses_against_none(tmp_path):
    (table,) = blocks(ROOT / "docs" / "scenario-files.md", "csv")
    (tmp_path / "events.csv").write_text(table, encoding="utf-8")
    scenario = load_scenario(tmp_path / "events.csv")
    assert scenario.reference == "placebo"
    assert scenario.arm("UC weekly x3").dose_days == (0.0, 7.0, 14.0)


def test_the_slip_shown_gives_the_message_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "scenario-files.md"
    Path("slip.toml").write_text(blocks(page, "toml-error")[0], encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario("slip.toml")
    assert str(caught.value).startswith(blocks(page, "text")[0].strip())


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_within_the_repository_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.split("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            assert (page.parent / path).exists(), f"{page.name} links to {target}, which is not there"


def test_every_option_of_the_command_line_stands_on_the_page_of_commands():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name, command in get_command(main).commands.items():
        assert f"`{name}" in page, f"the command {name} is missing"
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option in page, f"{name} {option} is missing"


def test_every_endpoint_stands_on_the_page_of_commands():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in ENDPOINTS if f"`{name}`" not in page] == []


def test_every_key_of_a_scenario_file_stands_on_its_page():
    page = (ROOT / "docs" / "scenario-files.md").read_text(encoding="utf-8")
    tables = [
        item for item in vars(schema).values() if isinstance(item, type) and item.__name__.endswith("Table")
    ]
    assert len(tables) > 8
    keys = {key for table in tables for key in getattr(table, "model_fields", {})}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", page)) == []


def test_the_changelog_counts_the_scenarios_that_ship():
    words = {13: "Thirteen", 14: "Fourteen", 15: "Fifteen", 16: "Sixteen"}
    assert f"{words[len(gallery_names())]} scenarios" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def generator() -> ModuleType:
    """docs/build_pages.py, which is a script and belongs to no package."""
    spec = importlib.util.spec_from_file_location("build_pages", ROOT / "docs" / "build_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_pages"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/facts.md", "docs/behaviours.md"])
def test_the_results_shown_are_those_of_this_model(page):
    found = re.search(r"<!-- computed with: (\w+) -->", (ROOT / page).read_text(encoding="utf-8"))
    assert found is not None, f"{page} holds no results; run: python docs/build_pages.py"
    assert found[1] == generator().stamp(), f"{page} shows another model; run: python docs/build_pages.py"


def test_the_page_of_evidence_is_that_of_the_tables_and_the_files_of_studies():
    pages = generator()
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    mend = "run: python docs/build_pages.py evidence"
    found = re.search(r"<!-- computed with: (\w+) -->", text)
    assert found is not None, mend
    assert found[1] == pages.evidence_stamp(), f"docs/evidence.md shows other studies; {mend}"
    assert text == pages.evidence_page(), f"docs/evidence.md was edited, or its generator was; {mend}"


def test_the_page_of_evidence_names_every_study_and_counts_every_row():
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    rows = load()
    assert sorted(study for study in set(rows["study_id"]) if f"`{study}`" not in text) == []
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith('| <a id="')]
    assert len(cells) == len(rows[["table", "study_id"]].drop_duplicates())
    assert sum(int(number) for row in cells for number in re.findall(r" (\d+)", row[5])) == len(rows)
    assert min(len(row[6]) for row in cells) > 20  # a reason


def test_an_identifier_leads_to_its_source():
    identified = generator().identified
    assert identified("10.1016/S2213-8587(21)00242-4").endswith(
        "(https://doi.org/10.1016/S2213-8587%2821%2900242-4)"
    )
    assert identified("PMID:123") == "[PMID:123](https://pubmed.ncbi.nlm.nih.gov/123/)"
    assert identified("NCT05018416") == "[NCT05018416](https://clinicaltrials.gov/study/NCT05018416)"
    assert identified("") == "–"


def test_the_readme_shows_the_numbers_of_every_arm_of_the_main_scenario():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for arm in load_scenario("uc-dn-weekly").arms:
        assert f"| {arm.name} |" in text


def test_numbers_in_tables_have_two_digits_and_no_exponent():
    pages = generator()
    shown = [pages.number(value) for value in (0.0123, -4.56, 137.2, 1e-7, 0.0, float("nan"), None)]
    assert shown == ["0.012", "-4.6", "137", "0", "0", "–", "–"]


@pytest.mark.parametrize("page", ["identifiability.md", "calibration.md"])
def test_what_a_page_says_of_the_posterior_is_of_the_one_that_ships(page):
    pages = generator()
    found = re.search(r"<!-- computed with: (\w+) -->", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    mend = f"run: python docs/build_pages.py {page.removesuffix('.md')}"
    assert found is not None, mend
    assert found[1] == pages.posterior_stamp(shipped_posterior()), mend


def test_the_block_of_a_page_is_replaced_and_the_rest_stays():
    filled = generator()._filled
    text = "a\n<!-- x: start -->\nold\n<!-- x: end -->\nb\n"
    assert filled(text, "x", "new\n") == "a\n<!-- x: start -->\nnew\n<!-- x: end -->\nb\n"
