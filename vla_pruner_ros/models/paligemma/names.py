"""Names of the tensors of pi0 and pi0.5, in the files of LeRobot, openpi and transformers.

All three use one scheme and differ in prefixes. The language model's output layer (lm_head) is the
embedding's twin. If a file holds the output layer alone, it is read from there. If it holds both,
the embedding is read, because training in LeRobot 0.6 moves them apart and runs the embedding.
"""

from __future__ import annotations

from vla_pruner_ros.models.lerobot.networks import TRAINING_ONLY, WRAPPERS, renamed

PREFIXES = (
    WRAPPERS,
    (r"^model\.(?!vlm\.|dit\.)", ""),
    WRAPPERS,
    (r"^embed_action_time\.(?=state_proj|action_)", ""),
    (r"^paligemma_with_expert\.gemma_expert\.lm_head\.", "expert.lm_head."),
    (r"^(?:paligemma_with_expert\.gemma_expert(?:\.model)?|model\.dit)\.", "expert."),
    (r"^(?:paligemma_with_expert\.paligemma(?:\.model)?|model\.vlm)\.", ""),
    (r"^(?:language_model\.)?lm_head\.", "language_model.lm_head."),
    (r"^language_model\.model\.", "language_model."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
)
"""Pattern -> replacement, applied in this order."""
EMBEDDING, OUTPUT = "language_model.embed_tokens.weight", "language_model.lm_head.weight"
NOT_RUN = (OUTPUT, *TRAINING_ONLY)
"""Tensors that inference does not run."""


def module_name(stored: str) -> str:
    """Turn a tensor's name in a file into its name in the network."""
    return renamed(stored, PREFIXES)


def stored_name(name: str) -> str:
    """Turn a tensor's name in the network into the one that transformers saves."""
    if name.startswith(("expert.lm_head.", "expert.embed_tokens.")):
        return "paligemma_with_expert.gemma_expert.lm_head." + name.rpartition(".")[2]
    if name.startswith("expert."):
        return "paligemma_with_expert.gemma_expert.model." + name.removeprefix("expert.")
    if name.startswith("language_model."):
        inner = name.removeprefix("language_model.")
        return "paligemma_with_expert.paligemma.model.language_model.model." + inner
    if name.startswith(("vision_tower.", "multi_modal_projector.")):
        return "paligemma_with_expert.paligemma.model." + name
    return name
