"""Attention of every layer, read through the engine's own pruning points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.signals import Span
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.method import Signals
from vla_pruner_ros.pruning.token_selection import Selection

ASKED = frozenset({"semantic", "last_row", "text"})


@dataclass(frozen=True)
class LayerAttention:
    """Head-mean attention onto the M visual tokens.

    all_rows, text_rows: float32 [layers - 1, M], means over the prompt's queries, an action's
        placeholders not among them, and over the text queries; the last layer has none, for nothing
        can be pruned after it.
    last_rows: float32 [layers - 1, M], of the last text query.
    action_rows: float32 [layers, M], mean over the action-predicting queries.
    """

    all_rows: Tensor
    text_rows: Tensor
    action_rows: Tensor
    last_rows: Tensor


def read_attention(policy: PrunedPolicy, observation: Observation) -> LayerAttention:
    """Read the attention of every layer: one run per layer, with a pruning point that keeps all
    tokens.
    """
    layers = policy.spec.num_layers
    seen: list[Signals] = []

    def keep_all(signals: Signals) -> Selection:
        seen.append(signals)
        return Selection(torch.arange(signals.num_visual, device=signals.target))

    whole = replace(
        policy.unpruned_plan(), full=False, signals=ASKED, action_layers=tuple(range(layers))
    )
    for layer in range(layers - 1):
        plan = replace(whole, prune_layer=layer + 1, semantic_layer=layer)
        inference, _ = policy.run(observation, plan, keep_all)
    return LayerAttention(
        torch.stack([signals.semantic for signals in seen]),
        torch.stack([signals.text.mean(dim=0) for signals in seen]),
        inference.attention.mean(),
        torch.stack([signals.last_row for signals in seen]),
    )


def read_rows_of_the_pass(policy: PrunedPolicy, observation: Observation) -> Tensor:
    """Mean over every row of the pass, an action's placeholders included: [layers - 1, M].

    Official recordings of OpenVLA-OFT hold this mean; the semantic relevance leaves the
    placeholders out. So the prompt's text is taken to reach to the end.
    """
    make_prompt = policy._prompt

    def with_longer_text(visual, inputs):
        prompt = make_prompt(visual, inputs)
        return replace(prompt, text=Span(prompt.text.start, prompt.rows - prompt.text.start))

    policy._prompt = with_longer_text
    try:
        return read_attention(policy, observation).all_rows
    finally:
        del policy._prompt
