"""What was computed is on disk before it is used, and comes back to the last bit, or not at all."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mscrenal.calibration.journal import Journal, JournalError

MARK = "model 1, evidence 2, seed 3"
SIZE = 3
RECORD = 4 + 8 * (2 * SIZE + 1)
POINTS = [np.array([0.1, -0.2, 0.3]), np.array([1e-300, np.pi, -7.0]), np.array([0.0, 2.0, 0.1 + 0.2])]


def density(point: np.ndarray) -> tuple[float, np.ndarray]:
    return -0.5 * float(point @ point), -point


def never(point: np.ndarray) -> tuple[float, np.ndarray]:
    raise AssertionError(f"{point} was computed again")


def asked(journal, point, compute):
    """Value and gradient, computed only if they are not known."""
    if point not in journal:
        value, slope = compute(point)
        journal.add(point, np.array([value, *slope]))
    found = journal[point]
    return found[0], found[1:]


@pytest.fixture
def path(tmp_path) -> Path:
    """A journal of three evaluations."""
    with Journal(tmp_path / "chain.journal", MARK, SIZE, SIZE + 1) as journal:
        for point in POINTS:
            asked(journal, point, density)
    return tmp_path / "chain.journal"


def test_a_known_point_is_given_back_without_computing_it_in_this_run_and_in_the_next(path):
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        assert journal.found == len(journal) == 3
        for point in POINTS:
            value, slope = asked(journal, point, never)
            assert value == density(point)[0]
            np.testing.assert_array_equal(slope, -point)
        new = POINTS[0] + 1
        asked(journal, new, density)
        asked(journal, new, never)
        assert (journal.found, len(journal)) == (3, 4)


def test_what_was_computed_is_on_disk_at_once(tmp_path):
    """A kill gives no chance to close a file: another process ends without it."""
    code = (
        "import os, sys, numpy as np\n"
        "from mscrenal.calibration.journal import Journal\n"
        "journal = Journal(sys.argv[1], 'mark', 2, 2 + 1)\n"
        "journal.add(np.array([1.0, 2.0]), np.array([3.0, 4.0, 8.0]))\n"
        "os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "killed")], check=False)
    assert done.returncode == 9
    with Journal(tmp_path / "killed", "mark", 2, 2 + 1) as journal:
        value, slope = asked(journal, np.array([1.0, 2.0]), never)
    assert value == 3.0
    assert slope.tolist() == [4.0, 8.0]


@pytest.mark.parametrize("lost", [1, 8, RECORD - 1])
def test_a_record_that_a_kill_cut_short_is_dropped_and_the_rest_is_kept(path, lost):
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        assert journal.found == 2
        for point in POINTS[:2]:
            asked(journal, point, never)
        asked(journal, POINTS[2], density)
    assert path.read_bytes() == whole  # as if nothing had happened


@pytest.mark.parametrize("record", [1, 2, 3])
@pytest.mark.parametrize("place", [0, 3, 4, 30, RECORD - 1])
def test_a_flipped_byte_is_detected_and_its_record_named(path, record, place):
    content = bytearray(path.read_bytes())
    content[len(content) - (4 - record) * RECORD + place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(JournalError) as error:
        Journal(path, MARK, SIZE, SIZE + 1)
    message = str(error.value)
    assert f"record {record} of 3 does not match its checksum" in message
    assert str(path) in message
    assert "Delete the file" in message
    assert path.read_bytes() == bytes(content)  # nothing was thrown away


@pytest.mark.parametrize(
    ("mark", "size"),
    [("model 1, evidence 2, seed 4", SIZE), (MARK[:-1], SIZE), (MARK + "3", SIZE), (MARK, SIZE + 1)],
)
def test_a_journal_of_another_calibration_is_refused_and_left_alone(path, mark, size):
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"belongs to another calibration.*Resume with the settings"):
        Journal(path, mark, size, size + 1)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"time,value\n0,1\n", b"\0" * 100, b"mscrenal journal 2\n", b"m"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"mine\.csv is no journal of a calibration. Give another folder"):
        Journal(path, MARK, SIZE, SIZE + 1)
    assert path.read_bytes() == content


def test_a_journal_that_was_killed_before_its_first_record_begins_again(tmp_path):
    path = tmp_path / "chain.journal"
    path.touch()
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        assert journal.found == 0
        asked(journal, POINTS[0], density)
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        assert journal.found == 1


def test_a_point_that_could_not_be_computed_is_not_written(path):
    before = path.read_bytes()
    with Journal(path, MARK, SIZE, SIZE + 1) as journal, pytest.raises(ZeroDivisionError):
        asked(journal, np.ones(SIZE), lambda _: (1 / 0, np.zeros(SIZE)))
    assert path.read_bytes() == before


def test_a_density_that_is_no_number_comes_back_as_none(tmp_path):
    path = tmp_path / "chain.journal"
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        asked(journal, POINTS[0], lambda _: (float("nan"), np.zeros(SIZE)))
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        value, slope = asked(journal, POINTS[0], never)
    assert np.isnan(value)
    assert slope.tolist() == [0.0] * SIZE


def test_what_a_reader_does_to_a_gradient_does_not_reach_the_journal(path):
    with Journal(path, MARK, SIZE, SIZE + 1) as journal:
        for point in (POINTS[0], POINTS[0] + 1):
            _, slope = asked(journal, point, density)
            slope[:] = 99.0
            np.testing.assert_array_equal(asked(journal, point, never)[1], -point)


numbers = st.floats(allow_nan=False, width=64)


@given(
    rows=st.lists(
        st.tuples(arrays(float, 2, elements=numbers), numbers, arrays(float, 2, elements=numbers)),
        unique_by=lambda row: row[0].tobytes(),
        max_size=12,
    ),
    cut=st.integers(0, 200),
)
def test_whatever_was_written_before_a_kill_is_read_to_the_last_bit(rows, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.journal"
        with Journal(path, "mark", 2, 2 + 1) as journal:
            for point, value, slope in rows:
                asked(journal, point, lambda _, value=value, slope=slope: (value, slope))
        length = 4 + 8 * 5
        kept = max(0, len(rows) - -(-cut // length))  # cut into the last records, never into the header
        path.write_bytes(path.read_bytes()[: path.stat().st_size - min(cut, len(rows) * length)])
        with Journal(path, "mark", 2, 2 + 1) as journal:
            assert journal.found == kept
            for point, value, slope in rows[:kept]:
                found, back = asked(journal, point, never)
                assert struct.pack("<d", found) == struct.pack("<d", value)
                assert back.tobytes() == slope.tobytes()
