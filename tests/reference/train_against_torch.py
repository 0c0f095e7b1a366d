"""How much `train` learns beside a torch + peft trainer, each with random numbers of its own, on a miniature model that was pretrained.

    python train_against_torch.py MINIATURE WORK --train target/release/train --seeds 1 2 3

MINIATURE is the folder of the Rust example `miniature`; WORK receives the pretrained model (kept for the next call), pictures and
adapters. The model learns coloured shapes; the adapter then learns stripes, of which some are held out. Both trainers start from the
same model with the same settings; what both adapters improve the loss on the held-out pictures by is measured here, by diffusers and
peft, with the same noise and timesteps for all. It prints a table, and exits with 1 where the mean over the seeds is below 95 %.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import torch
from PIL import Image

import common
import kohya_lora
from train_torch import Data, one_step, pixels, schedule_of_sd
from training_reference import Adapted

SIDE, PICTURES, HELD_OUT = 64, 24, 12
PRETRAIN = {"steps": 1500, "batch": 16, "rate": 2e-3, "seed": 100}
TRAINING = {
    "steps": 300, "batch": 4, "unet_lr": 2e-3, "text_encoder_lr": 1e-3, "max_grad_norm": 1.0, "clip_skip": 1, "noise_offset": 0.0,
    "min_snr_gamma": 0.0, "rank": 8, "alpha": 8,
}
COLOURS = {"red": (220, 50, 40), "green": (60, 170, 70), "blue": (50, 90, 210), "yellow": (235, 205, 60), "black": (25, 25, 30)}


def scene(rng, kind):
    """A picture and its caption: a disc or square, or stripes."""
    names = list(COLOURS)
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
    picture = np.where(inside[..., None], COLOURS[names[first]], COLOURS[names[second]])
    return Image.fromarray(picture.astype(np.uint8)), caption


def write_pictures(folder, kind, count, seed):
    """A folder of pictures with captions, as kohya names it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        picture, caption = scene(rng, kind)
        picture.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption)


class Fresh(Adapted):
    """Networks with new peft layers on kohya's targets: `lora_A` as kohya's `lora_down`, `lora_B` zero."""

    def __init__(self, folder):
        self.unet, self.text_encoder = common.load(folder, "unet", "text_encoder")
        self.parameters = {}
        for name, network, path, layer, _, _ in list(kohya_lora.targets("lora", self.unet, self.text_encoder)):
            self.parameters.setdefault(network, []).append((name, path))
        found, self.parameters = self.parameters, {}
        for network, chosen in found.items():
            model = getattr(self, network)
            config = peft.LoraConfig(r=TRAINING["rank"], lora_alpha=TRAINING["alpha"], target_modules=[path for _, path in chosen])
            peft.inject_adapter_in_model(config, model)
            for name, path in chosen:
                layer = model.get_submodule(path)
                self.parameters[f"{name}.lora_down.weight"] = layer.lora_A["default"].weight
                self.parameters[f"{name}.lora_up.weight"] = layer.lora_B["default"].weight


