"""LoRA gradients of a whole miniature UNet and text encoder, and a short AdamW run, by PyTorch and peft.

The adapters are the kohya files of kohya_lora.py, loaded into peft layers: the numbers pin the adapter's forward term, the
gradient of each of its matrices, and the optimizer. Everything is float32 on the CPU.

    python training_reference.py MODEL_FOLDER tests/fixtures/training/gradients.safetensors \
        --lora tests/fixtures/training/lora.safetensors --locon tests/fixtures/training/locon.safetensors

Cases, each with a loss and one gradient per matrix (`CASE.grad.KOHYA_KEY`; large ones as every stride-th element):
`lora`: UNet and text encoder, loss = mse(unet(noisy, timesteps, text_encoder(ids)), noise);
`clip_skip_2`: the same with the last but one text layer's states, text encoder gradients only;
`locon`: the UNet's convolutions, text from the unadapted text encoder.
`trace`: 20 AdamW steps from the `lora` adapter.
"""

import functools
from pathlib import Path

import peft
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

import common
import kohya_lora

PROMPTS = ["a photo of a cat", ""]
# 16x24: the mid block then has 2x3 positions; with a single one the softmax is constant and to_q, to_k get no gradient
SHAPE = (2, 4, 16, 24)
# the noisy latents of the gradient cases are plain normal numbers: a gradient needs no schedule
SEEDS = {"noisy": 51, "noise": 52, "latents": 53}
TIMESTEPS = [50, 700]
GRADIENT_SAMPLE = 64
# the trace: noise of step k (from 0) is the first draw after manual_seed(NOISE_SEED + k), and its timesteps follow a formula
STEPS, NOISE_SEED = 20, 2000
STEP_TIMESTEPS = [[(37 * k + 11) % 1000, (613 * k + 500) % 1000] for k in range(STEPS)]
# 0.15 lies among the norms that occur, so that some steps are clipped and some are not
UNET_RATE, TEXT_RATE, MAX_NORM = 1e-3, 5e-4, 0.15
ADAMW = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
FINAL_STRIDE = 13


class Adapted:
    """A UNet and a text encoder with peft layers that hold the matrices of one kohya file."""

    def __init__(self, folder, file, kind):
        self.unet, self.text_encoder, tokenizer = common.load(folder, "unet", "text_encoder", "tokenizer")
        self.ids = common.tokens(tokenizer, PROMPTS)
        stored = load_file(file)
        self.parameters = {}
        found = list(kohya_lora.targets(kind, self.unet, self.text_encoder))
        if {f"{target[0]}.alpha" for target in found} != {key for key in stored if key.endswith(".alpha")}:
            raise ValueError(f"{file} does not have the targets of this model")
        for network in ("text_encoder", "unet"):
            chosen = [target for target in found if target[1] == network]
            if chosen:
                self._attach(getattr(self, network), chosen, stored)

    def _attach(self, model, found, stored):
        """Puts peft layers on the targets and copies the file's matrices into them."""
        paths = [path for _, _, path, _, _, _ in found]
        config = peft.LoraConfig(
            target_modules=paths,
            rank_pattern={path: rank for _, _, path, _, rank, _ in found},
            alpha_pattern={path: alpha for _, _, path, _, _, alpha in found},
            init_lora_weights=False,
        )
        peft.inject_adapter_in_model(config, model)
        for name, _, path, _, rank, alpha in found:
            layer = model.get_submodule(path)
            if layer.scaling["default"] != alpha / rank:
                raise ValueError(f"peft gave {path} the scale {layer.scaling['default']}, not {alpha / rank}")
            for key, matrix in (("lora_down", layer.lora_A), ("lora_up", layer.lora_B)):
                weight = matrix["default"].weight
                weight.data.copy_(stored[f"{name}.{key}.weight"])
                self.parameters[f"{name}.{key}.weight"] = weight

    def chosen(self, prefix=""):
        """The matrices whose key starts with a prefix, sorted by key."""
        return [value for key, value in sorted(self.parameters.items()) if key.startswith(prefix)]

    def states(self, clip_skip=1):
        """Text states `[2, 77, hidden]`: the clip_skip-th hidden state from the end, then the final layer norm."""
        hidden = self.text_encoder(self.ids, output_hidden_states=True).hidden_states[-clip_skip]
        return self.text_encoder.text_model.final_layer_norm(hidden)

    def loss(self, noisy, timesteps, noise, clip_skip=1):
        """Mean squared error of the predicted noise."""
        prediction = self.unet(noisy, torch.tensor(timesteps), self.states(clip_skip)).sample
        return torch.nn.functional.mse_loss(prediction, noise)


