"""Settings of loading: checkpoint, family, device and dtype."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.models.policy import UNTRAINED
from vla_pruner_ros.resources import POLICIES
from vla_pruner_ros.settings import AUTO, check_fields, setting

DTYPE_NAMES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadingConfig:
    """Settings that load_policy() takes apart from pruning, execution and the family's options.

    Field names are the node's parameter names.

    Raises:
        ValueError: a value that is not allowed, naming the field, the value and what is allowed.
    """

    checkpoint: str = setting(
        "",
        "Directory of the checkpoint, or the name of one that comes with the package "
        f"({', '.join(POLICIES)}); '{UNTRAINED}' makes small random weights; hf:owner/name is a "
        "repository of the Hugging Face hub; ws://host:port is a policy server.",
        when="configure",
    )
    model: str = setting(
        AUTO,
        "Model family; auto recognises it from the checkpoint's files.",
        when="configure",
    )
    device: str = setting(AUTO, "Torch device; auto takes cuda if there is one.", when="configure")
    dtype: str = setting(
        AUTO,
        "auto is bfloat16 on cuda and float32 on cpu.",
        choices=(AUTO, *DTYPE_NAMES),
        when="configure",
    )
    unnorm_key: str = setting(
        "",
        "Data set in the checkpoint's statistics whose action range is used; empty: the only one.",
        when="configure",
    )
    tokenizer: str = setting(
        "",
        "Folder or hf:owner/name of the tokenizer; empty: the checkpoint's own, or the one that it "
        "names.",
        when="configure",
    )
    base_checkpoint: str = setting(
        "",
        "Base model of a LoRA adapter, named as checkpoint is; empty: the one that "
        "adapter_config.json names.",
        when="configure",
    )
    num_threads: int = setting(
        0, "CPU threads of torch; 0 leaves torch's own choice.", low=0, high=1024, when="configure"
    )

    def __post_init__(self) -> None:
        check_fields(self)
