"""Work of one inference, FLOPs and bytes, stage by stage and layer by layer.

Counted as this package runs it: selection inside layer K-1, whose attention output and MLP run on
the kept tokens alone; in the last layer only rows that are read; the last block of OpenVLA's vision
towers left out. One multiply-accumulate is two FLOPs, attention counts every query with every key.
Biases, norms, activations and softmax are left out, as in torch.utils.flop_counter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from vla_pruner_lab.latency.model_shapes import DecoderShape, ModelShape
from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import find_method
from vla_pruner_ros.pruning.presets import resolve

STAGES = ("vision", "projector", "prefill", "decode", "head", "selection", "observation")
MODEL_STAGES = STAGES[:5]
"""Stages of the model itself; the others are added by pruning."""
OFT_HEAD_BLOCKS = 2
MAX_ACTION_DIM = 32
"""Width of pi0's states and actions, padded."""


@dataclass(frozen=True)
class Work:
    """One layer's work, or a smaller part's, done in one go.

    weights: parameters read. cached: numbers of keys and values read or written.
    decoder: the weights are a decoder layer's, which weight-only quantisation covers.
    """

    stage: str
    flops: int
    weights: int
    cached: int = 0
    decoder: bool = False


DEFAULTS = resolve(PruningConfig())


@dataclass(frozen=True)
class Pruning:
    """kept: visual tokens that go on, all cameras. prune_layer: K."""

    kept: int
    method: str = PruningConfig.method
    prune_layer: int = DEFAULTS.prune_layer

    def effective(self, shape: ModelShape) -> Pruning:
        """Return the pruning that takes effect: keeping all tokens runs the unpruned model."""
        full = self.method == "full" or self.kept >= shape.visual
        if full:
            return replace(self, kept=shape.visual, method="full")
        before_layers = find_method(self.method).prunes_before_first_layer
        return replace(self, prune_layer=0) if before_layers else self


def step_work(shape: ModelShape, pruning: Pruning) -> list[Work]:
    """Return the work of one inference; the history of the temporal methods is complete."""
    pruning = pruning.effective(shape)
    parts = [_vision(shape), _projector(shape), _prefill(shape, pruning)]
    if shape.flows:
        parts.append(_flow(shape, pruning))
    elif shape.family == "openvla_oft":
        parts.append(_oft_head(shape))
    else:
        parts.append(_token_decode(shape, pruning))
    return [work for part in (*parts, _added(shape, pruning)) for work in part]


def flops_by_stage(works: list[Work]) -> dict[str, int]:
    """Sum the FLOPs of each of STAGES."""
    return {stage: sum(w.flops for w in works if w.stage == stage) for stage in STAGES}


def model_flops(works: list[Work]) -> int:
    """Sum the FLOPs without those that pruning adds."""
    return sum(work.flops for work in works if work.stage in MODEL_STAGES)


def flop_speedup(shape: ModelShape, pruning: Pruning) -> float:
    """Compute the speed-up the model's FLOPs allow: unpruned over pruned, with a free selection."""
    full = replace(pruning, method="full")
    return model_flops(step_work(shape, full)) / model_flops(step_work(shape, pruning))


def weights_once(shape: ModelShape) -> list[Work]:
    """Return the stored weights: every matrix that runs, once, and the embedding (read row
    by row).
    """
    full = Pruning(shape.visual, "full")
    table = Work("prefill", 0, shape.vocabulary * shape.decoder.width)
    parts = [*_vision(shape), *_projector(shape), *_prefill(shape, full), table]
    if shape.flows:
        expert = [_expert_layer(shape, 1, 1, cross) for cross in shape.cross_layers]
        return [*parts, *expert, *_projected_prefix(shape, full), *_flow_ends(shape)]
    output = replace(table, stage="head", decoder=True)
    return [*parts, output, *(_oft_head(shape) if shape.family == "openvla_oft" else ())]


def _linear(stage: str, tokens: int, *widths: int, decoder: bool = False) -> Work:
    """Return the work of a chain of linear layers of these widths."""
    weights = sum(a * b for a, b in pairwise(widths))
    return Work(stage, 2 * tokens * weights, weights, decoder=decoder)


