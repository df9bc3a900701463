"""A LeRobot directory -> SmolVlaPolicy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_pruner_ros.models.checkpoints import WeightFiles, is_trained, read_optional_json
from vla_pruner_ros.models.flow_policy import FlowParts, PixelRange, check_cameras
from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.lerobot.features import Features
from vla_pruner_ros.models.lerobot.processors import PREPROCESSOR, Processor
from vla_pruner_ros.models.lerobot.prompts import PromptTokenizer
from vla_pruner_ros.models.lerobot.settings import count, periods
from vla_pruner_ros.models.lerobot.statistics import read_statistics
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.pruned_policy import PolicySpec
from vla_pruner_ros.models.smolvla.decoding import ImageMarks
from vla_pruner_ros.models.smolvla.names import SmolVlaShape, VlmNumbers, module_name
from vla_pruner_ros.models.smolvla.network import FlowEmbedding, SmolVlaNetwork
from vla_pruner_ros.models.smolvla.policy import SmolVlaPolicy
from vla_pruner_ros.models.tokenizer import FoundTokenizer, find_tokenizer

if TYPE_CHECKING:
    from vla_pruner_ros.models.families import Checkpoint

FAMILY = "smolvla"
VLM = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
MAX_PROMPT = 48
MODES = {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
NOT_SUPPORTED = ("adapt_to_pi_aloha", "use_delta_joint_actions_aloha")
MARKS = {"fake": "<fake_token_around_image>", "global": "<global-img>"}
USUAL_WIDTHS = (960, 768)
"""Language and vision widths of SmolVLM2-500M, whose numbers of heads are known."""


def load_policy(checkpoint: Checkpoint, options: Any) -> SmolVlaPolicy:
    """See families.Family.load."""
    directory, config = checkpoint.directory, checkpoint.config
    _check(config, checkpoint.unnorm_key)
    weights = WeightFiles(directory, rename=module_name)
    features = Features.read(config)
    statistics = read_statistics(directory, config, weights, MODES)
    settings = Processor.read(directory / PREPROCESSOR).settings("tokenizer_processor")
    vlm = str(config.get("vlm_model_name") or settings.get("tokenizer_name") or VLM)
    found = find_tokenizer(checkpoint.tokenizer, directory, vlm)
    numbers = _vlm_numbers(found.directory, directory, weights, vlm)
    shape = SmolVlaShape.read(weights, numbers, int(config.get("self_attn_every_n_layers") or 0))
    statistics.check_widths(shape.state_dim, shape.action_dim)
    spec = PolicySpec(
        family=FAMILY,
        trained=is_trained(config),
        num_cameras=check_cameras(features.cameras, options.num_cameras, 1),
        state_dim=statistics.state.size,
        chunk_size=count(config, "chunk_size", 50),
        grid=(shape.side, shape.side),
        num_layers=shape.text.layers,
        image_size=shape.vision.image_size,
        action_dim=statistics.action.size,
        action_names=features.action_names,
        camera_names=features.cameras,
        relative_actions=statistics.relative_numbers,
    )
    padding = options.image_padding or "top_left"
    fit_image = ImageFitter(spec.image_size, padding)
    parts = FlowParts(statistics, fit_image, PixelRange(), shape.state_dim)
    longest = count(settings, "max_length", count(config, "tokenizer_max_length", MAX_PROMPT))
    network = SmolVlaNetwork.load(shape, weights, checkpoint.device, checkpoint.dtype)
    steps = options.num_flow_steps or count(config, "num_steps", 10)
    return SmolVlaPolicy(
        spec,
        network,
        FlowEmbedding(network, steps, periods(config)),
        PromptTokenizer(found.encode, longest, found.cut or "left"),
        parts,
        _marks(config, found),
        options.noise_seed or 0,
        checkpoint.pruning,
        checkpoint.device,
    )


def _check(config: dict, unnorm_key: str | None) -> None:
    if unnorm_key is not None:
        raise CheckpointError("this checkpoint has one set of statistics; leave unnorm_key out")
    switched_on = [name for name in NOT_SUPPORTED if config.get(name)]
    if switched_on:
        raise CheckpointError(
            f"checkpoints trained with {', '.join(switched_on)} are not supported"
        )
    if config.get("attention_mode", "cross_attn") not in ("cross_attn", "self_attn"):
        raise CheckpointError(f"attention_mode {config['attention_mode']!r} is not supported")
    if config.get("resize_imgs_with_padding", True) is None:
        raise CheckpointError(
            "resize_imgs_with_padding is off: images of other sizes are not supported"
        )


def _vlm_numbers(
    tokenizer: Path | None, directory: Path, weights: WeightFiles, vlm: str
) -> VlmNumbers:
    """Read the language and vision model's heads; SmolVLM2-500M's are known without a file."""
    for folder in (tokenizer, directory):
        config = {} if folder is None else read_optional_json(folder / "config.json")
        if isinstance(config.get("text_config"), dict):
            text, vision = config["text_config"], config.get("vision_config") or {}
            heads = count(text, "num_attention_heads", 15)
            width = count(text, "hidden_size", USUAL_WIDTHS[0])
            return VlmNumbers(
                count(text, "head_dim", width // heads),
                count(vision, "num_attention_heads", 12),
                float(text.get("rms_norm_eps", VlmNumbers.eps)),
            )
    widths = tuple(
        weights.shapes.get(name, (0,))[-1]
        for name in ("language_model.embed_tokens.weight", "vision_tower.post_layernorm.weight")
    )
    if widths == USUAL_WIDTHS:
        return VlmNumbers()
    raise CheckpointError(
        f"{directory} is of another size than {VLM}: its numbers of heads are in the config.json "
        f"of {vlm}; set tokenizer to a folder that holds it next to tokenizer.json"
    )


def _marks(config: dict, found: FoundTokenizer) -> ImageMarks:
    if not config.get("add_image_special_tokens"):
        return ImageMarks()
    fake, start = (found.id_of(MARKS[name]) for name in ("fake", "global"))
    return ImageMarks((fake, start), (fake,))
