"""The interactive results page: what it embeds, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from scipy.stats import binomtest

from vla_pruner_lab.closed_loop.document import UNPRUNED, write_results
from vla_pruner_lab.closed_loop.records import aggregate, compare
from vla_pruner_lab.closed_loop.run import runs_path
from vla_pruner_lab.closed_loop.web import page_content

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "reference" / "results.json"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def episode(method: str, ratio: float, seed: int, success: bool, **changes) -> dict:
    values = {
        "policy": "small", "method": method, "keep_ratio": ratio, "variant": "", "task": "reach",
        "seed": seed, "success": success, "actions": 10, "inferences": 2, "refused": 0,
        "latency_ms": 4.25, "flops": 8e9, "kept": 64.0, "kept_by_camera": [40.0, 24.0],
        "semantic_action_overlap": None, "action_overlap": None,
        "date": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    return {**values, **changes}


def episodes() -> list[dict]:
    found = [episode("full", 1.0, seed, seed < 8) for seed in range(10)]
    found += [episode("vla_pruner", 0.25, seed, seed in (1, 2, 9)) for seed in range(10)]
    found += [episode("fastv", 0.25, seed, seed < 2) for seed in range(5)]
    found += [episode("vla_pruner", 0.25, 3, True, variant="temporal_window 1")]
    found += [episode("full", 1.0, seed, True, task="push") for seed in range(3)]
    return [*found, episode("vla_pruner", 0.25, 1, False, task="push")]


def content(docs: Path) -> dict:
    own = episodes()
    runs = [{"policy": "small", "trained": True}]
    return page_content(docs, aggregate(own), runs, own, {"small": ""}, UNPRUNED)


def find(page: dict, method: str, variant: str = "") -> dict:
    [one] = [e for e in page["experiments"] if (e["method"], e["variant"]) == (method, variant)]
    return one


def test_outcomes_are_in_the_order_of_the_starts(tmp_path):
    page = content(tmp_path)
    assert find(page, "full")["outcomes"] == {"reach": "1111111100", "push": "111"}
    assert find(page, "vla_pruner")["outcomes"] == {"reach": "0110000001", "push": "-0-"}
    assert find(page, "fastv")["outcomes"] == {"reach": "11000-----"}
    assert find(page, "vla_pruner", "temporal_window 1")["outcomes"] == {"reach": "---1------"}


def test_records_carry_rates_intervals_and_tokens_of_each_camera(tmp_path):
    page = content(tmp_path)
    record = find(page, "full")["records"]["all"]
    assert (record["rate"], record["episodes"], record["balanced"]) == (0.8462, 13, False)
    assert record["low"] < record["rate"] < record["high"]
    assert record["kept_by_camera"] == [40.0, 24.0]


def test_films_and_sheets_of_the_folder_are_embedded(tmp_path):
    film = {
        "schema": "vla_pruner_lab.episode_animation/1", "checkpoint": "small", "task": "reach",
        "instruction": "reach it", "rule": "the only start", "date": "2026-01-02",
        "sides": [
            {"tokens_kept": 9, "tokens_total": 9, "actions": 3, "success": True},
            {"tokens_kept": 2, "tokens_total": 9, "actions": 8, "success": False},
        ],
    }  # fmt: skip
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "reach.json").write_text(json.dumps(film))
    (tmp_path / "films" / "push.json").write_text(json.dumps(film))  # its film is missing
    (tmp_path / "films" / "reach.webp").write_bytes(b"film")
    (tmp_path / "kept_patches_small.webp").write_bytes(b"sheet")
    (tmp_path / "other.json").write_text("{}")
    shown, sheet = content(tmp_path)["films"]
    assert (shown["task"], sheet["task"]) == ("reach", "")
    assert "2 of 9 visual tokens (8 actions, failed)" in shown["caption"]
    assert shown["image"] == "data:image/webp;base64,ZmlsbQ=="


def written(folder: Path) -> Path:
    own = folder / "results.jsonl"
    own.write_text("".join(json.dumps(line) + "\n" for line in episodes()))
    run = {
        "policy": "small", "trained": True, "training": None, "device": "a </script> machine",
        "versions": {"torch": "1"}, "command": "python -m it", "date": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    runs_path(own).write_text(json.dumps(run) + "\n")
    write_results([own], folder)
    return folder / "results_explorer.html"


def test_the_page_needs_no_network_and_escapes_text(tmp_path):
    html = written(tmp_path).read_text("utf-8")
    assert not re.search(r"(?:src|href)=.https?:|@import|url\(http|fetch\(", html)
    assert "a &lt;/script&gt; machine" in html
    assert '"schema": "vla_pruner_lab.results_page/1"' in html


def shown(page: Path, profile: Path, state: str, script: str = "") -> str:
    """Return the page as a browser leaves it."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the page's behaviour is not tried")
    tried = page.with_name("tried.html")
    tried.write_text(
        page.read_text("utf-8").replace("</body>", f"<script>{script}</script></body>")
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += [f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, f"{tried.as_uri()}#{state}"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    return done.stdout


def rows(html: str, table: str) -> list[list[str]]:
    body = html.split(f'id="{table}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    cell = re.compile(r"<td[^>]*>(.*?)</td>")
    return [
        [re.sub(r"<[^>]*>", "", found) for found in cell.findall(row)]
        for row in body.split("</tr>")[:-1]
    ]


def test_a_browser_shows_equal_comparisons_to_the_tables(tmp_path):
    html = shown(written(tmp_path), tmp_path / "profile", "policy=small&task=all&ratio=0.25")
    own = {row[0]: row for row in rows(html, "methods")}
    assert own.keys() == {"full", "vla_pruner", "vla_prunertemporal_window 1", "fastv"}
    records = {(r["method"], r["variant"]): r for r in aggregate(episodes()) if r["task"] == "all"}
    full = records["full", ""]
    for method, variant in (("vla_pruner", ""), ("fastv", "")):
        found = compare(episodes(), records[method, variant], full)
        p_value = binomtest(found.won, found.won + found.lost).pvalue
        assert own[method][5:8] == [str(found.won), str(found.lost), f"{p_value:.3f}"], method
    assert own["full"][5:8] == ["–", "–", "–"]
    assert own["vla_pruner"][2] == "27.3*"
    assert own["vla_pruner"][8:10] == ["64", "40 + 24"]
    by_task = {row[0]: row[1:] for row in rows(html, "tasks")}
    assert by_task == {
        "push": ["", "0.0", "1", "100.0", "0", "1"],
        "reach": ["", "30.0", "10", "80.0", "1", "6"],
    }
    assert "<svg" in html.split('id="chart"')[1].split("</figure>")[0]


def test_task_and_method_are_chosen_in_a_browser(tmp_path):
    choose = """
      form.task.value = 'push'; form.dispatchEvent(new Event('change', { bubbles: true }));
      form.task.value = 'reach'; form.task.dispatchEvent(new Event('change', { bubbles: true }));
      [...document.querySelectorAll('#methods tbody tr')].find(
        (row) => row.cells[0].textContent === 'fastv').click();"""
    html = shown(written(tmp_path), tmp_path / "profile", "policy=small&task=push", choose)
    assert "fastv, task by task" in html
    assert [row[0] for row in rows(html, "tasks")] == ["reach"]
    assert {row[0] for row in rows(html, "methods")} == {
        "full", "vla_pruner", "vla_prunertemporal_window 1", "fastv",
    }  # fmt: skip


def test_the_sign_test_of_the_page_is_that_of_scipy(tmp_path):
    pairs = [(0, 0), (0, 1), (3, 3), (1, 17), (24, 1), (300, 280), (0, 1200)]
    calls = ",".join(f"signTest({won},{lost})" for won, lost in pairs)
    script = f"document.title = JSON.stringify([{calls}]);"
    html = shown(written(tmp_path), tmp_path / "profile", "", script)
    found = json.loads(re.search(r"<title>([^<]*)</title>", html)[1])
    for (won, lost), value in zip(pairs, found, strict=True):
        truth = binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert value == pytest.approx(truth, rel=1e-9, abs=1e-300), (won, lost)


def test_the_committed_page_is_made_from_the_committed_results():
    html = (DOCS / "reference" / "results_explorer.html").read_text("utf-8")
    embedded = json.loads(html.split("id='results'>")[1].split("</script>")[0])
    records = json.loads(RESULTS.read_text("utf-8"))["records"]
    experiments = {
        (e["policy"], e["method"], e["keep_ratio"], task): e["records"][task]
        for e in embedded["experiments"]
        for task in e["records"]
        if e["unpruned"]
    }
    unpruned = [r for r in records if r["method"] in UNPRUNED]
    assert len(unpruned) > 20
    for record in unpruned:
        key = tuple(record[name] for name in ("policy", "method", "keep_ratio", "task"))
        assert experiments[key]["episodes"] == record["episodes"], key
        assert experiments[key]["rate"] == pytest.approx(record["success_rate"], abs=1e-4), key
    assert len(records) == sum(len(e["records"]) for e in embedded["experiments"])
