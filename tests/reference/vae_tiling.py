"""Moments and decoded image of one image too large for a single pass, by diffusers' `AutoencoderKL` with tiling.

Tiles of 512 pixels, as SD1.5's `sample_size` sets them, on the miniature model; float32 on the CPU. Inputs are first draws after
`torch.manual_seed`; outputs are kept at every `STRIDE`-th row and column, which meets every tile and every blended seam.

    python vae_tiling.py MODEL_FOLDER tests/fixtures/networks/vae_tiling.safetensors
"""

import torch

import common

INPUTS = {"image": (41, (1, 3, 1096, 1032)), "latents": (42, (1, 4, 137, 129))}
TILE = 512
STRIDE = {"mean": 3, "image": 17}


@torch.no_grad()
def main():
    options = common.arguments(__doc__.splitlines()[0]).parse_args()
    model = common.load(options.folder, "vae")
    model.enable_tiling()
    model.tile_sample_min_size = TILE
    model.tile_latent_min_size = TILE // 2 ** (len(model.config.block_out_channels) - 1)
    inputs = {name: common.draw(seed, *shape) for name, (seed, shape) in INPUTS.items()}
    outputs = {"mean": model.encode(inputs["image"]).latent_dist.mean, "image": model.decode(inputs["latents"]).sample}
    common.save(
        options.output,
        {name: value[:, :, :: STRIDE[name], :: STRIDE[name]].contiguous() for name, value in outputs.items()},
        script="tests/reference/vae_tiling.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        inputs={name: {"seed": seed, "shape": shape} for name, (seed, shape) in INPUTS.items()},
        tile=TILE,
        stride=STRIDE,
    )


if __name__ == "__main__":
    main()
