"""pi0, pi0.5 and SmolVLA against recordings of LeRobot's own code, array by array.

A folder holds cases.json, caseN.npz, checkpoint/, a folder overlay_caseN/ for another robot,
images/, and the tokenizer in tokenizer/ or vlm/. Widths, depth and key layout are read from it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_lab.common.golden import load_image
from vla_pruner_lab.conformance.flow_recorder import FlowRecord, record
from vla_pruner_lab.conformance.probing import LayerAttention, read_attention
from vla_pruner_lab.conformance.recordings import EXACT, Comparison
from vla_pruner_ros.models.checkpoints import read_optional_json
from vla_pruner_ros.models.flow_policy import FlowPolicy
from vla_pruner_ros.models.lerobot.features import Features
from vla_pruner_ros.models.lerobot.prompts import state_bins
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.token_selection import Selection

PIXELS, TOKENS, KEYS, ATTENTION, VELOCITY, ACTIONS = 2e-5, 5e-5, 5e-4, 5e-5, 1e-3, 3e-4
"""Tolerances; LeRobot's code itself moves by a tenth of these between float32 and float64."""
LEAST_SPREAD = 1e-6
"""A number of the action that varies less than this is compared in the robot's units."""
TOKENIZERS = ("tokenizer", "vlm")
GIVEN = "an input of the recorded run"
LAST_LAYER = "without the language model's last layer, of which keys and values alone are run"
NOT_COMPARED = {
    "state": GIVEN,
    "noise": GIVEN,
    "pruned_layer": GIVEN,
    "pruned_kept": GIVEN,
}
"""Arrays that are no result of ours, and why."""
PARTLY = {
    "attn_prefix_mean_all": LAST_LAYER,
    "attn_prefix_mean_text": LAST_LAYER,
    "attn_prefix_last": LAST_LAYER,
    "attn_prefix_last_text": LAST_LAYER,
    "prefix_hidden_last_row": "without the last layer's output, which is not run",
    "prefix_hidden_mean_valid": "without the last layer's output, which is not run",
    "prefix_hidden_last_text_row": "without the last layer's output, which is not run",
    "prefix_hidden_state_row": "without the last layer's output, which is not run",
    "visual_tokens": "without cameras that are absent: they take no tokens here",
    "pixel_values_grid": "without cameras that are absent",
    "pixel_values_row_mean": "without cameras that are absent",
    "pixel_values_col_mean": "without cameras that are absent",
    "visual_positions": "without cameras that are absent",
    "input_ids": "without padding: it is left out here",
    "prefix_position_ids": "without positions that take no part",
    "prefix_block_mask": "without positions that take no part",
}
"""Arrays of which a part has no counterpart here, and which."""


def compare_model(directory: Path, comparison: Comparison) -> None:
    """Compare every case of directory / section; the section is the comparison's."""
    folder = directory / comparison.section
    recorded = read_optional_json(folder / "arrays.json").get("files", {})
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        with np.load(folder / f"case{case['case']}.npz") as arrays:
            official = dict(arrays)
        names = recorded.get(f"case{case['case']}.npz", official)
        comparison.expect(*(name for name in names if name not in NOT_COMPARED))
        with _assembled(folder, case["case"]) as checkpoint:
            _compare_case(_Case.run(folder, checkpoint, case, official), comparison)


