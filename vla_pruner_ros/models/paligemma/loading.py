"""A directory -> the parts that Pi0Policy and Pi05Policy are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.checkpoints import WeightFiles, is_trained
from vla_pruner_ros.models.flow_policy import FlowParts, check_cameras
from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.lerobot.prompts import PromptTokenizer
from vla_pruner_ros.models.paligemma.layouts import BOS, FamilyDefaults, Layout, read_layout
from vla_pruner_ros.models.paligemma.names import EMBEDDING, OUTPUT, module_name
from vla_pruner_ros.models.paligemma.network import NetworkShape, PaliGemmaNetwork
from vla_pruner_ros.models.paligemma.policy import Flow, PaliGemmaPolicy
from vla_pruner_ros.models.pruned_policy import PolicySpec

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint

USUAL_CAMERAS = 2
GRAPH_PROMPT = 32
"""pi0.5's prompt changes its length with the state's digits: on CUDA it is padded to a multiple."""


@dataclass(frozen=True)
class Family:
    """The classes of a family; see load_policy."""

    defaults: FamilyDefaults
    network: type[PaliGemmaNetwork]
    expert: Any
    policy: type[PaliGemmaPolicy]


def load_policy(family: Family, checkpoint: Checkpoint, options: Any) -> PaliGemmaPolicy:
    """Load pi0 or pi0.5; see families.Family.load.

    The small files are read first: their faults show before gigabytes are read.
    """
    directory, config = checkpoint.directory, checkpoint.config
    weights = WeightFiles(directory, rename=module_name)
    weights.use_twin(EMBEDDING, OUTPUT)
    layout = read_layout(directory, config, weights, family.defaults, checkpoint.unnorm_key)
    shape = NetworkShape.read(weights, layout.heads, str(directory))
    layout.statistics.check_widths(shape.state_dim or shape.action_dim, shape.action_dim)
    tokenize = _tokenizer(checkpoint, layout)
    parts = FlowParts(
        statistics=layout.statistics,
        fit_image=ImageFitter(
            shape.vision.image_size, options.image_padding or layout.image_padding
        ),
        pixel_range=layout.pixel_range,
        max_state_dim=shape.state_dim,
    )
    spec = _spec(family, layout, shape, options, is_trained(config))
    network = family.network.load(shape, weights, checkpoint.device, checkpoint.dtype)
    expert = family.expert(network, options.num_flow_steps or layout.flow_steps, layout.periods)
    network.drop_what_expert_keeps()
    pads = checkpoint.device.type == "cuda" and not shape.state_dim
    flow = Flow(layout.chunk, options.noise_seed or 0, GRAPH_PROMPT if pads else 1)
    return family.policy(
        spec, network, expert, tokenize, parts, flow, checkpoint.pruning, checkpoint.device
    )


def _tokenizer(checkpoint: Checkpoint, layout: Layout) -> PromptTokenizer:
    from vla_pruner_ros.models.tokenizer import find_tokenizer

    found = find_tokenizer(checkpoint.tokenizer, checkpoint.directory, layout.tokenizer)
    bos = layout.bos if layout.bos is not None else found.bos
    cut = layout.cut and (found.cut or layout.cut)
    return PromptTokenizer(found.encode, layout.max_prompt, cut, BOS if bos is None else bos)


def _spec(
    family: Family, layout: Layout, shape: NetworkShape, options: Any, trained: bool
) -> PolicySpec:
    return PolicySpec(
        family=family.defaults.name,
        trained=trained,
        num_cameras=check_cameras(layout.features.cameras, options.num_cameras, USUAL_CAMERAS),
        state_dim=layout.statistics.state.size,
        chunk_size=layout.chunk,
        grid=(shape.vision.side, shape.vision.side),
        num_layers=shape.text.layers,
        image_size=shape.vision.image_size,
        action_dim=layout.statistics.action.size,
        action_names=layout.features.action_names,
        camera_names=layout.features.cameras,
        relative_actions=layout.statistics.relative_numbers,
    )
