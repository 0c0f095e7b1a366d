"""A UNet of Stable Diffusion 2 as LDM checkpoints have it, what diffusers makes of it, and what it predicts.

Run: python tests/reference/checkpoint_sd2_unet.py CHECKOUT
CHECKOUT is Stability-AI/stablediffusion (cf1d67a; it needs einops 0.8.2 and omegaconf 2.4), whose own `openaimodel.UNetModel` is built with the entries of
`v2-inference-v.yaml` at a miniature's sizes: `use_linear_in_transformer`, so that `proj_in` and `proj_out` are matrices, and
`num_head_channels`, so that the number of heads grows with the width. Its norms have 2 groups instead of 32, so that widths of 4 and 8 do.

Writes to tests/fixtures/checkpoint (torch 2.15, diffusers 0.32.2, float32, seed 0):
- sd2_unet.safetensors: its seeded weights under LDM's names, with the prefix that a whole checkpoint has;
- sd2_unet_expected.safetensors: the same by diffusers' `convert_from_ckpt.convert_ldm_unet_checkpoint`; and, under `input.` and `output`,
  an input and what the LDM model itself predicts for it;
- sd2_unet_config.json: what `convert_from_ckpt.create_unet_diffusers_config` makes of the entries, with the 2 groups.
That diffusers' network on the converted weights predicts the same is asserted here (its limit: 1e-6 of the prediction's norm).
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, sys.argv[1])

from diffusers import UNet2DConditionModel  # noqa: E402
from diffusers.pipelines.stable_diffusion import convert_from_ckpt  # noqa: E402
from ldm.modules import attention  # noqa: E402
from ldm.modules.diffusionmodules import openaimodel, util  # noqa: E402

OUT = Path(__file__).parent.parent / "fixtures" / "checkpoint"
PREFIX = "model.diffusion_model."
GROUPS = 2
PARAMS = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 4,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 2,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 6,
    "legacy": False,
}


def model():
    openaimodel.normalization = lambda channels: util.GroupNorm32(GROUPS, channels)
    attention.Normalize = lambda channels: torch.nn.GroupNorm(GROUPS, channels, eps=1e-6)
    network = openaimodel.UNetModel(**PARAMS, use_checkpoint=False).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(network.named_parameters()):
        # Around 1 where a norm scales, so that the signal survives.
        is_scale = name.endswith("weight") and parameter.dim() == 1
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator) + float(is_scale)
    return network, generator


def main():
    network, generator = model()
    inputs = {
        "sample": torch.randn(2, 4, 6, 8, generator=generator),
        "timesteps": torch.tensor([17.0, 901.0]),
        "text": torch.randn(2, 5, 6, generator=generator),
    }
    with torch.no_grad():
        output = network(inputs["sample"], timesteps=inputs["timesteps"], context=inputs["text"])
    stored = {PREFIX + name: tensor.contiguous() for name, tensor in network.state_dict().items()}

    autoencoder = {"ddconfig": {"ch_mult": [1, 2, 4, 4]}}
    original = {"model": {"params": {"unet_config": {"params": PARAMS}, "first_stage_config": {"params": autoencoder}}}}
    config = convert_from_ckpt.create_unet_diffusers_config(original, image_size=64) | {"norm_num_groups": GROUPS}
    expected = convert_from_ckpt.convert_ldm_unet_checkpoint(dict(stored), config)
    theirs = UNet2DConditionModel(**config)
    theirs.load_state_dict(expected)
    with torch.no_grad():
        again = theirs(inputs["sample"], inputs["timesteps"], inputs["text"]).sample
    error = float((again - output).norm() / output.norm())
    assert error < 1e-6, error

    save_file(stored, OUT / "sd2_unet.safetensors")
    record = {name: tensor.contiguous() for name, tensor in expected.items()}
    record |= {f"input.{name}": tensor for name, tensor in inputs.items()} | {"output": output.contiguous()}
    save_file(record, OUT / "sd2_unet_expected.safetensors")
    config = {name: value for name, value in config.items() if value is not None}
    (OUT / "sd2_unet_config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}, indent=1) + "\n")
    print(len(stored), "weights; diffusers' prediction differs by", error, "of", float(output.norm()))


main()
