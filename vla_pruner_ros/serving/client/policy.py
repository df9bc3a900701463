"""A VlaPolicy whose inferences run on a server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, PruningReport
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.serving.client.address import RemoteOptions
from vla_pruner_ros.serving.client.link import Link
from vla_pruner_ros.serving.layout import openpi_layout
from vla_pruner_ros.serving.wire.arrays import encode_image

PREVIEW_SIDE = 224
MAX_STEPS = 1000


@dataclass(frozen=True)
class ServedPolicy:
    """Description of a server's policy, from its metadata or from a robot's profile."""

    family: str
    trained: bool
    num_cameras: int
    state_dim: int
    chunk_size: int
    camera_keys: tuple[str, ...]
    state_keys: tuple[str, ...]
    state_sizes: tuple[int, ...]
    prompt_key: str
    is_ours: bool

    @classmethod
    def read(cls, metadata: dict[str, Any], robot: str) -> ServedPolicy:
        """Read a server's metadata.

        Raises:
            PolicyError: they do not describe the policy, and no robot is named.
        """
        described = metadata.get("vla_pruner")
        if described is None:
            return cls._of_robot(robot)
        try:
            return cls(
                str(described["family"]),
                bool(described["trained"]),
                int(described["num_cameras"]),
                int(described["state_dim"]),
                int(described["chunk_size"]),
                tuple(map(str, described["camera_keys"])),
                tuple(map(str, described["state_keys"])),
                tuple(map(int, described["state_sizes"])),
                str(described["prompt_key"]),
                is_ours=True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"The server's description of its policy is broken: {error}"
            ) from None

    @classmethod
    def _of_robot(cls, robot: str) -> ServedPolicy:
        if not robot:
            raise PolicyError(
                "The server does not describe the observations of its policy: name the robot "
                "profile it was trained for in the parameter robot"
            )
        profile = load_profile(robot)
        layout = openpi_layout(profile)
        cameras, dim = layout.cameras, profile.state_dim
        sizes = layout.sizes(dim)
        return cls(
            "openpi", True, len(cameras), dim, 1, cameras, layout.state, sizes, layout.prompt, False
        )


class RemotePolicy:
    """Asks a server for every inference; see VlaPolicy.

    A lost or late server raises PolicyError, as a failing policy does, and the next act() tries
    again. The history is the server's, and new with every connection.
    """

    can_miss_cameras = False

    def __init__(
        self, url: str, options: RemoteOptions | None = None, pruning: PruningConfig | None = None
    ) -> None:
        """Connect and read what the server serves. Raises PolicyError."""
        self._options = options or RemoteOptions()
        self._link = Link(url, self._options)
        self._served = ServedPolicy.read(self._link.open(), self._options.robot)
        self.family, self.trained = self._served.family, self._served.trained
        self.num_cameras, self.state_dim = self._served.num_cameras, self._served.state_dim
        self.chunk_size = self._served.chunk_size
        self.pruning = pruning or PruningConfig()
        self._reset = True

    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        request = self._request(observation)
        if not self._link.is_open:
            self._reopen()
        reply = self._link.ask(request)
        chunk = ActionChunk(_actions(reply), self._report(reply))
        self._reset = False
        return chunk

    def reset(self) -> None:
        """See VlaPolicy.reset; takes effect with the next act()."""
        self._reset = True

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Return the image at the usual size, uint8 [S, S, 3]; the server's view may be cropped."""
        side = (PREVIEW_SIDE, PREVIEW_SIDE)
        return np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC))

    def diagnostics(self) -> dict[str, float | int]:
        """Return latencies (s), reconnects, timeouts and late answers of the connection."""
        return self._link.state()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _reopen(self) -> None:
        served = ServedPolicy.read(self._link.open(), self._options.robot)
        self._reset = True
        if served != self._served:
            self._link.close()
            raise PolicyError(
                "The server serves another policy than before: configure the node again"
            )

    def _request(self, observation: Observation) -> dict[str, Any]:
        served = self._served
        request: dict[str, Any] = {served.prompt_key: observation.instruction}
        form = self._options.image_format
        for key, image in zip(served.camera_keys, observation.images, strict=True):
            if image is None:
                raise PolicyError("A policy server needs an image of every camera")
            _put(request, key, encode_image(image, form))
        for key, part in zip(served.state_keys, self._state_parts(observation), strict=True):
            _put(request, key, part)
        if served.is_ours:
            request |= {"pruning": asdict(self.pruning), "as_trained": True}
            if self._reset:
                request["reset"] = True
        return request

    def _state_parts(self, observation: Observation) -> list[np.ndarray]:
        if not self.state_dim or observation.state is None:
            return [np.zeros(size) for size in self._served.state_sizes]
        state = np.asarray(observation.state, dtype=np.float64)
        if len(state) != self.state_dim:
            raise PolicyError(f"The policy takes {self.state_dim} state values, got {len(state)}")
        return np.split(state, np.cumsum(self._served.state_sizes)[:-1])

    def _report(self, reply: dict[str, Any]) -> PruningReport:
        described = reply.get("pruning") if self._served.is_ours else None
        if described is None:
            whole = [np.zeros(1, dtype=np.int32)] * self.num_cameras
            return PruningReport(whole, (1, 1), self.num_cameras, self.num_cameras,
                                 self.num_cameras, "full")  # fmt: skip
        try:
            return read_report(described, self.num_cameras)
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(f"The server's pruning report is broken: {error}") from None


def read_report(described: dict[str, Any], num_cameras: int) -> PruningReport:
    """Check a report that came over the network.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    fields = dict(described)
    rows, columns = (int(side) for side in fields.pop("grid"))
    kept = [np.asarray(indices, dtype=np.int32) for indices in fields.pop("kept_indices")]
    if len(kept) != num_cameras:
        raise ValueError(f"it reports {len(kept)} cameras, the policy has {num_cameras}")
    if any(((indices < 0) | (indices >= rows * columns)).any() for indices in kept):
        raise ValueError("it names patches beyond its grid")
    timings = {str(name): float(seconds) for name, seconds in fields.pop("timings").items()}
    numbers = {name: float("nan") if value is None else value for name, value in fields.items()}
    return PruningReport(kept_indices=kept, grid=(rows, columns), timings=timings, **numbers)


def _actions(reply: dict[str, Any]) -> np.ndarray:
    actions = reply.get("actions")
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "iuf":
        raise PolicyError("The server's answer holds no actions")
    if actions.ndim != 2 or not 1 <= len(actions) <= MAX_STEPS or not actions.shape[1]:
        raise PolicyError(
            f"The server's actions have shape {list(actions.shape)} instead of [steps, n]; they "
            "were dropped"
        )
    if not np.isfinite(actions).all():
        raise PolicyError("The server's actions are not finite; they were dropped")
    return actions.astype(np.float32)


def _put(request: dict[str, Any], key: str, value: Any) -> None:
    """openpi's ALOHA clients nest their images, the others write slashes into the keys."""
    if key.startswith("images/"):
        request.setdefault("images", {})[key.removeprefix("images/")] = value
    else:
        request[key] = value
