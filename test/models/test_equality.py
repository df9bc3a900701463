"""The fast path against the plain one, whole steps, at every usual budget and of every family.

Fast: what act() runs - pruned layers, key/value buffers, actions decoded token by token or flowing
over the cache. Plain: transformers' own layers in float32 on all tokens, without any cache; from
layer K on the tokens that the fast path dropped are hidden. See
docs/explanation/equality.md for the tolerances.
"""

from __future__ import annotations

import pytest
import torch
from model_helpers import observation
from pi0_reference import Reference

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import PruningConfig

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = ("openvla", "openvla_oft", "pi0")
RATIOS = (1.0, 0.5, 0.25, 0.125)
HIDE = -1e30
TOLERANCE = {
    ("openvla", "float32"): 0.0,
    ("openvla_oft", "float32"): 5e-5,
    ("pi0", "float32"): 5e-5,
    ("openvla", "bfloat16"): 0.5,
    ("openvla_oft", "bfloat16"): 0.5,
    ("pi0", "bfloat16"): 0.5,
}
"""Normalised actions. Of openvla's tokens: by how much the plain path may like another one better,
in standard deviations of its logits over the action tokens; 0: the tokens are equal."""


@pytest.fixture(scope="module")
def plain_policies(checkpoints):
    return {family: load_policy(checkpoints(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def pi0_reference(checkpoints):
    return Reference(checkpoints("pi0"))


def hidden_states(policy, embeddings, prompt, dropped, causal: bool) -> torch.Tensor:
    """[1, L, d] -> [L, d] after the norm; columns `dropped` are hidden from layer K on."""
    llama, length = policy.model.language_model.model, embeddings.shape[1]
    tables = llama.rotary_emb(embeddings, torch.arange(length)[None])
    visible = torch.ones(length, length, dtype=torch.bool)
    visible = visible.tril() if causal else visible
    hidden = embeddings
    for index, layer in enumerate(llama.layers):
        if index == policy.pruning_state.settings.prune_layer:
            visible[:, dropped + prompt.visual.start] = False
            visible.fill_diagonal_(True)  # what is dropped sees itself; nobody reads it
        mask = embeddings.new_zeros(length, length).masked_fill(~visible, HIDE)[None, None]
        hidden = layer(hidden, attention_mask=mask, position_embeddings=tables)
    return llama.norm(hidden)[0]


def plain_prompt(policy, frame):
    inputs = policy._prepare(frame)
    visual = policy.model.visual_tokens(policy.normalize(inputs.images, policy.decoder.dtype))
    return policy._prompt(visual, inputs)


def openvla_error(policy, frame, tokens, dropped) -> float:
    """All seven places at once: each token follows the fast path's own before it."""
    prompt = plain_prompt(policy, frame)
    embeddings = torch.cat([prompt.embeddings, policy.model.embed(tokens[:-1])[None]], dim=1)
    hidden = hidden_states(policy, embeddings, prompt, dropped, causal=True)
    logits = policy.model.language_model.lm_head(hidden[prompt.length - 1 :])
    spread = logits[:, policy.tokens.ids].std(dim=1)
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    return float(((logits.max(dim=1).values - chosen) / spread).max())


def oft_actions(policy, frame, dropped) -> torch.Tensor:
    prompt = plain_prompt(policy, frame)
    hidden = hidden_states(policy, prompt.embeddings, prompt, dropped, causal=False)
    return policy.head(prompt.read.of(hidden, 0)).float()


def oft_error(policy, frame, raw, dropped) -> float:
    return float((oft_actions(policy, frame, dropped) - raw.float()).abs().max())


def pi0_error(reference: Reference, policy, frame, raw, dropped) -> float:
    reference.hide_from(policy.pruning_state.settings.prune_layer, dropped)
    return float((reference.sample(policy, frame) - raw).abs().max())


def fast_step(policy, ratio: float, seed: int):
    """A pruned step at a budget: the frame, the model's output, and the tokens dropped."""
    policy.reset()
    policy.pruning = PruningConfig(keep_ratio=ratio, history_fill="semantic")
    frame = observation(policy, seed)
    done, _ = policy.run(frame, policy.pruning_state.plan())
    every = torch.arange(policy.num_visual)
    kept = every if done.selection is None else done.selection.kept
    assert len(kept) == round(ratio * policy.num_visual)
    return frame, done.raw, every[~torch.isin(every, kept)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_fast_path_is_the_plain_one(checkpoints, plain_policies, pi0_reference, family, dtype):
    fast, plain = load_policy(checkpoints(family), dtype=dtype), plain_policies[family]
    for seed, ratio in enumerate(RATIOS):
        step = fast_step(fast, ratio, seed)
        if family == "pi0":
            error = pi0_error(pi0_reference, plain, *step)
        else:
            error = (openvla_error if family == "openvla" else oft_error)(plain, *step)
        assert error <= TOLERANCE[family, dtype], ratio


@torch.no_grad()
def test_bfloat16_costs_what_it_costs_transformers_layers(checkpoints, plain_policies):
    """The tolerance above is bfloat16's own: the plain path run in it is as far from float32."""
    fast = load_policy(checkpoints("openvla_oft"), dtype="bfloat16")
    ours, theirs = [], []
    for seed, ratio in enumerate(RATIOS):
        frame, raw, dropped = fast_step(fast, ratio, seed)
        exact = oft_actions(plain_policies["openvla_oft"], frame, dropped)
        ours.append((raw.float() - exact).abs().mean())
        theirs.append((oft_actions(fast, frame, dropped) - exact).abs().mean())
    assert sum(ours) < 1.5 * sum(theirs)
