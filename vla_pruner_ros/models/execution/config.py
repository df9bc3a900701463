"""Settings of execution, apart from pruning; the only place of their defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vla_pruner_ros.settings import check_fields, setting

DRAFTS = ("off", "linear", "tree")
QUANTIZATIONS = ("none", "int8", "int4")


@dataclass(frozen=True)
class ExecutionConfig:
    """Settings that change speed and memory; fixed once a policy is loaded.

    Only quantization changes actions beyond rounding. Field names are the node's parameter names.

    Raises:
        ValueError: a value out of range, naming the field, the value and what is allowed.
    """

    graphs: bool = setting(
        True,
        "Replay each inference as a CUDA graph; without CUDA it has no effect.",
        when="configure",
    )
    graph_memory_mb: int = setting(
        2048,
        "Memory (MB) that the captured graphs may hold together; the least recently used one is "
        "freed first.",
        low=1,
        high=2**20,
        when="configure",
    )
    draft: str = setting(
        "off",
        "For families that decode token by token (openvla): guess the action's tokens from earlier "
        "actions and verify them together, as one guess (linear) or several (tree); the actions "
        "stay the same.",
        choices=DRAFTS,
        when="configure",
    )
    quantization: str = setting(
        "none",
        "Weights of the decoder's linear layers; int8 and int4 need torchao and dtype bfloat16 or "
        "float32, and change actions.",
        choices=QUANTIZATIONS,
        when="configure",
    )

    def __post_init__(self) -> None:
        check_fields(self)


FIELD_NAMES = tuple(field.name for field in fields(ExecutionConfig))
