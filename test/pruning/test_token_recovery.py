"""Lock-in and its remedies: when a token that was pruned comes back."""

from __future__ import annotations

from pruning_streams import NUM_VISUAL, Scene, action_relevance, kept, make, remember

from vla_pruner_ros.pruning import PruningState


def stream_with_a_switch(state: PruningState) -> list[set[int]]:
    """The target moves from tokens 0..7 to 56..63, which the prompt never speaks of."""
    scene = Scene(target=list(range(8)), semantic=list(range(20, 36)))
    sets = [kept(state, scene) for _ in range(12)]
    scene.target = list(range(56, 64))
    return sets + [kept(state, scene) for _ in range(12)]


NEW_TARGET = set(range(56, 64))


def test_a_token_pruned_for_long_cannot_return_through_the_action_set():
    sets = stream_with_a_switch(make())
    assert all(not NEW_TARGET & chosen for chosen in sets[8:])


def test_early_layers_bring_a_pruned_token_back():
    sets = stream_with_a_switch(make(token_recovery="early_layers", method="action_only"))
    assert not sets[11] >= NEW_TARGET
    assert sets[14] >= NEW_TARGET, "within two steps of the switch"
    both = stream_with_a_switch(make(token_recovery="early_layers"))
    assert all(len(NEW_TARGET & chosen) >= 4 for chosen in both[16:])


def test_a_refresh_step_brings_a_pruned_token_back():
    state = make(token_recovery="refresh", refresh_period=5, method="action_only")
    sets = stream_with_a_switch(state)
    full = [index for index, chosen in enumerate(sets) if len(chosen) == NUM_VISUAL]
    assert full == [0, 1, 2, 7, 12, 17, 22]
    assert all(chosen >= NEW_TARGET for chosen in sets[13:])
    lost = stream_with_a_switch(make(method="action_only"))
    assert all(not NEW_TARGET & chosen for chosen in lost[8:])


def test_early_layers_keep_both_kinds_of_relevance_comparable():
    """A dropped token that early layers see like a kept one gets a relevance like it."""
    state = make(token_recovery="early_layers", history_fill="semantic", temporal_window=1)
    scene = Scene([], [])
    for _ in range(2):
        plan = state.plan()
        selection = state.select(plan, scene.signals())
        rows = scene.action_rows(plan.action_layers, plan.prune_layer, selection)
        rows[:3] *= 0.01  # early layers spend most attention elsewhere
        remember(state, rows, plan, selection)
    relevance = action_relevance(state)
    assert relevance.max() / relevance.min() < 1.2
