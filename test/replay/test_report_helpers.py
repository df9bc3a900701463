"""The report's building blocks: escaping, self-containedness, and what is drawn."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_pruner_ros import report
from vla_pruner_ros.conversions.overlay import PRUNED_BRIGHTNESS, draw_kept, kept_mask, shrink
from vla_pruner_ros.report.axes import decimate, ticks

VOID = {"meta", "img", "input", "br"}


class Balance(HTMLParser):
    """Fail on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):  # <path/> of SVG closes itself
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def full_page() -> str:
    image = np.zeros((8, 8, 3), np.uint8)
    curve = report.Series("full", [0, 1, 2], [1.0, float("nan"), 3.0], points=True)
    return report.page(
        "A & B <script>",
        [
            report.section("One", report.tiles([("a", 1.23456, "m"), ("b", None, "")])),
            report.section("Two", report.figure(report.line_plot_svg([curve], "t", "x"), "c")),
            report.section("Three", report.animation_slider([image, image], ["</script>", "b"])),
            report.section("Four", report.histogram_svg([("full", [1, 2, 2])], "ms")),
        ],
        badge="untrained weights",
    )


def test_page_is_well_formed_and_needs_no_network():
    parser = parse(full_page())
    assert all(address.startswith(("data:", "#")) for address in parser.addresses)
    assert "http" not in full_page()
    assert "untrained weights" in full_page()


def test_text_is_escaped():
    assert "A &amp; B &lt;script&gt;" in full_page()
    assert "<b>" not in report.table(["<b>"], [["<b>"]]) + report.note("<b>") + report.text("<b>")


def test_a_part_that_is_no_markup_is_escaped():
    html = report.page("t", [report.section("s", "<script>alert(1)</script>")])
    assert "&lt;script&gt;alert(1)" in html
    assert "<i>" not in report.figure("<i>", "<i>") + report.columns(["<i>"]) + report.tiles(
        [("<i>", "<i>", "<i>")]
    )


def test_table_aligns_numbers_and_shows_missing_ones():
    html = report.table(["name", "value"], [["x", 0.000123456], ["y", None], ["z", float("nan")]])
    assert "<th scope='col' class='number'>value" in html
    assert "<td class='number'>0.0001235</td>" in html
    assert html.count("<td class='number'>–</td>") == 2


def test_plot_leaves_a_gap_for_nan():
    html = report.line_plot_svg([report.Series("a", range(5), [0, 1, float("nan"), 1, 0])])
    commands = re.search(r"d='([^']*)'", html).group(1)
    assert re.sub(r"[-0-9. ]", "", commands) == "MLML"


def test_plot_without_values_says_so():
    assert "nothing to plot" in report.line_plot_svg([])
    assert "nothing to plot" in report.line_plot_svg([report.Series("a", [0], [float("nan")])])
    assert "nothing to plot" in report.histogram_svg([("a", [])])


def test_plot_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="series 'a' has 2 x values and 1 y values"):
        report.line_plot_svg([report.Series("a", [0, 1], [0])])


def test_constant_values_can_be_drawn():
    parse(report.line_plot_svg([report.Series("a", [3, 3], [0.0, 0.0])]))
    parse(report.histogram_svg([("a", [5.0, 5.0])]))


def test_histogram_gives_every_group_its_own_row():
    """Draw a few settings only: six curves over one another are unreadable."""
    groups = [(f"setting {n}", [n + 1.0, n + 1.0, n + 3.0]) for n in range(6)]
    html = report.histogram_svg([*groups, ("none", [float("nan")])], "ms", bins=8)
    parse(html)
    baselines = re.findall(r"<line class='grid'[^>]*y1='([\d.]+)'", html)
    assert len(set(baselines)) == 6
    rows = re.findall(r"<text class='name'[^>]*>([^<]*)</text><text[^>]*>([^<]*)</text>", html)
    assert rows == [(name, f"median {values[0]:g}") for name, values in groups]
    data = json.loads(re.search(r'data-plot="([^"]*)"', html).group(1).replace("&quot;", '"'))
    assert [sum(one["y"]) for one in data["series"]] == pytest.approx([100.0] * 6, rel=1e-3)


def test_histogram_bars_stay_inside_their_rows_despite_an_outlier():
    html = report.histogram_svg([("a", [*np.linspace(1, 2, 400), 1e6]), ("b", [1.5])])
    bars = re.findall(r"x='([\d.]+)' y='([\d.]+)' width='([\d.]+)' height='([\d.]+)'", html)
    assert len(bars) > 20  # the outlier did not squeeze the rest into one bin
    for left, top, width, height in (map(float, bar) for bar in bars):
        assert left + width <= report.FULL_WIDTH
        assert any(base - 50 <= top and top + height <= base + 0.11 for base in (56, 106))


