"""What a product may claim: every number has a row or a reason, and what is not known says so."""

from __future__ import annotations

import csv
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mscrenal.model import products
from mscrenal.model.declare import Assumed, DeclarationError, Fixed, LogitNormal, LogNormal, Source
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS, Product, ProductValue, discover, product
from mscrenal.model.products.base import (
    POTENCIES,
    PRODUCT_ROUTES,
    RELATIVE,
    allogeneic,
    not_immunogenic,
    rescaled_class_prior,
)

EVIDENCE = Path(__file__).resolve().parents[1] / "calibration" / "evidence"
NAMES = tuple(p.name for p in PRODUCT_PARAMETERS)
EVERY_PRODUCT = pytest.mark.parametrize("item", PRODUCTS.values(), ids=lambda item: item.name)
CELLS = pytest.mark.parametrize(
    "item", [p for p in PRODUCTS.values() if p.kind == "cells"], ids=lambda p: p.name
)
VESICLES = pytest.mark.parametrize(
    "item", [p for p in PRODUCTS.values() if p.kind == "ev"], ids=lambda p: p.name
)

# A study named in a sentence: a word with a year (packham2016, liu2020evaki) or an underscore (asccm_bali).
STUDY_IN_WORDS = re.compile(r"\b[a-z][a-z0-9_]*(?:(?:19|20)\d\d|_)[a-z0-9_]*\b")


@pytest.fixture(scope="module")
def study_ids() -> frozenset[str]:
    tables = sorted(EVIDENCE.glob("*.csv"))
    assert tables, f"no evidence tables in {EVIDENCE}"
    found: set[str] = set()
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            found |= {row["study_id"] for row in csv.DictReader(file) if row.get("study_id")}
    return frozenset(found)


def sources(item: Product) -> list[Source | Assumed]:
    flat: list[Source | Assumed] = []
    for parameter in item.parameters:
        given = parameter.source if isinstance(parameter.source, tuple) else (parameter.source,)
        flat += [one for one in given if isinstance(one, Source | Assumed)]
    return flat


# ------------------------------------------------------------------ the catalogue


def test_the_products_of_the_scenarios_are_there() -> None:
    promised = (
        "BM AD UC UCB placenta amnion-MSC amnion-epithelial urine dental kidney EV-BM EV-AD EV-UC EV-urine "
        "CM-BM CM-UC ORBCEL-M rexlemestrocel-L UC-miR146a AD-GLP1-FGF21"
    )
    assert set(promised.split()) <= set(PRODUCTS)


def test_names_and_keys_agree_and_the_reference_comes_first() -> None:
    assert all(name == item.name for name, item in PRODUCTS.items())
    assert next(iter(PRODUCTS)) == "BM"


def test_the_order_is_by_kind_then_name_whatever_the_order_of_files() -> None:
    kinds = [item.kind for item in PRODUCTS.values()]
    assert kinds == sorted(kinds, key=("cells", "ev", "medium").index)
    for kind in ("ev", "medium"):
        names = [item.name.lower() for item in PRODUCTS.values() if item.kind == kind]
        assert names == sorted(names)
    assert list(discover()) == list(PRODUCTS)


def test_the_dose_unit_follows_the_kind() -> None:
    assert {item.dose_unit for item in PRODUCTS.values() if item.kind == "ev"} == {"1e9 particles/kg"}
    assert {item.dose_unit for item in PRODUCTS.values() if item.kind != "ev"} == {"Mcell/kg"}


def test_an_unknown_product_offers_the_nearest() -> None:
    with pytest.raises(DeclarationError, match=r"No product 'placentas'\. Did you mean 'placenta'"):
        product("placentas")
    with pytest.raises(DeclarationError, match=r"'EV-UC'.* Allowed: AD, "):
        product("ev_uc")


def test_a_known_product_is_found() -> None:
    assert product("ORBCEL-M").title.startswith("ORBCEL-M")


# ------------------------------------------------------------------ every parameter of every product


