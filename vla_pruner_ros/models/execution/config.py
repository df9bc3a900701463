"""How a policy is run, apart from which tokens it keeps; the one place where the defaults stand."""

from __future__ import annotations

from dataclasses import dataclass, fields

DRAFTS = ("off", "linear", "tree")
QUANTIZATIONS = ("none", "int8", "int4")


@dataclass(frozen=True)
class ExecutionConfig:
    """Settings that change speed and memory; fixed once a policy is loaded.

    Only quantization changes actions beyond rounding. Field names are the node's parameter names.

    Raises:
        ValueError: a value out of range, naming the field, the value and what is allowed.
    """

    graphs: bool = True
    """Replay the step as a CUDA graph; without CUDA it has no effect."""
    graph_memory_mb: int = 2048
    """Memory that the captured graphs may hold together; the least recently used one goes first."""
    draft: str = "off"
    """Draft action tokens from earlier actions and verify them together: off | linear (one guess)
    | tree (several). For families that decode token by token; the tokens stay the same."""
    quantization: str = "none"
    """Weights of the decoder's linear layers: none | int8 | int4 (quantization.py)."""

    def __post_init__(self) -> None:
        if not isinstance(self.graphs, bool):
            raise ValueError(f"graphs must be True or False, got {self.graphs!r}")
        memory = self.graph_memory_mb
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
            raise ValueError(f"graph_memory_mb must be an integer of at least 1, got {memory!r}")
        self._check_choice("draft", DRAFTS)
        self._check_choice("quantization", QUANTIZATIONS)

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


FIELD_NAMES = tuple(field.name for field in fields(ExecutionConfig))
