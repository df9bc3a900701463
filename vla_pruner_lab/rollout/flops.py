"""Multiply-accumulates of a pruned prompt, by the paper's formula (arXiv 2511.16449)."""

from __future__ import annotations

from vla_pruner_ros.models.openvla import prompt
from vla_pruner_ros.models.openvla.prismatic_policy import PrismaticPolicy
from vla_pruner_ros.models.policy import PruningReport


def layer_flops(tokens: int, width: int, mlp_width: int) -> int:
    """Compute C(n) = 4 n d^2 + 2 n^2 d + 3 n d m of one decoder layer with a gated FFN, MAC = 1."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 3 * tokens * width * mlp_width


def reusing_layer_flops(tokens: int, reused: int, width: int, mlp_width: int) -> int:
    """Compute C of a layer in which some tokens are attended to, but not computed themselves."""
    computed = tokens - reused
    attention = 2 * computed * tokens * width
    return 4 * computed * width**2 + attention + 3 * computed * width * mlp_width


def prompt_flops(
    text: int, visual: int, kept: int, prune_layer: int, layers: int, width: int, mlp_width: int
) -> int:
    """Compute K C(N + M) + (T - K) C(N + k), decoder only.

    Args:
        text: N, every token that is not visual.
    """
    whole = layer_flops(text + visual, width, mlp_width)
    pruned = layer_flops(text + kept, width, mlp_width)
    return prune_layer * whole + (layers - prune_layer) * pruned


def step_flops(policy: PrismaticPolicy, instruction: str, report: PruningReport) -> int:
    """Compute the FLOPs of one inference as it ran; unpruned steps count in full."""
    ids = prompt.complete(policy.tokenize(prompt.prompt_text(instruction)))
    others = policy.placeholders + 1 if policy.family == "openvla_oft" else 0
    if policy.state_dim:
        others += 1
    config = policy.model.language_model.config
    if report.reused_tokens:
        tokens = len(ids) + others + report.tokens_total
        width, mlp_width = config.hidden_size, config.intermediate_size
        return sum(
            reusing_layer_flops(tokens, reused, width, mlp_width) for reused in report.reused_tokens
        )
    return prompt_flops(
        text=len(ids) + others,
        visual=report.tokens_total,
        kept=report.tokens_kept,
        prune_layer=report.prune_layer,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        mlp_width=config.intermediate_size,
    )
