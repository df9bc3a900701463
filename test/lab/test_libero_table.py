"""The table of LIBERO from made-up records of vla-eval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_pruner_lab.serving.libero_table import (
    SUITES,
    Tally,
    main,
    read_run,
    remarks,
    table,
)


def write(folder: Path, suite: str, successes: int, episodes: int, **changes) -> Path:
    """Write one aggregate as vla-eval export does, spread over two tasks."""
    made = [
        {"episode_id": n, "metrics": {"success": n < successes}, "steps": 100}
        for n in range(episodes)
    ]
    half = episodes // 2
    record = {
        "benchmark": f"LIBEROBenchmark_{suite}",
        "mode": "sync",
        "tasks": [{"task": "a", "episodes": made[:half]}, {"task": "b", "episodes": made[half:]}],
        "config": {"params": {"suite": suite}},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}_aggregate.json"
    path.write_text(json.dumps(record))
    return path


def whole(folder: Path, successes: dict[str, int]) -> Path:
    for suite, count in successes.items():
        write(folder, suite, count, 500)
    return folder


FULL = {"libero_spatial": 438, "libero_object": 423, "libero_goal": 393, "libero_10": 261}
"""The paper's unpruned OpenVLA, of 500 episodes: 87.6, 84.6, 78.6, 52.2 %."""
PRUNED = {"libero_spatial": 401, "libero_object": 392, "libero_goal": 345, "libero_10": 214}


def test_the_papers_own_rates_give_the_papers_own_row(tmp_path):
    runs = [
        read_run("full", whole(tmp_path / "full", FULL)),
        read_run("12.5 %", whole(tmp_path / "pruned", PRUNED)),
    ]
    lines = table(runs)
    assert lines[0] == "|  | Spatial | Object | Goal | Long | mean | relative |"
    assert "87.6 (84.4 to 90.2)" in lines[2]
    assert "52.2 (47.8 to 56.5)" in lines[2]
    assert lines[2].endswith("| 75.8 | 100.0 % |")
    assert lines[3].endswith("| 67.6 | 89.2 % |")  # the mean is that of the suites
    assert "2000 episodes, 0 ended by an error" in remarks(runs)[0]


def test_an_interval_holds_the_rate_even_at_the_ends():
    for successes in (0, 1, 25, 50):
        low, high = Tally(successes, 50).interval()
        assert 0.0 <= low <= successes / 50 <= high <= 1.0
        assert high - low > 0.01


def test_an_episode_that_ended_by_an_error_is_a_failure_and_is_told(tmp_path):
    path = write(tmp_path, "libero_object", 10, 10)
    record = json.loads(path.read_text())
    record["tasks"][0]["episodes"][0]["failure_reason"] = "timeout"
    record["partial"] = True
    path.write_text(json.dumps(record))
    run = read_run("x", tmp_path)
    assert run.suites["libero_object"].successes == 9
    printed = "\n".join(remarks([run]))
    assert "1 ended by an error" in printed
    assert f"{path} is not complete" in printed


def test_a_suite_that_was_not_run_leaves_its_cell_and_the_mean_empty(tmp_path):
    write(tmp_path, "libero_goal", 5, 10)
    (row,) = table([read_run("x", tmp_path)])[2:]
    assert row.count("–") == len(SUITES) - 1 + 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "no record"),
        ("{}", "names no suite"),
        ('{"config": {"params": {"suite": "calvin"}}}', "names no suite"),
        ('{"config": {"params": {"suite": "libero_10"}}}', "no record of vla-eval"),
        ('{"config": {"params": {"suite": "libero_10"}}, "tasks": [{"episodes": [1]}]}', "record"),
    ],
)
def test_a_broken_record_is_refused_by_its_name(tmp_path, capsys, text, reason):
    (tmp_path / "x_aggregate.json").write_text(text)
    assert main([f"x={tmp_path}"]) == 2
    printed = capsys.readouterr().err
    assert reason in printed
    assert "x_aggregate.json" in printed


def test_a_folder_without_records_is_refused(tmp_path, capsys):
    assert main([f"x={tmp_path}"]) == 2
    assert "vla-eval export" in capsys.readouterr().err


def test_the_program_prints_table_and_remarks(tmp_path, capsys):
    whole(tmp_path, FULL)
    assert main([f"full={tmp_path}"]) == 0
    assert "| full | 87.6" in capsys.readouterr().out
