"""transformers' own pi0 as the plain path that ours is compared with."""

from __future__ import annotations

import torch

PROMPT_TOKENS = 48
LAYERS = 5
"""Sizes of the small checkpoints, see model_helpers."""


class Reference:
    """PI0ForConditionalGeneration with eager attention; remembers the weights of its layers.

    hidden_from(layer, dropped): attention onto dropped tokens is forced to zero from that layer on.
    """

    def __init__(self, directory) -> None:
        from transformers import PI0ForConditionalGeneration

        self.model = PI0ForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self._embed_time_in_float64()
        self.halves = {
            "prefix": self.model.model.vlm.language_model,
            "expert": self.model.model.dit,
        }
        for half, gemma in self.halves.items():
            for layer in gemma.layers:
                self._watch(half, layer.self_attn)
        self.hide_from(LAYERS, [])

    def _embed_time_in_float64(self) -> None:
        """As training did; transformers' float32 alone moves actions by 2e-4."""
        times = self.model.embed_action_time.sinusoid_embeds
        config = times.config
        fraction = torch.linspace(0, 1, config.dit_config.hidden_size // 2, dtype=torch.float64)
        period = config.min_period * (config.max_period / config.min_period) ** fraction
        times.sinusoid_freq = 2 * torch.pi / period

    def hide_from(self, layer: int, dropped) -> None:
        self.first, self.dropped = layer, torch.as_tensor(dropped, dtype=torch.long)

    def _watch(self, half, attention) -> None:
        def before(module, args, kwargs):
            if module.layer_idx >= self.first and len(self.dropped):
                mask = kwargs["attention_mask"].clone()
                mask[..., self.dropped] = torch.finfo(mask.dtype).min
                kwargs["attention_mask"] = mask
            return args, kwargs

        def after(module, args, output):
            self.weights[half, module.layer_idx].append(output[1][0])

        attention.register_forward_pre_hook(before, with_kwargs=True)
        attention.register_forward_hook(after)

    def sample(self, policy, frame, slots=None, steps=None):
        """Normalised actions; the prompt padded to 48 and the cameras in the given slots."""
        inputs = policy._prepare(frame)
        slots = torch.ones(policy.num_cameras, dtype=torch.bool) if slots is None else slots
        pixels = torch.zeros(len(slots), 3, 224, 224)
        pixels[slots] = inputs.pixels
        image_id = self.model.config.vlm_config.image_token_id
        padding = torch.zeros(PROMPT_TOKENS - len(inputs.ids), dtype=torch.long)
        ids = torch.cat([torch.full((policy.num_visual,), image_id), inputs.ids, padding])
        mask = torch.ones_like(ids)
        mask[len(ids) - len(padding) :] = 0
        self.real, self.weights = (
            mask.bool(),
            {(half, layer): [] for half in self.halves for layer in range(LAYERS)},
        )
        return self.model.sample_actions(
            state=inputs.state[0],
            input_ids=ids[None],
            pixel_values=pixels[None],
            noise=policy.decoder.noise,
            attention_mask=mask[None],
            pixel_attention_mask=slots[None],
            num_steps=steps,
        )

    def action_rows(self, layer: int, visual: int) -> torch.Tensor:
        """Mean over heads, flow steps and action rows (not the state's) onto visual tokens."""
        return torch.stack(self.weights["expert", layer])[:, :, 1:, :visual].mean(dim=(0, 1, 2))

    def semantic(self, layer: int, visual: int) -> torch.Tensor:
        """Mean over heads and queries that are not padding."""
        return self.weights["prefix", layer][0][:, self.real, :visual].mean(dim=(0, 1))