def pretrain(miniature, folder):
    """The miniature with an autoencoder that says what it sees, and a UNet that has learnt shapes."""
    if (folder / "unet/config.json").exists():
        return
    fresh = folder.with_name("pretraining")
    shutil.copytree(miniature, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns("train", "images", "controlnet*"))
    write_pictures(folder.parent / "shapes/1_shapes", "shapes", 400, PRETRAIN["seed"])
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
    optimiser = torch.optim.AdamW(unet.parameters(), lr=PRETRAIN["rate"])
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, PRETRAIN["steps"])
    schedule = schedule_of_sd()
    for step in range(PRETRAIN["steps"]):
        chosen = torch.randint(0, len(latents), (PRETRAIN["batch"],))
        noise, timesteps = torch.randn(len(chosen), *latents.shape[1:]), torch.randint(0, 1000, (len(chosen),))
        noisy = schedule.add_noise(latents[chosen], noise, timesteps)
        loss = torch.nn.functional.mse_loss(unet(noisy, timesteps, states[chosen]).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 100 == 0:
            print(f"pretraining: step {step}, loss {loss.item():.4f}", flush=True)
    unet.save_pretrained(fresh / "unet", safe_serialization=True)
    vae.save_pretrained(fresh / "vae", safe_serialization=True)
    fresh.rename(folder)


@torch.no_grad()
def held_out_loss(adapted, folder, data):
    """Mean error over the pictures, 10 timesteps each, with noise from one seed."""
    vae, tokenizer = common.load(folder, "vae", "tokenizer")
    schedule, draws = schedule_of_sd(), torch.Generator().manual_seed(0)
    latents = vae.encode(torch.stack([pixels(path) for path, _ in data.samples])).latent_dist.mean * vae.config.scaling_factor
    adapted.ids = common.tokens(tokenizer, [caption for _, caption in data.samples])
    states, losses = adapted.states(TRAINING["clip_skip"]), []
    for timestep in range(50, 1000, 100):
        noise = torch.randn(latents.shape, generator=draws)
        noisy = schedule.add_noise(latents, noise, torch.full((len(latents),), timestep))
        losses.append(torch.nn.functional.mse_loss(adapted.unet(noisy, timestep, states).sample, noise))
    return torch.stack(losses).mean().item()


def train_reference(folder, data, seed):
    """torch's trainer with torch's own random numbers."""
    torch.manual_seed(seed)
    adapted = Fresh(folder)
    vae, tokenizer = common.load(folder, "vae", "tokenizer")
    groups = [
        {"params": adapted.chosen("lora_te_"), "lr": TRAINING["text_encoder_lr"]},
        {"params": adapted.chosen("lora_unet_"), "lr": TRAINING["unet_lr"]},
    ]
    optimiser, schedule, step = torch.optim.AdamW(groups), schedule_of_sd(), 0
    while step < TRAINING["steps"]:
        order = torch.randperm(len(data.samples)).tolist()
        for start in range(0, len(order), TRAINING["batch"]):
            if step < TRAINING["steps"]:
                chosen = [data.samples[index] for index in order[start : start + TRAINING["batch"]]]
                one_step(adapted, vae, tokenizer, schedule, optimiser, chosen, TRAINING)
                step += 1
    return adapted


def train_ours(binary, folder, data, output, seed):
    """The Rust trainer; returns its adapter in peft layers."""
    options = {
        "model": folder, "train_data_dir": data, "output_dir": output, "output_name": f"seed-{seed}", "resolution": SIDE, "seed": seed,
        "max_train_steps": TRAINING["steps"], "train_batch_size": TRAINING["batch"], "unet_lr": TRAINING["unet_lr"],
        "text_encoder_lr": TRAINING["text_encoder_lr"], "network_dim": TRAINING["rank"], "network_alpha": TRAINING["alpha"],
        "device": "cpu",
    }
    subprocess.run([binary, "--quiet", *(f"--{key}={value}" for key, value in options.items())], check=True)
    kohya_lora.RANK, kohya_lora.ALPHA = TRAINING["rank"], TRAINING["alpha"]
    return Adapted(folder, output / f"seed-{seed}.safetensors", "lora")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("miniature", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    model = options.work / "model"
    pretrain(options.miniature, model)
    write_pictures(options.work / "stripes/1_stripes", "stripes", PICTURES, 200)
    write_pictures(options.work / "held-out/1_stripes", "stripes", HELD_OUT, 201)
    data, held_out = Data(options.work / "stripes"), Data(options.work / "held-out")
    base = held_out_loss(Fresh(model), model, held_out)
    print(json.dumps({"versions": common.versions(), "pretraining": PRETRAIN, "training": TRAINING, "loss without adapter": base}))
    print("| seed | train | torch + peft | improvement of train / of torch |\n| --- | --- | --- | --- |")
    gains = []
    for seed in options.seeds:
        ours = held_out_loss(train_ours(options.train, model, options.work / "stripes", options.work / "out", seed), model, held_out)
        theirs = held_out_loss(train_reference(model, data, seed), model, held_out)
        gains.append((base - ours, base - theirs))
        print(f"| {seed} | {ours:.5f} | {theirs:.5f} | {(base - ours) / (base - theirs):.3f} |", flush=True)
    ratio = sum(ours for ours, _ in gains) / sum(theirs for _, theirs in gains)
    print(f"over all seeds: {ratio:.3f}")
    sys.exit(ratio < 0.95)


if __name__ == "__main__":
    main()
