"""Work shared among processes: all results, errors passed on, and no waiting for the dead."""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool

import pytest
from process_pieces import UnpicklableError, die, fail, square

from vla_pruner_lab.common.processes import WorkError, run_in_processes


def test_every_piece_gives_its_result():
    assert sorted(run_in_processes(square, range(4), 2)) == [0, 1, 4, 9]
    assert list(run_in_processes(square, [], 2)) == []


def test_an_error_is_passed_on():
    with pytest.raises(WorkError, match="-1 is negative") as raised:
        list(run_in_processes(square, [-1], 1))
    assert "ValueError" in str(raised.value.__cause__)


def test_a_process_that_dies_is_reported_instead_of_waited_for():
    with pytest.raises(BrokenProcessPool):
        list(run_in_processes(die, [1, 2], 1))


def test_an_error_that_cannot_be_pickled_arrives_as_its_sentence():
    """It was a PicklingError or a broken pool, and the reason was lost."""
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(UnpicklableError(1, "even")))
    with pytest.raises(WorkError, match="1 is not even") as raised:
        list(run_in_processes(fail, [1], 1))
    assert "UnpicklableError" in str(raised.value.__cause__)
