"""The network that is trained: it is the policy's, and its losses are what they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("metaworld", reason="demonstrations come from the simulator")

from training_helpers import CPU, settings

from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.training.batches import CAMERAS, Batch
from vla_pruner_lab.training.network import TrainingNetwork
from vla_pruner_lab.training.settings import FAMILIES
from vla_pruner_lab.training.train import Training
from vla_pruner_ros.models.actions import BINS, ActionTokens
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.untrained import VOCABULARY
from vla_pruner_ros.pruning.config import PruningConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_network_equals_the_policy(family, demonstrations, tmp_path):
    """The same frames, one by one through the policy and padded into a batch through training."""
    config = settings(family, augment=False)
    training = Training(config, demonstrations, tmp_path, CPU, resume=False)
    policy = load_policy(tmp_path / "start", pruning=PruningConfig(keep_ratio=1.0))
    if family == "openvla_oft":
        policy.images = type(policy.images)("camera", center_crop=False)
    longer = "close the drawer, slowly and with great care, then stay where you are"
    frames = [training.source.data[0], replace(training.source.data[5], instruction=longer)]
    raw = [run_unpruned(policy, frame) for frame in frames]
    training.source.images = [training.source.images[i] for i in (0, 5)]
    training.source.data = frames_as_data(training.source.data, frames)
    batch = training.source.batch([0, 1], np.random.default_rng(0))
    if family == "openvla":  # teach what the policy has decoded, so that all seven can agree
        for row, start, tokens in zip(batch.ids, batch.read[:, 0], raw, strict=True):
            row[start + 1 : start + 7] = tokens[:6]
    with torch.no_grad():
        output = TrainingNetwork.load(tmp_path / "start", CPU)(batch, batch.patches)
    for row, config in zip(output, raw, strict=True):
        if family == "openvla":
            assert torch.equal(row.argmax(dim=-1) + VOCABULARY - BINS, config)
        else:
            torch.testing.assert_close(row, config, atol=5e-5, rtol=1e-4)


def run_unpruned(policy, frame) -> torch.Tensor:
    """Token ids [7] or normalised actions [8, 7]."""
    state = frame.joints if policy.state_dim else None
    observation = Observation(frame.images, frame.instruction, state)
    inputs, plan = policy._prepare(observation), policy.unpruned_plan()
    with torch.no_grad():
        return policy._infer(inputs, plan, None, StageClock(CPU)).raw


def frames_as_data(data: Demonstrations, frames: list):
    """The same demonstrations with other frames in the first places."""
    return type(
        "Frames",
        (),
        {
            "state_record": lambda _, i: frames[i],
            "action_chunk": data.action_chunk,
        },
    )()


@pytest.mark.parametrize("family", FAMILIES)
def test_left_out_patches_change_nothing_but_their_absence(family, demonstrations, tmp_path):
    """Drawing all patches is the whole image; of fewer, each keeps its pixels and its place."""
    config = settings(family, augment=False)
    training = Training(config, demonstrations, tmp_path, CPU, resume=False)
    source = training.source
    whole, part = (source.batch([0, 3], np.random.default_rng(0), n) for n in (256, 40))
    assert torch.equal(whole.places[0, 0], torch.arange(256))
    assert part.patches.shape[2] == 40
    for row in range(2):
        for camera, places in enumerate(part.places[row]):
            assert torch.equal(part.patches[row, camera], whole.patches[row, camera][places])
    with torch.no_grad():
        some, positions = training.network._visual(part.patches, part.places)
    assert positions.max() <= 256 * len(CAMERAS[family])
    assert some.shape[1] == positions.shape[1] == 40 * len(CAMERAS[family])


def test_cross_entropy_is_that_of_the_whole_vocabulary(demonstrations, tmp_path):
    """Output rows of other ids are zero in the exported checkpoint; the loss counts them."""
    training = Training(settings("openvla"), demonstrations, tmp_path, CPU, resume=False)
    batch = training.source[0]
    with torch.no_grad():
        loss = training.network.loss(batch, batch.patches)
        config = whole_cross_entropy(training.network(batch, batch.patches), batch)
    torch.testing.assert_close(loss, config)


def whole_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Compute the loss of the action tokens' logits [B, R, 256], among zeros for all other ids."""
    whole = torch.zeros(*logits.shape[:2], VOCABULARY + 64)
    whole[..., VOCABULARY - BINS : VOCABULARY] = logits
    return F.cross_entropy(whole.flatten(0, 1), batch.tokens.flatten())


def test_token_loss_is_added_to_the_absolute_error(demonstrations, tmp_path):
    training = Training(settings("openvla_oft"), demonstrations, tmp_path, CPU, resume=False)
    network, batch = training.network, training.source[0]
    with torch.no_grad():
        alone = network.loss(batch, batch.patches)
        both = network.loss(batch, batch.patches, token_loss=0.5)
        logits = network.model.language_model.lm_head(network._outputs(batch, batch.patches))
        actions = network(batch, batch.patches)
    assert alone == F.l1_loss(actions, batch.actions)
    torch.testing.assert_close(both, alone + 0.5 * whole_cross_entropy(logits, batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_the_actions(family, demonstrations, tmp_path):
    """To half a bin, in the order in which the outputs are read."""
    batch = Training(settings(family), demonstrations, tmp_path, CPU, resume=False).source[0]
    values = ActionTokens(VOCABULARY).decode(batch.tokens.numpy())
    assert values.shape == batch.read.shape
    assert np.abs(values - batch.actions.flatten(1).numpy()).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize(("family", "weight"), [("openvla", 0.1), ("openvla_oft", -0.1)])
def test_a_token_loss_that_means_nothing_is_refused(family, weight, demonstrations, tmp_path):
    config = settings(family, token_loss=weight)
    with pytest.raises(ValueError, match="token_loss"):
        Training(config, demonstrations, tmp_path, CPU, resume=False)


def test_the_token_loss_trains_the_output_rows(demonstrations, tmp_path):
    """And only it: without it they stay as they were."""
    for weight in (0.0, 0.1):
        config = settings("openvla_oft", token_loss=weight)
        out = tmp_path / str(weight)
        training = Training(config, demonstrations, out, CPU, resume=False)
        before = training.network.model.language_model.lm_head.weight.detach().clone()
        training.train_step(training.source[0])
        after = training.network.model.language_model.lm_head.weight.detach()
        assert torch.equal(before, after) == (weight == 0)
