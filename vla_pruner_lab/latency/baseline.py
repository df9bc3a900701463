"""The same models run by transformers' own forward passes, unpruned: the reference for pruning.

Weights, vision part, preprocessing and reading back are shared with this package's policies. The
decoder is transformers', with its key/value cache in decode and logits of the last row alone.
attention eager: plain attention that returns the maps of every layer, as research pruners need
them.
attention sdpa: transformers at its best, no maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_pruner_lab.latency.models import Model, fill, llama_config, pi0_config
from vla_pruner_ros.models import untrained
from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.checkpoints import assign
from vla_pruner_ros.models.decoder.pruned_decoder import ActionAttention
from vla_pruner_ros.models.decoder.signals import Prompt
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.models.openvla.openvla import OpenVlaPolicy
from vla_pruner_ros.models.openvla.openvla_oft import OpenVlaOftPolicy
from vla_pruner_ros.models.openvla.prismatic_policy import PrismaticPolicy
from vla_pruner_ros.models.paligemma.names import module_name
from vla_pruner_ros.models.pi0.policy import Pi0Policy
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig

ATTENTIONS = ("eager", "sdpa")


def make_baseline(model: Model, attention: str) -> PrunedPolicy:
    """Make a policy over the model's weights that infers as transformers does.

    Args:
        attention: one of ATTENTIONS.
    """
    baseline, build = BASELINES[model.shape.family]
    policy = model.make_policy(PruningConfig(method="full"), baseline)
    policy.plain = build(model, attention)
    policy.with_maps = attention == "eager"
    return policy


def _prompt(policy: PrismaticPolicy, inputs, clock: StageClock) -> Prompt:
    pixels = policy.normalize(inputs.images, policy.decoder.dtype)
    visual = policy.model.visual_tokens(pixels)
    clock.mark("vision")
    return policy._prompt(visual, inputs)


class PlainOpenVla(OpenVlaPolicy):
    """plain: transformers' LlamaForCausalLM."""

    plain: nn.Module
    with_maps: bool

    def _infer(self, inputs, plan, select, clock) -> InferenceOutput:
        prompt = _prompt(self, inputs, clock)
        done = self._forward(inputs_embeds=prompt.embeddings)
        clock.mark("prefill")
        tokens, maps = [_likeliest(done.logits)], [done.attentions]
        while len(tokens) < ACTION_DIM:
            done = self._forward(input_ids=tokens[-1][None], past_key_values=done.past_key_values)
            tokens.append(_likeliest(done.logits))
            maps.append(done.attentions)
        return _inference(torch.cat(tokens), prompt, plan)

    def _forward(self, **inputs):
        return self.plain(
            **inputs, use_cache=True, output_attentions=self.with_maps, logits_to_keep=1
        )


class PlainOpenVlaOft(OpenVlaOftPolicy):
    """plain: transformers' LlamaForCausalLM, whose output layer is not used."""

    plain: nn.Module
    with_maps: bool

    def _infer(self, inputs, plan, select, clock) -> InferenceOutput:
        prompt = _prompt(self, inputs, clock)
        done = self.plain.model(
            inputs_embeds=prompt.embeddings,
            attention_mask=prompt.embeddings.new_zeros(1, 1, prompt.length, prompt.length),
            use_cache=False,
            output_attentions=self.with_maps,
        )
        clock.mark("prefill")
        raw = self.head(prompt.read.of(done.last_hidden_state, 1)[0])
        return _inference(raw, prompt, plan)


class PlainPi0(Pi0Policy):
    """plain: transformers' PI0ForConditionalGeneration; its one call counts as decode."""

    plain: nn.Module
    with_maps: bool

    def _infer(self, inputs, plan, select, clock) -> InferenceOutput:
        dtype = self.decoder.prefix.dtype
        pixels = inputs.pixels.to(dtype)[None]
        image = inputs.ids.new_full((self.num_visual,), self.plain.config.vlm_config.image_token_id)
        ids = torch.cat([image, inputs.ids])[None]
        actions = self.plain.sample_actions(
            state=inputs.state[0].to(dtype),
            input_ids=ids,
            pixel_values=pixels,
            noise=self.decoder.noise.to(dtype),
            attention_mask=torch.ones_like(ids),
            pixel_attention_mask=pixels.new_ones(pixels.shape[:2], dtype=torch.bool),
            num_steps=self.decoder.expert.steps,
        )
        prompt = self.decoder.prompt(self.network.embed(inputs.ids)[None], inputs.ids[:0])
        return _inference(actions.float(), prompt, plan)


def _likeliest(logits: Tensor) -> Tensor:
    return logits[0, -1:].argmax(dim=-1)


def _inference(raw: Tensor, prompt: Prompt, plan) -> InferenceOutput:
    return InferenceOutput(raw, ActionAttention(prompt, plan), None)


def _plain_llama(model: Model, attention: str) -> nn.Module:
    from transformers import LlamaForCausalLM

    ours = model.weights[0].language_model
    with torch.device("meta"):
        plain = LlamaForCausalLM(llama_config(model.shape, attn_implementation=attention))
    plain.load_state_dict(ours.state_dict(), assign=True)
    plain.model.rotary_emb = ours.model.rotary_emb
    return plain.eval()


def _plain_pi0(model: Model, attention: str) -> nn.Module:
    """Build transformers' pi0; the weights this package leaves out of the last layer are random."""
    from transformers import PI0ForConditionalGeneration

    config = pi0_config(model.shape)
    for part in (config.vlm_config.text_config, config.dit_config):
        part._attn_implementation = attention
        part.output_attentions = attention == "eager"
    with torch.device("meta"):
        plain = PI0ForConditionalGeneration(config)
    ours = dict(model.weights[0].named_parameters())
    shared_dtype = model.weights[0].action_in_proj.weight.dtype
    for name, _ in list(plain.named_parameters()):
        shared = ours.get(module_name(name))
        if shared is not None and _is_gemma_norm(name):
            assign(plain, name, (shared - 1.0).to(shared_dtype))  # ours hold the factor itself
        elif shared is not None:
            assign(plain, name, shared)
    some = next(iter(ours.values()))
    plain.tie_weights()
    fill(plain, some.device, some.dtype, seed=0, draw=untrained.random_flow_tensor)
    _restore_pi0_tables(plain, model)
    return plain


def _is_gemma_norm(name: str) -> bool:
    is_norm = "layernorm" in name or name.endswith(".norm.weight")
    return is_norm and "vision" not in name


def _restore_pi0_tables(plain: nn.Module, model: Model) -> None:
    """Compute the tables that no checkpoint stores: they are empty on the meta device."""
    ours, inner = model.weights[0], plain.model
    device = ours.action_in_proj.weight.device
    language, patches = inner.vlm.language_model, inner.vlm.vision_tower.embeddings
    for gemma in (language, inner.dit):
        with torch.device("cpu"):
            gemma.rotary_emb = type(gemma.rotary_emb)(gemma.config)
        gemma.rotary_emb.to(device)
    text = language.embed_tokens
    text.embed_scale = torch.tensor(text.scalar_embed_scale, device=device)
    patches.position_ids = torch.arange(patches.num_positions, device=device)[None]
    times = plain.embed_action_time.sinusoid_embeds
    with torch.device("cpu"):
        frequencies = times.compute_freqs(times.config)
    times.sinusoid_freq = frequencies.to(device)


BASELINES = {
    "openvla": (PlainOpenVla, _plain_llama),
    "openvla_oft": (PlainOpenVlaOft, _plain_llama),
    "pi0": (PlainPi0, _plain_pi0),
}
