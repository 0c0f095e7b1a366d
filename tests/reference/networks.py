"""Outputs of the networks on a miniature model: what the Rust networks have to reproduce.

Reference classes: transformers `CLIPTextModel`; diffusers `AutoencoderKL`, `UNet2DConditionModel`, `ControlNetModel`,
float32 on the CPU. Random inputs are stored, and each is the first draw after `torch.manual_seed` of the seed that
the metadata entry `inputs` names.

    python networks.py MODEL_FOLDER tests/fixtures/networks/networks.safetensors
    python networks.py SD2_FOLDER tests/fixtures/networks/sd2.safetensors --without-vae

Stable Diffusion 2's autoencoder is Stable Diffusion 1.5's, so that one fixture serves both.
"""

import json

import torch

import common

PROMPT = "a photo of a cat"
# name of the input: seed, shape; TEXT is the width of the model's text states
TEXT = "cross_attention_dim"
INPUTS = {
    "vae.image": (11, (1, 3, 48, 32)),
    "vae.latents": (12, (1, 4, 4, 6)),
    "unet.sample": (21, (2, 4, 16, 16)),
    "unet.text": (22, (2, 77, TEXT)),
    # kohya's 512x650 images give 64x81 latents, whose lowest level is 8x11: odd sides must be resized on the way up
    "unet_odd.sample": (23, (2, 4, 8, 11)),
    "unet_odd.text": (24, (2, 13, TEXT)),
    "controlnet.sample": (31, (2, 4, 8, 4)),
    "controlnet.condition": (33, (2, 3, 64, 32)),
}
TIMESTEPS = {"unet.first": [50, 50], "unet.second": [981, 1], "unet_odd.output": [261, 261], "controlnet": [50, 700]}


def text_encoder(folder):
    """Last hidden state, and the last but one followed by the final layer norm (clip_skip 2), `[1, 77, hidden]`."""
    tokenizer, model = common.load(folder, "tokenizer", "text_encoder")
    ids = common.tokens(tokenizer, [PROMPT])
    output = model(ids, output_hidden_states=True)
    return {
        "text.input_ids": ids,
        "text.last_hidden_state": output.last_hidden_state,
        "text.clip_skip_2": model.text_model.final_layer_norm(output.hidden_states[-2]),
    }


def vae(folder, inputs):
    """Posterior mean and log-variance of an image, and the decoded image of latents (both unscaled)."""
    model = common.load(folder, "vae")
    posterior = model.encode(inputs["vae.image"]).latent_dist
    return {
        "vae.mean": posterior.mean,
        "vae.logvar": posterior.logvar,
        "vae.decoded": model.decode(inputs["vae.latents"]).sample,
    }


def unet(folder, inputs):
    """Predicted noise at equal and at different timesteps within a batch, and at an odd latent size."""
    model = common.load(folder, "unet")
    outputs = {}
    for output, case in (("unet.first", "unet"), ("unet.second", "unet"), ("unet_odd.output", "unet_odd")):
        timesteps = torch.tensor(TIMESTEPS[output])
        outputs[output] = model(inputs[f"{case}.sample"], timesteps, inputs[f"{case}.text"]).sample
    return outputs


def controlnet(folder, inputs):
    """The 12 + 1 residuals at scale 0.75, and the UNet's output without and with them."""
    unet, model = common.load(folder, "unet", "controlnet-canny")
    call = (inputs["controlnet.sample"], torch.tensor(TIMESTEPS["controlnet"]), inputs["unet.text"])
    down, mid = model(*call, controlnet_cond=inputs["controlnet.condition"], conditioning_scale=0.75, return_dict=False)
    named = {f"controlnet.down.{i}": value for i, value in enumerate(down)} | {"controlnet.mid": mid}
    silent = [name for name, value in named.items() if value.norm() == 0]
    if len(down) != 12 or silent:
        raise ValueError(f"{len(down)} residuals, of which zero everywhere: {silent}; the folder's ControlNet is untrained")
    steered = unet(*call, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    return named | {"controlnet.unet_without": unet(*call).sample, "controlnet.unet_with": steered}


@torch.no_grad()
def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--without-vae", action="store_true")
    options = parser.parse_args()
    width = json.loads((options.folder / "unet/config.json").read_text())[TEXT]
    described = {
        name: {"seed": seed, "shape": [width if side == TEXT else side for side in shape]}
        for name, (seed, shape) in INPUTS.items()
        if not (options.without_vae and name.startswith("vae."))
    }
    inputs = {name: common.draw(entry["seed"], *entry["shape"]) for name, entry in described.items()}
    tensors = dict(inputs)
    tensors |= text_encoder(options.folder)
    if not options.without_vae:
        tensors |= vae(options.folder, inputs)
    tensors |= unet(options.folder, inputs) | controlnet(options.folder, inputs)
    common.save(
        options.output,
        tensors,
        script="tests/reference/networks.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        prompt=PROMPT,
        inputs=described,
        timesteps=TIMESTEPS,
        controlnet_scale="0.75",
    )


if __name__ == "__main__":
    main()