def test_cross_hair_reads_the_values_that_were_given():
    html = report.line_plot_svg([report.Series("a", [0, 1], [0.25, float("nan")])], "time (s)")
    data = json.loads(re.search(r'data-plot="([^"]*)"', html).group(1).replace("&quot;", '"'))
    assert data["series"] == [{"name": "a", "color": 0, "x": [0.0, 1.0], "y": [0.25, None]}]


def test_slider_embeds_every_frame_and_survives_markup_in_captions():
    frames = [np.full((4, 4, 3), value, np.uint8) for value in (0, 120, 240)]
    html = report.animation_slider(frames, ["</script><b>", "two", "three"])
    content = re.search(r"<script type='application/json'>(.*?)</script>", html, re.S).group(1)
    shown = json.loads(content)
    assert [frame["caption"] for frame in shown] == ["</script><b>", "two", "three"]
    assert len({frame["image"] for frame in shown}) == 3


def test_slider_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="0 frames"):
        report.animation_slider([])
    with pytest.raises(ValueError, match="neither JPEG nor PNG"):
        report.animation_slider([b"GIF89a"])


@given(st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=400), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_thinning_keeps_the_extremes(values, buckets):
    x, y = decimate(np.arange(len(values)), np.array(values), buckets)
    assert len(y) <= max(2 * buckets, len(values) if len(values) <= 2 * buckets else 0)
    assert (min(y), max(y)) == (min(values), max(values))
    assert (np.diff(x) > 0).all()


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e6))
@settings(max_examples=80, deadline=None)
def test_ticks_are_inside_and_few(low, span):
    places = ticks(low, low + span, 5)
    assert 1 <= len(places) <= 7
    assert all(low - span * 1e-6 <= place <= low + span * (1 + 1e-6) for place in places)


def test_write_page_leaves_no_half_file(tmp_path):
    report.write_page(tmp_path / "new" / "report.html", full_page())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]


def test_pruned_patches_are_dimmed_and_kept_ones_untouched():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    drawn = draw_kept(image, [0, 5], (2, 3))
    np.testing.assert_array_equal(drawn[:16, :16], image[:16, :16])
    np.testing.assert_array_equal(drawn[16:, 32:], image[16:, 32:])
    dimmed = image[:16, 16:32].astype(float) * PRUNED_BRIGHTNESS
    assert np.abs(drawn[:16, 16:32] - dimmed).max() <= 2


def test_grid_that_does_not_divide_the_image():
    image = np.full((101, 57, 3), 200, np.uint8)
    assert (draw_kept(image, range(256), (16, 16)) == 200).all()
    assert (draw_kept(image, [], (16, 16)) < 100).all()


@pytest.mark.parametrize(("indices", "grid"), [([4], (2, 2)), ([-1], (2, 2)), ([0], (0, 2))])
def test_indices_outside_the_grid_are_refused(indices, grid):
    with pytest.raises(ValueError, match="grid"):
        kept_mask(indices, grid)


def test_shrink_keeps_the_aspect_and_never_enlarges():
    assert shrink(np.zeros((480, 640, 3), np.uint8), 320).shape == (240, 320, 3)
    assert shrink(np.zeros((48, 64, 3), np.uint8), 320).shape == (48, 64, 3)


def test_one_outlier_does_not_ruin_a_clipped_axis():
    values = [*([10.0] * 99), 5000.0]
    from vla_pruner_ros.report import Series, line_plot_svg

    series = [Series("latency", np.arange(100), values)]
    clipped = str(line_plot_svg(series, "inference", "ms", y_from_zero=True, clip=True))
    full = str(line_plot_svg(series, "inference", "ms", y_from_zero=True))
    assert ">4000<" in full
    assert ">20<" in clipped
    assert ">4000<" not in clipped
    assert "5000" in clipped  # the cross-hair reads it


def test_values_below_noise_are_said_and_not_drawn():
    """Rotations of 5e-9 rad filled a plot, and a table read 6.429e-09 mrad."""
    from vla_pruner_ros.report import Series, line_plot_svg, table

    rounding = [Series("droll", np.arange(9), 5e-9 + 1e-11 * np.arange(9))]
    assert "Always 0, within 1e-06" in str(line_plot_svg(rounding, noise=1e-6))
    assert "<svg" in str(line_plot_svg(rounding))
    moving = [Series("dx", np.arange(9), 0.01 * np.arange(9))]
    assert "<svg" in str(line_plot_svg(moving, noise=1e-6))
    assert ">0</td>" in str(table(["rotation"], [[6.4e-9]]))
