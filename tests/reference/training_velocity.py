"""LoRA gradients of one training step of a miniature Stable Diffusion 2.1, which predicts velocity, by PyTorch and peft.

As the case `lora` of training_reference.py, but with latents noised by Stable Diffusion's schedule, the velocity as target and kohya's
min-SNR weights for it, `min(snr, gamma) / (snr + 1)`: loss = mean over samples of weight * mse(unet(noisy, t, text), velocity).

    python training_velocity.py SD2_FOLDER tests/fixtures/training/sd2_gradients.safetensors --lora tests/fixtures/training/sd2_lora.safetensors
"""

from pathlib import Path

import torch
from diffusers import DDPMScheduler

import common
from training_reference import PROMPTS, SHAPE, TIMESTEPS, Adapted

SEEDS = {"latents": 61, "noise": 62}
GAMMA = 5.0
GRADIENT_SAMPLE = 32


def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--lora", type=Path, required=True)
    options = parser.parse_args()
    adapted = Adapted(options.folder, options.lora, "lora")
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    latents, noise = (common.draw(seed, *SHAPE) for seed in SEEDS.values())
    timesteps = torch.tensor(TIMESTEPS)
    velocity = schedule.get_velocity(latents, noise, timesteps)
    prediction = adapted.unet(schedule.add_noise(latents, noise, timesteps), timesteps, adapted.states()).sample
    alphas = schedule.alphas_cumprod[timesteps]
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=GAMMA) / (snr + 1)
    loss = ((prediction - velocity).square().mean(dim=(1, 2, 3)) * weights).mean()
    loss.backward()
    tensors = {"input.latents": latents, "input.noise": noise, "input.ids": adapted.ids, "velocity.loss": loss}
    strides = {}
    for key, parameter in sorted(adapted.parameters.items()):
        name = f"velocity.grad.{key}"
        tensors[name], strides[name] = common.sample(parameter.grad, GRADIENT_SAMPLE)
    common.save(
        options.output,
        tensors,
        script="tests/reference/training_velocity.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        seeds=SEEDS,
        prompts=PROMPTS,
        timesteps=TIMESTEPS,
        strides=strides,
        min_snr_gamma=str(GAMMA),
    )


if __name__ == "__main__":
    main()