@EVERY_PRODUCT
def test_each_parameter_is_either_overridden_or_inherited(item: Product) -> None:
    assert sorted([*item.values, *item.inherited]) == sorted(NAMES)
    for base in PRODUCT_PARAMETERS:
        own = item.parameter(base.name)
        assert (own.name, own.unit, own.scope, own.meaning) == (base.name, "1", "product", base.meaning)
        if item.is_inherited(base.name):
            assert own is base
        else:
            given = item.values[base.name]
            assert (own.value, own.prior, own.source) == (given.value, given.prior, given.source)


@EVERY_PRODUCT
def test_medians_and_tails_stay_in_range(item: Product) -> None:
    for parameter in item.parameters:
        for z in (-3.0, 0.0, 3.0):
            value = parameter.at(z)
            if parameter.name == "immunogenicity":
                assert 0 <= value <= 1
            elif parameter.name == "viability":
                assert 0 < value <= 1
            else:
                assert 0.01 < value < 100, parameter.name


@EVERY_PRODUCT
def test_every_study_id_is_in_the_evidence_tables(item: Product, study_ids: frozenset[str]) -> None:
    for source in sources(item):
        if isinstance(source, Source):
            assert source.study_id in study_ids


@EVERY_PRODUCT
def test_every_study_named_in_words_is_in_the_evidence_tables(
    item: Product, study_ids: frozenset[str]
) -> None:
    words = " ".join([item.note, *(source.why for source in sources(item) if isinstance(source, Assumed))])
    assert set(STUDY_IN_WORDS.findall(words)) <= study_ids


@EVERY_PRODUCT
def test_a_sampled_number_without_a_row_says_why(item: Product) -> None:
    for source in sources(item):
        assert len(source.why) > 10 if isinstance(source, Assumed) else source.study_id


@EVERY_PRODUCT
def test_results_can_tell_data_from_the_class_prior(item: Product) -> None:
    for name in NAMES:
        parameter, basis = item.parameter(name), item.basis(name)
        assert (basis == "definition") == (not parameter.sampled)
        if basis == "class prior":
            assert name in item.inherited
        if basis == "data":
            assert not isinstance(parameter.source, Assumed)
            assert name not in item.inherited


@pytest.mark.parametrize("name", ["placenta", "dental", "urine", "kidney", "amnion-MSC"])
def test_a_product_without_direct_data_inherits_all_but_a_definition(name: str) -> None:
    assert set(NAMES) - set(product(name).inherited) == {"immunogenicity"}


# ------------------------------------------------------------------ the class prior


def test_the_class_prior_is_centred_on_the_reference_and_wide() -> None:
    for name in RELATIVE:
        parameter = product("placenta").parameter(name)
        assert parameter.value == 1.0
        assert isinstance(parameter.prior, LogNormal)
        # The half-life of the cells spans the products already; what is left between them is narrower.
        assert parameter.prior.sigma >= (0.2 if name == "survival" else 0.4)
    assert len(POTENCIES) == 6


def test_viability_of_the_class_spans_the_published_range() -> None:
    viability = PRODUCT_PARAMETERS[NAMES.index("viability")]
    assert isinstance(viability.prior, LogitNormal)
    assert [round(viability.at(z), 2) for z in (-1.96, 0.0, 1.96)] == [0.61, 0.85, 0.95]


def test_the_reference_is_exactly_one_in_all_that_is_relative() -> None:
    bm = product("BM")
    for name in RELATIVE:
        parameter = bm.parameter(name)
        assert parameter.value == 1.0
        assert isinstance(parameter.prior, Fixed)
        assert all(parameter.at(z) == 1.0 for z in (-2.0, 2.0))


# ------------------------------------------------------------------ what is known directly


