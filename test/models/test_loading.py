"""Checkpoints that are fine, and each trouble they may have, named in a sentence."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_helpers import observation, rewrite
from safetensors.torch import load_file, save_file

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.prompt import complete, prompt_text
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.untrained import write_untrained_checkpoint

LM_HEAD = "language_model.lm_head.weight"


@pytest.fixture
def copy(checkpoints, tmp_path):
    """copy(family) -> a checkpoint directory of this test's own."""
    return lambda family="openvla": Path(shutil.copytree(checkpoints(family), tmp_path / family))


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(directory: Path, message: str, **options) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_policy(directory, **options)


def test_shards_with_an_index_load_like_a_single_file(copy, checkpoints):
    directory = copy()
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, directory / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    sharded, single = load_policy(directory), load_policy(checkpoints("openvla"))
    ours, theirs = sharded.model.state_dict(), single.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    (directory / "b.safetensors").unlink()
    refused(directory, r"lacks the shards b\.safetensors")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "not a directory")
    refused(tmp_path, r"config\.json is missing")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "cannot be read as JSON")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused(tmp_path, r"no known family \(.*openvla.*'bert'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(LM_HEAD), "lacks language_model.lm_head.weight"),
        (lambda t: t.update(surprise=torch.zeros(1)), "has surprise, which this family"),
        (
            lambda t: t.update({LM_HEAD: t[LM_HEAD][:, :-1]}),
            r"lm_head.weight has shape \[32064, 31\], expected \[32064, 32\]",
        ),
        (lambda t: t[LM_HEAD][5].fill_(float("nan")), "lm_head.weight has NaN or infinite"),
        (lambda t: t[LM_HEAD][5, 0].fill_(float("-inf")), "lm_head.weight has NaN or infinite"),
        (
            lambda t: t.pop("vision_backbone.featurizer.patch_embed.proj.weight"),
            "weights of vision_backbone.featurizer are missing",
        ),
    ],
)
def test_troubled_weights_are_named(copy, change, message):
    directory = copy()
    rewrite(directory, change)
    refused(directory, message)


@pytest.mark.parametrize("keep", [4, 1000, -1000])
def test_a_truncated_file_is_damaged(copy, keep):
    directory = copy()
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(directory, "model.safetensors is damaged or incomplete")


def test_missing_weights_are_named(copy):
    directory = copy()
    (directory / "model.safetensors").unlink()
    refused(directory, "neither model.safetensors nor model.safetensors.index.json")


def test_statistics_decide_the_unnorm_key(copy):
    directory = copy()
    path = directory / "dataset_statistics.json"
    assert load_policy(directory).unnorm_key == "simulation"
    refused(directory, "'bridge' is not in .*; valid keys: simulation", unnorm_key="bridge")
    edit_json(path, lambda s: s.update(kitchen=s["simulation"]))
    refused(directory, "set unnorm_key, .* has several statistics: kitchen, simulation")
    assert load_policy(directory, unnorm_key="kitchen").unnorm_key == "kitchen"
    edit_json(path, lambda s: s["kitchen"]["action"].pop("q99"))
    refused(
        directory, "statistics of kitchen, action lack usable q01 and q99", unnorm_key="kitchen"
    )


def test_statistics_may_stand_in_the_config_alone(copy):
    directory = copy()
    (directory / "dataset_statistics.json").unlink()
    assert load_policy(directory).unnorm_key == "simulation"
    edit_json(directory / "config.json", lambda c: c.pop("norm_stats"))
    refused(directory, "dataset_statistics.json is missing .* copy dataset_statistics.json from")


def test_tokenizer_troubles(copy):
    directory = copy()
    (directory / "tokenizer.json").write_text("[]")
    refused(directory, "cannot be read as a tokenizer")
    (directory / "tokenizer.json").unlink()
    refused(directory, r"has no tokenizer\.json; copy the tokenizer files")
    policy = load_policy(directory, tokenizer=lambda text: [1, 5, 6])
    assert policy.act(observation(policy)).actions.shape == (1, 7)


def test_other_architectures_are_refused(copy):
    directory = copy()
    config = directory / "config.json"
    edit_json(config, lambda c: c.update(vision_backbone_id="siglip-vit-b16-224px"))
    refused(directory, "vision backbone 'siglip-vit-b16-224px' is not supported")
    edit_json(config, lambda c: c.update(vision_backbone_id="dinosiglip-vit-so-224px"))
    edit_json(config, lambda c: c["text_config"].update(model_type="phi"))
    refused(directory, "language model 'phi' is not supported")


def test_unknown_towers_need_their_head_count(copy):
    directory = copy()
    (directory / "tiny_vision_overrides.json").unlink()
    refused(directory, "32 wide, which is not a known size: give its num_heads")


def test_a_missing_normalisation_is_named(copy):
    directory = copy()
    (directory / "preprocessor_config.json").write_text("{}")
    refused(directory, "preprocessor_config.json in .* has no usable mean and std")


def test_bad_arguments_are_refused(checkpoints):
    directory = checkpoints("openvla")
    refused(directory, "dtype 'float31' is not one of float32, bfloat16", dtype="float31")
    refused(directory, "device 'tpu9' is not known", device="tpu9")
    refused(directory, "openvla has no option chunk_size", chunk_size=2)
    if not torch.cuda.is_available():
        refused(directory, "device cuda is not available", device="cuda")


