"""The selection benchmark runs, and reports every stage at every size."""

from __future__ import annotations

import json

import pytest
import torch

from vla_pruner_lab.microbenchmarks import selection as selection_benchmark


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_reports_every_stage_at_every_size(tmp_path, capsys):
    page, data = tmp_path / "new" / "page.md", tmp_path / "data.json"
    options = ["--device", "cpu", "--dim", "16", "--repeats", "10", "--threads", "1"]
    selection_benchmark.main([*options, "--markdown", str(page), "--json", str(data)])
    timings = json.loads(data.read_text())["timings"]
    cells = {(t["tokens"], t["keep"], t["stage"]) for t in timings}
    assert cells == {
        (*s, stage) for s in selection_benchmark.SIZES for stage in selection_benchmark.STAGES
    }
    assert all(t["median_ms"] >= t["fastest_ms"] > 0 for t in timings)
    assert page.read_text().strip() in capsys.readouterr().out
    assert "M 256 to 512, k 64 to 64" in page.read_text()


def test_refuses_a_device_that_is_not_there(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit):
        selection_benchmark.main(["--device", "cuda"])
    assert "torch finds no CUDA device" in capsys.readouterr().err
