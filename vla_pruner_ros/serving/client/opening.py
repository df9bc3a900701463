"""One way to a policy, wherever it runs."""

from __future__ import annotations

import os
from pathlib import Path

from vla_pruner_ros.models.policy import CheckpointError, PolicyError, VlaPolicy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.serving.client.address import RemoteOptions

KEY_VARIABLE = "VLA_PRUNER_API_KEY"


def connect_policy(
    url: str,
    image_format: str = "raw",
    timeout: float = 1.0,
    api_key_file: str = "",
    robot: str = "",
    pruning: PruningConfig | None = None,
) -> VlaPolicy:
    """Connect to a policy server; see RemoteOptions.

    api_key_file: file with the API key; empty takes the variable VLA_PRUNER_API_KEY, if it is set.

    Raises:
        CheckpointError: a library or the key is missing, or the server cannot be used.
    """
    try:
        from vla_pruner_ros.serving.client.policy import RemotePolicy

        options = RemoteOptions(image_format, timeout, _key(api_key_file), robot)
        return RemotePolicy(url, options, pruning)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{url} names a policy server, and {error.name} is not installed: "
            "pip install 'websockets>=13' msgpack"
        ) from None
    except (PolicyError, ValueError) as error:
        raise CheckpointError(str(error)) from None


def _key(path: str) -> str | None:
    if not path:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CheckpointError(f"The API key cannot be read: {error}") from None
