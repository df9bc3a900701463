"""Training runs resume exactly; their batches are what the policy will see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("metaworld", reason="demonstrations come from the simulator")

from training_helpers import CPU, settings

from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.training import layout
from vla_pruner_lab.training.augmentation import change_colours, random_window, stored_size
from vla_pruner_lab.training.batches import (
    CAMERAS,
    draw_frames,
    encode_actions,
    normalize_actions,
    task_shares,
)
from vla_pruner_lab.training.initial_weights import spread_layers
from vla_pruner_lab.training.network import TrainingNetwork
from vla_pruner_lab.training.precision import Float32Attention
from vla_pruner_lab.training.settings import FAMILIES, Limits
from vla_pruner_lab.training.train import Training, main
from vla_pruner_ros.models.actions import ActionTokens, Bounds
from vla_pruner_ros.models.checkpoints import read_json
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.oft_images import ImagePath
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.untrained import UNNORM_KEY, VOCABULARY, write_tokenizer
from vla_pruner_ros.pruning.config import PruningConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_falls_and_the_checkpoint_acts(family, demonstrations, tmp_path):
    # Of a vocabulary of 32064, all equal at first, 256 ids have to rise: that takes long steps.
    rate = {"openvla": 1e-2, "openvla_oft": 2e-3}[family]
    config = settings(family, steps=20, batch_size=2, learning_rate=rate, augment=False)
    training = Training(config, demonstrations, tmp_path / "run", CPU, resume=False)
    assert training.run(Limits(log_every=1))
    recorded = losses(tmp_path / "run")
    assert len(recorded) == 20
    assert np.mean(recorded[-3:]) < 0.9 * np.mean(recorded[:3])
    policy = load_policy(training.checkpoint, pruning=PruningConfig(keep_ratio=0.25))
    assert policy.family == family
    assert policy.trained
    frame = Demonstrations(demonstrations, cameras=CAMERAS[family])[0]
    state = frame.joints if policy.state_dim else None
    chunk = policy.act(Observation(frame.images, frame.instruction, state))
    assert chunk.actions.shape == (policy.chunk_size, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_run_equals_an_uninterrupted_one(family, demonstrations, tmp_path):
    whole = Training(settings(family), demonstrations, tmp_path / "whole", CPU, resume=False)
    assert whole.run(Limits(log_every=1))
    part = Training(settings(family), demonstrations, tmp_path / "parts", CPU, resume=False)
    assert not part.run(Limits(log_every=1, minutes=0.0))
    rest = Training(settings(family), demonstrations, tmp_path / "parts", CPU, resume=True)
    assert rest.step == 1
    assert rest.run(Limits(log_every=1))
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    weights = [dict(run.network.named_parameters()) for run in (whole, rest)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        assert torch.equal(whole.average.weights[name], rest.average.weights[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_another_family_is_a_start(family, demonstrations, tmp_path):
    """Towers, projector, embeddings and decoder come from the given checkpoint, and stay noted."""
    first = next(other for other in FAMILIES if other != family)
    before = Training(settings(first, steps=1), demonstrations, tmp_path / "1", CPU, resume=False)
    before.run(Limits())
    config = settings(family, steps=1, initial=str(before.checkpoint))
    after = Training(config, demonstrations, tmp_path / "2", CPU, resume=False)
    shared = dict(before.network.named_parameters()).keys() & dict(after.network.named_parameters())
    assert len(shared) > 50
    given = dict(TrainingNetwork.load(before.checkpoint, CPU).named_parameters())
    for name, parameter in after.network.named_parameters():
        if name in shared:
            assert torch.equal(parameter, given[name]), name
            assert torch.equal(after.average.weights[name], given[name]), name
    after.run(Limits())
    noted = read_json(after.checkpoint / "config.json")["vla_pruner_ros"]
    assert noted["started_from"]["steps"] == 1
    again = Training(config, demonstrations, tmp_path / "2", CPU, resume=True)
    name = next(name for name in shared if name.endswith("q_proj.weight"))
    assert not torch.equal(again.network.get_parameter(name), given[name])


def test_a_start_keeps_what_its_numbers_mean(demonstrations, tmp_path):
    """Its statistics are taken over: measured anew they would change every action a little."""
    first = Training(settings("openvla", steps=1), demonstrations, tmp_path / "1", CPU, False)
    first.run(Limits())
    path = first.checkpoint / "dataset_statistics.json"
    statistics = read_json(path)
    statistics[UNNORM_KEY]["action"]["q99"][0] = 0.5
    path.write_text(json.dumps(statistics))
    config = settings("openvla_oft", steps=1, initial=str(first.checkpoint))
    after = Training(config, demonstrations, tmp_path / "2", CPU, resume=False)
    assert read_json(after.start / "dataset_statistics.json") == statistics
    path.write_text(json.dumps({"bridge_orig": statistics[UNNORM_KEY]}))
    with pytest.raises(ValueError, match="has no statistics named"):
        Training(config, demonstrations, tmp_path / "3", CPU, resume=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_grown_decoder_computes_what_the_smaller_one_did(family, demonstrations, tmp_path):
    small = Training(settings(family, steps=1), demonstrations, tmp_path / "1", CPU, False)
    small.run(Limits())
    config = settings(family, initial=str(small.checkpoint), augment=False)
    config = replace(config, size=replace(config.size, layers=9))
    large = Training(config, demonstrations, tmp_path / "2", CPU, False)
    batch = large.source[0]
    before = TrainingNetwork.load(small.checkpoint, CPU)(batch, batch.patches.float())
    assert torch.equal(large.network(batch, batch.patches.float()), before)
    inserted = large.network.model.language_model.model.layers[1]
    outputs = inserted.self_attn.o_proj.weight, inserted.mlp.down_proj.weight
    assert not any(weight.any() for weight in outputs)
    large.run(Limits())
    assert all(weight.any() for weight in outputs), "they learn"
    config = settings(family, initial=str(large.checkpoint))
    with pytest.raises(ValueError, match="9 decoder layers, the run 4"):
        Training(config, demonstrations, tmp_path / "3", CPU, False)


@given(given_layers=st.integers(1, 12), more=st.integers(0, 24))
def test_layers_are_spread_evenly(given_layers, more):
    sources = spread_layers(given_layers, given_layers + more)
    assert sources == sorted(sources)
    assert set(sources) == set(range(given_layers))
    inserted = [sources.count(number) - 1 for number in range(given_layers)]
    assert given_layers == 1 or inserted[0] == 0, "the first layer stays the first"
    between = inserted[1:] or [0]
    assert max(between) - min(between) <= 1


def test_attention_is_float32_within_bfloat16():
    query, key, value = torch.randn(3, 1, 2, 5, 8).bfloat16().unbind()
    with torch.autocast("cpu", torch.bfloat16), Float32Attention():
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        product = mixed @ mixed.transpose(2, 3)
    exact = F.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), is_causal=True
    )
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact)
    assert product.dtype == torch.bfloat16, "everything else stays in bfloat16"


def test_a_start_with_another_tokenizer_is_refused(demonstrations, tmp_path):
    first = Training(settings("openvla", steps=1), demonstrations, tmp_path / "1", CPU, False)
    first.run(Limits())
    write_tokenizer(first.checkpoint, ["fold the towel"])
    config = settings("openvla", steps=1, initial=str(first.checkpoint))
    with pytest.raises(ValueError, match="another tokenizer"):
        Training(config, demonstrations, tmp_path / "2", CPU, resume=False)


def test_batches_depend_on_seed_and_step_alone(demonstrations, tmp_path):
    training = Training(settings("openvla"), demonstrations, tmp_path, CPU, resume=False)
    in_process = list(training._loader(workers=0))
    in_others = list(training._loader(workers=2))
    for one, other in zip(in_process, in_others, strict=True):
        assert torch.equal(one.patches, other.patches)
        assert torch.equal(one.ids, other.ids)
    assert not torch.equal(in_process[0].patches, in_process[1].patches)


def test_a_run_is_not_overwritten_or_resumed_with_other_settings(demonstrations, tmp_path):
    first = Training(settings("openvla", steps=1), demonstrations, tmp_path, CPU, resume=False)
    first.run(Limits())
    with pytest.raises(FileExistsError, match="--resume"):
        Training(settings("openvla", steps=1), demonstrations, tmp_path, CPU, resume=False)
    with pytest.raises(ValueError, match="begun with"):
        Training(settings("openvla", steps=2), demonstrations, tmp_path, CPU, resume=True)


def test_a_run_from_before_a_setting_existed_is_resumed(demonstrations, tmp_path):
    first = Training(settings("openvla", steps=2), demonstrations, tmp_path, CPU, resume=False)
    first.save()
    described = json.loads((tmp_path / "settings.json").read_text())
    del described["task_weights"]
    (tmp_path / "settings.json").write_text(json.dumps(described))
    Training(settings("openvla", steps=2), demonstrations, tmp_path, CPU, resume=True)
    weighted = settings("openvla", steps=2, task_weights={"drawer-close": 2.0})
    with pytest.raises(ValueError, match="begun with"):
        Training(weighted, demonstrations, tmp_path, CPU, resume=True)


def test_tasks_are_drawn_by_their_weights():
    shares = task_shares(["a", "b", "c"], {"b": 2.0, "c": 0.5})
    np.testing.assert_allclose(shares, [2 / 7, 4 / 7, 1 / 7])
    frames = [np.arange(10), np.arange(10, 11), np.arange(20, 40)]
    drawn = np.array(draw_frames(frames, shares, 7000, np.random.default_rng(0)))
    counts = [np.isin(drawn, own).sum() for own in frames]
    np.testing.assert_allclose(counts, 7000 * shares, rtol=0.06)
    assert len(np.unique(drawn)) == 31  # every frame of every task


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"push": 2.0}, "only of a, b"), ({"a": 0.0}, "above 0"), ({"b": float("nan")}, "above 0")],
)
def test_weights_that_draw_nothing_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        task_shares(["a", "b"], weights)


@pytest.mark.parametrize(
    ("given", "reason"),
    [("handle-pres=2", "unknown task 'handle-pres'"), ("reach", "TASK=WEIGHT"), ("reach=x", "'x'")],
)
def test_weights_that_cannot_be_read_are_named(given, reason, capsys):
    with pytest.raises(SystemExit):
        main(["--family", "openvla", "--steps", "1", "--out", "none", "--task-weights", given])
    printed = capsys.readouterr().err
    assert "--task-weights" in printed
    assert reason in printed


def test_state_cut_short_between_two_moves_is_found_again(demonstrations, tmp_path):
    first = Training(settings("openvla", steps=1), demonstrations, tmp_path, CPU, resume=False)
    first.run(Limits())
    (tmp_path / "state").rename(tmp_path / "state.old")
    again = Training(settings("openvla", steps=1), demonstrations, tmp_path, CPU, resume=True)
    assert again.step == 1


def test_action_tokens_invert_decoding():
    tokens = ActionTokens(VOCABULARY)
    values = np.linspace(-1.2, 1.2, 4001)
    ids = encode_actions(tokens, values)
    assert ids.min() == VOCABULARY - 256
    assert ids.max() == VOCABULARY - 1
    error = np.abs(tokens.decode(ids) - np.clip(values, -1, 1))
    assert error.max() <= 1 / 255 + 1e-9
    assert np.array_equal(encode_actions(tokens, tokens.centres), VOCABULARY - 1 - np.arange(255))


def test_statistics_survive_what_never_moves(demonstrations):
    statistics = layout.measure_statistics(Demonstrations(demonstrations))
    bounds = Bounds(statistics["action"], "test")
    actions = Demonstrations(demonstrations).actions
    normalized = normalize_actions(bounds, actions)
    assert np.isfinite(normalized).all()
    assert np.abs(normalized).max() <= 1.0
    assert not normalized[:, 3:6].any()  # the simulated arm does not turn
    inside = np.abs(normalized[:, :3]) < 1.0
    back = bounds.to_units(normalized)[:, :3]
    np.testing.assert_allclose(back[inside], actions[:, :3][inside], atol=1e-7)
    proprio = statistics["proprio"]
    assert (np.subtract(proprio["q99"], proprio["q01"]) >= layout.SMALLEST_RANGE - 1e-12).all()


def test_the_expert_still_succeeds_through_action_tokens(demonstrations, tmp_path):
    """Simulate a perfect OpenVLA: statistics, bins and gripper lose nothing that matters."""
    from vla_pruner_lab.rollout.episode import ExpertAgent, run_episode
    from vla_pruner_ros.sim.robot import SimulatedRobot

    training = Training(settings("openvla"), demonstrations, tmp_path, CPU, resume=False)
    bounds, tokens = training.source.action_bounds, training.source.tokens

    class TokenisedExpert(ExpertAgent):
        def actions(self, state):
            ids = encode_actions(tokens, normalize_actions(bounds, super().actions(state)))
            return bounds.to_units(tokens.decode(ids))

    robot = SimulatedRobot("drawer-close", image_size=(16, 16))
    assert run_episode(robot, TokenisedExpert(), seed=1, max_actions=100).success


def test_colours_are_seeded_and_stay_near_the_image():
    patches = torch.full((2, 1, 256, 14, 14, 3), 100, dtype=torch.uint8)
    patches[:, :, 120:140] = 200
    first, again, other = (
        change_colours(patches, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == patches.shape
    assert first.min() >= 0
    assert first.max() <= 255
    assert (first[:, :, 125].mean() - first[:, :, 2].mean()) > 40


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_cover_the_image_and_its_middle_is_what_the_policy_sees(family):
    ramp = np.broadcast_to(np.arange(224, dtype=np.uint8)[:, None, None], (224, 224, 3))
    side, resize = stored_size(family, augmented=True)
    stored = resize(np.ascontiguousarray(ramp))
    assert stored.shape == (side, side, 3)
    rng = np.random.default_rng(0)
    tops = [int(random_window(stored, family, rng)[0, 0, 0]) for _ in range(50)]
    assert min(tops) == 0
    assert 5 <= max(tops) <= 12
    if family == "openvla_oft":
        middle = (side - 224) // 2
        seen = ImagePath()(np.ascontiguousarray(ramp)).astype(int)
        assert np.abs(stored[middle:, middle:][:224, :224] - seen).max() <= 2


def test_all_patches_are_seen_from_the_given_share_of_the_steps(demonstrations, tmp_path):
    config = settings("openvla", visual_tokens=16, full_from=0.5)
    source = Training(config, demonstrations, tmp_path, CPU, resume=False).source
    assert [source[step].places.shape[2] for step in range(4)] == [16, 16, 256, 256]


@pytest.mark.parametrize("family", FAMILIES)
def test_standard_size_fits_in_twenty_megabytes(family, demonstrations, tmp_path):
    statistics = layout.measure_statistics(Demonstrations(demonstrations))
    layout.write_start(tmp_path, family, layout.STANDARD_SIZE, statistics, seed=0)
    assert 12e6 < layout.directory_bytes(tmp_path) <= 20e6
    assert read_json(tmp_path / "config.json")["norm_stats"][UNNORM_KEY] == statistics


def test_command_line_trains_and_tells_how_to_go_on(demonstrations, tmp_path, capsys):
    shape = ("--hidden", "32", "--heads", "4", "--layers", "4", "--mlp", "64")
    common = ["--data", str(demonstrations), "--out", str(tmp_path), *shape, "--batch-size", "2"]
    begin = ["--family", "openvla", "--steps", "3", *common]
    assert main([*begin, "--minutes", "0"]) == 0
    assert "--resume" in capsys.readouterr().out
    assert main(begin) == 2
    assert main([*begin, "--initial", str(tmp_path / "nowhere"), "--out", str(tmp_path / "b")]) == 2
    assert main([*begin, "--resume"]) == 0
    assert "step 3" in capsys.readouterr().out
