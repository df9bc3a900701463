"""The results page shows what was run, and nothing else."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_pruner_lab.closed_loop.document import main, write_results
from vla_pruner_lab.closed_loop.film_frames import BAR, SIDE, FilmFrame, side_by_side
from vla_pruner_lab.closed_loop.records import PairedComparison, compare
from vla_pruner_lab.closed_loop.run import runs_path


def episode(method: str, keep_ratio: float, seed: int, success: bool, **changes) -> dict:
    values = {
        "policy": "small", "method": method, "keep_ratio": keep_ratio, "variant": "",
        "task": "reach", "seed": seed, "success": success, "actions": 10, "inferences": 2,
        "refused": 0, "latency_ms": 4.25, "flops": 8e9, "kept": 64.0,
        "semantic_action_overlap": 0.5, "action_overlap": None,
        "date": f"2026-01-02T03:04:{seed:02}+00:00",
    }  # fmt: skip
    return {**values, **changes}


@pytest.fixture
def results(tmp_path) -> Path:
    path = tmp_path / "results.jsonl"
    episodes = [episode("full", 1.0, seed, seed < 8) for seed in range(10)]
    episodes += [episode("vla_pruner", 0.25, seed, seed < 6) for seed in range(10)]
    episodes += [episode("fastv", 0.125, seed, seed < 2) for seed in range(5)]
    episodes += [
        episode("vla_pruner", 0.25, 0, True, variant="temporal_window 1"),
        episode("fastv", 0.125, 0, False, task="push"),
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in episodes))
    run = {
        "policy": "small", "trained": False, "training": None, "device": "a machine",
        "versions": {"torch": "1"},
        "command": "python -m somewhere", "date": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    runs_path(path).write_text(json.dumps(run) + "\n")
    return path


def row(text: str, heading: str, first: str) -> list[str]:
    """The cells of one row of the table under a heading."""
    table = text.split(f"### {heading}")[1].split("\n###")[0]
    line = next(part for part in table.splitlines() if part.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_tables_hold_counts_intervals_and_dashes(results, tmp_path):
    write_results([results], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    heading = "Success over all tasks"
    assert row(text, heading, "full") == ["80.0 % [49.0, 94.3] (10)", "–", "–"]
    assert row(text, heading, "vla_pruner") == ["–", "60.0 % [31.3, 83.2] (10)", "–"]
    assert row(text, heading, "fastv") == ["–", "–", "33.3 %\\* [9.7, 70.0] (6)"]
    assert row(text, "Relative to", "vla_pruner")[1] == "75.0 % (10)"
    assert row(text, "Relative to", "fastv")[2] == "40.0 % (5)"
    assert "| sparsevlm |" not in text
    assert "previous step" not in text  # nothing was measured
    assert "Random weights" in text
    assert "python -m somewhere" in text
    assert "2026-01-02T03:04:00" in text


def test_the_page_points_to_where_the_tokens_lay_once_that_was_measured(results, tmp_path):
    docs = tmp_path / "docs"
    write_results([results], docs)
    assert "kept_patches" not in (docs / "results.md").read_text()
    (docs / "kept_patches.md").write_text("measured\n")
    write_results([results], docs)
    assert "[kept_patches.md](kept_patches.md)" in (docs / "results.md").read_text()


def test_the_page_says_who_begins_unpruned(results, tmp_path):
    docs = tmp_path / "docs"
    sentence = "until their history is full: vla_pruner."
    episodes = results.read_text()
    for variant, said in (
        ("", False),
        ("preset paper", True),
        ("preset paper, history_fill semantic", False),
    ):
        results.write_text(episodes.replace('"variant": ""', f'"variant": "{variant}"'))
        write_results([results], docs)
        assert (sentence in (docs / "results.md").read_text()) == said, variant


def test_the_default_is_compared_with_the_presets(results, tmp_path):
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    ours = [line for line in lines if line["method"] == "vla_pruner" and not line["variant"]]
    paper = [{**line, "variant": "preset paper", "success": False} for line in ours]
    results.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *paper]))
    write_results([results], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    part = text.split("default against the presets")[1].split("###")[0]
    assert "| 0.25 | preset paper | 10 | 6 | 0 | **0.031** |" in part
    assert "temporal_window" not in part


def test_goals_are_judged_by_what_both_ran(results, tmp_path):
    write_results([results], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    assert row(text, "VLA-Pruner against the paper", "0.25") == ["98.0 %", "75.0 % (10)", "missed"]
    assert "| 0.125 | 88.9 %" not in text  # ours did not run there


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_paired_comparison_counts_the_decided_starts_alone(outcomes):
    episodes = [
        episode(method, 0.25, seed, pair[place])
        for seed, pair in enumerate(outcomes)
        for place, method in enumerate(("vla_pruner", "fastv"))
    ]
    episodes.append(episode("fastv", 0.25, 99, True))  # a start that ours did not run
    ours, theirs = (
        {**episode(name, 0.25, 0, True), "task": "all"} for name in ("vla_pruner", "fastv")
    )
    found, reverse = compare(episodes, ours, theirs), compare(episodes, theirs, ours)
    assert found.pairs == len(outcomes)
    assert found.won == sum(ours and not theirs for ours, theirs in outcomes)
    assert (found.won, found.lost, found.p_value) == (reverse.lost, reverse.won, reverse.p_value)
    assert 0 < found.p_value <= 1


def test_chance_is_that_of_coin_tosses():
    assert PairedComparison(20, 0, 5).p_value == pytest.approx(2 / 32)
    assert PairedComparison(20, 1, 9).p_value == pytest.approx(2 * 11 / 1024)
    assert PairedComparison(20, 3, 3).p_value == 1.0


def test_each_task_and_each_ablation_has_a_row(results, tmp_path):
    write_results([results], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    assert row(text, "Each task at keep 0.125", "push") == ["0.0 % [0.0, 79.3] (1)"]
    ablations = text.split("### Ablations")[1].split("###")[0]
    assert "| vla_pruner | 0.25 | default | 60.0 %" in ablations
    assert "| vla_pruner | 0.25 | temporal_window 1 | 100.0 %" in ablations


def test_records_have_the_fields_that_are_promised(results, tmp_path):
    write_results([results], tmp_path / "docs")
    records = json.loads((tmp_path / "docs/results.json").read_text())["records"]
    promised = "policy method keep_ratio task episodes success_rate ci_low ci_high latency_ms flops"
    assert all(set(promised.split()) <= record.keys() for record in records)
    assert {record["task"] for record in records} == {"reach", "push", "all"}


def test_the_plot_has_one_curve_a_method(results, tmp_path):
    write_results([results], tmp_path / "docs")
    drawing = ElementTree.parse(tmp_path / "docs/results_small.svg").getroot()
    labels = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert "vla_pruner" in labels
    assert "fastv" in labels
    dots = [element for element in drawing.iter() if element.tag.endswith("circle")]
    assert len(dots) == 4  # each curve: the unpruned policy and one ratio


def test_the_page_says_how_far_training_got(results, tmp_path):
    runs = runs_path(results)
    run = json.loads(runs.read_text())
    run["training"] = {
        "trained": True, "steps": 7, "steps_planned": 90, "frames": 28, "tasks": ["reach"],
        "date": "2026-01-01", "visual_tokens_per_image": 96, "all_visual_tokens_from_step": 6,
        "started_from": {"steps": 5, "visual_tokens_per_picture": 32},
    }  # fmt: skip
    run["trained"] = True
    runs.write_text(json.dumps(run) + "\n")
    write_results([results], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    assert "| training steps | 7 of 90 planned |\n| frames | 28 |\n| tasks | reach |" in text
    assert "| date of training | 2026-01-01 |" in text
    assert "| steps of earlier stages, newest first | 5 |" in text
    assert "it saw 32, then 96 of each image's 256 patches" in text
    assert "Random weights" not in text


def test_the_shorter_film_waits_and_says_that_it_is_done():
    films = [
        [FilmFrame(np.full((8, 8, 3), shade, np.uint8), "tokens", index) for index, shade in film]
        for film in ([(0, 0), (1, 90), (2, 180)], [(0, 0), (1, 250)])
    ]
    images = side_by_side(films, (False, True), "open it")
    assert len(images) == 3
    middles = [np.asarray(p)[BAR + SIDE // 2, [SIDE // 2, -SIDE // 2], 0].tolist() for p in images]
    assert middles == [[0, 0], [90, 250], [180, 250]]
    above = [np.asarray(p)[:BAR, SIDE:] for p in images]  # the second film's caption
    assert not np.array_equal(above[0], above[1])  # "done" appears with its last frame
    assert np.array_equal(above[1], above[2])


def test_nothing_run_is_nothing_shown(tmp_path, capsys):
    assert main([str(tmp_path / "none.jsonl"), "--docs", str(tmp_path / "docs")]) == 2
    assert "no episodes" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_several_files_make_one_page_and_none_may_be_empty_or_repeated(results, tmp_path):
    other = tmp_path / "other.jsonl"
    lines = [episode("full", 1.0, seed, True, policy="large") for seed in range(3)]
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_results([results, other], tmp_path / "docs")
    text = (tmp_path / "docs/results.md").read_text()
    assert text.index("## small") < text.index("## large")
    content = json.loads((tmp_path / "docs/results.json").read_text())
    assert {record["policy"] for record in content["records"]} == {"small", "large"}
    with pytest.raises(ValueError, match=r"other.jsonl repeats episodes of 'large'"):
        write_results([results, other, other], tmp_path / "docs")
    with pytest.raises(ValueError, match=r"none.jsonl holds no episodes"):
        write_results([results, tmp_path / "none.jsonl"], tmp_path / "docs")