@pytest.mark.parametrize(
    ("name", "parameter", "median", "low", "high"),
    [
        ("AD", "potency_immunomodulation", 2.0, 1.0, 4.0),
        ("AD", "ev_yield", 1.1, 0.6, 2.0),
        ("UC", "potency_immunomodulation", 0.8, 0.25, 2.5),
        ("UC", "ev_yield", 1.3, 0.7, 2.5),
        ("CM-UC", "ev_yield", 1.3, 0.7, 2.5),
        ("AD-GLP1-FGF21", "potency_angiogenic", 0.3, 0.05, 1.7),
    ],
)
def test_head_to_head_ratios_have_the_recommended_median_and_range(
    name: str, parameter: str, median: float, low: float, high: float
) -> None:
    own = product(name).parameter(parameter)
    assert own.value == median
    assert own.at(-1.96) == pytest.approx(low, rel=0.07)
    assert own.at(1.96) == pytest.approx(high, rel=0.07)
    assert product(name).basis(parameter) == "data"


def test_the_hgf_ratio_of_umbilical_cord_is_no_potency() -> None:
    assert max(product("UC").parameter(name).value for name in POTENCIES) <= 1.0


@pytest.mark.parametrize("name", ["ORBCEL-M", "rexlemestrocel-L"])
def test_selected_marrow_cells_lie_nearer_to_marrow_than_another_tissue_does(name: str) -> None:
    for relative in RELATIVE:
        own, other = product(name).parameter(relative), product("placenta").parameter(relative)
        assert own.value == 1.0
        assert 1.0 < own.at(1.96) < other.at(1.96)
        assert product(name).basis(relative) == "assumed"


@pytest.mark.parametrize(
    ("name", "arm"), [("UC-miR146a", "immunomodulation"), ("AD-GLP1-FGF21", "metabolic")]
)
def test_a_modification_raises_its_arm_but_may_do_nothing(name: str, arm: str) -> None:
    modified = product(name)
    potency, plain = (
        modified.parameter(f"potency_{arm}"),
        product(modified.parent).parameter(f"potency_{arm}"),
    )
    assert potency.value > plain.value
    assert potency.at(-1.96) < plain.value
    assert isinstance(potency.source, Assumed)


def test_what_is_not_modified_is_as_in_the_parent() -> None:
    modified, plain = product("UC-miR146a"), product("UC")
    assert [n for n in NAMES if modified.parameter(n) != plain.parameter(n)] == ["potency_immunomodulation"]


# ------------------------------------------------------------------ kinds and origins


@EVERY_PRODUCT
def test_only_a_donors_cells_sensitise(item: Product) -> None:
    immunogenicity = item.parameter("immunogenicity")
    assert isinstance(immunogenicity.prior, Fixed)
    donors_cells = item.kind == "cells" and item.origin != "autologous"
    assert immunogenicity.value == (1.0 if donors_cells else 0.0)


@VESICLES
def test_what_only_living_cells_have_does_not_vary_in_vesicles(item: Product) -> None:
    for name in ("viability", "survival", "homing", "secretion", "ev_yield"):
        parameter = item.parameter(name)
        assert (parameter.value, parameter.sampled) == (1.0, False)
        assert isinstance(parameter.source, Assumed)
        assert "not applicable" in parameter.source.why
    assert all(item.parameter(name).sampled for name in POTENCIES)


@CELLS
def test_living_cells_have_a_viability_below_one(item: Product) -> None:
    viability = item.parameter("viability")
    assert viability.sampled
    assert viability.at(3.0) < 1.0


@EVERY_PRODUCT
def test_routes_are_known(item: Product) -> None:
    assert item.routes
    assert set(item.routes) <= set(PRODUCT_ROUTES)
    assert "IV" in item.routes


# ------------------------------------------------------------------ what is refused


def build(**changes: object) -> Product:
    given: dict[str, object] = {
        "name": "new",
        "title": "New cells",
        "kind": "cells",
        "tissue": "skin",
        "origin": "allogeneic",
        "note": "an example",
    }
    return Product(**(given | changes))  # type: ignore[arg-type]


