"""CleanDIFT's alignment (CompVis/cleandift b070976, `StableFeatureAligner`) on torch, diffusers and peft, with the draws of `train`.

    python train_cleandift.py MODEL_FOLDER tests/fixtures/train/cleandift_losses.json --data DATA --lora tests/fixtures/training/lora.safetensors

The student is the UNet with the file's LoRA in its UNet layers; the teacher is the UNet itself. As in the original, every image is taken three
times, at a timestep from each third of 1..999, by teacher and student alike, and heads, their condition and the student's timestep are learnt beside it. As in
`train`, the loss is the mean over the eleven maps (the original adds them up), and moments are AdamW's. What is drawn, in order: the first values
of the heads (a generator of their own), then for each batch the latents' noise, the timesteps, the noise.
"""

import json
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import common
from clean_latents import maps
from train_torch import Data, cosine_with_warmup, first_images, generator, pixels, schedule_of_sd
from training_reference import Adapted

# position in the Rust enum seeds::Purpose
ALIGNMENT = 7
SETTINGS = {
    "seed": 7, "steps": 20, "batch": 2, "unet_lr": 1e-3, "max_grad_norm": 1.0, "warmup": 3, "images": 4, "weight_decay": 0.01,
}
WIDTH, INSIDE, LAYERS, BINS, RANGE, FIRST = 256, 768, 3, 3, (1, 999), 261.0


def linear(draws, outputs, inputs):
    bound = 1 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound, generator=draws))


def rms_norm(x, scale):
    return x * (scale * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6))


class FeedForward(nn.Module):
    def __init__(self, draws, width, inside, conditioned):
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(width, WIDTH) if conditioned else torch.ones(width))
        self.up = linear(draws, 2 * inside, width)
        self.down = nn.Parameter(torch.zeros(width, inside))

    def forward(self, x, condition=None):
        scale = self.norm if condition is None else (condition @ self.norm.T)[:, None, :] + 1
        value, gate = (rms_norm(x, scale) @ self.up.T).chunk(2, dim=-1)
        return (value * functional.silu(gate)) @ self.down.T + x


class Heads(nn.Module):
    def __init__(self, channels, draws):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(WIDTH // 2, 1, generator=draws))
        self.time_in = linear(draws, WIDTH, WIDTH)
        self.in_norm, self.out_norm = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))
        self.blocks = nn.ModuleList(FeedForward(draws, WIDTH, INSIDE, False) for _ in range(2))
        self.heads = nn.ModuleList(
            nn.ModuleList(FeedForward(draws, width, width, True) for _ in range(LAYERS)) for width in channels
        )
        self.timestep = nn.Parameter(torch.tensor(FIRST))

    def condition(self, timesteps):
        angles = 2 * math.pi * (timesteps[:, None].float() / 999) @ self.frequencies.T
        x = rms_norm(torch.cat([angles.cos(), angles.sin()], dim=-1) @ self.time_in.T, self.in_norm)
        for block in self.blocks:
            x = block(x)
        return rms_norm(x, self.out_norm)

    def forward(self, index, x, condition):
        for layer in self.heads[index]:
            x = layer(x, condition)
        return x


class Tapped:
    """A UNet's eleven maps as rows of positions, in forward order."""

    def __init__(self, unet):
        self.unet, self.kept = unet, []
        for module in maps(unet).values():
            module.register_forward_hook(self.keep)

    def keep(self, _module, _inputs, output):
        output = output[0] if isinstance(output, tuple) else output
        self.kept.append(output.flatten(2).transpose(1, 2))

    def __call__(self, *inputs):
        self.kept = []
        self.unet(*inputs)
        return self.kept


def train(folder, data, lora, settings):
    adapted = Adapted(folder, lora, "lora")
    base, vae, tokenizer, text_encoder = common.load(folder, "unet", "vae", "tokenizer", "text_encoder")
    teacher, student, schedule = Tapped(base), Tapped(adapted.unet), schedule_of_sd()
    channels = [adapted.unet.config.block_out_channels[level] for level in (3, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0)]
    heads = Heads(channels, generator(settings["seed"], ALIGNMENT, 0))
    parameters = adapted.chosen("lora_unet_") + list(heads.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings["unet_lr"], weight_decay=settings["weight_decay"])
    total, warmup = settings["steps"], settings["warmup"]

    rate = cosine_with_warmup(optimizer, total, warmup)
    torch.manual_seed(settings["seed"])
    losses, epoch = [], 0
    while len(losses) < total:
        for batch in data.epoch(settings["seed"], epoch, settings["batch"])[: total - len(losses)]:
            chosen = [data.samples[index] for index in batch]
            with torch.no_grad():
                posterior = vae.encode(torch.stack([pixels(path) for path, _ in chosen])).latent_dist
                latents = (posterior.mean + posterior.std * torch.randn(posterior.mean.shape)) * vae.config.scaling_factor
                text = text_encoder(common.tokens(tokenizer, [caption for _, caption in chosen]))[0]
                part = (RANGE[1] - RANGE[0]) / BINS
                timesteps = (RANGE[0] + torch.rand(len(chosen), BINS) * part + torch.arange(BINS)[None] * part).long().flatten()
                latents, text = latents.repeat_interleave(BINS, 0), text.repeat_interleave(BINS, 0)
                noisy = schedule.add_noise(latents, torch.randn(latents.shape), timesteps)
                targets = teacher(noisy, timesteps, text)
            found = student(latents, heads.timestep.expand(len(timesteps)), text)
            condition = heads.condition(timesteps)
            cosines = [
                functional.cosine_similarity(heads(index, x, condition), y, dim=-1).mean()
                for index, (x, y) in enumerate(zip(found, targets, strict=True))
            ]
            loss = -torch.stack(cosines).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings["max_grad_norm"])
            optimizer.step()
            rate.step()
            losses.append(loss.item())
        epoch += 1
    return losses, heads.timestep.item()


def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lora", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        first_images(options.data, Path(folder), SETTINGS["images"])
        losses, timestep = train(options.folder, Data(Path(folder)), options.lora, SETTINGS)
    result = {
        "script": "tests/reference/train_cleandift.py",
        "versions": common.versions(),
        "weights": common.weights_digest(options.folder),
        "settings": SETTINGS,
        "losses": losses,
        "timestep": timestep,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(losses, timestep)


if __name__ == "__main__":
    main()
