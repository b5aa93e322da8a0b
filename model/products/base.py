"""What a product is, and what is known of a product about which nothing is known.

`PRODUCT_PARAMETERS` is the class prior: how far an arbitrary product may lie from the reference, bone-marrow
MSC. A `Product` overrides it where there is something direct to say and inherits the rest, with its full
uncertainty, by name, so that results can tell the two apart.

Two rules keep the numbers honest. A functional ratio per cell goes into the potency it was measured for;
`secretion` carries only what all arms of action share, so no ratio counts twice. And no outcome of a trial or
of an animal study of chronic kidney disease enters here: the calibration meets those, once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, get_args

from mscrenal.model.declare import (
    Assumed,
    DeclarationError,
    Fixed,
    LogitNormal,
    LogNormal,
    Parameter,
    Prior,
    Provenance,
    Source,
    nearest,
)

__all__ = [
    "DOSE_UNITS",
    "POTENCIES",
    "PRODUCT_PARAMETERS",
    "PRODUCT_ROUTES",
    "REFERENCE",
    "RELATIVE",
    "Product",
    "ProductValue",
    "allogeneic",
    "conditioned_medium",
    "defined",
    "not_immunogenic",
    "rescaled_class_prior",
    "vesicles",
]

Kind = Literal["cells", "ev", "medium"]
Origin = Literal["autologous", "allogeneic", "either"]

REFERENCE = "BM"
PRODUCT_ROUTES = ("IV", "IA-renal", "intraparenchymal", "IP", "SC")
# A conditioned medium is dosed as the cells that made it.
DOSE_UNITS: Mapping[str, str] = MappingProxyType(
    {"cells": "Mcell/kg", "ev": "1e9 particles/kg", "medium": "Mcell/kg"}
)

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9-]*$")
_STUDY_ID = re.compile(r"^[a-z][a-z0-9_]*$")


# --------------------------------------------------------------------------- the class prior

# The log-SD of one potency and that of the shared output add to 0.72: 95 % within 0.24- to 4.1-fold. The
# direct head-to-head ranges span as much: suppression AD/BM 1-4 and UC/BM 0.3-3, vesicle yield UC/BM
# 0.7-2.5, VEGF of diseased against healthy donors 0.03-1.
_SIGMA_POTENCY = 0.6
_SIGMA_SECRETION = 0.4

_WIDTH_OF_A_POTENCY = (
    "no head-to-head of this arm across tissues; centred on the reference because pooled animal studies do "
    "not rank the tissues consistently, and as wide (with the shared output, 0.24- to 4.1-fold) as the "
    "ratios that were measured: ribeiro2013, melief2013, evyield_table2022, rvd_admsc2016"
)


def _relative(name: str, meaning: str, sigma: float, why: str) -> Parameter:
    return Parameter(name, 1.0, "1", meaning, Assumed(why), LogNormal(sigma), scope="product")


def _potency(arm: str, action: str) -> Parameter:
    meaning = f"{action}, per unit of secretory output, relative to bone-marrow MSC"
    return _relative(f"potency_{arm}", meaning, _SIGMA_POTENCY, _WIDTH_OF_A_POTENCY)


PRODUCT_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="viability",
        value=0.85,
        unit="1",
        meaning="share of the product alive when it is infused",
        # logit-SD 0.65 gives 0.61 to 0.95; the rows are fresh-thawed, 1.5 h and 6.4 h at the bedside
        source=Source(
            "nguyen2024", "0.93-0.94 just thawed, 0.80-0.81 after 1.5 h, 0.48-0.59 after 6.4 h in Ringer"
        ),
        prior=LogitNormal(0.65),
        scope="product",
    ),
    _relative(
        "survival",
        "life span after infusion, relative to bone-marrow MSC",
        0.2,
        "half-lives near 24 h whatever the tissue (lee2009 bone marrow 24 h, kim2014 adipose gone after 24 "
        "h, chin2024 umbilical cord gone after 3 d); the half-life itself (8 to 48 h, a parameter of the host) "
        "already spans those products: a factor of 1.5 either way is left",
    ),
    _relative(
        "homing",
        "affinity for the injured kidney and passage to it, relative to bone-marrow MSC",
        0.5,
        "no head-to-head between tissues; cell diameter alone, set by donor and culture, spans 12.6-30.4 um "
        "(mscsize2014) and decides passage of the lung (bartosh2010)",
    ),
    _relative(
        "secretion",
        "secretory output per living cell shared by all arms of action, relative to bone-marrow MSC",
        _SIGMA_SECRETION,
        "no absolute output per cell could be read for any tissue; what differs between arms is in the "
        "potencies, what is left is donor, passage and medium: a factor of 2.2 either way",
    ),
    Parameter(
        name="immunogenicity",
        value=1.0,
        unit="1",
        meaning="drive of alloimmune sensitisation: 0 the patient's own or cell-free, 1 allogeneic",
        source=Assumed("a definition: the incidence and size of sensitisation are parameters of the host"),
        prior=Fixed(),
        scope="product",
    ),
    _relative(
        "ev_yield",
        "vesicles released per cell and day, relative to bone-marrow MSC",
        0.6,
        "the tissues compared in one bioreactor differ by 1.1 and 1.5 (evyield_table2022), but the culture "
        "format alone moves the yield 6- to 27-fold (str2023, exo3d2020) and is not known of most products",
    ),
    _potency("immunomodulation", "M1-to-M2 shift, regulatory T cells up, Th17 and NLRP3 down"),
    _potency("antioxidant", "Nrf2 and mitochondrial protection"),
    _potency("cytoprotection", "survival of podocytes and tubular cells (autophagy, anti-apoptosis)"),
    _potency("antifibrotic", "brake on TGF-beta/Smad signalling and myofibroblasts"),
    _potency("angiogenic", "support of capillaries (VEGF and its opponents)"),
    _potency("metabolic", "insulin sensitivity and beta-cell support"),
)

_CLASS: Mapping[str, Parameter] = MappingProxyType({p.name: p for p in PRODUCT_PARAMETERS})
POTENCIES = tuple(name for name in _CLASS if name.startswith("potency_"))
RELATIVE = ("survival", "homing", "secretion", "ev_yield", *POTENCIES)


# --------------------------------------------------------------------------- a product


@dataclass(frozen=True)
class ProductValue:
    """What is said of one parameter of one product: median, prior and where they come from."""

    value: float
    prior: Prior
    source: Provenance


@dataclass(frozen=True)
class Product:
    """A product that can be given: what it is, how it may be given, and what is known of it.

    Parameters
    ----------
    name, title
        The name used in scenarios (letters, digits, hyphens) and in figures.
    kind
        ``cells``, ``ev`` (extracellular vesicles) or ``medium`` (conditioned medium).
    tissue
        Where the cells, or those that made the product, come from.
    origin
        Whose tissue: ``autologous``, ``allogeneic``, or ``either`` where both are in use.
    note
        What a reader of a result must know of this product.
    values
        Overrides of the class prior by parameter name; what is missing is inherited.
    routes
        Those of `PRODUCT_ROUTES` by which it may be given.
    parent
        The product from whose data values are borrowed (a modified product), else empty.

    Raises
    ------
    DeclarationError
        For an unknown kind, origin, route or parameter name, a value out of its range, a malformed
        study_id, or an immunogenicity that contradicts the origin.
    """

    name: str
    title: str
    kind: Kind
    tissue: str
    origin: Origin
    note: str
    values: Mapping[str, ProductValue] = field(default_factory=dict)
    routes: tuple[str, ...] = PRODUCT_ROUTES
    parent: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))
        _check_labels(self)
        for given in self.values:
            _allowed(self, "parameter", given, _CLASS)
        for name in _CLASS:
            _check_range(self, self.parameter(name))
            _check_study_ids(self, self.parameter(name))
        _check_meaning_of_kind(self)

    @property
    def dose_unit(self) -> str:
        """The unit of the amount of a dose."""
        return DOSE_UNITS[self.kind]

    @property
    def inherited(self) -> tuple[str, ...]:
        """Names of the parameters that rest on the class prior alone: results say so."""
        return tuple(name for name in _CLASS if name not in self.values)

    def is_inherited(self, name: str) -> bool:
        """Whether a parameter rests on the class prior alone."""
        _allowed(self, "parameter", name, _CLASS)
        return name not in self.values

    def parameter(self, name: str) -> Parameter:
        """The parameter as this product has it, its own or the inherited one; DeclarationError if unknown."""
        _allowed(self, "parameter", name, _CLASS)
        base = _CLASS[name]
        own = self.values.get(name)
        if own is None:
            return base
        return replace(base, value=own.value, prior=own.prior, source=own.source)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters of this product, in the order of `PRODUCT_PARAMETERS`."""
        return tuple(self.parameter(name) for name in _CLASS)

    def basis(self, name: str) -> Literal["class prior", "data", "assumed", "definition"]:
        """What a parameter rests on, in the words in which results label it.

        ``data`` means a row of the evidence tables, of this product or of its `parent`.
        """
        if self.is_inherited(name):
            return "definition" if isinstance(_CLASS[name].prior, Fixed) else "class prior"
        own = self.values[name]
        if isinstance(own.prior, Fixed):
            return "definition"
        return "assumed" if isinstance(own.source, Assumed) else "data"


