"""pi0, pi0.5 and SmolVLA against recordings of LeRobot's own code, array by array.

A folder holds cases.json, caseN.npz, checkpoint/, a folder overlay_caseN/ for another robot,
images/, and the tokenizer in tokenizer/ or vlm/. Widths, depth and key layout are read from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vla_pruner_lab.conformance.flow_case import FlowCase, assembled
from vla_pruner_lab.conformance.flow_quantities import find_quantity
from vla_pruner_lab.conformance.recordings import EXACT, Comparison
from vla_pruner_ros.models.checkpoints import read_optional_json

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
        with assembled(folder, case["case"]) as checkpoint:
            _compare_case(FlowCase.run(folder, checkpoint, case, official), comparison)


def _compare_case(case: FlowCase, comparison: Comparison) -> None:
    prompt = case.case.get("prompt")
    if prompt is not None:
        comparison.add_error("prompt text", float(_prompt_text(case) != prompt), EXACT)
    for name in case.official:
        quantity = find_quantity(name)
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


def _prompt_text(case: FlowCase) -> str:
    texts: list[str] = []
    policy, tokenize = case.policy, case.policy.tokenize
    policy.tokenize = lambda text: texts.append(text) or tokenize(text)
    try:
        policy._prepare(case.observation)
    finally:
        policy.tokenize = tokenize
    return texts[0]
