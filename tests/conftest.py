"""What the tests of the model share: virtual subjects and regimens to try it on."""

from __future__ import annotations

import locale
import os
from dataclasses import dataclass

# Before numpy is loaded: matrices here are small, and threads of several workers' BLAS wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mscrenal.model import DISEASES, DRUGS, PRODUCTS, RANDOM_EFFECTS, Dose, DrugCourse, Patient

# The same examples on every machine; the time of one example says nothing (the first one compiles).
settings.register_profile(
    "mscrenal",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("mscrenal")

BACKGROUND = tuple(n for n, d in DRUGS.items() if d.kind == "background" and n != "immunosuppression")


@dataclass(frozen=True)
class Regimen:
    """Doses and drug courses of one arm."""

    doses: tuple[Dose, ...]
    courses: tuple[DrugCourse, ...]


@st.composite
def diabetic_patients(draw) -> Patient:
    """Patients with diabetic kidney disease over most of its course."""
    return Patient(
        age=draw(st.floats(20, 85)),
        sex=draw(st.sampled_from(("male", "female"))),
        weight_kg=draw(st.floats(45, 130)),
        egfr=draw(st.floats(15, 90)),
        uacr=10 ** draw(st.floats(1.3, 3.7)),
        hba1c=draw(st.floats(5.5, 10.5)),
        duration_years=draw(st.floats(1, 30)),
        drugs=tuple(draw(st.sets(st.sampled_from(BACKGROUND)))),
        eta={name: effect.sd * draw(st.floats(-2, 2)) for name, effect in RANDOM_EFFECTS.items()},
    )


@st.composite
def subjects(draw) -> Patient:
    """Anybody whom the package can simulate: patients of every disease, animals of every model."""
    disease = draw(st.sampled_from(sorted(DISEASES)))
    if disease == "diabetic":
        return draw(diabetic_patients())
    species = draw(st.sampled_from(DISEASES[disease].species))
    if disease == "lupus":
        return Patient(
            disease="lupus",
            sledai=draw(st.floats(1, 25)),
            drugs=draw(st.sampled_from(((), ("immunosuppression",)))),
        )
    if species == "human":
        return Patient(disease=disease)
    return Patient(
        species=species, disease=disease, onset_days=0.0 if disease == "healthy" else draw(st.floats(0, 60))
    )


@st.composite
def regimens(draw, products: tuple[str, ...] = tuple(PRODUCTS), most: int = 6) -> Regimen:
    """Any doses of one or two products by any route, at once or slowly, overlapping or not; drugs started and stopped."""
    names = draw(st.lists(st.sampled_from(products), min_size=1, max_size=2, unique=True))
    doses = []
    for _ in range(draw(st.integers(0, most))):
        name = draw(st.sampled_from(names))
        doses.append(
            Dose(
                day=draw(st.floats(0, 200)),
                amount=10 ** draw(st.floats(-2, 1.3)),
                product=name,
                route=draw(st.sampled_from(PRODUCTS[name].routes)),
                duration_days=draw(st.sampled_from((0.0, 1 / 48, 1 / 24, 0.5, 10.0))),
            )
        )
    courses = []
    for drug in draw(st.sets(st.sampled_from(sorted(DRUGS)), max_size=2)):
        start = draw(st.floats(0, 100))
        courses.append(DrugCourse(drug, start, draw(st.one_of(st.none(), st.floats(start + 1, 300)))))
    return Regimen(tuple(doses), tuple(courses))


MOST_WORKERS = 8  # each holds a gigabyte


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs on all processors; tests that were named run here, where they start at once."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors, MOST_WORKERS)


LOCALE = locale.setlocale(locale.LC_ALL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Simulators of other projects set the C locale as they load, in which a dash is no character."""
    locale.setlocale(locale.LC_ALL, LOCALE)
