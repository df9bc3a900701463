"""README's image and its Python snippet, compared with what they show and do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla_pruner_lab.closed_loop.episode_animation import RULE, median_start
from vla_pruner_ros.sim.tasks import instruction_for

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
IMAGE = ROOT / "docs" / "reference" / "episode.webp"
FACTS = json.loads(IMAGE.with_suffix(".json").read_text())


def caption() -> str:
    """Return the words below the image."""
    found = re.search(
        r"!\[[^\]]*\]\(docs/reference/episode.webp\)\s+\*(.+?)\*\n\n", README, re.DOTALL
    )
    assert found, "README shows docs/reference/episode.webp with a caption in italics below it"
    return " ".join(found[1].split())


def test_caption_names_task_tokens_actions_and_the_rule():
    """The image showed another task than its caption, and 68 actions where 25 were enough."""
    words = caption()
    assert f'"{FACTS["instruction"].capitalize()}"' in words
    full, pruned = FACTS["sides"]
    assert f"all {full['tokens_kept']} visual tokens ({full['actions']} actions)" in words
    assert f"with {pruned['tokens_kept']} of them ({pruned['actions']} actions)" in words
    assert f"the median one of {len(FACTS['starts'])}" in words
    assert FACTS["preset"] == "default"
    assert "default settings" in words.replace("\n", " ")


def test_the_start_is_the_one_that_the_rule_chooses():
    pruned = [s["actions"][1] if s["success"][1] else 120 for s in FACTS["starts"]]
    assert median_start(pruned) == FACTS["seed"]
    assert FACTS["rule"] == RULE.format(count=len(pruned))
    assert FACTS["instruction"] == instruction_for(FACTS["task"])
    shown = FACTS["starts"][FACTS["seed"]]
    assert shown["actions"] == [side["actions"] for side in FACTS["sides"]]
    assert shown["success"] == [side["success"] for side in FACTS["sides"]]


def test_the_file_is_the_one_that_was_described():
    with Image.open(IMAGE) as image:
        assert image.n_frames == FACTS["frames"]


def test_a_failed_start_counts_as_the_longest():
    assert median_start([25, 120, 24]) == 0
    assert median_start([30, 25, 25]) == 1


@pytest.mark.slow
def test_the_snippet_runs_as_written_and_prunes_at_once(capsys):
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert names["chunk"].actions.shape[1] == 7
    assert np.isfinite(names["chunk"].actions).all()
    assert "64 of 256 visual tokens kept" in printed