@contextmanager
def _assembled(folder: Path, number: int) -> Iterator[Path]:
    """The checkpoint with the files of the case's robot laid over it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for source in (folder / "checkpoint", folder / f"overlay_case{number}"):
            for path in sorted(source.iterdir()) if source.is_dir() else ():
                target = directory / path.name
                target.unlink(missing_ok=True)
                target.symlink_to(path.resolve())
        yield directory


@dataclass
class _Case:
    """One case: the recorded arrays, and our run of it."""

    policy: FlowPolicy
    case: dict
    official: dict[str, np.ndarray]
    observation: Observation
    seen: FlowRecord
    actions: np.ndarray
    attention: LayerAttention
    by_step: Tensor
    pruned: Tensor

    @classmethod
    def run(cls, folder: Path, checkpoint: Path, case: dict, official: dict) -> _Case:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        tokenizer = next(folder / name for name in TOKENIZERS if (folder / name).is_dir())
        policy = load_policy(
            checkpoint,
            device="cpu",
            dtype="float32",
            pruning=PruningConfig(keep_ratio=1.0),
            tokenizer=tokenizer,
        )
        policy.decoder.noise = torch.from_numpy(official["noise"])
        cameras = Features.read(config).cameras
        paths = [case["images"].get(name) for name in cameras]
        images = [None if path is None else load_image(folder / path) for path in paths]
        whole = Observation(images, case["task"], official["state"])
        observation = policy.with_present_cameras(whole)
        everywhere = tuple(range(policy.spec.num_layers))
        plan = replace(policy.unpruned_plan(), action_layers=everywhere)
        seen, actions = record(policy, observation, plan)
        attention = read_attention(policy, observation)
        return cls(
            policy,
            case,
            official,
            observation,
            seen,
            actions,
            attention,
            _by_step(policy, seen),
            _pruned(policy, observation, official),
        )

    @property
    def order(self) -> Tensor:
        """Rows of our prefix in the official order, which is that of their positions."""
        return self.seen.positions.argsort()

    @property
    def prompt(self):
        return self.seen.calls["prompt"][0]

    @property
    def real(self) -> np.ndarray:
        """Official places of the prefix that take part, in the order of their positions."""
        return np.flatnonzero(self.official["prefix_pad_mask"])

    def visual(self, name: str) -> np.ndarray:
        """An official array over visual tokens without those of absent cameras, which are last."""
        return self.official[name][..., : self.policy.num_visual]

    def absent_are_zero(self, name: str) -> float:
        """Largest official value on tokens of absent cameras."""
        return float(np.abs(self.official[name][..., self.policy.num_visual :]).max(initial=0.0))


def _by_step(policy: FlowPolicy, seen: FlowRecord) -> Tensor:
    """Attention of the action rows by flow step: [steps, layers, M]."""
    layers, rows = policy.spec.num_layers, policy.chunk_size
    maps = [weights().mean(dim=0)[:, : policy.num_visual] for weights in seen.expert]
    of_actions = [one.mean(dim=0) for one in maps if one.shape[0] == rows]
    return torch.stack(of_actions).unflatten(0, (-1, layers))


def _pruned(policy: FlowPolicy, observation: Observation, official: dict) -> Tensor:
    kept = official["pruned_kept"]
    kept = torch.from_numpy(kept[kept < policy.num_visual])
    layer = int(official["pruned_layer"])
    plan = replace(policy.unpruned_plan(), full=False, keep=len(kept), prune_layer=layer)
    return policy.run(observation, plan, lambda signals: Selection(kept))[0].raw


def _compare_case(case: _Case, comparison: Comparison) -> None:
    prompt = case.case.get("prompt")
    if prompt is not None:
        comparison.add_error("prompt text", float(_prompt_text(case) != prompt), EXACT)
    for name in case.official:
        quantity = _find(name)
        if name in NOT_COMPARED:
            comparison.leave_out(name, NOT_COMPARED[name])
        elif quantity is None:
            comparison.leave_out(name, "unknown to this program")
        else:
            compare, tolerance = quantity
            ours, official = compare(case, name)
            comparison.add(name, ours, official, tolerance)
        if name in PARTLY:
            comparison.note(name, PARTLY[name])


def _prompt_text(case: _Case) -> str:
    texts: list[str] = []
    policy, tokenize = case.policy, case.policy.tokenize
    policy.tokenize = lambda text: texts.append(text) or tokenize(text)
    try:
        policy._prepare(case.observation)
    finally:
        policy.tokenize = tokenize
    return texts[0]


# -- one function a quantity: our values, and the official ones they are compared with ----------


def _pixels(case: _Case) -> np.ndarray:
    return case.seen.given["vision"][0].numpy()


def _pixel_grid(case: _Case, name: str):
    official, ours = case.official[name], _pixels(case)
    step = -(-ours.shape[-1] // official.shape[-1])
    return ours[..., ::step, ::step], official[: len(ours)]


def _pixel_rows(case: _Case, name: str):
    ours = _pixels(case).astype(np.float64)
    axis = -1 if name.endswith("row_mean") else -2
    return ours.mean(axis=axis), case.official[name][: len(ours)]


def _first_camera(case: _Case, name: str):
    ours, official = _pixels(case)[0], case.official[name]
    start = 0 if official.shape == ours.shape else 200
    return ours[:, start : start + official.shape[1]], official


def _image_masks(case: _Case, name: str):
    present = np.arange(len(case.official[name])) < len(case.policy.cameras)
    return present, case.official[name]


def _vision(case: _Case, name: str):
    ours, official = case.seen.made["vision_tower"][0][0], case.official[name]
    if name.endswith("mean"):
        return ours.mean(dim=0), official
    return ours[: len(official)], official


def _connector(case: _Case, name: str):
    return case.seen.made["connector"][0][0], case.official[name]


def _embeddings(case: _Case) -> Tensor:
    return case.prompt.embeddings[0]


def _visual_tokens(case: _Case, name: str):
    ours = case.prompt.visual.of(_embeddings(case), 0)
    return ours, case.official[name][: len(ours)]


def _text_embeddings(case: _Case, name: str):
    return case.prompt.text.of(_embeddings(case), 0), case.official[name]


def _state_embedding(case: _Case, name: str):
    return _embeddings(case)[-1], case.official[name]


def _ids(case: _Case, name: str):
    mask = case.official["attention_mask"][0]
    ids = case.policy._prepare(case.observation).ids
    return ids, case.official["input_ids"][0][mask]


def _real_ids(case: _Case, name: str):
    length = case.prompt.text.size
    return [np.arange(case.official[name].shape[1]) < length], case.official[name]


def _state_normalized(case: _Case, name: str):
    return case.policy.statistics.state.normalize(case.official["state"]), case.official[name]


def _state_padded(case: _Case, name: str):
    return case.policy._prepare(case.observation).state[0], case.official[name]


def _state_bins(case: _Case, name: str):
    return state_bins(_state_normalized(case, name)[0]), case.official[name]


def _pad_mask(case: _Case, name: str):
    """As many places take part as rows run here, and they are those of cameras, text and state."""
    official = case.official[name]
    ours = np.zeros(len(official), bool)
    ours[case.real] = np.arange(len(case.real)) < case.prompt.length
    return [ours.sum(), case.prompt.length], [official.sum(), official.sum()]


def _position_ids(case: _Case, name: str):
    return case.seen.positions.sort().values, case.official[name][case.real]


def _block_mask(case: _Case, name: str):
    """A row that those before it do not see begins a block."""
    hidden = ~case.prompt.visible[0]
    return hidden[case.order], case.official[name][case.real]


def _places(case: _Case, span) -> np.ndarray:
    return case.real[span.of(case.seen.positions, 0).numpy()]


def _visual_positions(case: _Case, name: str):
    ours = _places(case, case.prompt.visual)
    return ours, case.official[name][: len(ours)]


def _text_positions(case: _Case, name: str):
    return _places(case, case.prompt.text), case.official[name]


def _state_position(case: _Case, name: str):
    return case.real[int(case.seen.positions[-1])], case.official[name]


def _hidden(case: _Case, row: Callable[[Tensor], Tensor], name: str):
    layers = case.policy.spec.num_layers
    rows = [row(case.seen.given[f"prefix {layer}"][0][0]) for layer in range(layers)]
    return torch.stack(rows), case.official[name][:layers]


def _hidden_last_row(case: _Case, name: str):
    return _hidden(case, lambda hidden: hidden[case.prompt.text.stop - 1], name)


def _hidden_mean(case: _Case, name: str):
    return _hidden(case, lambda hidden: hidden.mean(dim=0), name)


def _hidden_state_row(case: _Case, name: str):
    return _hidden(case, lambda hidden: hidden[-1], name)


def _cached(case: _Case, name: str):
    kind, _, layer = name.removeprefix("prefix_").partition("_layer")
    held = case.seen.keys if kind == "key" else case.seen.values
    return held[int(layer)][:, case.order], case.official[name]


def _prefix_all(case: _Case, name: str):
    return case.attention.all_rows, case.visual(name)[:-1]


def _prefix_text(case: _Case, name: str):
    return case.attention.text_rows, case.visual(name)[:-1]


def _prefix_last_text(case: _Case, name: str):
    return case.attention.last_rows, case.visual(name)[:-1]


def _prefix_last(case: _Case, name: str):
    """The last row that takes part: the state's in SmolVLA, the last text token's elsewhere."""
    if case.prompt.text.stop == case.prompt.length:
        return _prefix_last_text(case, name)
    rows = [weights()[:, -1, : case.policy.num_visual].mean(dim=0) for weights in case.seen.prefix]
    return torch.stack(rows), case.visual(name)[:-1]


def _action_mean(case: _Case, name: str):
    return case.by_step, case.visual(name)


def _state_row(case: _Case, name: str):
    layers = case.policy.spec.num_layers
    rows = [weights()[:, 0, : case.policy.num_visual].mean(dim=0) for weights in case.seen.expert]
    return torch.stack(rows[:layers]).expand(len(case.official[name]), -1, -1), case.visual(name)


def _first_step_maps(case: _Case) -> list[Tensor]:
    """Head-mean attention of the first flow step's action rows, a map a layer."""
    layers, rows = case.policy.spec.num_layers, case.policy.chunk_size
    maps = [weights().mean(dim=0) for weights in case.seen.expert]
    return [one for one in maps if one.shape[0] == rows][:layers]


