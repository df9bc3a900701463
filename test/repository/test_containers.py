"""Dockerfiles: what they copy exists, what they install is pinned, hadolint is content."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
IDS = [path.stem for path in FILES]
PINNED = {line.partition("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()}


def test_there_is_one_for_a_desktop_and_one_for_a_jetson():
    assert IDS == ["desktop", "jetson"]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_copied_files_are_in_the_repository(path):
    sources = re.findall(r"^COPY (.+) \S+$", path.read_text(), re.MULTILINE)
    assert len(sources) == 3
    for name in " ".join(sources).split():
        assert (ROOT / name).exists(), f"{path.name} copies {name}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_installed_libraries_are_pinned_in_the_requirements(path):
    [names] = re.findall(r"grep -E '\^\(([^)]+)\)=='", path.read_text())
    assert len(names.split("|")) >= 10
    assert set(names.split("|")) <= PINNED
    needed = {"transformers", "safetensors", "tokenizers", "rosbags", "tqdm", "simplejpeg"}
    assert needed <= set(names.split("|"))
    assert ("torch" in names.split("|")) == (path.stem == "desktop")  # a Jetson has NVIDIA's


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_hadolint_has_no_complaint(path):
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: make setup-extra")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_entrypoint_finds_the_executables():
    text = (ROOT / "docker" / "entrypoint.sh").read_text()
    assert "lib/vla_pruner_ros" in text
    assert 'exec "$@"' in text
    assert subprocess.run(["bash", "-n", ROOT / "docker" / "entrypoint.sh"]).returncode == 0
