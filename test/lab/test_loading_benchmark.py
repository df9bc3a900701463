"""The loading benchmark measures a real load, and says which part of memory it counts."""

from __future__ import annotations

import pytest

from vla_pruner_lab.microbenchmarks import loading
from vla_pruner_ros.models.untrained import write_untrained_checkpoint


def test_measures_what_a_process_took(tmp_path):
    directory = write_untrained_checkpoint(tmp_path, "smolvla", hidden=64, layers=4, mlp=64)
    load = loading.measure(directory, "smolvla", "float32", cold=True)
    stored = (directory / "model.safetensors").stat().st_size
    assert load.weights == pytest.approx(2 * stored, rel=0.01)
    assert load.peak > load.weights
    assert load.seconds > 0


def test_a_failed_load_says_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"ended with 1: .*config"):
        loading.measure(tmp_path / "nothing", "pi05", "bfloat16", cold=False)


def test_the_page_has_a_row_for_every_load(tmp_path, capsys):
    page = tmp_path / "page.md"
    options = ["--families", "pi05", "--size", "tiny", "--folder", str(tmp_path)]
    assert loading.main([*options, "--markdown", str(page)]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| pi05")]
    assert [row.split("|")[4].strip() for row in rows] == ["cold", "warm"]
