"""From the node's parameters to a policy of the right family and number of cameras."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: parameters need its messages")

from node_helpers import ControlledPolicy

from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.nodes.vla_pruner.loading import (
    check_policy,
    load_from_settings,
    try_policy,
)
from vla_pruner_ros.nodes.vla_pruner.parameters import make_settings


def settings(**changed):
    return make_settings(changed)


@pytest.mark.parametrize(("family", "cameras"), [("openvla", 1), ("openvla_oft", 2), ("pi0", 1)])
def test_every_family_loads_with_the_cameras_that_are_named(tmp_path, family, cameras):
    """A pi0 checkpoint under one image topic was once refused: it was loaded for two cameras."""
    write_untrained_checkpoint(tmp_path, family)
    topics = [f"camera_{i}" for i in range(cameras)]
    made = settings(checkpoint=str(tmp_path), image_topics=topics)
    policy = load_from_settings(made)
    check_policy(policy, made)
    assert (policy.family, policy.num_cameras, policy.trained) == (family, cameras, False)
    assert try_policy(policy, "close the drawer")[0]


def test_a_policy_that_ignores_its_camera_is_noticed():
    """Some transformers versions make OpenVLA answer the same whatever it sees."""
    policy = ControlledPolicy()
    assert try_policy(policy, "close the drawer")[0]
    policy.expect_configure()
    policy._follow_brightness = lambda observation: np.zeros((1, 7))
    assert not try_policy(policy, "close the drawer")[0]


def test_joints_must_fill_the_models_state():
    policy = ControlledPolicy(state_dim=2)
    check_policy(policy, settings())
    check_policy(policy, settings(state_joints=["elbow", "wrist"]))
    with pytest.raises(CheckpointError, match="2 values but state_joints names 1"):
        check_policy(policy, settings(state_joints=["elbow"]))


def test_openvla_sees_one_camera(tmp_path):
    write_untrained_checkpoint(tmp_path, "openvla")
    made = settings(checkpoint=str(tmp_path), image_topics=["a", "b"])
    with pytest.raises(CheckpointError, match="sees 1 camera"):
        check_policy(load_from_settings(made), made)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"checkpoint": ""}, "checkpoint is empty"),
        ({"checkpoint": "/no/such/directory"}, "/no/such/directory"),
        ({"model": "pi0"}, "model asks for pi0"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_loaded_is_said(tmp_path, changed, reason):
    write_untrained_checkpoint(tmp_path, "openvla")
    with pytest.raises(CheckpointError, match=reason):
        load_from_settings(settings(**{"checkpoint": str(tmp_path), **changed}))


def test_settings_are_replaced_never_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().pruning.keep_ratio = 0.5


def test_a_repository_is_not_fetched_to_a_place_outside_checkpoint_root(tmp_path, monkeypatch):
    """It was fetched first and refused then."""
    from huggingface_hub import constants

    from vla_pruner_ros.models.sources import hub

    fetched = []

    def fetch(repository, _patterns):
        fetched.append(repository.name)
        raise CheckpointError("no network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_fetch", fetch)
    outside = settings(checkpoint="hf:owner/arm", checkpoint_root=str(tmp_path / "models"))
    with pytest.raises(CheckpointError, match="checkpoint_root"):
        load_from_settings(outside)
    assert fetched == []
    inside = settings(checkpoint="hf:owner/arm", checkpoint_root=str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="no network"):
        load_from_settings(inside)
    assert fetched == ["owner/arm"]


def test_a_checkpoint_outside_checkpoint_root_is_refused(tmp_path):
    """Every absolute path to a checkpoint counted as the name of a bundled policy."""
    from vla_pruner_ros.resources import SIMULATION_POLICY, policy_directory

    write_untrained_checkpoint(tmp_path / "elsewhere", "openvla")
    made = settings(checkpoint=str(tmp_path / "elsewhere"), checkpoint_root=str(tmp_path / "root"))
    with pytest.raises(CheckpointError, match="elsewhere does not lie in"):
        load_from_settings(made)
    assert policy_directory(str(tmp_path / "elsewhere")) is None
    assert policy_directory(f"../policies/{SIMULATION_POLICY}") is None
    assert policy_directory(SIMULATION_POLICY) is not None


def test_the_base_of_an_adapter_must_lie_in_checkpoint_root_too(tmp_path):
    write_untrained_checkpoint(tmp_path / "root" / "arm", "openvla")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    made = settings(
        checkpoint=str(tmp_path / "root" / "arm"),
        base_checkpoint=str(tmp_path / "elsewhere"),
        checkpoint_root=str(tmp_path / "root"),
    )
    with pytest.raises(CheckpointError, match="elsewhere does not lie in"):
        load_from_settings(made)


@pytest.mark.parametrize("name", ["elsewhere", "hf:owner/words"])
def test_a_tokenizer_must_lie_in_checkpoint_root_too(tmp_path, monkeypatch, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    write_untrained_checkpoint(tmp_path / "root" / "arm", "openvla")
    shutil.copytree(tmp_path / "root" / "arm", tmp_path / "elsewhere")
    made = settings(
        checkpoint=str(tmp_path / "root" / "arm"),
        tokenizer=name if name.startswith("hf:") else str(tmp_path / name),
        checkpoint_root=str(tmp_path / "root"),
    )
    with pytest.raises(CheckpointError, match=r"tokenizer .* does not lie in .*checkpoint_root"):
        load_from_settings(made)
