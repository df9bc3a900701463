"""The policy: mean colours of an 8 x 8 grid through a random LLaMA; the last row is the action."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from vla_pruner_ros.models.decoder.pruned_decoder import PrunedDecoder
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.images.preprocessing import check_images, resize_bicubic
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy

GRID, WIDTH = (8, 8), 32


class ToyPolicy(PrunedPolicy):
    """One camera, no robot state, one action per inference."""

    def __init__(self, checkpoint, gain: float) -> None:
        spec = PolicySpec(
            family="toy",
            trained=False,
            num_cameras=1,
            state_dim=0,
            chunk_size=1,
            grid=GRID,
            num_layers=4,
            image_size=224,
        )
        super().__init__(spec, checkpoint.pruning, checkpoint.device)
        self.gain = gain
        torch.manual_seed(checkpoint.config["seed"])
        config = LlamaConfig(
            vocab_size=8,
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
        )
        self.decoder = PrunedDecoder(LlamaModel(config).requires_grad_(False), max_positions=80)
        self.embed, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 7)

    def preview(self, image):
        """Resize to what the model sees."""
        return resize_bicubic(image)

    def _prepare(self, observation):
        check_images(observation.images, self.num_cameras)
        image = torch.from_numpy(np.array(self.preview(observation.images[0])))
        colours = image.view(8, 28, 8, 28, 3).float().mean(dim=(1, 3)).flatten(0, 1) / 255.0
        return self.gain * colours

    def _infer(self, inputs, plan, select, clock):
        embeddings = torch.cat([self.embed(inputs), torch.ones(1, WIDTH)])[None]
        clock.mark("vision")
        prompt = Prompt(embeddings, visual=Span(0, 64), text=Span(64, 1), read=Span(64, 1))
        done = self.decoder.run_prompt(prompt, plan, select)
        clock.mark("prefill")
        return InferenceOutput(self.head(done.hidden[0]), done.attention, done.selection)

    def _to_actions(self, raw, inputs):
        return raw.cpu().numpy().astype(np.float64)
