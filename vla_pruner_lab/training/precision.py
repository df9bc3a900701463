"""Attention in float32 inside a bfloat16 region, for training on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class Float32Attention(TorchFunctionMode):
    """Context in which scaled_dot_product_attention computes in float32.

    torch's bfloat16 kernel on CPUs takes three times as long backwards as the float32 one, which
    costs more than bfloat16 matrix products save elsewhere.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value, *others = args
        with torch.autocast(query.device.type, enabled=False):
            return function(query.float(), key.float(), value.float(), *others, **(kwargs or {}))
