"""The conformance command on the recordings of the official code, whole and spoilt."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from model_helpers import golden, rewrite

from vla_pruner_lab.conformance import cli as conformance
from vla_pruner_lab.conformance.recordings import Comparison


@pytest.mark.parametrize("section", ["openvla", "oft", "selection", "pruner_e2e"])
def test_recordings_are_reproduced(section, tmp_path, capsys):
    (tmp_path / section).symlink_to(golden(section))
    if section == "pruner_e2e":  # it was run on OpenVLA's checkpoint
        (tmp_path / "openvla").mkdir()
        (tmp_path / "openvla" / "checkpoint").symlink_to(golden("openvla") / "checkpoint")
    status = conformance.main([str(tmp_path)])
    table = capsys.readouterr().out
    assert status == 0, table
    assert section in table


def test_a_wrong_recording_is_over(tmp_path, capsys):
    folder = tmp_path / "selection"
    shutil.copytree(golden("selection"), folder)
    path = folder / "selection_cases.npz"
    arrays = dict(np.load(path))
    path.unlink()
    arrays["case03_kept_sorted"][0] += 1
    np.savez(path, **arrays)
    assert conformance.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "OVER" in line] == [
        line for line in lines if "kept tokens" in line
    ]


def test_other_weights_are_over(tmp_path, capsys):
    folder = tmp_path / "openvla"
    shutil.copytree(golden("openvla"), folder, copy_function=shutil.copyfile)
    for path in (folder, folder / "checkpoint"):
        path.chmod(0o755)

    def nudge(tensors):
        tensors["projector.fc3.bias"] += 1e-3

    rewrite(folder / "checkpoint", nudge)
    assert conformance.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines]
    verdicts = {row[1]: row[-1] for row in cells if len(row) == 6}
    assert verdicts["vision features"] == "ok"
    assert verdicts["visual tokens"] == verdicts["first logits"] == "OVER"


def test_nothing_to_compare_is_said(tmp_path, capsys):
    assert conformance.main([str(tmp_path)]) == 2
    assert "holds none of openvla, oft, selection, pruner_e2e" in capsys.readouterr().err
    (tmp_path / "openvla").mkdir()
    assert conformance.main([str(tmp_path)]) == 2
    assert "cannot be compared" in capsys.readouterr().err


def test_an_error_that_is_no_number_or_of_another_shape_is_over():
    comparison = Comparison("section")
    comparison.add("a", [1.0], [1.0], 0.0)
    comparison.add("b", [np.nan], [1.0], 1.0)
    comparison.add("b", [1.0], [1.0], 1.0)
    comparison.add("c", [1.0, 2.0], [1.0], 1.0)
    comparison.add("d", [1.0], [1.5], 0.4)
    comparison.add("d", [1.0], [1.1], 0.4)
    assert [row.passes for row in comparison.rows] == [True, False, False, False]
    assert [row.cases for row in comparison.rows] == [1, 2, 1, 2]
