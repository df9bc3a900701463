"""Decoder weights in 8 or 4 bits, through torchao; activations keep their precision.

Decoding one token reads every decoder weight once, so on a board with little memory bandwidth the
weights' bytes are what a step waits for. int8 has one scale an output row, int4 a scale and an
offset for each group of inputs. Only the linear layers inside the decoder layers change: towers,
projector, embeddings and action heads are a small part of the bytes and see unusual activations.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vla_pruner_ros.models.policy import CheckpointError

GROUPS = (128, 64, 32)
"""Inputs that may share a scale in int4; the largest that divides a layer's width is taken."""
INT4_ROWS = 16
"""int4 kernels take output rows by so many; a layer that does not fit them gets int8."""

# transformers imports torchao wherever it is installed, which then warns of its kernels for other
# hardware and of torch's plans; nobody who runs a robot can act on that.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def quantize(decoders: Iterable[nn.Module], kind: str) -> None:
    """Replace the weights of all linear layers below `decoders`, in place; those that have been
    replaced already stay as they are.

    kind: int8 | int4.

    Raises:
        CheckpointError: torchao is missing or too old, or has no kernels for this device and dtype.
    """
    linears = [module for decoder in decoders for module in _unquantized(decoder)]
    if not linears:
        return
    weight = linears[0].weight
    _check_precision(kind, weight)
    try:
        with torch.no_grad():
            for linear in linears:
                _quantize_linear(linear, kind)
    except ImportError as error:
        raise CheckpointError(
            f"quantization {kind} needs torchao 0.18 or newer ({error}): "
            "pip install 'torchao>=0.18', or set quantization to none"
        ) from None
    except (RuntimeError, AssertionError, ValueError) as error:
        raise CheckpointError(
            f"torchao cannot make {kind} weights for {weight.device} and {weight.dtype} "
            f"({str(error).splitlines()[0]}): set quantization to none"
        ) from None


def stored_bytes(module: nn.Module) -> int:
    """Memory of a module's parameters, scales and offsets included."""
    return sum(_bytes(parameter) for parameter in module.parameters())


def _unquantized(decoder: nn.Module) -> Iterator[nn.Linear]:
    for module in decoder.modules():
        if isinstance(module, nn.Linear) and not is_traceable_wrapper_subclass(module.weight):
            yield module


def _check_precision(kind: str, weight: Tensor) -> None:
    """Raises CheckpointError for what would go wrong later, on the robot."""
    if weight.dtype == torch.float16:
        # torchao multiplies by the integers first and scales afterwards: float16 overflows.
        raise CheckpointError(
            f"quantization {kind} does not work with dtype float16: take bfloat16 or float32, "
            "or set quantization to none"
        )
    if kind == "int4" and weight.device.type == "cuda" and weight.dtype != torch.bfloat16:
        raise CheckpointError(
            "quantization int4 on cuda needs dtype bfloat16: set dtype to bfloat16, "
            "or quantization to int8 or none"
        )


def _quantize_linear(linear: nn.Linear, kind: str) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    group = next((size for size in GROUPS if linear.in_features % size == 0), 0)
    if kind == "int4" and group and linear.out_features % INT4_ROWS == 0:
        config = _int4(group, linear.weight.device)
    else:
        config = Int8WeightOnlyConfig(set_inductor_config=False)
    quantize_(linear, config)


def _int4(group: int, device: torch.device):
    """torchao's configuration: the layout differs by device, ATen has kernels for both."""
    if device.type == "cpu":
        from torchao.prototype.quantization.int4.inference_workflow import (
            PrototypeInt4WeightOnlyConfig,
        )

        return PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False)
    from torchao.quantization import Int4WeightOnlyConfig

    layout = "tile_packed_to_4d"
    return Int4WeightOnlyConfig(
        group_size=group, int4_packing_format=layout, set_inductor_config=False
    )


def _bytes(tensor: Tensor) -> int:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()
