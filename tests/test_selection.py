"""Which parameters are sampled, and that no row counts in the likelihood and once more behind a prior."""

from __future__ import annotations

import pandas as pd
import pytest

from mscrenal.calibration.calibrate import fitted_studies
from mscrenal.calibration.observations import observe
from mscrenal.calibration.selection import ALWAYS, CONTRACTION, screen, select
from mscrenal.model import model, sampled_parameters
from mscrenal.model.declare import Fitted


@pytest.fixture(scope="module")
def screening():
    studies = fitted_studies()
    data = tuple(observe(studies.values()))
    return screen(data, {d.study: studies[d.study] for d in data}).set_index("parameter")


def test_what_no_row_narrows_keeps_its_prior_unless_the_question_is_about_it():
    table = pd.DataFrame(
        {
            "parameter": ["slit_turnover", "deposit_half", *ALWAYS],
            "contraction": [CONTRACTION * 1.01, CONTRACTION * 0.99, *(0.0 for _ in ALWAYS)],
        }
    )
    assert set(select(table)) == {"slit_turnover", *ALWAYS}


def test_every_uncertain_number_is_screened_and_rows_only_narrow(screening):
    assert sorted(screening.index) == sorted(sampled_parameters())
    assert screening["contraction"].between(-1e-9, 1).all()


def test_a_prior_that_was_centred_on_rows_of_the_likelihood_leaves_them_the_say(screening):
    """Fitted to nothing but these rows, and sampled: then its SD is about three times what they alone would leave.

    `influence` is the prior SD over the SD that the rows alone would leave. A ratio of 3 inflates the
    precision by a ninth; a prior as narrow as the rows themselves (1) would count them twice.
    """
    likelihood = set(fitted_studies())
    ratio = {
        name: screening.loc[name, "influence"]
        for name, p in model().parameters.items()
        if isinstance(p.source, Fitted) and set(p.source.to) <= likelihood
        if name in screening.index and screening.loc[name, "contraction"] >= CONTRACTION
    }
    assert {"sglt2i_on_leak", "finerenone_on_slit_synthesis", "ras_on_leak"} <= set(ratio)
    assert min(ratio.values()) > 2.8, ratio