def component(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


class Spy:
    """Leaves a mark if anybody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickled_code_is_never_run(copy, tmp_path):
    directory, mark = copy("openvla_oft"), tmp_path / "mark"
    head = component(directory, "action_head--*")
    torch.save({"fc2.bias": Spy(mark)}, head)
    refused(directory, "damaged or holds more than plain tensors")
    head.write_bytes(pickle.dumps(Spy(mark)))
    refused(directory, "damaged or holds more than plain tensors")
    assert not mark.exists()


def test_component_troubles_are_named(copy):
    directory = copy("openvla_oft")
    path = component(directory, "action_head--*")
    good = torch.load(path, weights_only=True)

    def save(**changes) -> None:
        torch.save({**good, **changes}, path)

    save(**{"module.model.layer_norm3.weight": torch.zeros(1)})
    refused(directory, "has the unknown layer_norm3.weight")
    save(**{"module.model.fc1.bias": torch.zeros(3)})
    refused(directory, r"fc1.bias has shape \[3\], expected \[32\]")
    save(**{"module.model.fc1.bias": torch.full((32,), float("nan"))})
    refused(directory, "fc1.bias has NaN")
    save(**{"module.noise_predictor.fc.weight": torch.zeros(1)})
    refused(directory, "diffusion head, which is not supported")
    torch.save({n: t for n, t in good.items() if not n.endswith("fc2.bias")}, path)
    refused(directory, "lacks fc2.bias")
    torch.save([torch.zeros(1)], path)
    refused(directory, "must hold a dictionary of tensors")
    shutil.copy(path, path.with_name("action_head--9_checkpoint.pt"))
    refused(directory, "keep the one to use")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("vision_backbone--10_checkpoint.pt", "holds no FiLM"),
        ("noisy_action_projector--10_checkpoint.pt", "the diffusion head of OpenVLA-OFT"),
    ],
)
def test_unsupported_variants_are_refused_by_name(copy, file, message):
    directory = copy()
    torch.save({}, directory / file)
    refused(directory, message)


def test_state_statistics_must_fit_the_projector(copy):
    directory = copy("openvla_oft")

    def shorten(statistics):
        for bounds in statistics["simulation"]["proprio"].values():
            bounds.pop()

    edit_json(directory / "dataset_statistics.json", shorten)
    refused(directory, "have 7 numbers, the proprio projector takes 8")


def test_without_components_beside_it_a_head_is_not_needed(copy):
    directory = copy("openvla_oft")
    component(directory, "action_head--*").unlink()
    policy = load_policy(directory, pruning=None)
    assert (policy.family, policy.head) == ("openvla_oft", None)
    component(directory, "proprio_projector--*").unlink()
    assert load_policy(directory).family == "openvla"


def test_image_path_is_checked(checkpoints):
    directory = checkpoints("openvla_oft")
    refused(directory, "image_path must be one of camera, libero", image_path="webcam")


def test_same_seed_same_checkpoint(tmp_path):
    one, same, other = (
        write_untrained_checkpoint(tmp_path / str(i), seed=seed, hidden=32, layers=1, mlp=32)
        for i, seed in enumerate([4, 4, 5])
    )
    weights = [load_file(path / "model.safetensors") for path in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0][LM_HEAD], weights[2][LM_HEAD])
    assert (one / "tokenizer.json").read_bytes() == (same / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="family must be one of"):
        write_untrained_checkpoint(tmp_path / "x", family="rt1")


def test_the_written_tokenizer_is_one_for_transformers_too(checkpoints):
    from transformers import PreTrainedTokenizerFast

    directory = checkpoints("openvla")
    theirs = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    text = prompt_text("Open the top drawer")
    ids = load_policy(directory).tokenize(text)
    assert theirs(text).input_ids == ids
    assert (ids[0], ids.count(1)) == (1, 1)
    assert theirs.decode(ids, skip_special_tokens=True).strip() == text


def test_prompt_ends_as_in_training():
    assert complete([5, 6]) == [1, 5, 6, 29871]
    assert complete([1, 5, 29871]) == [1, 5, 29871]
    assert prompt_text("Pick UP") == ("In: What action should the robot take to pick up?\nOut:")


MEASURE = """
import sys
from pathlib import Path
from vla_pruner_ros.models.loading import load_policy

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

load_policy(sys.argv[1])  # imports and first-use buffers are not weights
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # start a new peak
policy = load_policy(sys.argv[2], dtype=sys.argv[3])
weights = sum(p.numel() * p.element_size() for p in policy.model.parameters())
print((status("VmHWM") - before) / weights)
"""


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Large enough for weights to stand out against everything else in a process."""
    directory = tmp_path_factory.mktemp("larger")
    return write_untrained_checkpoint(directory, hidden=384, layers=16, heads=6, mlp=1024)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_holds_the_weights_about_once(checkpoints, larger, dtype):
    command = [sys.executable, "-c", MEASURE, str(checkpoints("openvla")), str(larger), dtype]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.9 < peak <= 1.3


def test_actions_are_in_the_statistics_units(checkpoints):
    policy = load_policy(checkpoints("openvla"))
    chunk = policy.act(observation(policy))
    low, high = policy.bounds.low, policy.bounds.high
    assert ((chunk.actions >= low - 1e-6) & (chunk.actions <= high + 1e-6)).all()
    state = np.linspace(-2.0, 2.0, 7)
    inside = policy.bounds.from_units(state)
    assert (np.abs(inside) <= 1.0).all()
    np.testing.assert_allclose(
        policy.bounds.to_units(inside), np.clip(state, low, high), atol=1e-12
    )