def gradients(case, adapted, inputs, clip_skip=1, only=""):
    """Loss and gradients of one case, the sampling strides, and the matrices that get no gradient at all."""
    loss = adapted.loss(inputs["noisy"], TIMESTEPS, inputs["noise"], clip_skip)
    loss.backward()
    tensors, strides, without = {f"{case}.loss": loss}, {}, []
    for key, parameter in sorted(adapted.parameters.items()):
        if not key.startswith(only):
            continue
        if parameter.grad is None or parameter.grad.norm() == 0:
            without.append(key)
            continue
        name = f"{case}.grad.{key}"
        tensors[name], stride = common.sample(parameter.grad, GRADIENT_SAMPLE)
        if stride > 1:
            strides[name] = stride
    return tensors, strides, without


def trace(adapted, latents, schedule):
    """Losses, gradient norms before clipping, and the final matrices after `STEPS` AdamW steps."""
    groups = [{"params": adapted.chosen("lora_te_"), "lr": TEXT_RATE}, {"params": adapted.chosen("lora_unet_"), "lr": UNET_RATE}]
    optimizer = torch.optim.AdamW(groups, **ADAMW)
    losses, norms = [], []
    for step, timesteps in enumerate(STEP_TIMESTEPS):
        noise = common.draw(NOISE_SEED + step, *SHAPE)
        noisy = schedule.add_noise(latents, noise, torch.tensor(timesteps))
        optimizer.zero_grad()
        loss = adapted.loss(noisy, timesteps, noise)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(adapted.chosen(), MAX_NORM))
        optimizer.step()
        losses.append(loss.detach())
    final = torch.cat([value.flatten() for value in adapted.chosen()])
    return {
        "trace.timesteps": torch.tensor(STEP_TIMESTEPS),
        "trace.losses": torch.stack(losses),
        "trace.gradient_norms": torch.stack(norms),
        "trace.final": final[::FINAL_STRIDE],
    }


def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--locon", type=Path, required=True)
    options = parser.parse_args()
    make = functools.partial(Adapted, options.folder)
    inputs = {name: common.draw(seed, *SHAPE) for name, seed in SEEDS.items()}
    tensors, strides, without = {f"input.{name}": value for name, value in inputs.items()}, {}, {}
    cases = {
        "lora": (options.lora, "lora", 1, ""),
        "clip_skip_2": (options.lora, "lora", 2, "lora_te_"),
        "locon": (options.locon, "locon", 1, ""),
    }
    for case, (file, kind, clip_skip, only) in cases.items():
        adapted = make(file, kind)
        tensors["input.ids"] = adapted.ids
        more, strides_here, without[case] = gradients(case, adapted, inputs, clip_skip, only)
        tensors |= more
        strides |= strides_here
    schedule = DDPMScheduler.from_pretrained(options.folder, subfolder="scheduler")
    tensors |= trace(make(options.lora, "lora"), inputs["latents"], schedule)
    common.save(
        options.output,
        tensors,
        script="tests/reference/training_reference.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        seeds=SEEDS,
        prompts=PROMPTS,
        timesteps=TIMESTEPS,
        strides=strides,
        without_gradient=without,
        trace={
            "noise_seed": NOISE_SEED, "unet_lr": UNET_RATE, "text_encoder_lr": TEXT_RATE, "max_grad_norm": MAX_NORM,
            "final_stride": FINAL_STRIDE, "final_order": "every matrix of the file but alpha, sorted by key", **ADAMW,
        },
    )


if __name__ == "__main__":
    main()