# --------------------------------------------------------------------------- what several products say


def defined(value: float, why: str) -> ProductValue:
    """A value that holds by definition or does not apply: not sampled."""
    return ProductValue(value, Fixed(), Assumed(why))


def not_immunogenic(why: str) -> dict[str, ProductValue]:
    """No sensitisation: the patient's own cells, or no cells."""
    return {"immunogenicity": defined(0.0, why)}


def allogeneic(why: str) -> dict[str, ProductValue]:
    """A donor's cells: the full sensitisation of the host's parameters."""
    return {"immunogenicity": defined(1.0, why)}


def vesicles() -> dict[str, ProductValue]:
    """What does not apply to a dose of vesicles, which is counted in particles."""
    return {
        **not_immunogenic(
            "vesicles carry no cell that could be rejected; faster clearance on repetition is kinetics"
        ),
        "viability": defined(1.0, "not applicable: nothing in it is alive, the whole dose counts"),
        "survival": defined(1.0, "not applicable: the half-lives of vesicles are parameters of their own"),
        "homing": defined(
            1.0, "not applicable: renal uptake of vesicles is a parameter of its own, not compared by tissue"
        ),
        "secretion": defined(1.0, "not applicable: vesicles do not secrete; potency is per particle"),
        "ev_yield": defined(1.0, "not applicable: the dose is counted in particles"),
    }


