"""Every method by name: what it reads, what it keeps."""

from __future__ import annotations

import re

import pytest
import torch

from vla_pruner_ros.pruning import PruningConfig, Signals, find_method, make_method, method_names
from vla_pruner_ros.pruning.config import METHOD_NAMES
from vla_pruner_ros.pruning.methods.sparsevlm import find_raters
from vla_pruner_ros.pruning.methods.uniform import uniform_grid
from vla_pruner_ros.pruning.token_selection import top_k

NUM_VISUAL = 64
PRUNING = [name for name in METHOD_NAMES if name != "full"]


def all_signals(seed: int = 0, device: str = "cpu") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).softmax(dim=-1).to(device)

    return {
        "semantic": draw(NUM_VISUAL),
        "last_row": draw(NUM_VISUAL),
        "text": draw(9, NUM_VISUAL),
        "text_features": draw(9, 16),
        "action": draw(NUM_VISUAL),
        "features": torch.randn(NUM_VISUAL, 16, generator=generator).to(device),
    }


def select(name: str, keep: int, signals: dict[str, torch.Tensor] | None = None, **config):
    method = make_method(PruningConfig(preset="paper", method=name, **config))
    needed = {n: s for n, s in (signals or all_signals()).items() if n in method.needs}
    return method.select(Signals(NUM_VISUAL, **needed), keep)


def test_the_registry_and_the_settings_name_the_same_methods():
    assert method_names() == METHOD_NAMES
    assert METHOD_NAMES[:2] == ("full", "vla_pruner")
    for name in METHOD_NAMES:
        method = find_method(name)
        assert method.name == name == method.__module__.rpartition(".")[2]
        assert method.label
        assert re.fullmatch("#[0-9a-f]{6}", method.colour)


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("keep", [1, 16, NUM_VISUAL])
def test_keeps_the_budget_sorted_from_its_own_signals_alone(name, keep):
    selection = select(name, keep)
    assert selection.kept.dtype == torch.int64
    assert selection.kept.shape == (keep,)
    assert (selection.kept[1:] > selection.kept[:-1]).all()
    assert selection.kept[0] >= 0
    assert selection.kept[-1] < NUM_VISUAL
    for chosen in (selection.semantic_set, selection.action_set):
        assert chosen is None or chosen.shape == (keep,)


@pytest.mark.parametrize("name", PRUNING)
def test_needs_no_look_at_values_and_no_shape_that_depends_on_them(name):
    signals = {n: s.to("meta") for n, s in all_signals().items()}
    method = make_method(PruningConfig(preset="paper", method=name))
    needed = {n: s for n, s in signals.items() if n in method.needs}
    selection = method.select(Signals(NUM_VISUAL, device=torch.device("meta"), **needed), 16)
    assert selection.kept.device.type == "meta"
    assert selection.kept.shape == (16,)


@pytest.mark.parametrize("name", ["vla_pruner", "action_only", "score_fusion"])
def test_without_action_relevance_the_semantic_set_is_kept(name):
    signals = all_signals()
    method = make_method(PruningConfig(preset="paper", method=name))
    needed = {n: signals[n] for n in method.needs_without_history}
    selection = method.select(Signals(NUM_VISUAL, **needed), 16)
    assert torch.equal(selection.kept, top_k(signals["semantic"], 16).sort().values)
    assert selection.action_set is None


@pytest.mark.parametrize(
    ("name", "signal"),
    [("semantic_only", "semantic"), ("action_only", "action"), ("fastv", "last_row")],
)
def test_keeps_the_top_of_its_one_signal(name, signal):
    expected = all_signals()[signal].topk(16).indices.sort().values
    assert torch.equal(select(name, 16).kept, expected)


def test_full_keeps_all():
    assert select("full", NUM_VISUAL).kept.tolist() == list(range(NUM_VISUAL))


def test_score_fusion_weighs_both_relevances_alike_whatever_their_scale():
    signals = all_signals()
    expected = (signals["semantic"] + signals["action"]).topk(16).indices.sort().values
    signals["action"] = signals["action"] * 1000  # each of them sums to 1 before
    assert torch.equal(select("score_fusion", 16, signals).kept, expected)


def test_sparsevlm_listens_to_the_raters_alone():
    features = torch.zeros(NUM_VISUAL, 16)
    features[:, 0] = 1.0
    text_features = torch.zeros(3, 16)
    text_features[1, 0] = 5.0  # the one word that resembles the image
    text = torch.rand(3, NUM_VISUAL)
    signals = {"text": text, "text_features": text_features, "features": features}
    assert find_raters(features, text_features).tolist() == [False, True, False]
    expected = text[1].topk(16).indices.sort().values
    assert torch.equal(select("sparsevlm", 16, signals).kept, expected)


def test_sparsevlm_lets_all_rate_when_all_are_alike():
    for count in range(1, 12):  # the mean of equal numbers may round above them
        assert find_raters(torch.ones(5, 4), torch.ones(count, 4)).all()


def test_divprune_keeps_one_of_each_pair_of_twins_before_the_first_layer():
    early = [name for name in METHOD_NAMES if find_method(name).prunes_before_first_layer]
    assert early == ["dart", "divprune", "text_attention"]
    signals = all_signals()
    signals["features"][1:NUM_VISUAL:2] = signals["features"][0:NUM_VISUAL:2]  # pairs of twins
    kept = select("divprune", NUM_VISUAL // 2, signals).kept
    assert (kept // 2).tolist() == list(range(NUM_VISUAL // 2)), "one of every pair"


def test_random_is_seeded_and_moves_on():
    def sequence(seed: int) -> list[list[int]]:
        method = make_method(PruningConfig(preset="paper", method="random", seed=seed))
        return [method.select(Signals(256), 64).kept.tolist() for _ in range(4)]

    assert sequence(0) == sequence(0)
    assert sequence(0) != sequence(1)
    assert len({tuple(kept) for kept in sequence(0)}) == 4


def test_random_starts_anew_on_reset():
    method = make_method(PruningConfig(preset="paper", method="random"))
    first = method.select(Signals(256), 64).kept
    method.select(Signals(256), 64)
    method.reset()
    assert torch.equal(method.select(Signals(256), 64).kept, first)


def test_random_keeps_every_token_equally_often():
    method = make_method(PruningConfig(preset="paper", method="random"))
    counts = torch.zeros(64)
    for _ in range(800):
        counts[method.select(Signals(64), 16).kept] += 1
    # Binomial(800, 1/4): mean 200, deviation 12.2; five deviations
    assert (counts - 200).abs().max() < 62


def test_uniform_is_a_grid_where_the_budget_is_one():
    rows_columns = [divmod(index, 16) for index in uniform_grid(256, 64, 1)]
    assert rows_columns == [(r, c) for r in range(1, 16, 2) for c in range(1, 16, 2)]


@pytest.mark.parametrize("keep", [1, 5, 17, 32, 100, 255, 256])
def test_uniform_spreads_evenly_over_rows_columns_and_cameras(keep):
    indices = uniform_grid(512, 2 * keep, 2)
    assert indices == sorted(set(indices))
    assert len(indices) == 2 * keep
    assert sum(index < 256 for index in indices) == keep
    top = sum(index < 128 for index in indices)
    assert abs(top - keep / 2) <= 16, "half of a camera's tokens in half of its rows"


def test_uniform_on_patches_that_form_no_square():
    assert uniform_grid(12, 4, 1) == [1, 4, 7, 10]
