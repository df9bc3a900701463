"""Repositories of the Hugging Face hub: fetched once, then used from the local cache.

Only safetensors and JSON are fetched, never code or pickles. A repository that the cache holds
whole is used without a network.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from vla_pruner_ros.models.policy import CheckpointError

logger = logging.getLogger(__name__)
SCHEME = "hf:"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")
INDEX = "model.safetensors.index.json"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Repository:
    """A repository of the hub; revision: branch, tag or commit, empty for the main branch."""

    name: str
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Read [hf:]owner/name[@revision].

        Raises:
            CheckpointError: it is not of that form.
        """
        name, _, revision = text.removeprefix(SCHEME).partition("@")
        if not NAME.fullmatch(name):
            raise CheckpointError(f"{text!r} is not of the form hf:owner/name or hf:owner/name@tag")
        return cls(name, revision)

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.revision}" if self.revision else "")

    @property
    def command(self) -> str:
        """Return the command that fetches it on a machine with a network."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name}{revision} --include '*.safetensors' '*.json'"


def looks_like_name(text: str) -> bool:
    """Return whether a text may be the name of a repository."""
    return bool(NAME.fullmatch(text))


def checkpoint_folder(repository: Repository) -> Path:
    """Return the local folder of a checkpoint, fetched if the cache does not hold it.

    Raises:
        CheckpointError: neither in the cache nor on the hub; names the command to run.
    """
    folder = _cached(repository)
    if folder is None or not holds_weights(folder):
        logger.info("Fetching %s; it is kept in the Hugging Face cache", repository)
        folder = _fetch(repository, WEIGHTS)
    _refuse_pickled_parts(repository, folder)
    return folder


def tokenizer_folder(repository: Repository) -> Path:
    """Return the local folder of a repository's tokenizer, fetched if the cache does not hold it.

    Raises:
        CheckpointError: as checkpoint_folder.
    """
    folder = _cached(repository)
    if folder is None or not (folder / "tokenizer.json").exists():
        folder = _fetch(repository, TOKENIZER)
    return folder


def cache_folder(repository: Repository) -> Path:
    """Return the folder of the Hugging Face cache that holds a repository, or would hold it."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=repository.name, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder


def holds_weights(folder: Path) -> bool:
    """Return whether a folder holds a configuration and all weights, or a complete adapter."""
    if (folder / "adapter_model.safetensors").exists():
        return True
    if (folder / INDEX).exists():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            shards = set(index["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        return all((folder / shard).exists() for shard in shards)
    return (folder / "model.safetensors").exists()


def _cached(repository: Repository) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository.name, revision=repository.revision or None, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    return Path(found)


def _fetch(repository: Repository, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            repository.name,
            revision=repository.revision or None,
            allow_patterns=list(patterns),
        )
    except hub_errors.GatedRepoError:
        raise CheckpointError(
            f"{repository} is gated: accept its licence on its page of the Hugging Face hub, run "
            f"`hf auth login`, then `{repository.command}`"
        ) from None
    except hub_errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"the Hugging Face hub has no {repository.name}, or it is private: check the name, or "
            "run `hf auth login`"
        ) from None
    except hub_errors.RevisionNotFoundError:
        raise CheckpointError(f"{repository.name} has no revision {repository.revision}") from None
    except Exception as error:  # network libraries raise kinds of their own
        raise CheckpointError(
            f"{repository} is not in the Hugging Face cache and cannot be fetched "
            f"({_first_line(error)}). On a machine with a network run `{repository.command}`, "
            "then copy its cache here (HF_HOME), or set checkpoint to the copied folder"
        ) from None
    return Path(found)


def _refuse_pickled_parts(repository: Repository, folder: Path) -> None:
    """An action head in a .pt file is not fetched; without it the checkpoint is another one."""
    statistics = folder / "dataset_statistics.json"
    config = folder / "config.json"
    if not (statistics.exists() and config.exists()):
        return
    if any(folder.glob("*--*.pt")) or "openvla" not in config.read_text(encoding="utf-8"):
        return
    parts = [name for name in _remote_files(repository) if re.fullmatch(r".*--.*\.pt", name)]
    if parts:
        raise CheckpointError(
            f"{repository} holds {', '.join(parts)}, which are pickles and are not fetched: run "
            f"`hf download {repository.name}`, then set checkpoint to the folder"
        )


def _remote_files(repository: Repository) -> list[str]:
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(repository.name, revision=repository.revision or None)
    except Exception:  # without a network nobody can look
        return []


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
