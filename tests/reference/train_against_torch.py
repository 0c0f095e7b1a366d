"""How much `train` learns beside a torch + peft trainer, on a miniature model that was pretrained.

    python train_against_torch.py MINIATURE WORK --train target/release/train --seeds 1 2 3

MINIATURE is the folder of the Rust example `miniature`; WORK receives the pretrained model (kept for the next call), images and
adapters. The model learns colored shapes; the adapter then learns stripes. For each seed both trainers start from one adapter and see
the same order, noise and timesteps (train_torch.py), so that what is left between them is not chance: with random numbers of its own on
each side, at a constant rate, single seeds gave ratios from 0.92 to 1.17. What both adapters improve the loss by on images that were held
out is measured here, by diffusers and peft, with the same noise and timesteps for all. It prints a table, and exits with
1 unless for every seed the improvement is at least 95 % of torch's and the first 20 losses agree to 1e-3.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import common
import kohya_lora
from train_torch import Data, pixels, schedule_of_sd, train
from training_reference import Adapted

SIDE, IMAGES, HELD_OUT = 64, 24, 48
kohya_lora.RANK, kohya_lora.ALPHA = 8, 8.0
PRETRAIN = {"steps": 500, "batch": 8, "rate": 2e-3, "seed": 100}
TRAINING = {
    "steps": 200, "batch": 4, "unet_lr": 2e-3, "text_encoder_lr": 1e-3, "max_grad_norm": 1.0, "warmup": 20, "clip_skip": 1,
    "noise_offset": 0.0, "min_snr_gamma": 0.0,
}
COLORS = {"red": (220, 50, 40), "green": (60, 170, 70), "blue": (50, 90, 210), "yellow": (235, 205, 60), "black": (25, 25, 30)}


def scene(rng, kind):
    """An image and its caption: a disc or square, or stripes."""
    names = list(COLORS)
    first, second = rng.choice(len(names), 2, replace=False)
    y, x = np.mgrid[:SIDE, :SIDE]
    if kind == "shapes":
        shape = rng.choice(["circle", "square"])
        dx, dy, radius = x - rng.integers(20, 44), y - rng.integers(20, 44), rng.integers(8, 20)
        inside = dx**2 + dy**2 <= radius**2 if shape == "circle" else (abs(dx) <= radius) & (abs(dy) <= radius)
        caption = f"a {names[first]} {shape} on {names[second]}"
    else:
        width, slope = rng.integers(4, 12), rng.integers(-2, 3)
        inside = ((x + slope * y) // width) % 2 == 0
        caption = f"{names[first]} and {names[second]} stripes"
    image = np.where(inside[..., None], COLORS[names[first]], COLORS[names[second]])
    return Image.fromarray(image.astype(np.uint8)), caption


def write_images(folder, kind, count, seed):
    """A folder of images with captions, as kohya names it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        image, caption = scene(rng, kind)
        image.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption)


def write_start(folder, file, seed):
    """A fresh adapter as a kohya file: `lora_down` uniform as peft and kohya draw it, `lora_up` zero."""
    unet, text_encoder = common.load(folder, "unet", "text_encoder")
    torch.manual_seed(seed)
    tensors = {}
    for name, _, _, layer, rank, alpha in list(kohya_lora.targets("lora", unet, text_encoder)):
        (outputs, inputs), kernel = layer.weight.shape[:2], layer.weight.shape[2:]
        down = torch.empty(rank, inputs, *kernel)
        torch.nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = torch.zeros(outputs, rank, *[1] * len(kernel))
        tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    save_file(tensors, file)