def conditioned_medium() -> dict[str, ProductValue]:
    """What does not apply to a medium, and how little a cell equivalent of it says of its content."""
    return {
        **not_immunogenic("cell-free: nothing in it presents donor antigens for long"),
        "viability": defined(1.0, "not applicable: nothing in it is alive, the whole dose counts"),
        "survival": defined(1.0, "not applicable: its factors decay at the rates of the cytokines"),
        "homing": defined(1.0, "not applicable: its factors circulate and do not home"),
        "secretion": ProductValue(
            1.0,
            LogNormal(0.8),
            Assumed(
                "the content of one cell equivalent depends on hours and cell number, which are not "
                "printed: VEGF is 4000 pg/mL in one medium (stempeucel2017) and 789 in another "
                "(asccm_bali), a 5-fold range either way"
            ),
        ),
    }


def rescaled_class_prior(
    factor: float, why: str, names: tuple[str, ...] = RELATIVE
) -> dict[str, ProductValue]:
    """The class prior, log-SDs times `factor`: below 1 for a close relative, above 1 for an outsider."""
    scaled: dict[str, ProductValue] = {}
    for name in names:
        _allowed(None, "relative parameter", name, RELATIVE)
        prior = _CLASS[name].prior
        assert isinstance(prior, LogNormal)
        scaled[name] = ProductValue(_CLASS[name].value, LogNormal(prior.sigma * factor), Assumed(why))
    return scaled


