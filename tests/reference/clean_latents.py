"""The eleven maps of CleanDIFT from clean latents at a fractional timestep, by diffusers' UNet: the model's own, and another in its place.

CleanDIFT (CompVis/cleandift b070976, `src/sd_feature_extraction.py`) samples the autoencoder's posterior, scales, adds no noise, scales
for no scheduler, and hands the UNet its timestep as it is. The maps: the middle, and of the up path each transformer's output, a residual
block's where there is none, an upsampler's in the place of the last of its level.

    python clean_latents.py MODEL_FOLDER tests/fixtures/clean/sd15.safetensors --other OTHER_FOLDER --images tests/fixtures/extractor
    python clean_latents.py SD2_FOLDER tests/fixtures/clean/sd2.safetensors --images tests/fixtures/extractor

OTHER_FOLDER is the miniature of seed 1 (`miniature -- OTHER_FOLDER --seed 1`); its UNet is loaded as CleanDIFT's README loads theirs, by
`load_state_dict`. `torch.manual_seed(seed)` precedes each case; the posterior's noise is the first draw.
"""

from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file

import common

PROMPT, SEED, SIDE, TIMESTEP = "a photo of a cat", 3, 128, 261.37
LIMIT = 4096


def maps(unet):
    """The modules whose outputs are the eleven maps, by the extractor's ids."""
    up = unet.up_blocks
    named = {"mid-repeat1-res-out": unet.mid_block}
    for level in range(4):
        last = {3: 1}.get(level, 2)
        for repeat in range(last):
            with_text = level > 0
            layer = up[level].attentions[repeat] if with_text else up[level].resnets[repeat]
            named[f"up-level{level}-repeat{repeat}-{'vit' if with_text else 'res'}-out"] = layer
        if level < 3:
            named[f"up-level{level}-upsampler-out"] = up[level].upsamplers[0]
    assert len(named) == 11
    return named


def features(unet, latents, text):
    kept, hooks = {}, []
    for name, module in maps(unet).items():
        keep = lambda _module, _inputs, output, name=name: kept.update({name: output[0] if isinstance(output, tuple) else output})
        hooks.append(module.register_forward_hook(keep))
    unet(latents, torch.tensor([TIMESTEP]), text)
    for hook in hooks:
        hook.remove()
    return kept


@torch.no_grad()
def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    tokenizer, text_encoder, vae, unet = common.load(options.folder, "tokenizer", "text_encoder", "vae", "unet")
    text = text_encoder(common.tokens(tokenizer, [PROMPT]))[0]
    image = Image.open(options.images / "image.png").resize((SIDE, SIDE)).convert("RGB")
    pixels = torch.from_numpy(numpy.asarray(image).astype(numpy.float32) / 255).permute(2, 0, 1)[None].contiguous() * 2 - 1
    posterior = vae.encode(pixels).latent_dist
    noise = common.draw(SEED, *posterior.mean.shape)
    latents = (posterior.mean + posterior.std * noise) * vae.config.scaling_factor
    cases = {"own": unet}
    if options.other:
        other = type(unet).from_config(unet.config).eval()
        other.load_state_dict(load_file(options.other / "unet/diffusion_pytorch_model.safetensors"), strict=True)
        cases["other"] = other
    tensors, strides = {}, {}
    for case, network in cases.items():
        for name, value in features(network, latents, text).items():
            tensors[f"{case}.{name}"], strides[f"{case}.{name}"] = common.sample(value, LIMIT)
    common.save(
        options.output,
        tensors,
        script="tests/reference/clean_latents.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        strides=strides,
        prompt=PROMPT,
        seed=SEED,
        img_size=SIDE,
        timestep=TIMESTEP,
    )


if __name__ == "__main__":
    main()