def _vision(shape: ModelShape) -> Iterator[Work]:
    for tower, blocks in zip(shape.towers, shape.blocks, strict=True):
        patches = shape.cameras * tower.patches
        yield _linear("vision", patches, 3 * tower.patch_size**2, tower.width)
        tokens = tower.patches + (1 + tower.registers if tower.registers else 0)
        weights = 4 * tower.width**2 + 2 * tower.width * tower.mlp_width
        flops = 2 * tokens * weights + 4 * tokens**2 * tower.width
        yield from [Work("vision", shape.cameras * flops, weights)] * blocks


def _projector(shape: ModelShape) -> Iterator[Work]:
    vision, width = sum(tower.width for tower in shape.towers), shape.decoder.width
    inner = () if shape.flows else (4 * vision, width)
    yield _linear("projector", shape.visual, shape.patches_per_token * vision, *inner, width)


def _layer(
    stage: str, decoder: DecoderShape, tokens: int, keys: int, queries: int, out: int
) -> Work:
    """One decoder layer. tokens: whose keys and values are computed; keys: attended to;
    queries: projected; out: that attend and go through the MLP."""
    d = decoder
    key_value, query = 2 * d.width * d.key_width, d.width * d.query_width
    rest = query + 3 * d.width * d.mlp_width
    flops = 2 * (tokens * key_value + queries * query + out * rest)
    flops += 4 * out * keys * d.query_width
    weights = key_value + (query if queries else 0) + (rest if out else 0)
    return Work(stage, flops, weights, 2 * d.key_width * keys, decoder=True)


def _held(shape: ModelShape, pruning: Pruning) -> list[int]:
    """Return the number of prompt tokens whose keys each layer holds."""
    pruned = shape.length - shape.visual + pruning.kept
    layers = range(shape.decoder.layers)
    return [shape.length if layer < pruning.prune_layer else pruned for layer in layers]


def _read_rows(shape: ModelShape) -> int:
    """Rows of the prompt that predict actions; those of a flow are the expert's."""
    return 0 if shape.flows else {"openvla": 1, "openvla_oft": shape.placeholders}[shape.family]


def _prefill(shape: ModelShape, pruning: Pruning) -> Iterator[Work]:
    held, last = _held(shape, pruning), shape.decoder.layers - 1
    for layer, tokens in enumerate(held):
        queries, out = tokens, held[min(layer + 1, last)]
        if layer == last:
            queries = out = _read_rows(shape)
        yield _layer("prefill", shape.decoder, tokens, tokens, queries, out)


def _token_decode(shape: ModelShape, pruning: Pruning) -> Iterator[Work]:
    """Seven tokens, one after another; the prefill predicts the first."""
    head = _linear("head", 1, shape.decoder.width, shape.vocabulary, decoder=True)
    yield from [head] * ACTION_DIM
    for behind in range(1, ACTION_DIM):
        for tokens in _held(shape, pruning):
            yield _layer("decode", shape.decoder, 1, tokens + behind, 1, 1)


def _oft_head(shape: ModelShape) -> Iterator[Work]:
    width = shape.decoder.width
    if shape.state_dim:
        yield _linear("head", 1, shape.state_dim, width, width)
    yield _linear("head", shape.chunk, ACTION_DIM * width, width)
    yield from [_linear("head", shape.chunk, width, width)] * OFT_HEAD_BLOCKS
    yield _linear("head", shape.chunk, width, ACTION_DIM)


def _flow(shape: ModelShape, pruning: Pruning) -> Iterator[Work]:
    """The state once, then all actions in every flow step."""
    held, actions, leading = _held(shape, pruning), shape.chunk, shape.leading
    for tokens in held * leading:
        yield _layer("decode", shape.expert, 1, tokens + 1, 1, 1)
    yield from _projected_prefix(shape, pruning)
    layers = list(zip(held, shape.cross_layers, strict=True))
    for tokens, cross in layers * shape.flow_steps:
        keys = tokens if cross else tokens + leading + actions
        yield _expert_layer(shape, actions, keys, cross)
    once, every = _flow_ends_by_use(shape)
    yield from [*once, *every * shape.flow_steps]


