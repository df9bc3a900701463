"""Repositories of the Hugging Face hub: read from the cache, or named with the command."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from model_helpers import observation, refused

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.sources import hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache; returns its folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(cache, name, source):
    root = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / ("0" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)


def test_a_cached_repository_is_used_without_a_network(cache, checkpoints, monkeypatch):
    put(cache, "owner/arm", checkpoints("pi05"))
    monkeypatch.setattr(hub, "_fetch", lambda *_: pytest.fail("nothing is to be fetched"))
    policy = load_policy("hf:owner/arm")
    assert policy.family == "pi05"


def test_what_cannot_be_fetched_is_named_with_the_command(cache, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hf:owner/arm", "cannot be fetched.*run `hf download owner/arm --include")
    refused("hf:arm", "not of the form hf:owner/name")

    def gated(*_, **options):
        if options.get("local_files_only"):
            raise errors.LocalEntryNotFoundError("not here")
        error = errors.GatedRepoError.__new__(errors.GatedRepoError)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    refused("hf:owner/arm@v2", "hf:owner/arm@v2 is gated: accept its licence.*--revision v2")


def test_the_tokenizer_that_a_policy_names_comes_from_the_cache(
    cache, copied, checkpoints, tmp_path
):
    directory = copied("pi05")
    expected = load_policy(directory)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).rename(tokenizer / name)
    policy = load_policy(directory, tokenizer=tokenizer)
    frame = observation(policy)
    assert np.array_equal(policy.act_unpruned(frame), expected.act_unpruned(frame))
    put(cache, "google/paligemma-3b-pt-224", tokenizer)
    ours = load_policy(directory).act_unpruned(frame)
    assert np.array_equal(ours, expected.act_unpruned(frame))