# --------------------------------------------------------------------------- checks


def _allowed(
    product: Product | None, what: str, given: str, allowed: Mapping[str, object] | tuple[str, ...]
) -> None:
    if given not in allowed:
        whose = f"Product {product.name!r}: " if product else ""
        raise DeclarationError(f"{whose}no {what} {given!r}.{nearest(given, allowed)}")


def _check_labels(product: Product) -> None:
    if not _NAME.match(product.name):
        raise DeclarationError(
            f"Product name {product.name!r}: use letters, digits and hyphens, a letter first."
        )
    for label in ("title", "tissue", "note"):
        if not getattr(product, label):
            raise DeclarationError(f"Product {product.name!r}: {label} is empty; say what the product is.")
    _allowed(product, "kind", product.kind, get_args(Kind))
    _allowed(product, "origin", product.origin, get_args(Origin))
    if not product.routes:
        raise DeclarationError(
            f"Product {product.name!r}: name at least one route of {', '.join(PRODUCT_ROUTES)}."
        )
    for route in product.routes:
        _allowed(product, "route", route, PRODUCT_ROUTES)


def _check_range(product: Product, parameter: Parameter) -> None:
    where = f"Product {product.name!r}, parameter {parameter.name!r}"
    if parameter.name == "immunogenicity":
        if not (0 <= parameter.value <= 1 and isinstance(parameter.prior, Fixed)):
            raise DeclarationError(
                f"{where}: Fixed between 0 and 1, got {parameter.value!r} {parameter.prior!r}."
            )
    elif parameter.name == "viability":
        if not (0 < parameter.value <= 1 and isinstance(parameter.prior, LogitNormal | Fixed)):
            raise DeclarationError(
                f"{where}: a share in (0, 1] with a LogitNormal prior or Fixed, got {parameter.value!r} "
                f"{parameter.prior!r}."
            )
    elif not (parameter.value > 0 and isinstance(parameter.prior, LogNormal | Fixed)):
        raise DeclarationError(
            f"{where}: a positive ratio with a LogNormal prior or Fixed, got {parameter.value!r} "
            f"{parameter.prior!r}."
        )


def _check_study_ids(product: Product, parameter: Parameter) -> None:
    source = parameter.source
    for row in source if isinstance(source, tuple) else (source,):
        if isinstance(row, Source) and not _STUDY_ID.match(row.study_id):
            raise DeclarationError(
                f"Product {product.name!r}, parameter {parameter.name!r}: study_id {row.study_id!r} is not "
                "in the style of the evidence tables (lower case, digits, underscores: 'packham2016')."
            )


def _check_meaning_of_kind(product: Product) -> None:
    immunogenicity = product.parameter("immunogenicity").value
    own = product.origin == "autologous" or product.kind != "cells"
    if own and immunogenicity != 0:
        raise DeclarationError(
            f"Product {product.name!r}: the patient's own cells, vesicles and media do not sensitise, so its "
            f"immunogenicity is 0, got {immunogenicity!r}. Use not_immunogenic(why)."
        )
    if product.origin == "allogeneic" and product.kind == "cells" and immunogenicity == 0:
        raise DeclarationError(
            f"Product {product.name!r}: allogeneic cells sensitise, got immunogenicity 0. "
            "Use allogeneic(why)."
        )
    if product.kind != "cells" and not isinstance(product.parameter("viability").prior, Fixed):
        raise DeclarationError(f"Product {product.name!r}: nothing in it is alive; fix its viability at 1.")