def pretrain(miniature, folder):
    """The miniature with an autoencoder that says what it sees, and a UNet that has learnt shapes."""
    if (folder / "unet/config.json").exists():
        return
    fresh = folder.with_name("pretraining")
    shutil.copytree(miniature, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns("train", "images", "controlnet*"))
    write_images(folder.parent / "shapes/1_shapes", "shapes", 400, PRETRAIN["seed"])
    data = Data(folder.parent / "shapes")
    unet, vae, text_encoder, tokenizer = common.load(fresh, "unet", "vae", "text_encoder", "tokenizer")
    images = torch.stack([pixels(path) for path, _ in data.samples])
    with torch.no_grad():
        # A random encoder tells little beside its own noise: nearly no noise, and means of unit variance.
        channels = vae.config.latent_channels
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = -8
        means = vae.encode(images).latent_dist.mean
        vae.quant_conv.bias[:channels] -= means.mean(dim=(0, 2, 3))
        vae.register_to_config(scaling_factor=float(1 / means.std(dim=(0, 2, 3)).mean()))
        latents = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
        states = text_encoder(common.tokens(tokenizer, [caption for _, caption in data.samples])).last_hidden_state
    torch.manual_seed(PRETRAIN["seed"])
    unet.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=PRETRAIN["rate"])
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, PRETRAIN["steps"])
    schedule = schedule_of_sd()
    for step in range(PRETRAIN["steps"]):
        chosen = torch.randint(0, len(latents), (PRETRAIN["batch"],))
        noise, timesteps = torch.randn(len(chosen), *latents.shape[1:]), torch.randint(0, 1000, (len(chosen),))
        noisy = schedule.add_noise(latents[chosen], noise, timesteps)
        loss = torch.nn.functional.mse_loss(unet(noisy, timesteps, states[chosen]).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 100 == 0:
            print(f"pretraining: step {step}, loss {loss.item():.4f}", flush=True)
    unet.save_pretrained(fresh / "unet", safe_serialization=True)
    vae.save_pretrained(fresh / "vae", safe_serialization=True)
    fresh.rename(folder)


@torch.no_grad()
def held_out_loss(adapted, folder, data):
    """Mean error over the images, 20 timesteps each, with noise from one seed."""
    vae, tokenizer = common.load(folder, "vae", "tokenizer")
    schedule, draws = schedule_of_sd(), torch.Generator().manual_seed(0)
    latents = vae.encode(torch.stack([pixels(path) for path, _ in data.samples])).latent_dist.mean * vae.config.scaling_factor
    adapted.ids = common.tokens(tokenizer, [caption for _, caption in data.samples])
    states, losses = adapted.states(TRAINING["clip_skip"]), []
    for timestep in range(25, 1000, 50):
        noise = torch.randn(latents.shape, generator=draws)
        noisy = schedule.add_noise(latents, noise, torch.full((len(latents),), timestep))
        losses.append(torch.nn.functional.mse_loss(adapted.unet(noisy, timestep, states).sample, noise))
    return torch.stack(losses).mean().item()


def train_ours(binary, folder, data, start, output, seed):
    """The Rust trainer; returns its losses and its adapter in peft layers."""
    options = {
        "model": folder, "train_data_dir": data, "output_dir": output, "output_name": "adapter", "resolution": SIDE, "seed": seed,
        "max_train_steps": TRAINING["steps"], "train_batch_size": TRAINING["batch"], "unet_lr": TRAINING["unet_lr"],
        "text_encoder_lr": TRAINING["text_encoder_lr"], "max_grad_norm": TRAINING["max_grad_norm"], "lr_scheduler": "cosine",
        "lr_warmup_steps": TRAINING["warmup"], "network_weights": start, "network_dim": kohya_lora.RANK,
        "network_alpha": kohya_lora.ALPHA, "device": "cpu",
    }
    subprocess.run([binary, "--quiet", *(f"--{key}={value}" for key, value in options.items())], check=True)
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    return losses, Adapted(folder, output / "adapter.safetensors", "lora")


def compare(binary, model, work, seed):
    """Both trainers from one start with one seed: losses of each step, and on the held-out images before and after."""
    data, held_out = Data(work / "stripes"), Data(work / "held-out")
    output = work / f"seed-{seed}"
    output.mkdir(exist_ok=True)
    start = output / "start.safetensors"
    write_start(model, start, seed)
    before = held_out_loss(Adapted(model, start, "lora"), model, held_out)
    our_losses, ours = train_ours(binary, model, work / "stripes", start, output, seed)
    their_losses, theirs = train(model, data, start, TRAINING | {"seed": seed})
    if len(our_losses) != len(their_losses):
        raise ValueError(f"{len(our_losses)} steps of train, {len(their_losses)} of torch")
    apart = max(abs(our - their) / their for our, their in zip(our_losses[:20], their_losses[:20]))
    return apart, before, held_out_loss(ours, model, held_out), held_out_loss(theirs, model, held_out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("miniature", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    model = options.work / "model"
    pretrain(options.miniature, model)
    write_images(options.work / "stripes/1_stripes", "stripes", IMAGES, 200)
    write_images(options.work / "held-out/1_stripes", "stripes", HELD_OUT, 201)
    print(json.dumps({"versions": common.versions(), "pretraining": PRETRAIN, "training": TRAINING}))
    print("| seed | start | train | torch + peft | improvement of train / of torch | first 20 losses apart |")
    print("| --- | --- | --- | --- | --- | --- |")
    failed, gains = False, []
    for seed in options.seeds:
        apart, before, ours, theirs = compare(options.train, model, options.work, seed)
        ratio = (before - ours) / (before - theirs)
        print(f"| {seed} | {before:.5f} | {ours:.5f} | {theirs:.5f} | {ratio:.4f} | {apart:.1e} |", flush=True)
        # Where torch learns nothing, a ratio says nothing.
        failed |= not (ratio >= 0.95 and apart <= 1e-3 and before - theirs > 0.01 * before)
        gains.append(before - theirs)
    print(f"torch's own improvements differ between seeds by a factor of {max(gains) / min(gains):.3f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
