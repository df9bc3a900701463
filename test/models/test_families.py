"""How to add a family: one module with these two functions, one line in FAMILIES."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from vla_pruner_ros.models import loading
from vla_pruner_ros.models.decoder.pruned_decoder import PrunedDecoder
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.images.preprocessing import check_images, resize_bicubic
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig

# ---- the module of a new family begins here

FAMILY = "toy"


def matches(directory, config):
    return config.get("model_type") == "toy_vla"


def load(directory, config, device, dtype, pruning, unnorm_key=None, tokenizer=None):
    return ToyPolicy(config["seed"], device, pruning)


class ToyPolicy(PrunedPolicy):
    """Mean colours of an 8 x 8 grid through a random LLaMA; the last row is the action."""

    GRID, WIDTH = (8, 8), 32

    def __init__(self, seed, device, pruning):
        from transformers import LlamaConfig, LlamaModel

        facts = PolicySpec(FAMILY, False, 1, 0, 1, self.GRID, num_layers=4, image_size=224)
        super().__init__(facts, pruning, device)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=8,
            hidden_size=self.WIDTH,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
        )
        self.decoder = PrunedDecoder(LlamaModel(config).requires_grad_(False), max_positions=80)
        self.embed, self.head = nn.Linear(3, self.WIDTH), nn.Linear(self.WIDTH, 7)

    def preview(self, image):
        return resize_bicubic(image)

    def _prepare(self, observation):
        check_images(observation.images, self.num_cameras)
        picture = torch.from_numpy(np.array(self.preview(observation.images[0])))
        return picture.view(8, 28, 8, 28, 3).float().mean(dim=(1, 3)).flatten(0, 1) / 255.0

    def _infer(self, inputs, plan, select, clock):
        embeddings = torch.cat([self.embed(inputs), torch.ones(1, self.WIDTH)])[None]
        clock.mark("vision")
        prompt = Prompt(embeddings, visual=Span(0, 64), text=Span(64, 1), read=Span(64, 1))
        done = self.decoder.run_prompt(prompt, plan, select)
        clock.mark("prefill")
        return InferenceOutput(self.head(done.hidden[0]), done.attention, done.selection)

    def _to_actions(self, raw):
        return raw.cpu().numpy().astype(np.float64)


# ---- and ends here


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setitem(loading.FAMILIES, FAMILY, __name__)
    assert sys.modules[__name__].matches is matches
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "toy_vla", "seed": 3}))
    return tmp_path


def test_a_new_family_is_recognised_and_pruned(toy):
    policy = loading.load_policy(toy, pruning=PruningConfig(keep_ratio=0.25))
    assert (policy.family, policy.trained) == ("toy", False)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    kept = [policy.act(Observation([image], "anything")).pruning.tokens_kept for _ in range(4)]
    assert kept == [64, 64, 64, 16]


def test_an_unregistered_family_is_not_recognised(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "toy_vla", "seed": 3}))
    with pytest.raises(CheckpointError, match="no known family"):
        loading.load_policy(tmp_path)
