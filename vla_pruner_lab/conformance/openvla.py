"""OpenVLA, unpruned and pruned, against recordings of the official code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from vla_pruner_lab.common.golden import load_cases, load_image
from vla_pruner_lab.conformance.probing import read_attention
from vla_pruner_lab.conformance.recordings import (
    ATTENTION,
    EXACT,
    FEATURES,
    HIDDEN,
    Comparison,
    as_array,
    watched,
)
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.openvla import OpenVlaPolicy
from vla_pruner_ros.models.openvla.prompt import complete
from vla_pruner_ros.models.policy import Observation, PolicyError
from vla_pruner_ros.pruning.config import PruningConfig

UNPRUNED = PruningConfig(keep_ratio=1.0)

QUANTITIES = (
    "prompt ids",
    "pixel values",
    "vision features",
    "visual tokens",
    "hidden states",
    "first logits",
    "action logits",
    "top-8 logits",
    "generated ids",
    "normalised actions",
    "actions",
    "attention, all prefill rows",
    "attention, action rows",
)
TABLE_QUANTITIES = (
    "de-tokenised, normalized",
    "de-tokenised, unnormalized",
    "ids that are no actions, accepted",
)
"""Quantities of detokenise.npz."""
PRUNED_QUANTITIES = (
    "kept tokens",
    "generated ids",
    "actions",
    "first action logits",
    "semantic relevance",
)
TEMPORAL_QUANTITIES = ("action relevance",)
"""Quantities of runs that use the temporal relevance."""


def compare_model(directory: Path, comparison: Comparison) -> None:
    """Compare OpenVLA with every recorded case in the directory."""
    policy = _load(directory)
    for name, official in load_cases(directory / "openvla"):
        comparison.expect(*QUANTITIES)
        image = load_image(directory / "openvla" / "images" / f"{name}.png")
        _compare_case(policy, _recorded_prompt(policy, official, image), official, comparison)
    table = directory / "openvla" / "detokenise.npz"
    if table.exists():
        comparison.expect(*TABLE_QUANTITIES)
        with np.load(table) as arrays:
            _compare_detokenisation(policy, dict(arrays), comparison)


def compare_pruned_runs(directory: Path, comparison: Comparison) -> None:
    """Compare the released pruner over consecutive frames, with its own layer, decay and rows."""
    runs = json.loads((directory / "pruner_e2e" / "runs.json").read_text(encoding="utf-8"))
    paths = sorted((directory / "pruner_e2e" / "frames").glob("*.png"), key=_frame_number)
    frames = [load_image(path) for path in paths]
    policy = _load(directory)
    policy.tokenize = lambda text: runs["input_ids"]
    comparison.expect(*PRUNED_QUANTITIES)
    if any(run["use_temporal"] for run in runs["runs"].values()):
        comparison.expect(*TEMPORAL_QUANTITIES)
    with np.load(directory / "pruner_e2e" / "runs.npz") as arrays:
        for name, run in runs["runs"].items():
            official = {
                key.split("__", 1)[1]: arrays[key] for key in arrays if key.startswith(f"{name}__")
            }
            policy.reset()
            policy.pruning = reference_compatible(runs, run, policy.num_visual)
            for number, frame in enumerate(frames):
                of_frame = {key: values[number] for key, values in official.items()}
                _compare_pruned_frame(policy, frame, of_frame, comparison)


def reference_compatible(runs: dict, run: dict, num_visual: int) -> PruningConfig:
    """Return the settings under which this package repeats the released research code."""
    return PruningConfig(
        keep_ratio=run["keep"] / num_visual,
        preset="paper",
        method="vla_pruner" if run["use_temporal"] else "fastv",
        prune_layer=runs["prune_layer_K"],
        action_layer=runs["action_layer"],
        temporal_window=runs["window"],
        temporal_decay=runs["decay"],
        decay_order="oldest_first",
        semantic_queries="last" if "last" in run["semantic_source"] else "all",
    )


def _load(directory: Path) -> OpenVlaPolicy:
    # The recordings come with token ids; a checkpoint next to them needs no tokenizer.
    return load_policy(directory / "openvla" / "checkpoint", pruning=UNPRUNED, tokenizer=list)


def _recorded_prompt(policy: OpenVlaPolicy, official: dict, image: np.ndarray) -> Observation:
    ids = official["input_ids"][0].tolist()
    policy.tokenize = lambda text: ids
    return Observation([image], "as recorded")


def _compare_case(
    policy: OpenVlaPolicy, observation: Observation, official: dict, comparison: Comparison
) -> None:
    model, language = policy.model, policy.model.language_model
    modules = {"features": model.vision_backbone, "tokens": model.projector}
    modules |= {"norm": language.model.norm, "logits": language.lm_head}
    norms = {str(i): layer.input_layernorm for i, layer in enumerate(language.model.layers)}
    pixels = {"pixels": model.vision_backbone}
    with watched(modules) as seen, watched({**norms, **pixels}, inputs=True) as given:
        inference, actions = policy.run(observation, policy.unpruned_plan())
    comparison.add(
        "prompt ids",
        [complete(official["input_ids"][0].tolist())],
        official["input_ids_with_29871"],
        EXACT,
    )
    comparison.add("pixel values", given["pixels"][0], official["pixel_values"], EXACT)
    comparison.add("vision features", seen["features"][0][0], official["patch_features"], FEATURES)
    comparison.add("visual tokens", seen["tokens"][0][0], official["projector_output"], FEATURES)
    last = [given[name][0][0, -1] for name in norms] + [seen["norm"][0][0, -1]]
    comparison.add("hidden states", torch.stack(last), official["hidden_last_position"], HIDDEN)
    _compare_logits(policy, torch.cat(seen["logits"]), official, comparison)
    comparison.add("generated ids", inference.raw, official["generated_ids"], EXACT)
    normalized = policy.tokens.decode(as_array(inference.raw))
    comparison.add("normalised actions", normalized, official["normalized_actions"], EXACT)
    comparison.add("actions", actions[0], official["actions"], EXACT)
    _compare_attention(policy, observation, official, comparison)


def _compare_logits(
    policy: OpenVlaPolicy, logits: torch.Tensor, official: dict, comparison: Comparison
) -> None:
    """logits: [7, vocabulary]."""
    comparison.add("first logits", logits[0], official["first_logits"], HIDDEN)
    of_actions = logits[:, policy.tokens.ids]
    comparison.add("action logits", of_actions, official["action_token_logits"], HIDDEN)
    top = logits.gather(1, torch.from_numpy(official["top8_ids"]))
    comparison.add("top-8 logits", top, official["top8_logits"], HIDDEN)


def _compare_attention(
    policy: OpenVlaPolicy, observation: Observation, official: dict, comparison: Comparison
) -> None:
    ours = read_attention(policy, observation)
    prefill = official["attn_prefill_mean_visual"][:-1]
    comparison.add("attention, all prefill rows", ours.all_rows, prefill, ATTENTION)
    decode = official["attn_decode_visual"].mean(axis=1)
    comparison.add("attention, action rows", ours.action_rows, decode, ATTENTION)


def _compare_detokenisation(policy: OpenVlaPolicy, table: dict, comparison: Comparison) -> None:
    """Check that ids of the table that are no action tokens are refused, each on its own."""
    ids = table["token_ids"]
    valid = np.isin(ids, policy.tokens.ids)
    ours = policy.tokens.decode(np.where(valid, ids, policy.tokens.ids.start))
    units = policy.bounds.to_units(ours)
    for name, values in (("normalized", ours), ("unnormalized", units)):
        quantity = f"de-tokenised, {name}"
        comparison.add(quantity, values[valid], table[name][valid], EXACT)
    accepted = sum(_is_accepted(policy, number) for number in np.unique(ids[~valid]))
    comparison.add_error("ids that are no actions, accepted", accepted, EXACT)


def _is_accepted(policy: OpenVlaPolicy, number: int) -> bool:
    try:
        policy.tokens.decode(np.array([number]))
    except PolicyError:
        return False
    return True


def _compare_pruned_frame(
    policy: OpenVlaPolicy, frame: np.ndarray, official: dict, comparison: Comparison
) -> None:
    with (
        _TappedPruner(policy) as tap,
        watched({"logits": policy.model.language_model.lm_head}) as seen,
    ):
        chunk = policy.act(Observation([frame], "as recorded"))
    logits = torch.cat(seen["logits"])
    kept = np.isin(np.arange(policy.num_visual), chunk.pruning.kept_indices[0])
    comparison.add("kept tokens", kept, official["kept_visual_mask"], EXACT)
    comparison.add("generated ids", logits.argmax(dim=1), official["generated_ids"], EXACT)
    actions = official["actions"].astype(np.float32)
    comparison.add("actions", chunk.actions[0], actions, EXACT)
    of_first = logits[0, policy.tokens.ids]
    comparison.add("first action logits", of_first, official["first_action_token_logits"], HIDDEN)
    if tap.signals is not None:
        scores = tap.signals.semantic if tap.signals.semantic is not None else tap.signals.last_row
        comparison.add("semantic relevance", scores, official["semantic"], ATTENTION)
    if tap.action_rows is not None:
        rows, attention = tap.action_rows[0], official["action_attention"]
        comparison.add("action relevance", rows, attention, ATTENTION)


class _TappedPruner:
    """Tap on the pruning state: it stores what one step hands over."""

    def __init__(self, policy: OpenVlaPolicy) -> None:
        self.pruning_state = policy.pruning_state
        self.signals = self.action_rows = None

    def __enter__(self) -> _TappedPruner:
        select, observe = self.pruning_state.select, self.pruning_state.update_history

        def tapped_select(plan, signals):
            self.signals = signals
            return select(plan, signals)

        def tapped_observe(rows, plan, selection):
            self.action_rows = rows
            observe(rows, plan, selection)

        self.pruning_state.select, self.pruning_state.update_history = tapped_select, tapped_observe
        return self

    def __exit__(self, *error: object) -> None:
        del self.pruning_state.select, self.pruning_state.update_history  # the class's own again


def _frame_number(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.stem)))
