"""Patients and animals: what is accepted, what is filled in, what is refused and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.model import (
    ARMS_OF_ACTION,
    COVARIATES,
    DISEASES,
    DRUGS,
    PRODUCTS,
    RANDOM_EFFECTS,
    SPECIES,
    Patient,
    PatientError,
)
from mscrenal.model import model as model_of
from mscrenal.model.initial import parameter_vector

COVARIATES_OF_A_DIABETIC = [n for n in COVARIATES if n != "sledai"]


@pytest.mark.parametrize("name", COVARIATES_OF_A_DIABETIC)
@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_a_range_are_accepted(name, end):
    value = float(getattr(COVARIATES[name], end))
    assert getattr(Patient(**{name: value}), name) == value


@pytest.mark.parametrize("name", COVARIATES_OF_A_DIABETIC)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_value_outside_its_range_names_the_range_and_the_unit(name, side):
    c = COVARIATES[name]
    value = (c.high if side > 0 else c.low) + side * 0.01
    with pytest.raises(PatientError, match=name) as caught:
        Patient(**{name: value})
    assert c.unit in str(caught.value)
    assert f"{c.low:g} to {c.high:g}" in str(caught.value)


@pytest.mark.parametrize("name", COVARIATES_OF_A_DIABETIC)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "45", True])
def test_a_covariate_that_is_no_number_is_refused(name, value):
    with pytest.raises(PatientError, match=f"{name} must be a number"):
        Patient(**{name: value})


@pytest.mark.parametrize(
    ("given_as", "hint"),
    [
        ({"species": "humans"}, "Did you mean 'human'"),
        ({"disease": "diabetes"}, "Did you mean 'diabetic'"),
        ({"drugs": ("rass",)}, "Did you mean 'ras'"),
        ({"eta": {"eta_nephrons": 0.1}}, "Did you mean 'eta_nephron'"),
        ({"sex": "m"}, "'male' or 'female'"),
        ({"drugs": ("ras", "ras")}, "names one twice"),
    ],
)
def test_an_unknown_name_offers_the_nearest(given_as, hint):
    with pytest.raises(PatientError, match=hint):
        Patient(**given_as)


@pytest.mark.parametrize("disease", DISEASES)
@pytest.mark.parametrize("species", SPECIES)
def test_a_disease_befalls_its_own_species_only(disease, species):
    if species in DISEASES[disease].species:
        assert Patient(species=species, disease=disease).disease == disease
    else:
        with pytest.raises(PatientError, match=f"got species '{species}'") as caught:
            Patient(species=species, disease=disease)
        fitting = [n for n, d in DISEASES.items() if species in d.species]
        assert all(n in str(caught.value) for n in fitting)


@pytest.mark.parametrize(
    ("name", "value"),
    [("egfr", 60.0), ("uacr", 30.0), ("hba1c", 6.0), ("duration_years", 2.0), ("sledai", 5.0)],
)
@pytest.mark.parametrize(("species", "disease"), [("rat", "stz"), ("human", "healthy"), ("mouse", "db-db")])
def test_a_covariate_that_places_nothing_is_refused(species, disease, name, value):
    with pytest.raises(PatientError, match="does not place the initial state"):
        Patient(species=species, disease=disease, **{name: value})


def test_sledai_belongs_to_lupus():
    assert Patient(disease="lupus", sledai=8.0).sledai == 8.0
    assert Patient(disease="diabetic").sledai is None
    with pytest.raises(PatientError, match="sledai"):
        Patient(disease="diabetic", sledai=8.0)


@pytest.mark.parametrize("disease", [n for n, d in DISEASES.items() if d.established and n != "healthy"])
def test_a_patient_of_whom_nothing_is_said_is_the_typical_one(disease):
    patient = Patient(disease=disease)
    assert patient.established
    assert None not in (patient.egfr, patient.uacr, patient.hba1c, patient.duration_years)


@pytest.mark.parametrize("species", ["rat", "mouse", "pig"])
def test_an_animal_weighs_what_its_species_does_and_starts_healthy(species):
    disease = next(n for n, d in DISEASES.items() if species in d.species and not d.established)
    animal = Patient(species=species, disease=disease)
    assert animal.weight_kg == next(p.value for p in SPECIES[species].sets if p.name == "body_weight")
    assert not animal.established
    assert animal.egfr is None


@pytest.mark.parametrize("weight", [0.0, -1.0, 500.0, float("nan")])
def test_an_animal_of_impossible_weight_is_refused(weight):
    with pytest.raises(PatientError, match="weight_kg"):
        Patient(species="rat", disease="stz", weight_kg=weight)


def test_onset_is_for_animals_and_not_in_the_future():
    assert Patient(species="rat", disease="stz", onset_days=42.0).onset_days == 42.0
    with pytest.raises(PatientError, match="onset_days must be zero or more"):
        Patient(species="rat", disease="stz", onset_days=-1.0)
    with pytest.raises(PatientError, match="is for animals"):
        Patient(disease="diabetic", onset_days=42.0)


def test_a_changed_copy_is_checked_like_a_new_patient():
    patient = Patient(egfr=60.0)
    assert patient.replace(egfr=50.0).egfr == 50.0
    assert patient.egfr == 60.0
    with pytest.raises(PatientError, match="Did you mean 'egfr'"):
        patient.replace(egf=50.0)
    with pytest.raises(PatientError, match="egfr = 500"):
        patient.replace(egfr=500.0)


def test_drugs_and_random_effects_are_copied_and_not_shared():
    eta = {"eta_potency": 0.5}
    patient = Patient(eta=eta, drugs=["ras"])
    eta["eta_potency"] = 9.0
    assert patient.eta["eta_potency"] == 0.5
    assert patient.drugs == ("ras",)


# --------------------------------------------------------------------------- the vector that the kernels read


def vector(patient: Patient, products=("UC",), theta=None, knock_out=()) -> dict[str, float]:
    model = model_of(max(1, len(products)))
    return dict(
        zip(
            model.parameter_names,
            parameter_vector(model, patient, products, theta or {}, knock_out),
            strict=True,
        )
    )


@given(st.sampled_from(sorted(PRODUCTS)), st.floats(0.1, 5))
def test_a_drawn_value_goes_to_its_own_product_only(product, value):
    name = next(
        (p.name for p in PRODUCTS[product].parameters if p.name == "potency_metabolic"), "potency_metabolic"
    )
    other = "UC" if product != "UC" else "BM"
    plain = vector(Patient(), (other,))[name]
    theta = {f"product.{product}.{name}": value}
    assert vector(Patient(), (product,), theta)[name] == value
    assert vector(Patient(), (other,), theta)[name] == plain


def test_species_and_disease_set_their_own_numbers():
    rat, person = vector(Patient(species="rat", disease="stz")), vector(Patient())
    assert (rat["gfr_healthy"], person["gfr_healthy"]) == (77.0, 115.0)
    assert (rat["translation"], person["translation"]) == (1.0, SPECIES["human"].sets[1].value)
    assert vector(Patient(), theta={"species.human.translation": 0.7})["translation"] == 0.7
    assert (
        vector(Patient(species="rat", disease="stz"), theta={"species.human.translation": 0.7})["translation"]
        == 1.0
    )


def test_the_equation_of_the_patients_sex_is_used():
    assert vector(Patient(sex="female"))["ckdepi_kappa"] == 0.7
    assert vector(Patient(sex="male"))["ckdepi_alpha"] == -0.302


def test_the_spread_of_slopes_grows_with_albuminuria():
    def effect(uacr):
        return vector(Patient(uacr=uacr, eta={"eta_nephron": 1e-4}))["drift_spread"]

    assert effect(850.0) == pytest.approx(1.0)
    assert effect(85.0) == pytest.approx(0.1**0.306)
    assert set(RANDOM_EFFECTS) <= set(vector(Patient()))


def test_a_knocked_out_arm_is_switched_off_and_no_other():
    values = vector(Patient(), knock_out=("metabolic",))
    assert {arm: values[f"switch_{arm}"] for arm in ARMS_OF_ACTION} == {
        arm: float(arm != "metabolic") for arm in ARMS_OF_ACTION
    }


def test_more_products_than_slots_are_refused():
    with pytest.raises(ValueError, match="mixes 1 product"):
        parameter_vector(model_of(1), Patient(), ("UC", "BM"), {})
    with pytest.raises(ValueError, match="Did you mean 'UC'"):
        parameter_vector(model_of(1), Patient(), ("UCC",), {})


def test_every_drug_can_be_a_background():
    assert Patient(drugs=tuple(DRUGS)).drugs == tuple(DRUGS)


def test_insulin_is_refused_for_an_animal_instead_of_being_ignored():
    with pytest.raises(PatientError, match=r"insulin_share = 0\.5 was given for rat.*people only"):
        Patient(species="rat", disease="stz", insulin_share=0.5)
    assert Patient(species="rat", disease="stz").insulin_share == 0.0
