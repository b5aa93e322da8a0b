"""The products, one file each: a module of this package that defines `PRODUCT` is a product.

Nothing else has to be edited to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from mscrenal.model.declare import DeclarationError, nearest
from mscrenal.model.products.base import PRODUCT_PARAMETERS, REFERENCE, Product, ProductValue

__all__ = ["PRODUCTS", "PRODUCT_PARAMETERS", "REFERENCE", "Product", "ProductValue", "discover", "product"]

_KINDS = ("cells", "ev", "medium")


def discover(folders: Iterable[str] | None = None) -> dict[str, Product]:
    """Import every module of the package that defines `PRODUCT`.

    Parameters
    ----------
    folders
        Where to look; the package's own folders when None.

    Returns
    -------
    dict of str to Product
        By name: the reference first, then cells, vesicles and media, each by name. The order does not
        depend on the file system.

    Raises
    ------
    DeclarationError
        If a `PRODUCT` is not a Product, two modules claim one name, a parent does not exist, or there is no
        reference product.
    """
    found: dict[str, Product] = {}
    for module in sorted(
        pkgutil.iter_modules(__path__ if folders is None else folders), key=lambda m: m.name
    ):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "PRODUCT", None)
        if candidate is None:
            continue
        if not isinstance(candidate, Product):
            raise DeclarationError(
                f"Module {module.name!r}: PRODUCT is a {type(candidate).__name__}, not a Product."
            )
        if candidate.name in found:
            raise DeclarationError(
                f"Module {module.name!r}: there is a product named {candidate.name!r} already."
            )
        found[candidate.name] = candidate
    if REFERENCE not in found:
        raise DeclarationError(f"No product is named {REFERENCE!r}, to which all others are relative.")
    for item in found.values():
        if item.parent and item.parent not in found:
            raise DeclarationError(
                f"Product {item.name!r}: no parent {item.parent!r}.{nearest(item.parent, found)}"
            )
    return {p.name: p for p in sorted(found.values(), key=_rank)}


def _rank(item: Product) -> tuple[bool, int, str]:
    return (item.name != REFERENCE, _KINDS.index(item.kind), item.name.lower())


PRODUCTS: dict[str, Product] = discover()


def product(name: str) -> Product:
    """The product of that name; DeclarationError, with the nearest names, if there is none."""
    if name not in PRODUCTS:
        raise DeclarationError(f"No product {name!r}.{nearest(name, PRODUCTS)}")
    return PRODUCTS[name]
