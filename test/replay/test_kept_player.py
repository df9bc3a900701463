"""The player of kept tokens: what it embeds, and what a browser draws of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from vla_pruner_ros import report
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.replayer import ReplaySetting, Run, Step
from vla_pruner_ros.replay.results.kept_tokens import kept_tokens_player
from vla_pruner_ros.report import KeptFrame, KeptSetting, kept_player

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
GRID = (3, 4)


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 200, np.uint8)


def embedded(html: object) -> dict:
    return json.loads(re.search(r"<script type='application/json'>(.*?)</script>", str(html))[1])


def run(name: str, kept: list[list[int]], series: str = "", total: int = 24) -> Run:
    """One step a list; every list holds what both cameras kept."""
    steps = [
        Step(
            number, 10**9 * number, "open it", "", np.zeros((1, 7)),
            Kept((np.array(one), np.array(one)), GRID), 0.1, (2 * len(one), total),
        )
        for number, one in enumerate(kept)
    ]  # fmt: skip
    return Run(ReplaySetting(name, None, series) if series else ReplaySetting(name, None), steps)


IMAGES = {number: [gray(30, 40), gray(23, 37)] for number in range(3)}


def test_bits_captions_and_boxes_of_all_settings_are_embedded():
    runs = [run("small", [[0, 11], [5]]), run("large", [[0, 1, 2], [3, 4, 5], [6]])]
    content = embedded(kept_tokens_player(runs, IMAGES))
    assert [frame["caption"] for frame in content["frames"]] == [
        f"{second}.00 s · open it" for second in range(3)
    ]
    assert content["frames"][0]["boxes"] == [[0, 40, 30], [40, 37, 23]]
    small, large = content["settings"]
    assert [one and one["caption"] for one in small] == ["4 of 24 tokens", "2 of 24 tokens", None]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(small[0]["bits"][1]), np.uint8))[:12]
    assert np.flatnonzero(bits).tolist() == [0, 11]
    assert large[2]["grids"] == [[3, 4], [3, 4]]


def test_every_setting_may_be_chosen_and_the_smallest_of_each_series_are_shown_first():
    runs = [run(f"{s} {n}", [list(range(n))], s) for s in "abcd" for n in (6, 2)]
    html = str(kept_tokens_player(runs, IMAGES))
    boxes = re.findall(r"<input type='checkbox' value='(\d)'( checked)?>([^<]*)<", html)
    assert [name for _, _, name in boxes] == [one.setting.name for one in runs]
    assert [name for _, checked, name in boxes if checked] == ["a 2", "b 2", "c 2"]
    assert html.count("<figure hidden>") == 5


def test_runs_without_pruning_or_images_have_no_player():
    assert kept_tokens_player([run("full", [list(range(12))])], IMAGES) is None
    assert kept_tokens_player([run("small", [[0]])], {}) is None


def test_numbers_that_differ_are_refused():
    setting = KeptSetting("a", [None], shown=True)
    for frames, captions in (([], []), ([[gray(4, 4)]], []), (2 * [[gray(4, 4)]], ["a", "b"])):
        with pytest.raises(ValueError, match="frames need as many"):
            kept_player(frames, captions, [setting], 0.3)


def test_names_are_escaped():
    frame = KeptFrame("</script>", [np.ones(GRID, bool)])
    html = str(kept_player([[gray(4, 4)]], ["<b>"], [KeptSetting("<i>", [frame], True)], 0.3))
    assert "<i>" not in html
    assert html.count("</script>") == 1


def title(tmp_path: Path, html: Markup, script: str) -> str:
    """Return the title that a script gave the page in a browser, after the first drawing."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the page's behaviour is not tried")
    waiting = (
        "<script>const wait = setInterval(() => {"
        "if (!document.querySelector('.kept-player').dataset.drawn) return;"
        f"clearInterval(wait); {script} }}, 20);</script></body>"
    )
    page = report.page("Player", [report.section("Kept", html)]).replace("</body>", waiting)
    (tmp_path / "page.html").write_text(page, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    return re.search(r"<title>([^<]*)</title>", done.stdout)[1]


def test_a_browser_dims_the_patches_that_python_dims(tmp_path):
    kept = [[0, 5, 6, 11], [1, 2]]
    script = """
      const drawn = [...document.querySelectorAll('canvas')].map((canvas) =>
        [canvas.width, canvas.height,
         [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]
           .filter((value, place) => place % 4 === 0)]);
      document.title = JSON.stringify(drawn);"""
    html = kept_tokens_player([run("small", kept)], IMAGES)
    [[width, height, values]] = json.loads(title(tmp_path, html, script))
    assert (width, height) == (77, 30)
    drawn = np.array(values).reshape(height, width)
    for left, image in ((0, IMAGES[0][0]), (40, IMAGES[0][1])):
        truth = draw_kept(image, kept[0], GRID)[:, :, 0].astype(int)
        ours = drawn[: image.shape[0], left : left + image.shape[1]]
        edge = 2  # JPEG blurs the seam of the two images
        difference = np.abs(ours - truth)[edge:-edge, edge:-edge]
        assert difference.max() < 25, difference.max()  # a pruned patch is darker by 144


def test_one_slider_moves_all_settings_and_boxes_show_them(tmp_path):
    runs = [run(f"{name} run", [list(range(n)), list(range(n + 1))], name)
            for name, n in (("a", 1), ("b", 2), ("c", 3), ("d", 4))]  # fmt: skip
    script = """
      const range = document.querySelector('.kept-player input[type=range]');
      const box = [...document.querySelectorAll('.chosen input')];
      range.value = 1; range.dispatchEvent(new Event('input'));
      box[3].click(); box[0].click();
      const read = () => { document.title = JSON.stringify(
        [...document.querySelectorAll('.kept-player figure')].map((figure) =>
          [figure.hidden, figure.querySelector('.caption').textContent])); };
      setTimeout(read, 500);"""
    html = kept_tokens_player(runs, IMAGES)
    shown = json.loads(title(tmp_path, html, script))
    assert [hidden for hidden, _ in shown] == [True, False, False, False]
    assert [text for hidden, text in shown if not hidden] == [
        f"{2 * n} of 24 tokens" for n in (3, 4, 5)
    ]
