"""Names of the same weights in LDM files and in diffusers, by diffusers' own conversion.

Run: python tests/reference/checkpoint_names.py
Writes tests/fixtures/checkpoint/ldm_names.json: for two miniature configurations the pairs (diffusers name, LDM name) of UNet, VAE and
text encoder. LDM names are laid out here as CompVis' classes number their modules (`openaimodel.UNetModel`, `model.Encoder`,
`model.Decoder`), each weight marked by a shape of its own; diffusers' `single_file_utils` then says under which name it wants it.
"""

import json
import warnings
from pathlib import Path

import diffusers
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

warnings.filterwarnings("ignore")
OUT = Path(__file__).parent.parent / "fixtures" / "checkpoint" / "ldm_names.json"
UNET, VAE = "model.diffusion_model.", "first_stage_model."


def both(*names):
    return [f"{name}.{part}" for name in names for part in ("weight", "bias")]


def resnet(prefix, shortcut):
    names = both(*(f"{prefix}.{n}" for n in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")))
    return names + (both(f"{prefix}.skip_connection") if shortcut else [])


def transformer(prefix):
    block = f"{prefix}.transformer_blocks.0"
    names = both(f"{prefix}.norm", f"{prefix}.proj_in", f"{prefix}.proj_out", *(f"{block}.norm{i}" for i in (1, 2, 3)))
    names += both(f"{block}.ff.net.0.proj", f"{block}.ff.net.2")
    for attention in ("attn1", "attn2"):
        names += [f"{block}.{attention}.{n}.weight" for n in ("to_q", "to_k", "to_v")] + both(f"{block}.{attention}.to_out.0")
    return names


def unet(levels, layers, attention):
    names = both("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2")
    block = 1
    for level in range(levels):
        for layer in range(layers):
            names += resnet(f"input_blocks.{block}.0", level > 0 and layer == 0)
            names += transformer(f"input_blocks.{block}.1") if attention[level] else []
            block += 1
        if level < levels - 1:
            names += both(f"input_blocks.{block}.0.op")
            block += 1
    names += resnet("middle_block.0", False) + transformer("middle_block.1") + resnet("middle_block.2", False)
    block = 0
    for level in reversed(range(levels)):
        for layer in range(layers + 1):
            names += resnet(f"output_blocks.{block}.0", True)
            part = 1
            if attention[level]:
                names += transformer(f"output_blocks.{block}.1")
                part = 2
            if level > 0 and layer == layers:
                names += both(f"output_blocks.{block}.{part}.conv")
            block += 1
    return [UNET + name for name in names]


def vae_resnet(prefix, shortcut):
    return both(*(f"{prefix}.{n}" for n in ("norm1", "conv1", "norm2", "conv2") + (("nin_shortcut",) if shortcut else ())))


def vae(levels, layers):
    names = both("quant_conv", "post_quant_conv")
    for side, walk, count, sampler in (("encoder", "down", layers, "downsample"), ("decoder", "up", layers + 1, "upsample")):
        names += both(f"{side}.conv_in", f"{side}.norm_out", f"{side}.conv_out")
        names += vae_resnet(f"{side}.mid.block_1", False) + vae_resnet(f"{side}.mid.block_2", False)
        names += both(*(f"{side}.mid.attn_1.{n}" for n in ("norm", "q", "k", "v", "proj_out")))
        for level in range(levels):
            for layer in range(count):
                names += vae_resnet(f"{side}.{walk}.{level}.block.{layer}", layer == 0 and level > 0)
            if level != (levels - 1 if walk == "down" else 0):
                names += both(f"{side}.{walk}.{level}.{sampler}.conv")
    return [VAE + name for name in names]


def pairs(names, convert, config):
    """Marks every weight by its number of rows and asks diffusers where it ends up."""
    marked = {name: torch.empty(i + 1, 1, 1, 1) if name.endswith("weight") else torch.empty(i + 1) for i, name in enumerate(names)}
    found = convert(dict(marked), config)
    rows = {i + 1: name for i, name in enumerate(names)}
    assert len(found) == len(names), (len(found), len(names))
    return sorted((name, rows[tensor.shape[0]]) for name, tensor in found.items())


def main():
    cases = []
    for levels, layers, attention in ((4, 2, [True, True, True, False]), (3, 1, [True, False, True])):
        kinds = ["CrossAttnDownBlock2D" if on else "DownBlock2D" for on in attention]
        ups = ["CrossAttnUpBlock2D" if on else "UpBlock2D" for on in reversed(attention)]
        config = {"layers_per_block": layers, "down_block_types": kinds, "up_block_types": ups, "class_embed_type": None, "addition_embed_type": None}
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        cases.append(
            {
                "levels": levels,
                "layers_per_block": layers,
                "unet": pairs(unet(levels, layers, attention), convert_ldm_unet_checkpoint, config),
                "vae": pairs(vae(levels, layers), convert_ldm_vae_checkpoint, blocks),
            }
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"versions": {"diffusers": diffusers.__version__}, "cases": cases}, separators=(",", ":")) + "\n")
    print({case["levels"]: (len(case["unet"]), len(case["vae"])) for case in cases}, OUT.stat().st_size)


main()
