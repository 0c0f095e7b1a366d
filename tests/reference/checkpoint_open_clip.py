"""A text encoder of Stable Diffusion 2 as LDM checkpoints have it (OpenCLIP's names), and what diffusers makes of it.

Run: python tests/reference/checkpoint_open_clip.py
Writes tests/fixtures/checkpoint/open_clip.safetensors, a tower of ViT-H/14's 24 blocks at a width of 4 with seeded numbers, and
open_clip_expected.safetensors, the same weights under transformers' names by diffusers 0.32.2
`loaders/single_file_utils.convert_open_clip_checkpoint` (torch 2.15, float32). diffusers knows the block that Stable Diffusion 2 does not
use by its number, 23, so the tower is as deep as the real one.
"""

from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "fixtures" / "checkpoint"
PREFIX = "cond_stage_model.model."
WIDTH, BLOCKS, TOKENS, POSITIONS = 4, 24, 6, 5

generator = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(shape, generator=generator)


def tower():
    weights = {
        "positional_embedding": randn(POSITIONS, WIDTH),
        "token_embedding.weight": randn(TOKENS, WIDTH),
        "ln_final.weight": randn(WIDTH),
        "ln_final.bias": randn(WIDTH),
        "text_projection": randn(WIDTH, WIDTH),
        "logit_scale": randn(),
    }
    for block in range(BLOCKS):
        head = f"transformer.resblocks.{block}."
        for name, shape in [
            ("ln_1.weight", (WIDTH,)),
            ("ln_1.bias", (WIDTH,)),
            ("ln_2.weight", (WIDTH,)),
            ("ln_2.bias", (WIDTH,)),
            ("attn.in_proj_weight", (3 * WIDTH, WIDTH)),
            ("attn.in_proj_bias", (3 * WIDTH,)),
            ("attn.out_proj.weight", (WIDTH, WIDTH)),
            ("attn.out_proj.bias", (WIDTH,)),
            ("mlp.c_fc.weight", (WIDTH, WIDTH)),
            ("mlp.c_fc.bias", (WIDTH,)),
            ("mlp.c_proj.weight", (WIDTH, WIDTH)),
            ("mlp.c_proj.bias", (WIDTH,)),
        ]:
            weights[head + name] = randn(*shape)
    return {PREFIX + name: tensor for name, tensor in weights.items()}


stored = tower()
expected = convert_open_clip_checkpoint(SimpleNamespace(config=SimpleNamespace()), stored, prefix=PREFIX)
save_file(stored, OUT / "open_clip.safetensors")
save_file({name: tensor.contiguous() for name, tensor in expected.items()}, OUT / "open_clip_expected.safetensors")
print(len(stored), "entries,", len(expected), "weights")
