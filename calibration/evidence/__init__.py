"""The published observations that ship with the package, and the checked way to read them."""

from mscrenal.calibration.evidence.loader import (
    ALLOWED,
    COLUMNS,
    EVIDENCE_FOLDER,
    TABLES,
    EvidenceError,
    EvidenceRow,
    evidence_hash,
    find,
    load,
    read_table,
    study_ids,
)

__all__ = [
    "ALLOWED",
    "COLUMNS",
    "EVIDENCE_FOLDER",
    "TABLES",
    "EvidenceError",
    "EvidenceRow",
    "evidence_hash",
    "find",
    "load",
    "read_table",
    "study_ids",
]
