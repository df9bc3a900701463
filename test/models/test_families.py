"""Families: their options, their choice by name, and one from a package of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_pruner_ros.models import families
from vla_pruner_ros.models.families import family_named, make_options, option_specs
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.settings import specs_of

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "toy_family"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Folder with the example package as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "toy_family")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, cwd=target)
    return target


@pytest.fixture
def toy(installed, tmp_path, monkeypatch):
    """Checkpoint of the example's family while the example is installed."""
    monkeypatch.syspath_prepend(str(installed))
    families.external.cache_clear()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "toy_vla", "seed": 3}))
    yield tmp_path
    families.external.cache_clear()


def test_a_family_of_another_package_is_found_and_pruned(toy):
    policy = load_policy(toy, pruning=PruningConfig(keep_ratio=0.25))
    assert (policy.family, policy.trained) == ("toy", False)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    kept = [policy.act(Observation([image], "anything")).pruning.tokens_kept for _ in range(4)]
    assert kept == [16, 16, 16, 16], "pruned from the first inference"


def test_options_of_another_package_reach_users(toy):
    assert "colour_gain" in {spec.name for spec in option_specs()}
    assert load_policy(toy, colour_gain=2).gain == 2.0
    assert load_policy(toy, colour_gain="auto").gain == 1.0
    with pytest.raises(CheckpointError, match="toy: colour_gain must be at most 10, got 11"):
        load_policy(toy, colour_gain=11.0)


def test_a_family_that_is_not_installed_is_not_recognised(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "toy_vla", "seed": 3}))
    with pytest.raises(CheckpointError, match="no known family"):
        load_policy(tmp_path)
    with pytest.raises(CheckpointError, match=r"model 'toy' is no known family.*install"):
        load_policy(tmp_path, model="toy")


def test_a_broken_package_is_named_and_disturbs_no_other_family(tmp_path, monkeypatch, caplog):
    distribution = tmp_path / "broken-1.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (distribution / "entry_points.txt").write_text(f"[{families.GROUP}]\nbroken = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    families.external.cache_clear()
    try:
        with pytest.raises(CheckpointError, match=r"broken .* cannot be imported"):
            family_named("broken")
        checkpoint = tmp_path / "checkpoint"
        checkpoint.mkdir()
        (checkpoint / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(CheckpointError, match="no known family"):
            load_policy(checkpoint)
        assert "no_such_module" in caplog.text
    finally:
        families.external.cache_clear()


@pytest.mark.parametrize("name", families.BUNDLED)
def test_every_option_is_left_to_the_checkpoint_unless_it_is_given(name):
    options = family_named(name).Options
    assert all(spec.default is None and spec.is_optional for spec in specs_of(options))
    assert make_options(name, family_named(name), {}) == options()
    given = {spec.name: "auto" for spec in specs_of(options)}
    assert make_options(name, family_named(name), given) == options()


@pytest.mark.parametrize(
    ("family", "option", "value"),
    [
        ("openvla", "num_flow_steps", 3),
        ("openvla", "chunk_size", 8),
        ("openvla_oft", "noise_seed", 1),
        ("pi0", "center_crop", False),
    ],
)
def test_an_option_of_another_family_is_refused_by_name(family, option, value):
    with pytest.raises(CheckpointError, match=f"{family} has no option {option}"):
        make_options(family, family_named(family), {option: value})


def test_model_chooses_the_family(tmp_path):
    """An OpenVLA-OFT directory is an OpenVLA directory with two more files."""
    write_untrained_checkpoint(tmp_path, "openvla_oft")
    assert load_policy(tmp_path).family == "openvla_oft"
    assert load_policy(tmp_path, model="openvla").family == "openvla"
    with pytest.raises(CheckpointError, match=r"model asks for pi0, but .* Set model to auto"):
        load_policy(tmp_path, model="pi0")


def test_declaring_the_options_takes_no_torch():
    """The node declares its parameters long before a model is loaded."""
    code = "import sys; from vla_pruner_ros.models.families import option_specs; option_specs(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