def test_a_product_needs_no_value_of_its_own() -> None:
    assert build().inherited == NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "letters, digits and hyphens"),
        ({"note": ""}, "note is empty"),
        ({"kind": "cell"}, r"no kind 'cell'\. Did you mean 'cells'"),
        ({"origin": "alogeneic"}, "Did you mean 'allogeneic'"),
        ({"routes": ("IA-rnal",)}, "Did you mean 'IA-renal'"),
        ({"routes": ()}, "at least one route"),
        ({"origin": "autologous"}, r"immunogenicity is 0, got 1\.0"),
        ({"values": not_immunogenic("wrongly")}, "allogeneic cells sensitise"),
        ({"kind": "ev", "values": not_immunogenic("vesicles")}, "fix its viability at 1"),
    ],
)
def test_a_contradictory_product_is_refused_with_the_mend(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "potency_antioxidants",
            ProductValue(1.0, Fixed(), Assumed("x")),
            "Did you mean 'potency_antioxidant'",
        ),
        ("homing", ProductValue(-1.0, Fixed(), Assumed("x")), "a positive ratio"),
        ("homing", ProductValue(0.5, LogitNormal(1.0), Assumed("x")), "a positive ratio"),
        ("viability", ProductValue(1.2, Fixed(), Assumed("x")), r"a share in \(0, 1\]"),
        ("immunogenicity", ProductValue(0.5, LogNormal(0.5), Assumed("x")), "Fixed between 0 and 1"),
        ("secretion", ProductValue(1.0, LogNormal(0.5), Source("Packham 2016")), "not in the style"),
        ("secretion", ProductValue(1.0, LogNormal(0.5), (Source("a2000"), Source("B"))), "study_id 'B'"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: ProductValue, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        build(values={name: value})


def test_asking_for_an_unknown_parameter_offers_the_nearest() -> None:
    for ask in (build().parameter, build().is_inherited, build().basis):
        with pytest.raises(DeclarationError, match=r"no parameter 'survivl'\. Did you mean 'survival'"):
            ask("survivl")


def test_only_relative_parameters_can_be_rescaled() -> None:
    with pytest.raises(DeclarationError, match="no relative parameter 'viability'"):
        rescaled_class_prior(0.5, "why", ("viability",))


def test_a_product_cannot_be_changed_after_it_was_checked() -> None:
    values = allogeneic("a donor's cells")
    item = build(values=values)
    values["homing"] = ProductValue(-1.0, Fixed(), Assumed("smuggled in"))
    assert item.is_inherited("homing")
    with pytest.raises(TypeError):
        item.values["homing"] = values["homing"]  # type: ignore[index]


# ------------------------------------------------------------------ one file a product

FILE = """
from mscrenal.model.products.base import Product
PRODUCT = Product({name!r}, "Skin MSC", "cells", "skin", "allogeneic", "from a test", parent={parent!r})
"""


@pytest.fixture
def extra_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.setattr(products, "__path__", [*products.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield tmp_path
    for added in set(sys.modules) - before:
        if added.startswith(f"{products.__name__}."):
            delattr(products, added.rpartition(".")[2])
            del sys.modules[added]


def test_one_new_file_is_one_new_product(extra_folder: Path) -> None:
    (extra_folder / "skin.py").write_text(FILE.format(name="skin", parent=""), encoding="utf-8")
    (extra_folder / "helpers.py").write_text("NOT_A_PRODUCT = 1\n", encoding="utf-8")
    assert set(discover()) == {*PRODUCTS, "skin"}


def test_two_files_cannot_claim_one_name(extra_folder: Path) -> None:
    (extra_folder / "again.py").write_text(FILE.format(name="UC", parent=""), encoding="utf-8")
    with pytest.raises(DeclarationError, match="a product named 'UC' already"):
        discover()


def test_a_parent_must_exist(extra_folder: Path) -> None:
    (extra_folder / "orphan.py").write_text(FILE.format(name="skin", parent="UCC"), encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"no parent 'UCC'\. Did you mean 'UC"):
        discover()


def test_a_file_whose_product_is_no_product_is_named(extra_folder: Path) -> None:
    (extra_folder / "odd.py").write_text("PRODUCT = 'UC'\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match="'odd': PRODUCT is a str"):
        discover()


def test_without_the_reference_there_is_nothing_to_be_relative_to(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="No product is named 'BM'"):
        discover([str(tmp_path)])
