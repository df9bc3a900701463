"""OpenVLA-OFT and its image path against recordings of the official code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vla_pruner_lab.common.golden import load_cases, load_image
from vla_pruner_lab.conformance.probing import read_attention, read_rows_of_the_pass
from vla_pruner_lab.conformance.recordings import (
    ATTENTION,
    EXACT,
    FEATURES,
    HIDDEN,
    OFT_ACTIONS,
    Comparison,
    as_array,
    watched,
)
from vla_pruner_ros.models.images.libero_jpeg import jpeg_round_trip
from vla_pruner_ros.models.images.preprocessing import IMAGE_SIZE
from vla_pruner_ros.models.images.tensorflow_resize import crop_center, resize_lanczos
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.oft_images import CROP_AREA, ImagePath
from vla_pruner_ros.models.openvla.openvla_oft import OpenVlaOftPolicy
from vla_pruner_ros.models.openvla.prompt import complete
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig

CAMERAS = ("primary", "wrist")
QUANTITIES = (
    "image crop",
    "prompt ids",
    "pixel values",
    "vision features",
    "visual tokens",
    "normalised state",
    "proprio token",
    "action hidden states",
    "hidden states by layer",
    "normalised actions",
    "actions",
    "discrete ids",
    "discrete normalised actions",
    "discrete actions",
    "attention, all rows",
    "attention, text rows",
    "attention, action rows",
)
LEVELS, SHARE = 1.0, 1e-3
"""Largest error of the Lanczos resize, in levels, and the share of values that may have it."""


def compare_model(directory: Path, comparison: Comparison) -> None:
    """Compare OpenVLA-OFT with every recorded case in the directory."""
    folder = directory / "oft"
    # The recorded images are prepared already: they have the right size and pass unchanged.
    policy = load_policy(
        folder / "checkpoint",
        pruning=PruningConfig(keep_ratio=1.0),
        tokenizer=list,
        num_cameras=len(CAMERAS),
        image_path="camera",
        center_crop=False,
    )
    for name, official in load_cases(folder):
        comparison.expect(*QUANTITIES)
        with np.load(folder / f"{name}_images.npz") as arrays:
            images = dict(arrays)
        for camera in CAMERAS:
            image = load_image(folder / "images" / f"{name}_{camera}.png")
            _compare_image_path(camera, image, images, comparison)
        observation = _recorded(policy, official, images)
        _compare_case(policy, observation, official, comparison)
        _compare_discrete(policy, observation, official, comparison)
        _compare_attention(policy, observation, official, comparison)


def _compare_image_path(
    camera: str, image: np.ndarray, official: dict, comparison: Comparison
) -> None:
    """Compare step by step, each from the recorded input of that step, and all steps together."""
    path = ImagePath("libero_upright")
    steps = {
        "after_jpeg": jpeg_round_trip,
        "resized_without_jpeg": lambda image: resize_lanczos(image, IMAGE_SIZE),
        "resized": path.resize,
        "final": path,
    }
    for step, prepare in steps.items():
        if f"{camera}_{step}" in official:
            comparison.expect(f"image {step}, levels", f"image {step}, share off")
            _compare_levels(step, prepare(image), official[f"{camera}_{step}"], comparison)
    cropped = crop_center(official[f"{camera}_resized"], CROP_AREA)
    comparison.add("image crop", cropped, official[f"{camera}_final"], EXACT)


def _compare_levels(
    step: str, ours: np.ndarray, official: np.ndarray, comparison: Comparison
) -> None:
    comparison.add(f"image {step}, levels", ours, official, LEVELS)
    share = float(np.mean(ours != official)) if ours.shape == official.shape else float("inf")
    comparison.add_error(f"image {step}, share off", share, SHARE)


def _recorded(policy: OpenVlaOftPolicy, official: dict, images: dict) -> Observation:
    ids = official["input_ids"][0].tolist()
    policy.tokenize = lambda text: ids
    images = [images[f"{camera}_final"] for camera in CAMERAS]
    return Observation(images, "as recorded", official["proprio_raw"])


def _compare_case(
    policy: OpenVlaOftPolicy, observation: Observation, official: dict, comparison: Comparison
) -> None:
    model, llama = policy.model, policy.model.language_model.model
    modules = {"features": model.vision_backbone, "tokens": model.projector, "norm": llama.norm}
    modules |= {"proprio": policy.projector, "head": policy.head}
    norms = {str(i): layer.input_layernorm for i, layer in enumerate(llama.layers)}
    inputs = {**norms, "pixels": model.vision_backbone}
    with watched(modules) as seen, watched(inputs, inputs=True) as given:
        _, actions = policy.run(observation, policy.unpruned_plan())
    ids = complete(official["input_ids"][0].tolist())
    comparison.add("prompt ids", [ids], official["input_ids_with_29871"], EXACT)
    pixels = given["pixels"][0].flatten(0, 1)[None]
    comparison.add("pixel values", pixels, official["pixel_values"], EXACT)
    features, tokens = (seen[name][0].flatten(0, 1) for name in ("features", "tokens"))
    comparison.add("vision features", features, official["patch_features"], FEATURES)
    comparison.add("visual tokens", tokens, official["projector_output"], FEATURES)
    state = policy.state_bounds.from_units(official["proprio_raw"])
    comparison.add("normalised state", state, official["proprio_normalized"], EXACT)
    comparison.add(
        "proprio token", seen["proprio"][0].flatten(), official["proprio_token"], FEATURES
    )
    hidden = seen["norm"][0][0]
    comparison.add("action hidden states", hidden, official["action_hidden_states"], HIDDEN)
    row = policy.num_visual + len(ids)
    by_layer = torch.stack([*(given[name][0][0, row] for name in norms), hidden[0]])
    recorded = official["hidden_at_29871_per_layer"]
    comparison.add("hidden states by layer", by_layer, recorded, HIDDEN)
    normalized = seen["head"][0]
    comparison.add("normalised actions", normalized, official["normalized_actions"], OFT_ACTIONS)
    comparison.add("actions", actions, official["actions"], OFT_ACTIONS)


def _compare_discrete(
    policy: OpenVlaOftPolicy, observation: Observation, official: dict, comparison: Comparison
) -> None:
    """Compare the same weights without the action head."""
    head, policy.head = policy.head, None
    try:
        inference, actions = policy.run(observation, policy.unpruned_plan())
    finally:
        policy.head = head
    comparison.add("discrete ids", inference.raw, official["discrete_token_ids"], EXACT)
    normalized = policy.tokens.decode(as_array(inference.raw)).reshape(actions.shape)
    recorded = official["discrete_normalized_actions"]
    comparison.add("discrete normalised actions", normalized, recorded, EXACT)
    comparison.add("discrete actions", actions, official["discrete_actions"], EXACT)


def _compare_attention(
    policy: OpenVlaOftPolicy, observation: Observation, official: dict, comparison: Comparison
) -> None:
    ours = read_attention(policy, observation)
    every = official["attn_all_queries_mean_visual"][:-1]
    rows = read_rows_of_the_pass(policy, observation)
    comparison.add("attention, all rows", rows, every, ATTENTION)
    text = official["attn_text_queries_mean_visual"][:-1]
    comparison.add("attention, text rows", ours.text_rows, text, ATTENTION)
    action = official["attn_action_queries_visual"][:, : policy.placeholders].mean(axis=1)
    comparison.add("attention, action rows", ours.action_rows, action, ATTENTION)
