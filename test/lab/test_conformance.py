"""The conformance command on the recordings of the official code, whole and spoilt."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from model_helpers import golden, rewrite

from vla_pruner_lab.conformance import cli as conformance
from vla_pruner_lab.conformance import openvla
from vla_pruner_lab.conformance.recordings import Comparison

QUANTITIES = {
    "openvla": """prompt ids, pixel values, vision features, visual tokens, hidden states,
        first logits, action logits, top-8 logits, generated ids, normalised actions, actions,
        attention; all prefill rows, attention; action rows, de-tokenised; normalized,
        de-tokenised; unnormalized, ids that are no actions; accepted""",
    "oft": """image crop, image after_jpeg; levels, image after_jpeg; share off,
        image resized_without_jpeg; levels, image resized_without_jpeg; share off,
        image resized; levels, image resized; share off, image final; levels,
        image final; share off, prompt ids, pixel values, vision features, visual tokens,
        normalised state, proprio token, action hidden states, hidden states by layer,
        normalised actions, actions, discrete ids, discrete normalised actions, discrete actions,
        attention; all rows, attention; text rows, attention; action rows""",
    "selection": """semantic topk, action topk, union, greedy order, kept tokens,
        smoothed relevance""",
    "pruner_e2e": """kept tokens, generated ids, actions, first action logits, semantic relevance,
        action relevance""",
    "pi0": """pixel_values_grid, pixel_values_row_mean, pixel_values_col_mean, pixel_values_camera0,
        image_masks, vision_tower_camera0, visual_tokens, text_embeddings, prefix_pad_mask,
        prefix_position_ids, prefix_hidden_last_row, prefix_hidden_mean_valid,
        prefix_key_layer0, prefix_value_layer0, prefix_key_layer3, prefix_value_layer3,
        attn_prefix_mean_all, attn_prefix_mean_text, attn_prefix_last, attn_action_mean,
        attn_action_first_row_all_keys, attn_state_row, flow_times, x_t, velocity_first,
        velocity_last, state_padded, suffix_embeddings_first, expert_hidden_before_norm_first,
        actions_normalized, state_normalized, input_ids, attention_mask, actions,
        select_action_first, pruned_actions_normalized, prompt text""",
    "pi05": """pixel_values_grid, pixel_values_row_mean, pixel_values_col_mean,
        pixel_values_camera0,
        image_masks, vision_tower_camera0, visual_tokens, text_embeddings, prefix_pad_mask,
        prefix_position_ids, prefix_hidden_last_row, prefix_hidden_mean_valid,
        prefix_key_layer0, prefix_value_layer0, prefix_key_layer3, prefix_value_layer3,
        attn_prefix_mean_all, attn_prefix_mean_text, attn_prefix_last, attn_action_mean,
        attn_action_first_row_all_keys, flow_times, x_t, velocity_first, velocity_last,
        adarms_cond, suffix_embeddings_first, expert_hidden_before_norm_first,
        actions_normalized, state_normalized, input_ids, attention_mask, actions,
        select_action_first, pruned_actions_normalized, state_bins, prompt text""",
    "smolvla": """pixel_values_grid, pixel_values_row_mean, pixel_values_col_mean,
        pixel_values_camera0_rows, image_masks, vision_tower_camera0_head,
        vision_tower_camera0_mean, connector_output_camera0, visual_positions, visual_tokens,
        text_positions, text_embeddings, state_position, state_embedding, prefix_pad_mask,
        prefix_block_mask, prefix_position_ids, prefix_hidden_last_text_row,
        prefix_hidden_state_row, prefix_key_layer0, prefix_value_layer0, prefix_key_layer5,
        prefix_value_layer5, attn_prefix_mean_all, attn_prefix_mean_text, attn_prefix_last,
        attn_prefix_last_text, attn_action_mean, attn_action_first_row_prefix_keys,
        attn_action_last_row_prefix_keys, expert_layer_is_self_attention,
        expert_cross_key_layer1_first, flow_times, x_t, velocity_first, velocity_last,
        state_padded, suffix_embeddings_first, expert_hidden_before_norm_first,
        actions_normalized, state_normalized, input_ids, attention_mask, actions,
        select_action_first, pruned_actions_normalized, prompt text""",
}
"""Section -> everything that is compared, with ; for the comma within a name."""


def named(section: str) -> set[str]:
    names = QUANTITIES[section].split(",")
    return {" ".join(name.split()).replace(";", ",") for name in names}


@pytest.mark.parametrize("section", QUANTITIES)
def test_recordings_are_reproduced(section, tmp_path, capsys):
    (tmp_path / section).symlink_to(golden(section))
    if section == "pruner_e2e":  # it was run on OpenVLA's checkpoint
        (tmp_path / "openvla").mkdir()
        (tmp_path / "openvla" / "checkpoint").symlink_to(golden("openvla") / "checkpoint")
    status = conformance.main([str(tmp_path)])
    table = capsys.readouterr().out
    assert status == 0, table
    cells = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    assert {row[1] for row in cells if row[0] == section} == named(section)


def test_a_check_that_dies_is_over(tmp_path, capsys, monkeypatch):
    """The released pruner's action relevance was once not compared any more, unnoticed."""
    for section in ("openvla", "pruner_e2e"):
        (tmp_path / section).mkdir()
    (tmp_path / "openvla" / "checkpoint").symlink_to(golden("openvla") / "checkpoint")
    for path in golden("pruner_e2e").iterdir():
        (tmp_path / "pruner_e2e" / path.name).symlink_to(path)
    dead = property(lambda _: None, lambda *_: None)
    monkeypatch.setattr(openvla._TappedPruner, "action_rows", dead, raising=False)
    assert conformance.main([str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "NOT COMPARED" in line]
    assert len(lines) == 1
    assert "action relevance" in lines[0]


def test_a_wrong_recording_is_over(tmp_path, capsys):
    folder = tmp_path / "selection"
    shutil.copytree(golden("selection"), folder)
    path = folder / "selection_cases.npz"
    arrays = dict(np.load(path))
    path.unlink()
    arrays["case03_kept_sorted"][0] += 1
    np.savez(path, **arrays)
    assert conformance.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "OVER" in line] == [
        line for line in lines if "kept tokens" in line
    ]