def _expert_layer(shape: ModelShape, actions: int, keys: int, cross: bool) -> Work:
    """One layer for all actions; one that sees the prefix alone projects no keys of its own."""
    made = _layer("decode", shape.expert, 0 if cross else actions, keys, actions, actions)
    own = 2 * shape.expert.width * shape.expert.key_width if cross else 0
    return replace(made, weights=made.weights - own)


def _projected_prefix(shape: ModelShape, pruning: Pruning) -> Iterator[Work]:
    """Keys and values that layers of SmolVLA's expert make of the language model's, once."""
    for tokens, cross in zip(_held(shape, pruning), shape.cross_layers, strict=True):
        if cross:
            weights = 2 * shape.decoder.key_width * shape.expert.key_width
            yield Work("decode", 2 * tokens * weights, weights, decoder=True)


def _flow_ends_by_use(shape: ModelShape) -> tuple[list[Work], list[Work]]:
    """Around the expert: the state's projection, once, and what every flow step runs.

    The flow's time is the same in every inference: what it alone goes through is made at load.
    """
    width, actions = shape.expert.width, shape.chunk
    state_width = shape.decoder.width if shape.family == "smolvla" else width
    mixed = [] if shape.family == "pi05" else [_linear("head", actions, width, width, width)]
    once = [] if shape.family == "pi05" else [_linear("head", 1, MAX_ACTION_DIM, state_width)]
    first, last = (
        _linear("head", actions, *widths)
        for widths in ((MAX_ACTION_DIM, width), (width, MAX_ACTION_DIM))
    )
    return once, [first, *mixed, last]


def _flow_ends(shape: ModelShape) -> list[Work]:
    """The same as held in memory, with what only the time goes through."""
    once, every = _flow_ends_by_use(shape)
    width = shape.expert.width
    of_time = (width, width, width) if shape.family == "pi05" else (width, width)
    return [*once, *every, _linear("head", 0, *of_time)]


def _added(shape: ModelShape, pruning: Pruning) -> Iterator[Work]:
    """Yield the work that pruning adds: signals, distances and the action rows' attention."""
    if pruning.method == "full":
        return
    needs = find_method(pruning.method).needs
    yield Work("selection", _selection_flops(shape, pruning, needs), 0)
    if "action" in needs:
        yield Work("observation", _observation_flops(shape, pruning), 0)


def _selection_flops(shape: ModelShape, pruning: Pruning, needs: frozenset[str]) -> int:
    per_row = 2 * shape.length * shape.decoder.query_width
    text = shape.prompt_tokens if shape.flows else shape.prompt_tokens - 1
    flops = per_row * text if "semantic" in needs else 0  # of the text's rows
    flops += per_row if "last_row" in needs else 0
    if pruning.method == "divprune":
        flops += 2 * shape.visual**2 * shape.decoder.width
    elif {"action", "features"} <= needs:
        core = pruning.kept - round(DEFAULTS.coverage * pruning.kept)
        candidates = min(2 * core, shape.visual)
        flops += 2 * candidates**2 * shape.decoder.width
        flops += 2 * pruning.kept * shape.visual * shape.decoder.width
    elif pruning.method == "sparsevlm":
        flops += per_row * text + 2 * shape.visual * text * shape.decoder.width
    return flops


def _observation_flops(shape: ModelShape, pruning: Pruning) -> int:
    """Queries times keys in the second half of the layers, and the window's weighted mean."""
    held = _held(shape, pruning)[shape.decoder.layers // 2 :]
    window = 2 * PruningConfig.temporal_window * shape.visual
    if shape.flows:
        crossed = shape.cross_layers[shape.decoder.layers // 2 :]
        own, rows = shape.leading + shape.chunk, shape.flow_steps * shape.chunk
        keys = [n if cross else n + own for n, cross in zip(held, crossed, strict=True)]
        return window + sum(2 * rows * n * shape.expert.query_width for n in keys)
    steps = range(ACTION_DIM) if shape.family == "openvla" else range(1)
    per_key = 2 * _read_rows(shape) * shape.decoder.query_width
    return window + sum(per_key * (n + step) for n in held for step in steps)
