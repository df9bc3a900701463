"""Shapes of the models that are benchmarked and predicted: full size, and small ones for a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.openvla.vision_backbone import TowerShape


@dataclass(frozen=True)
class DecoderShape:
    """Layers with gated MLPs; kv_heads below heads: grouped queries."""

    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def query_width(self) -> int:
        """Numbers of one token's queries, all heads."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Numbers of one token's keys, all heads; values have as many."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class ModelShape:
    """One model and the prompt it is asked with.

    towers: DINOv2 and SigLIP, or a flow-matching model's SigLIP alone, whose last block runs too.
    prompt_tokens: of the text, the first and last special ones included.
    vocabulary: rows of the embedding. expert: a flow-matching model's.
    chunk: actions of one inference.
    state_dim: numbers of robot state; each makes the same one token.
    patches_per_token: patches of the tower that become one visual token.
    """

    family: str
    size: str
    cameras: int
    towers: tuple[TowerShape, ...]
    decoder: DecoderShape
    prompt_tokens: int
    vocabulary: int
    chunk: int = 1
    state_dim: int = 0
    expert: DecoderShape | None = None
    flow_steps: int = 0
    patches_per_token: int = 1

    @property
    def visual(self) -> int:
        """Visual tokens of all cameras."""
        return self.cameras * self.towers[0].patches // self.patches_per_token

    @property
    def flows(self) -> bool:
        """True if an action expert flows from noise to actions."""
        return self.expert is not None

    @property
    def leading(self) -> int:
        """Tokens of the expert before the actions: pi0's state."""
        return 1 if self.family == "pi0" else 0

    @property
    def cross_layers(self) -> tuple[bool, ...]:
        """For each layer of the expert, whether it attends to the prefix alone (SmolVLA)."""
        odd = self.family == "smolvla"
        return tuple(odd and layer % 2 == 1 for layer in range(self.decoder.layers))

    @property
    def placeholders(self) -> int:
        """Rows of OpenVLA-OFT that are read, one per action number."""
        return self.chunk * ACTION_DIM if self.family == "openvla_oft" else 0

    @property
    def length(self) -> int:
        """Tokens of the whole prompt."""
        others = {"openvla_oft": self.placeholders + 2, "smolvla": 1}.get(self.family, 0)
        return self.visual + self.prompt_tokens + others

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks that run, by tower."""
        dropped = 0 if self.flows else 1
        return tuple(tower.depth - dropped for tower in self.towers)


LLAMA_PROMPT = 35
"""N of the paper's FLOPs (arXiv 2511.16449, table 1): 1.14 T at half the tokens."""
LLAMA_VOCABULARY = 32064
STATE_DIM = 8

SIGLIP_BASE_512 = TowerShape(768, 12, 12, 3072, patch_size=16, patches=1024)
SMOLLM2 = DecoderShape(960, 2560, layers=16, heads=15, kv_heads=5, head_dim=64)
SMOLVLA_EXPERT = DecoderShape(720, 2048, layers=16, heads=15, kv_heads=5, head_dim=64)

