"""Charts of the documents: what is drawn, what is left out, and how it looks on a dark page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from vla_pruner_lab.common.charts import Axis, Curve, Panel, Range, chart_svg, ranges_svg
from vla_pruner_lab.latency import cli, predictions
from vla_pruner_lab.latency.report import read_json, speed_chart
from vla_pruner_lab.reliability.process.page import charts, page

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "docs" / "reference" / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


def parts(svg: str, tag: str, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [one for one in root.iter(SVG + tag) if kind in one.get("class", "").split()]


def plot(*curves: Curve, y: Axis | None = None, lines=()) -> str:
    return chart_svg([Panel("", curves, Axis("x"), y or Axis("y"), lines)])


def test_dark_pages_have_lighter_colours_of_their_own():
    svg = plot(Curve("one", [0, 1], [1, 2], "#1f6feb"), Curve("two", [0, 1], [2, 1], "#1c1f23"))
    light, dark = svg.split("@media(prefers-color-scheme:dark)")
    assert ".chart .ground,.chart .hollow{fill:#ffffff}" in light
    assert ".chart .ground,.chart .hollow{fill:#181c20}" in dark
    for colour in ("1f6feb", "1c1f23"):
        [lighter] = re.findall(rf"path\.c{colour},[^{{]*{{stroke:#(\w+)}}", dark)
        before = [int(colour[place : place + 2], 16) for place in (0, 2, 4)]
        after = [int(lighter[place : place + 2], 16) for place in (0, 2, 4)]
        assert sum(after) > sum(before) + 90, colour
        assert max(after) > 200, colour


def test_a_point_within_the_noise_is_hollow():
    svg = plot(Curve("one", [0, 1, 2], [1, 2, 3], noise=[True, False, False]))
    assert len(parts(svg, "circle", "hollow")) == 1
    assert len(parts(svg, "circle", "dot")) == 2


def test_a_curve_ends_where_it_leaves_the_panel():
    svg = plot(Curve("one", [0, 1, 2], [1, 2, 50]), y=Axis("y", (0.0, 3.0)))
    assert len(parts(svg, "circle", "dot")) == 2
    assert all(float(one.get("cy")) > 0 for one in parts(svg, "circle", "dot"))


def test_only_several_curves_need_a_key():
    one = Curve("one", [0, 1], [1, 2])
    assert ">one<" not in plot(one)
    assert ">two<" in plot(one, Curve("two", [0, 1], [2, 1]))


def test_text_is_escaped():
    title = "<script> & co"
    svg = chart_svg([Panel(title, [Curve("a", [0, 1], [0, 1])], Axis("<x>"), Axis("&"))])
    texts = {one.text for one in ElementTree.fromstring(svg).iter(SVG + "text")}
    assert {title, "<x>", "&"} <= texts


def test_ranges_up_to_the_floor_are_hollow_at_the_left_end():
    svg = ranges_svg([Range("a", 0.0, 0.005, 0.2), Range("b", 0.0, 0.0, 0.004)], "s", 0.01)
    hollow = parts(svg, "circle", "hollow")
    assert len(hollow) == 3
    assert len({one.get("cx") for one in hollow}) == 1
    assert len(parts(svg, "circle", "dot")) == 1
    assert "≤ 0.01 s" in svg


@pytest.mark.parametrize("name", ["latency_cpu", "latency_cpu_flow"])
def test_the_speed_charts_are_those_of_the_recorded_benchmarks(name):
    records = read_json(BENCHMARKS / f"{name}.json")[2]
    assert (BENCHMARKS / f"{name}.svg").read_text("utf-8") == speed_chart(records)
    assert f"]({name}.svg)" in (BENCHMARKS / f"{name}.md").read_text("utf-8")


def test_a_gain_within_the_spread_of_unpruned_steps_is_hollow():
    records = read_json(BENCHMARKS / "latency_cpu_flow.json")[2]
    own = [r for r in records if r.family == "smolvla"]
    full = next(r for r in own if r.method == "full")
    spread = full.p95_ms / full.median_ms
    assert all(r.speedup_vs_full < spread for r in own)
    assert len(parts(speed_chart(own), "circle", "hollow")) == len(own)


def test_an_earlier_benchmark_is_drawn_without_running_again(tmp_path, capsys):
    out, earlier = tmp_path / "page.md", BENCHMARKS / "latency_cpu.json"
    chart = tmp_path / "speed.svg"
    command = ["--report", str(earlier), "--markdown", str(out), "--chart", str(chart)]
    assert cli.main(command) == 0
    assert "](speed.svg)" in out.read_text("utf-8")
    assert chart.read_text("utf-8") == (BENCHMARKS / "latency_cpu.svg").read_text("utf-8")
    with pytest.raises(SystemExit):
        cli.main(["--report", str(earlier), "--json", str(tmp_path / "x.json")])
    assert "give one of them" in capsys.readouterr().err


def test_the_predictions_page_shows_a_panel_for_each_device():
    text = (BENCHMARKS / "predictions.md").read_text("utf-8")
    names = re.search(r"--predict ([\w ]+) --markdown", text)[1].split()
    svg = (BENCHMARKS / "predictions.svg").read_text("utf-8")
    assert svg == predictions.latency_chart(names)
    shown = [one.text for one in parts(svg, "text", "name")]
    assert shown == [predictions.HARDWARE[name].label for name in names]
    assert "](predictions.svg)" in text


def test_a_family_that_does_not_fit_is_not_drawn():
    [curves] = [predictions._latency_curves({"a": [], "b": [0.1] * len(predictions.RATIOS)})]
    assert len(curves[0].x) == 0
    assert len(curves[1].x) == len(predictions.RATIOS)


def test_the_soak_page_shows_stops_and_memory():
    report = {
        "command": "x", "wall_minutes": 1.0, "date": "2026-01-02", "load": [1, 1, 1],
        "violations": ["one"], "remarks": ["why"], "injected": {"reset": 3, "forged names": 1},
        "latencies": {"reset": [0.001, 0.2, 0.4]},
        "memory_mib": [(0.0, 500, 7), (60.0, 510, 7), (70.0, 90, 8)],
    }  # fmt: skip
    drawn, text = charts(report), page(report)
    for name, svg in drawn.items():
        assert f"]({name})" in text
        ElementTree.fromstring(svg)
    assert "0.40 s" in drawn["process_soak_stops.svg"]
    [line] = parts(drawn["process_soak_memory.svg"], "path", "c1f6feb")
    assert line.get("d").count("L") == 1  # the longest life of the process alone
    assert "1, and remarks on them." in text


def test_the_documents_name_only_charts_that_exist():
    for path in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"\]\(([\w/.]+\.svg)\)", path.read_text("utf-8")):
            root = ElementTree.parse(path.parent / name).getroot()
            assert "prefers-color-scheme:dark" in ElementTree.tostring(root, "unicode"), name


def test_the_recorded_json_is_valid():
    for path in BENCHMARKS.glob("*.json"):
        assert json.loads(path.read_text("utf-8"))["records"], path.name