def _all_keys(case: _Case, name: str):
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


def _flow_times(case: _Case, name: str):
    from vla_pruner_ros.models.decoder.flow_matching import flow_times

    return flow_times(len(case.official[name])), case.official[name]


def _samples(case: _Case, name: str):
    return torch.cat([*case.seen.given["actions"], case.seen.raw]), case.official[name]


def _velocity(case: _Case, name: str):
    calls = case.seen.made["action_out_proj"]
    return calls[0 if name.endswith("first") else -1][0], case.official[name]


def _conditions(case: _Case, name: str):
    return case.policy.decoder.expert.conditions, case.official[name]


def _suffix_embeddings(case: _Case, name: str):
    made = case.seen.made
    parts = [made.get("action_time_mlp_out", made["action_in_proj"])[0][0]]
    if len(case.official[name]) > len(parts[0]):  # pi0's state
        parts.insert(0, made["state_proj"][0][0])
    return torch.cat(parts), case.official[name]


def _expert_hidden(case: _Case, name: str):
    calls = case.seen.calls["_run"]
    parts = calls[:1] if calls[0].shape[1] == case.policy.chunk_size else calls[:2]
    return torch.cat([part[0] for part in parts]), case.official[name]


def _cross_layers(case: _Case, name: str):
    return ~np.array(case.policy.network.shape.cross), case.official[name]


def _cross_key(case: _Case, name: str):
    layer = int(name.removeprefix("expert_cross_key_layer").split("_")[0])
    key, _ = case.seen.calls["_project_prefix"][0][layer]
    return key[0][:, case.order], case.official[name]


def _normalized(case: _Case, name: str):
    official = case.official[name]
    return case.seen.raw[0][:, : official.shape[1]], official


def _actions(case: _Case, name: str):
    """In units of the statistics' spread, so that one tolerance serves all robots."""
    official = case.official[name]
    spread = case.policy.statistics.action.spread_back
    spread = np.where(np.abs(spread) > LEAST_SPREAD, spread, 1.0)
    return case.actions[: len(official)] / spread, official / spread


def _pruned_actions(case: _Case, name: str):
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


def _find(name: str) -> tuple[Callable, float] | None:
    from fnmatch import fnmatchcase

    if name in QUANTITIES:
        return QUANTITIES[name]
    patterns = (pattern for pattern in QUANTITIES if pattern.endswith("*"))
    return next((QUANTITIES[p] for p in patterns if fnmatchcase(name, p)), None)