LLAMA_7B = DecoderShape(4096, 11008, layers=32, heads=32, kv_heads=32, head_dim=128)
DINO_LARGE = TowerShape(1024, 24, 16, 4096, registers=4, layer_scale=True)
SIGLIP_SO400M = TowerShape(1152, 27, 16, 4304)
GEMMA_2B = DecoderShape(2048, 16384, layers=18, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = DecoderShape(1024, 4096, layers=18, heads=8, kv_heads=1, head_dim=256)

SMALL_LLAMA = DecoderShape(640, 1728, layers=12, heads=10, kv_heads=10, head_dim=64)
SMALL_DINO = TowerShape(320, 8, 5, 1280, registers=4, layer_scale=True)
SMALL_SIGLIP = TowerShape(384, 8, 6, 1536)
SMALL_GEMMA = DecoderShape(512, 2048, layers=8, heads=8, kv_heads=1, head_dim=64)
SMALL_EXPERT = DecoderShape(256, 1024, layers=8, heads=8, kv_heads=1, head_dim=64)

SMALL_SIGLIP_512 = TowerShape(192, 6, 3, 768, patch_size=16, patches=1024)
SMALL_SMOLLM = DecoderShape(384, 1024, layers=8, heads=6, kv_heads=2, head_dim=64)
SMALL_SMOL_EXPERT = DecoderShape(288, 768, layers=8, heads=6, kv_heads=2, head_dim=64)

TINY_SIGLIP_512 = TowerShape(24, 2, 2, 48, patch_size=64, patches=64)
TINY_SMOLLM = DecoderShape(32, 64, layers=5, heads=4, kv_heads=2, head_dim=8)
TINY_SMOL_EXPERT = DecoderShape(24, 48, layers=5, heads=4, kv_heads=2, head_dim=8)
TINY_LLAMA = DecoderShape(32, 64, layers=5, heads=4, kv_heads=4, head_dim=8)
TINY_DINO = TowerShape(32, 3, 2, 128, registers=4, layer_scale=True)
TINY_SIGLIP = TowerShape(48, 4, 2, 64)
TINY_GEMMA = DecoderShape(32, 64, layers=5, heads=4, kv_heads=1, head_dim=8)
TINY_EXPERT = DecoderShape(16, 32, layers=5, heads=4, kv_heads=1, head_dim=8)


def _openvla(size: str, towers: tuple[TowerShape, ...], decoder: DecoderShape) -> ModelShape:
    return ModelShape("openvla", size, 1, towers, decoder, LLAMA_PROMPT, LLAMA_VOCABULARY)


def _oft(openvla: ModelShape) -> ModelShape:
    """Two cameras, proprio, L1 head, eight actions a pass (LIBERO)."""
    return replace(openvla, family="openvla_oft", cameras=2, chunk=8, state_dim=STATE_DIM)


def _pi0(
    size: str, tower: TowerShape, decoder: DecoderShape, expert: DecoderShape, vocabulary: int
) -> ModelShape:
    """Three cameras, the longest prompt of training, 50 actions in 10 flow steps."""
    return ModelShape(
        family="pi0",
        size=size,
        cameras=3,
        towers=(tower,),
        decoder=decoder,
        prompt_tokens=48,
        vocabulary=vocabulary,
        chunk=50,
        state_dim=STATE_DIM,
        expert=expert,
        flow_steps=10,
    )


def _pi05(pi0: ModelShape, cameras: int, size: str = "") -> ModelShape:
    """State in the prompt, hence a longer one: a LIBERO task with eight numbers has 52 tokens."""
    return replace(
        pi0,
        family="pi05",
        size=size or pi0.size,
        cameras=cameras,
        prompt_tokens=64,
        state_dim=STATE_DIM,
    )


def _smolvla(
    size: str, tower: TowerShape, decoder: DecoderShape, expert: DecoderShape, shuffle: int
):
    """Three cameras of 64 tokens (full size), 50 actions in 10 flow steps."""
    return ModelShape(
        family="smolvla",
        size=size,
        cameras=3,
        towers=(tower,),
        decoder=decoder,
        prompt_tokens=16,
        vocabulary=49280 if size == "full" else 1024,
        chunk=50,
        state_dim=STATE_DIM,
        expert=expert,
        flow_steps=10,
        patches_per_token=shuffle**2,
    )


FULL = _openvla("full", (DINO_LARGE, SIGLIP_SO400M), LLAMA_7B)
SMALL = _openvla("small", (SMALL_DINO, SMALL_SIGLIP), SMALL_LLAMA)
TINY = _openvla("tiny", (TINY_DINO, TINY_SIGLIP), TINY_LLAMA)

PI0 = {
    "full": _pi0("full", SIGLIP_SO400M, GEMMA_2B, GEMMA_300M, vocabulary=257152),
    "small": _pi0("small", SMALL_SIGLIP, SMALL_GEMMA, SMALL_EXPERT, vocabulary=1024),
    "tiny": _pi0("tiny", TINY_SIGLIP, TINY_GEMMA, TINY_EXPERT, vocabulary=1024),
}

SHAPES: dict[tuple[str, str], ModelShape] = {
    (shape.family, shape.size): shape
    for shape in (
        FULL,
        SMALL,
        TINY,
        *map(_oft, (FULL, SMALL, TINY)),
        *PI0.values(),
        *(_pi05(shape, cameras=2) for shape in PI0.values()),
        _pi05(PI0["full"], 3, "full_3_cameras"),
        _smolvla("full", SIGLIP_BASE_512, SMOLLM2, SMOLVLA_EXPERT, 4),
        _smolvla("small", SMALL_SIGLIP_512, SMALL_SMOLLM, SMALL_SMOL_EXPERT, 4),
        _smolvla("tiny", TINY_SIGLIP_512, TINY_SMOLLM, TINY_SMOL_EXPERT, 2),
    )
}
"""By family and size."""
SIZES = ("full", "small", "tiny")
