"""Places of kept tokens: the simulator's segmentation, the arithmetic, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "vla_pruner_ros.sim.backend",
    reason="the simulator needs mujoco, metaworld and libosmesa6",
    exc_type=ImportError,
)

from PIL import Image

from vla_pruner_lab.closed_loop import kept_patches, patch_measures
from vla_pruner_lab.closed_loop.records import read_episodes
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.sim.robot import PARTS, SimulatedRobot

SHAPE = {"hidden": 32, "layers": 4, "mlp": 64, "vision_width": 32}
HAND, OBJECT = PARTS.index("hand"), PARTS.index("object")
ROBOT = (HAND, PARTS.index("arm"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    return write_untrained_checkpoint(folder, "openvla", **SHAPE)


@pytest.fixture(scope="module")
def robot():
    return SimulatedRobot("drawer-close", seed=0)


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def test_parts_are_where_the_image_shows_them(robot):
    robot.reset(0)
    image, parts = robot.render("scene").astype(int), robot.parts("scene")
    assert set(np.unique(parts)) == set(range(len(PARTS)))
    red, green, blue = image[parts == OBJECT].mean(axis=0)
    assert green > 1.2 * max(red, blue), "the drawer is green"
    cyan = (image[..., 2] > 150) & (image[..., 0] < 60)
    assert (parts[cyan] == HAND).mean() > 0.8, "one finger is cyan"


def test_hand_moves_in_the_segmentation_and_the_drawer_does_not(robot):
    robot.reset(0)
    before = robot.parts("scene")
    for _ in range(4):
        robot.step(np.array([0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 1.0]))
    after = robot.parts("scene")
    rows_up = centre(before == HAND)[0] - centre(after == HAND)[0]
    assert rows_up > 10
    changed = (before == OBJECT) != (after == OBJECT)
    robot_was_there = np.isin(before, ROBOT) | np.isin(after, ROBOT)
    assert robot_was_there[changed].mean() > 0.9


def test_segmentation_leaves_the_images_as_they_were(robot):
    before = robot.render("scene")
    robot.parts("scene")
    np.testing.assert_array_equal(robot.render("scene"), before)


def test_patches_lie_where_the_pixels_do(checkpoint):
    policy = load_policy(checkpoint)
    mask = np.zeros((224, 224), bool)
    mask[14:28, 28:42] = True  # patch of row 1, column 2
    covered = patch_measures._patches_covered(policy, mask)
    assert np.flatnonzero(covered).tolist() == [16 + 2]


def test_shares_by_hand():
    parts = np.zeros((1, len(PARTS), 8), bool)
    parts[0, HAND, :2] = True
    parts[0, 0, 2:] = True
    kept = np.array([[1, 0, 1, 1, 1, 0, 0, 0]], bool)
    unpruned = np.array([[[0.03, 0.0, 0.0]]])
    moves = np.array([[[0.03, 0.006, 0.0]]])
    places = patch_measures.measure(kept, parts, moves, unpruned)
    assert places.kept == 4
    assert places.found == {"background": 0.5, "arm": None, "hand": 0.5, "object": None}
    assert places.share == {"background": 0.75, "arm": 0.0, "hand": 0.25, "object": 0.0}
    assert places.action_change == pytest.approx(0.2)


def test_command_measures_resumes_and_writes_the_page(checkpoint, tmp_path):
    out, page = tmp_path / "places.jsonl", tmp_path / "docs"
    command = ["--checkpoint", str(checkpoint), "--tasks", "drawer-close", "--episodes", "1"]
    command += ["--max-actions", "6", "--out", str(out), "--sheet-tasks", "drawer-close"]
    command += ["--methods", "vla_pruner", "random", "--page", str(page), "--overwrite"]
    assert kept_patches.main([*command, "--keep-ratios", "0.25"]) == 0
    first = out.read_text()
    assert kept_patches.main([*command, "--keep-ratios", "0.25", "1.0"]) == 0
    assert out.read_text().startswith(first), "measured once only"
    pruned, blind, full = read_episodes(out)
    assert (pruned["method"], blind["method"], full["method"]) == ("vla_pruner", "random", "full")
    assert pruned["kept"] == 64
    assert (full["kept"], full["action_change"]) == (256, 0)
    assert set(full["found"].values()) == {1.0}
    text = (page / "kept_patches.md").read_text()
    assert "### Keep 0.25" in text
    assert "kept_patches_small.webp" in text
    Image.open(page / "kept_patches_small.webp").verify()
