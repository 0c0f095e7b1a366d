"""A LoRA trainer on torch, diffusers and peft that draws the numbers which `train` draws: same order, noise, timesteps, latents.

    python train_torch.py MODEL_FOLDER tests/fixtures/train/torch_losses.json --data DATA --lora tests/fixtures/training/lora.safetensors

    python train_torch.py SD2_FOLDER tests/fixtures/train/sd2_losses.json --data DATA --lora tests/fixtures/training/sd2_lora.safetensors --velocity

`--velocity` trains on the velocity and takes SETTINGS with VELOCITY's changes. DATA is a folder of kohya's layout (REPEATS_name folders) whose images all have the size that is trained; `miniature --images`
writes one, of which the fixture takes the first four images of each group, once each. Nothing of it is Rust's but the seeding,
which is written out here. Settings of the fixture stand in SETTINGS; the Rust test gives `train` the same.

Both networks train, captions are fixed, latents are sampled anew at every draw.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import common
from training_reference import Adapted

MASK = 2**64 - 1
# positions in the Rust enum seeds::Purpose
ORDER = 2
SETTINGS = {
    "seed": 7, "steps": 20, "batch": 2, "unet_lr": 1e-3, "text_encoder_lr": 5e-4, "max_grad_norm": 1.0, "warmup": 3,
    "clip_skip": 2, "noise_offset": 0.05, "min_snr_gamma": 5.0, "images": 4,
}
# Stable Diffusion 2's folder ends with the last layer but one, so that none is skipped
VELOCITY = {"velocity": True, "clip_skip": 1, "noise_offset": 0.0, "seed": 8}


def mix(x):
    """SplitMix64's finalizer, as in train/src/seeds.rs."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def generator(seed, purpose, index):
    """The generator of one purpose; the noise has that of the seed itself."""
    return torch.Generator().manual_seed(mix((mix(seed ^ mix(purpose + 1)) + index) & MASK))


class Data:
    """kohya's folders: images and captions in the order of their paths, each as often as its folder says."""

    def __init__(self, folder):
        self.samples = []
        for group in sorted(path for path in folder.iterdir() if path.is_dir()):
            repeats = int(group.name.split("_")[0])
            for image in sorted(group.glob("*.png")):
                text = image.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
                self.samples += [(image, text[0].strip() if text else "")] * repeats

    def epoch(self, seed, epoch, batch):
        """Batches of one epoch: shuffled, cut, shuffled."""
        draws = generator(seed, ORDER, epoch)
        order = torch.randperm(len(self.samples), generator=draws).tolist()
        batches = [order[start : start + batch] for start in range(0, len(order), batch)]
        return [batches[index] for index in torch.randperm(len(batches), generator=draws).tolist()]


def pixels(path):
    """An image as [3, height, width] in -1..1."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1


def train(folder, data, lora, settings):
    """Trains from the adapter in `lora`; returns the losses and the Adapted networks."""
    adapted = Adapted(folder, lora, "lora")
    vae, tokenizer = common.load(folder, "vae", "tokenizer")
    schedule = schedule_of_sd()
    groups = [
        {"params": adapted.chosen("lora_te_"), "lr": settings["text_encoder_lr"]},
        {"params": adapted.chosen("lora_unet_"), "lr": settings["unet_lr"]},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    total, warmup = settings["steps"], settings["warmup"]

    rate = cosine_with_warmup(optimizer, total, warmup)
    torch.manual_seed(settings["seed"])
    losses, epoch = [], 0
    while len(losses) < total:
        for batch in data.epoch(settings["seed"], epoch, settings["batch"])[: total - len(losses)]:
            chosen = [data.samples[index] for index in batch]
            losses.append(one_step(adapted, vae, tokenizer, schedule, optimizer, chosen, settings))
            rate.step()
        epoch += 1
    return losses, adapted


def cosine_with_warmup(optimizer, total, warmup):
    """Rates that rise for `warmup` steps and fall to 0 at the last."""

    def factor(step):
        if step < warmup:
            return step / warmup
        return max(0.0, 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def schedule_of_sd():
    """Cumulative alphas of Stable Diffusion's schedule."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def one_step(adapted, vae, tokenizer, schedule, optimizer, chosen, settings):
    """Draws as kohya does: the latents' noise, the noise, its offset, the timesteps."""
    with torch.no_grad():
        posterior = vae.encode(torch.stack([pixels(path) for path, _ in chosen])).latent_dist
        latents = (posterior.mean + posterior.std * torch.randn(posterior.mean.shape)) * vae.config.scaling_factor
    noise = torch.randn(latents.shape)
    if settings["noise_offset"]:
        noise = noise + settings["noise_offset"] * torch.randn(*latents.shape[:2], 1, 1)
    timesteps = torch.randint(0, 1000, (len(chosen),))
    noisy = schedule.add_noise(latents, noise, timesteps)
    adapted.ids = common.tokens(tokenizer, [caption for _, caption in chosen])
    prediction = adapted.unet(noisy, timesteps, adapted.states(settings["clip_skip"])).sample
    velocity = settings.get("velocity", False)
    target = schedule.get_velocity(latents, noise, timesteps) if velocity else noise
    loss = (prediction - target).square().mean(dim=(1, 2, 3))
    if settings["min_snr_gamma"]:
        alphas = schedule.alphas_cumprod[timesteps]
        snr = alphas / (1 - alphas)
        loss = loss * snr.clamp(max=settings["min_snr_gamma"]) / (snr + 1 if velocity else snr)
    loss = loss.mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(adapted.chosen(), settings["max_grad_norm"])
    optimizer.step()
    return loss.item()


def first_images(data, folder, count):
    """A copy of the first images of each group, to be drawn once each."""
    for group in sorted(data.iterdir()):
        place = folder / f"1_{group.name.split('_', 1)[1]}"
        place.mkdir()
        for image in sorted(group.glob("*.png"))[:count]:
            shutil.copy(image, place)
            shutil.copy(image.with_suffix(".txt"), place)


def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--velocity", action="store_true")
    options = parser.parse_args()
    settings = SETTINGS | (VELOCITY if options.velocity else {})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        first_images(options.data, Path(folder), settings["images"])
        losses, _ = train(options.folder, Data(Path(folder)), options.lora, settings)
    result = {
        "script": "tests/reference/train_torch.py",
        "versions": common.versions(),
        "weights": common.weights_digest(options.folder),
        "settings": settings,
        "losses": losses,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(losses)


if __name__ == "__main__":
    main()
