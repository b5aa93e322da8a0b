"""A posterior of a few parameters, made up: what commands say and draw can be tested without a calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from mscrenal.calibration import Posterior, evidence_hash
from mscrenal.model.definition import model_hash

# Name: median and SD of the standardised draws, verdict, studies.
PARAMETERS: dict[str, tuple[float, float, str, tuple[str, ...]]] = {
    "ras_on_leak": (-0.5, 0.4, "identified", ("brenner2001",)),
    "nephron_loss_rate": (0.3, 0.8, "weakly identified", ("jardine2020", "brenner2001")),
    "ec50_effect": (0.1, 1.0, "by the prior alone", ("wang2014",)),
    "species.human.translation": (-0.8, 0.7, "identified", ("packham2016",)),
    "product.UC.secretion": (0.2, 0.9, "weakly identified", ("wang2014",)),
}
HYPER: dict[str, float] = {"between_studies": 0.4, "between_products": 1.0}
# Treated studies: UC and rexlemestrocel-L in people; nobody got BM.
STUDIES = ("packham2016", "wang2014")
DIAGNOSTICS: dict[str, Any] = {
    "draft": False,
    "divergences": 0,
    "rhat_max": 1.004,
    "ess_bulk_min": 812.0,
    "ess_tail_min": 640.0,
    "weight_ess": 950.0,
    "pareto_k": 0.31,
}


def toy_posterior(draws: int = 200, *, draft: bool = False, **provenance: Any) -> Posterior:
    """Two chains of independent normal draws."""
    rng = np.random.default_rng(7)
    dims, n = ("chain", "draw"), len(PARAMETERS)
    centre = np.array([p[0] for p in PARAMETERS.values()])
    spread = np.array([p[1] for p in PARAMETERS.values()])
    z = centre + spread * rng.standard_normal((2, draws, n))
    hyper = np.array(list(HYPER.values())) * np.exp(0.2 * rng.standard_normal((2, draws, len(HYPER))))
    data = xr.Dataset(
        {
            "z": ((*dims, "parameter"), z),
            "hyper": ((*dims, "hyper_name"), hyper),
            "study": ((*dims, "study_name"), rng.standard_normal((2, draws, len(STUDIES)))),
            "level": ((*dims, "level_name"), rng.standard_normal((2, draws, 1))),
            "prediction": ((*dims, "row"), rng.standard_normal((2, draws, 3))),
            "log_likelihood": ((*dims, "row"), -np.abs(rng.standard_normal((2, draws, 3)))),
            "offset": (("row",), np.zeros(3)),
        },
        coords={
            "parameter": list(PARAMETERS),
            "hyper_name": list(HYPER),
            "study_name": list(STUDIES),
            "level_name": ["brenner2001 | uacr | level"],
            "row": ["clinical_msc:2", "clinical_msc:3", "disease_progression:9"],
        },
    )
    diagnostics = {k: None if draft and k != "divergences" else v for k, v in DIAGNOSTICS.items()} | {
        "draft": draft
    }
    told = {
        "version": "0.1.0",
        "model_hash": model_hash(),
        "evidence_hash": evidence_hash(),
        "seed": 1,
        "sampler": "made up",
        "draft": draft,
        "created": "2026-01-01",
        "studies": 3,
        "rows": 3,
        "diagnostics": diagnostics,
        "verdicts": {
            name: {"contraction": 1 - sd, "shift": middle, "verdict": verdict, "sources": list(sources)}
            for name, (middle, sd, verdict, sources) in PARAMETERS.items()
        },
    }
    return Posterior(data, told | provenance)