def test_other_weights_are_over(tmp_path, capsys):
    folder = tmp_path / "openvla"
    shutil.copytree(golden("openvla"), folder, copy_function=shutil.copyfile)
    for path in (folder, folder / "checkpoint"):
        path.chmod(0o755)

    def nudge(tensors):
        tensors["projector.fc3.bias"] += 1e-3

    rewrite(folder / "checkpoint", nudge)
    assert conformance.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines]
    verdicts = {row[1]: row[-1] for row in cells if len(row) == 6}
    assert verdicts["vision features"] == "ok"
    assert verdicts["visual tokens"] == verdicts["first logits"] == "OVER"


def test_nothing_to_compare_is_said(tmp_path, capsys):
    assert conformance.main([str(tmp_path)]) == 2
    assert "holds none of openvla, oft, selection, pruner_e2e" in capsys.readouterr().err
    (tmp_path / "openvla").mkdir()
    assert conformance.main([str(tmp_path)]) == 2
    assert "cannot be compared" in capsys.readouterr().err


def test_an_error_that_is_no_number_or_of_another_shape_is_over():
    comparison = Comparison("section")
    comparison.add("a", [1.0], [1.0], 0.0)
    comparison.add("b", [np.nan], [1.0], 1.0)
    comparison.add("b", [1.0], [1.0], 1.0)
    comparison.add("c", [1.0, 2.0], [1.0], 1.0)
    comparison.add("d", [1.0], [1.5], 0.4)
    comparison.add("d", [1.0], [1.1], 0.4)
    assert [row.passes for row in comparison.rows] == [True, False, False, False]
    assert [row.cases for row in comparison.rows] == [1, 2, 1, 2]
