"""The documented form of the result files, compared with what is written."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from replay_helpers import recorded

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "result_files.md").read_text()


def documented(title: str) -> str:
    return PAGE.partition(f"## vla_pruner_replay: {title}")[2].partition("\n## ")[0]


def test_summary_has_schema_run_and_only_documented_fields(tmp_path, run):
    recorded(tmp_path)
    _, _, summary = run("--keep-ratio", "0.5", "--no-report")
    assert summary["schema"] == "vla_pruner_ros.replay/1"
    assert f"`{summary['schema']}`" in PAGE
    assert set(summary["run"]) == {"date", "command", "machine", "load average", "versions"}
    assert summary["run"]["command"].startswith("vla_pruner_replay")
    words = set(re.findall(r"`([a-z_ ]+)", documented("summary.json")))
    assert set(summary) - {"schema"} <= words, set(summary) - words
    assert set(summary["run"]) <= words
    assert set(summary["source"]) <= words | {"action_names"}, set(summary["source"]) - words


def test_every_column_is_documented(tmp_path, run):
    recorded(tmp_path)
    run("--keep-ratio", "0.5", "--no-report")
    with (tmp_path / "out" / "inferences.csv").open() as file:
        columns = next(csv.reader(file))
    words = set(re.findall(r"`([a-z_]+)`", documented("inferences.csv")))
    plain = [c for c in columns if not re.match(r"(error|first)_", c)]
    assert len(plain) > 15
    assert set(plain) <= words, set(plain) - words


def test_the_report_names_command_versions_machine_and_load(tmp_path, run):
    recorded(tmp_path)
    _, printed, _ = run("--keep-ratio", "0.5")
    report = (tmp_path / "out" / "report.html").read_text()
    for word in ("This run", "vla_pruner_replay", "torch", "load average", "cores"):
        assert word in report
    assert printed.out.strip().splitlines()[-1] == f"Results: {tmp_path / 'out' / 'report.html'}"
