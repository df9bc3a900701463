"""The quantities of a flow-matching policy: our values next to the recorded ones.

Each function takes a case and the name of a recorded array. It returns our values and the official
ones that they are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from vla_pruner_lab.conformance.flow_case import FlowCase
from vla_pruner_lab.conformance.recordings import EXACT
from vla_pruner_ros.models.decoder.flow_matching import flow_times
from vla_pruner_ros.models.lerobot.prompts import state_bins

PIXELS, TOKENS, KEYS, ATTENTION, VELOCITY, ACTIONS = 2e-5, 5e-5, 5e-4, 5e-5, 1e-3, 3e-4
"""Tolerances; LeRobot's code itself moves by a tenth of these between float32 and float64."""
LEAST_SPREAD = 1e-6
"""A number of the action that varies less than this is compared in the robot's units."""


def _pixels(case: FlowCase) -> np.ndarray:
    return case.seen.given["vision"][0].numpy()


def _pixel_grid(case: FlowCase, name: str):
    official, ours = case.official[name], _pixels(case)
    step = -(-ours.shape[-1] // official.shape[-1])
    return ours[..., ::step, ::step], official[: len(ours)]


def _pixel_rows(case: FlowCase, name: str):
    ours = _pixels(case).astype(np.float64)
    axis = -1 if name.endswith("row_mean") else -2
    return ours.mean(axis=axis), case.official[name][: len(ours)]


def _first_camera(case: FlowCase, name: str):
    ours, official = _pixels(case)[0], case.official[name]
    start = 0 if official.shape == ours.shape else 200
    return ours[:, start : start + official.shape[1]], official


def _image_masks(case: FlowCase, name: str):
    present = np.arange(len(case.official[name])) < len(case.policy.cameras)
    return present, case.official[name]


def _vision(case: FlowCase, name: str):
    ours, official = case.seen.made["vision_tower"][0][0], case.official[name]
    if name.endswith("mean"):
        return ours.mean(dim=0), official
    return ours[: len(official)], official


def _connector(case: FlowCase, name: str):
    return case.seen.made["connector"][0][0], case.official[name]


def _embeddings(case: FlowCase) -> Tensor:
    return case.prompt.embeddings[0]


def _visual_tokens(case: FlowCase, name: str):
    ours = case.prompt.visual.of(_embeddings(case), 0)
    return ours, case.official[name][: len(ours)]


def _text_embeddings(case: FlowCase, name: str):
    return case.prompt.text.of(_embeddings(case), 0), case.official[name]


def _state_embedding(case: FlowCase, name: str):
    return _embeddings(case)[-1], case.official[name]


def _ids(case: FlowCase, name: str):
    mask = case.official["attention_mask"][0]
    ids = case.policy._prepare(case.observation).ids
    return ids, case.official["input_ids"][0][mask]


def _real_ids(case: FlowCase, name: str):
    length = case.prompt.text.size
    return [np.arange(case.official[name].shape[1]) < length], case.official[name]


def _state_normalized(case: FlowCase, name: str):
    return case.policy.statistics.state.normalize(case.official["state"]), case.official[name]


def _state_padded(case: FlowCase, name: str):
    return case.policy._prepare(case.observation).state[0], case.official[name]


def _state_bins(case: FlowCase, name: str):
    return state_bins(_state_normalized(case, name)[0]), case.official[name]


def _pad_mask(case: FlowCase, name: str):
    """As many places take part as rows run here, and they are those of cameras, text and state."""
    official = case.official[name]
    ours = np.zeros(len(official), bool)
    ours[case.real] = np.arange(len(case.real)) < case.prompt.length
    return [ours.sum(), case.prompt.length], [official.sum(), official.sum()]


def _position_ids(case: FlowCase, name: str):
    return case.seen.positions.sort().values, case.official[name][case.real]


def _block_mask(case: FlowCase, name: str):
    """A row that those before it do not see begins a block."""
    hidden = ~case.prompt.visible[0]
    return hidden[case.order], case.official[name][case.real]


def _places(case: FlowCase, span) -> np.ndarray:
    return case.real[span.of(case.seen.positions, 0).numpy()]


def _visual_positions(case: FlowCase, name: str):
    ours = _places(case, case.prompt.visual)
    return ours, case.official[name][: len(ours)]


def _text_positions(case: FlowCase, name: str):
    return _places(case, case.prompt.text), case.official[name]


def _state_position(case: FlowCase, name: str):
    return case.real[int(case.seen.positions[-1])], case.official[name]


def _hidden(case: FlowCase, row: Callable[[Tensor], Tensor], name: str):
    layers = case.policy.spec.num_layers
    rows = [row(case.seen.given[f"prefix {layer}"][0][0]) for layer in range(layers)]
    return torch.stack(rows), case.official[name][:layers]


def _hidden_last_row(case: FlowCase, name: str):
    return _hidden(case, lambda hidden: hidden[case.prompt.text.stop - 1], name)


def _hidden_mean(case: FlowCase, name: str):
    return _hidden(case, lambda hidden: hidden.mean(dim=0), name)


def _hidden_state_row(case: FlowCase, name: str):
    return _hidden(case, lambda hidden: hidden[-1], name)


def _cached(case: FlowCase, name: str):
    kind, _, layer = name.removeprefix("prefix_").partition("_layer")
    held = case.seen.keys if kind == "key" else case.seen.values
    return held[int(layer)][:, case.order], case.official[name]


def _prefix_all(case: FlowCase, name: str):
    return case.attention.all_rows, case.visual(name)[:-1]


def _prefix_text(case: FlowCase, name: str):
    return case.attention.text_rows, case.visual(name)[:-1]


def _prefix_last_text(case: FlowCase, name: str):
    return case.attention.last_rows, case.visual(name)[:-1]


def _prefix_last(case: FlowCase, name: str):
    """The last row that takes part: the state's in SmolVLA, the last text token's elsewhere."""
    if case.prompt.text.stop == case.prompt.length:
        return _prefix_last_text(case, name)
    rows = [weights()[:, -1, : case.policy.num_visual].mean(dim=0) for weights in case.seen.prefix]
    return torch.stack(rows), case.visual(name)[:-1]


def _action_mean(case: FlowCase, name: str):
    return case.by_step, case.visual(name)


def _state_row(case: FlowCase, name: str):
    layers = case.policy.spec.num_layers
    rows = [weights()[:, 0, : case.policy.num_visual].mean(dim=0) for weights in case.seen.expert]
    return torch.stack(rows[:layers]).expand(len(case.official[name]), -1, -1), case.visual(name)


def _first_step_maps(case: FlowCase) -> list[Tensor]:
    """Head-mean attention of the first flow step's action rows, a map a layer."""
    layers, rows = case.policy.spec.num_layers, case.policy.chunk_size
    maps = [weights().mean(dim=0) for weights in case.seen.expert]
    return [one for one in maps if one.shape[0] == rows][:layers]


def _all_keys(case: FlowCase, name: str):
    """Our keys put at the official places; what takes no part has exactly 0 there."""
    official = case.official[name]
    length = case.prompt.length
    ours = np.zeros_like(official)
    for layer, weights in enumerate(_first_step_maps(case)):
        row = weights[-1 if "last_row" in name else 0]
        ours[layer, case.real] = row[:length][case.order].numpy()
        suffix = row[length:].numpy()
        if name.endswith("all_keys"):
            ours[layer, -len(suffix) :] = suffix
    return ours, official


def _flow_times(case: FlowCase, name: str):
    return flow_times(len(case.official[name])), case.official[name]


def _samples(case: FlowCase, name: str):
    return torch.cat([*case.seen.given["actions"], case.seen.raw]), case.official[name]


def _velocity(case: FlowCase, name: str):
    calls = case.seen.made["action_out_proj"]
    return calls[0 if name.endswith("first") else -1][0], case.official[name]


def _conditions(case: FlowCase, name: str):
    return case.policy.decoder.expert.conditions, case.official[name]


def _suffix_embeddings(case: FlowCase, name: str):
    made = case.seen.made
    parts = [made.get("action_time_mlp_out", made["action_in_proj"])[0][0]]
    if len(case.official[name]) > len(parts[0]):  # pi0's state
        parts.insert(0, made["state_proj"][0][0])
    return torch.cat(parts), case.official[name]


def _expert_hidden(case: FlowCase, name: str):
    calls = case.seen.calls["_run"]
    parts = calls[:1] if calls[0].shape[1] == case.policy.chunk_size else calls[:2]
    return torch.cat([part[0] for part in parts]), case.official[name]


def _cross_layers(case: FlowCase, name: str):
    return ~np.array(case.policy.network.shape.cross), case.official[name]


def _cross_key(case: FlowCase, name: str):
    layer = int(name.removeprefix("expert_cross_key_layer").split("_")[0])
    key, _ = case.seen.calls["_project_prefix"][0][layer]
    return key[0][:, case.order], case.official[name]


def _normalized(case: FlowCase, name: str):
    official = case.official[name]
    return case.seen.raw[0][:, : official.shape[1]], official


def _actions(case: FlowCase, name: str):
    """In units of the statistics' spread, so that one tolerance serves all robots."""
    official = case.official[name]
    spread = case.policy.statistics.action.spread_back
    spread = np.where(np.abs(spread) > LEAST_SPREAD, spread, 1.0)
    return case.actions[: len(official)] / spread, official / spread


def _pruned_actions(case: FlowCase, name: str):
    official = case.official[name]
    return case.pruned[0][:, : official.shape[1]], official


QUANTITIES: dict[str, tuple[Callable, float]] = {
    "pixel_values_grid": (_pixel_grid, PIXELS),
    "pixel_values_row_mean": (_pixel_rows, PIXELS),
    "pixel_values_col_mean": (_pixel_rows, PIXELS),
    "pixel_values_camera0": (_first_camera, PIXELS),
    "pixel_values_camera0_rows": (_first_camera, PIXELS),
    "image_masks": (_image_masks, EXACT),
    "vision_tower_camera0": (_vision, TOKENS),
    "vision_tower_camera0_head": (_vision, TOKENS),
    "vision_tower_camera0_mean": (_vision, TOKENS),
    "connector_output_camera0": (_connector, TOKENS),
    "visual_tokens": (_visual_tokens, TOKENS),
    "text_embeddings": (_text_embeddings, TOKENS),
    "state_embedding": (_state_embedding, TOKENS),
    "input_ids": (_ids, EXACT),
    "attention_mask": (_real_ids, EXACT),
    "state_normalized": (_state_normalized, ACTIONS / 100),
    "state_padded": (_state_padded, ACTIONS / 100),
    "state_bins": (_state_bins, EXACT),
    "prefix_pad_mask": (_pad_mask, EXACT),
    "prefix_position_ids": (_position_ids, EXACT),
    "prefix_block_mask": (_block_mask, EXACT),
    "visual_positions": (_visual_positions, EXACT),
    "text_positions": (_text_positions, EXACT),
    "state_position": (_state_position, EXACT),
    "prefix_hidden_last_row": (_hidden_last_row, KEYS),
    "prefix_hidden_last_text_row": (_hidden_last_row, KEYS),
    "prefix_hidden_mean_valid": (_hidden_mean, KEYS),
    "prefix_hidden_state_row": (_hidden_state_row, KEYS),
    "prefix_key_layer*": (_cached, KEYS),
    "prefix_value_layer*": (_cached, KEYS),
    "attn_prefix_mean_all": (_prefix_all, ATTENTION),
    "attn_prefix_mean_text": (_prefix_text, ATTENTION),
    "attn_prefix_last": (_prefix_last, ATTENTION),
    "attn_prefix_last_text": (_prefix_last_text, ATTENTION),
    "attn_action_mean": (_action_mean, ATTENTION),
    "attn_state_row": (_state_row, ATTENTION),
    "attn_action_first_row_all_keys": (_all_keys, ATTENTION),
    "attn_action_first_row_prefix_keys": (_all_keys, ATTENTION),
    "attn_action_last_row_prefix_keys": (_all_keys, ATTENTION),
    "flow_times": (_flow_times, 1e-6),
    "x_t": (_samples, ACTIONS),
    "velocity_first": (_velocity, VELOCITY),
    "velocity_last": (_velocity, VELOCITY),
    "adarms_cond": (_conditions, TOKENS),
    "suffix_embeddings_first": (_suffix_embeddings, TOKENS),
    "expert_hidden_before_norm_first": (_expert_hidden, KEYS),
    "expert_layer_is_self_attention": (_cross_layers, EXACT),
    "expert_cross_key_layer*": (_cross_key, KEYS),
    "actions_normalized": (_normalized, ACTIONS),
    "actions": (_actions, ACTIONS),
    "select_action_first": (_actions, ACTIONS),
    "pruned_actions_normalized": (_pruned_actions, ACTIONS),
}
"""Array -> how it is compared, and the tolerance; a * stands for a layer's number."""


def find_quantity(name: str) -> tuple[Callable, float] | None:
    """Return how an array is compared and the tolerance, None if its name is unknown."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    patterns = (pattern for pattern in QUANTITIES if pattern.endswith("*"))
    return next((QUANTITIES[p] for p in patterns if fnmatchcase(name, p)), None)
