"""Speed-ups of a batch of several robots: by roofline on GPUs, measured on a CPU."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.latency.configs import LatencyConfig
from vla_pruner_lab.latency.model_shapes import SHAPES, DecoderShape, ModelShape
from vla_pruner_lab.latency.model_work import MODEL_STAGES, Work, step_work
from vla_pruner_lab.latency.predictions import HARDWARE
from vla_pruner_lab.latency.roofline import PRECISIONS, bounds

PROGRAM = lab_program("serving.studies.batching", __doc__, "", "--measure")
SIZES = (2, 4, 8)
"""Robots in a batch."""
RATIOS = (1.0, 0.25)
FAMILIES = ("openvla", "openvla_oft", "pi05")
DEVICES = ("rtx4090", "h100", "thor")
ROUNDS = 3


def batched(works: Sequence[Work], size: int) -> list[Work]:
    """Return the work of a batch: weights are read once, everything else grows with its size."""
    return [replace(work, flops=size * work.flops, cached=size * work.cached) for work in works]


def speed_up(shape: ModelShape, keep_ratio: float, size: int, device: str) -> float:
    """Return how much sooner a batch is done than its robots one after the other, by roofline."""
    config = LatencyConfig(shape.family, "vla_pruner", keep_ratio, "graph")
    works = step_work(shape, config.pruning(shape))
    times = []
    for count in (1, size):
        found = bounds(batched(works, count), PRECISIONS["bfloat16"], HARDWARE[device].rates)
        times.append(sum(found[stage].seconds for stage in MODEL_STAGES if stage in found))
    return size * times[0] / times[1]


def predicted() -> list[str]:
    """Return the speed-ups of batches on GPUs as Markdown."""
    rows = [
        [
            HARDWARE[device].label,
            family,
            f"{ratio:g}",
            *(f"{speed_up(SHAPES[family, 'full'], ratio, size, device):.2f}" for size in SIZES),
        ]
        for device in DEVICES
        for family in FAMILIES
        for ratio in RATIOS
    ]
    return markdown_table(["hardware", "policy", "keep", *(f"{n} robots" for n in SIZES)], rows)


def measured() -> list[str]:
    """Return the speed-ups of batches of small models' parts on this CPU as Markdown."""
    torch.set_num_threads(1)
    rows = [[name, *(f"{one:.2f}" for one in _measure(make))] for name, make in _parts().items()]
    return markdown_table(["part", *(f"{n} robots" for n in SIZES)], rows)


def _measure(make: Callable[[int], Callable[[], object]]) -> list[float]:
    """Return size x median CPU time of one / median CPU time of a batch; all take turns."""
    runs = {size: make(size) for size in (1, *SIZES)}
    times: dict[int, list[float]] = {size: [] for size in runs}
    for _ in range(ROUNDS):
        for size, run in runs.items():
            start = time.process_time()
            run()
            times[size].append(time.process_time() - start)
    medians = {size: statistics.median(spent) for size, spent in times.items()}
    return [size * medians[1] / medians[size] for size in SIZES]


def _parts() -> dict[str, Callable[[int], Callable[[], object]]]:
    """Parts of the small OpenVLA-OFT and OpenVLA: name -> batch size -> what runs the part."""
    shape = SHAPES["openvla_oft", "small"]
    model = _llama(shape.decoder)
    others = shape.length - shape.visual
    return {
        "vision, two cameras": lambda size: _vision(shape, size),
        "prefill, keep 1": lambda size: _prefill(model, size, shape.length),
        "prefill, keep 0.25": lambda size: _prefill(model, size, shape.visual // 4 + others),
        "prefill, 32 tokens": lambda size: _prefill(model, size, 32),
        "one token, 320 in the cache": lambda size: _token(model, size, 320),
    }


def _vision(shape: ModelShape, size: int) -> Callable[[], Tensor]:
    from vla_pruner_ros.models.openvla.vision_backbone import FusedVisionBackbone

    torch.manual_seed(0)
    backbone = FusedVisionBackbone(*shape.towers).eval().requires_grad_(False)
    for parameter in backbone.parameters():
        parameter.uniform_(-0.05, 0.05)
    images = torch.rand(size * shape.cameras, 6, 224, 224)
    return lambda: backbone(images)


def _llama(decoder: DecoderShape):
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=decoder.width,
        intermediate_size=decoder.mlp_width,
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
    )
    return LlamaModel(config).eval().requires_grad_(False)


def _prefill(model, size: int, tokens: int) -> Callable[[], object]:
    embeddings = torch.randn(size, tokens, model.config.hidden_size)
    return lambda: model(inputs_embeds=embeddings, use_cache=False)


def _token(model, size: int, cached: int) -> Callable[[], object]:
    width = model.config.hidden_size
    cache = model(inputs_embeds=torch.randn(size, cached, width), use_cache=True).past_key_values
    embedding = torch.randn(size, 1, width)

    def run() -> None:
        model(inputs_embeds=embedding, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return run


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--measure", action="store_true", help="also measure small models here")
    options = parser.parse_args(arguments)
    print("\n".join(predicted()))
    if options.measure:
        print("\n".join(["", *measured(), "", f"load {os.getloadavg()[0]:.1f}"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
