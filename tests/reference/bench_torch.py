"""Times diffusers, transformers and peft on a model folder, and beside them the Rust peer, in one run.

    python bench_torch.py MODEL_FOLDER --size 512 --rounds 3 --driftless target/release/examples/bench_step

Float32, batch 1, all cores. Each item runs in a process of its own, library after library, with one untimed round first; a peak
is that process's largest resident size, loading included. Items: `unet` (one forward pass), `vae` (encode, to the posterior's
parameters), `text` (77 tokens), `controlnet` (residuals from latents and an image), `lora_step` (rank 64, alpha 32 on every
Linear and 1x1 convolution of the UNet's transformers, from ready latents and text states: forward, backward, clipping, AdamW) and
`lora_step_checkpointed` (the same with gradient checkpointing).

The Rust peer is called as `BINARY MODEL_FOLDER --size N --item ITEM --rounds K`, with `--controlnet DIR` if that was given here,
and prints one line: {"item": ..., "seconds": [...], "peak_rss_bytes": ...}. So does this script's own `--item`.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ITEMS = ("unet", "vae", "text", "controlnet", "lora_step", "lora_step_checkpointed")
RANK, ALPHA, RATE, MAX_NORM = 64, 32, 1e-4, 1.0
TIMESTEP = 261


def forward(item, options):
    """A function that does one round of an item without gradients."""
    import torch

    import common

    side = options.size // 8
    if item == "text":
        tokenizer, model = common.load(options.folder, "tokenizer", "text_encoder")
        ids = common.tokens(tokenizer, ["a photo of a cat"])
        return torch.no_grad()(lambda: model(ids))
    if item == "vae":
        model = common.load(options.folder, "vae")
        image = common.draw(0, 1, 3, options.size, options.size)
        return torch.no_grad()(lambda: model.encode(image))
    latents = common.draw(0, 1, 4, side, side)
    if item == "unet":
        model = common.load(options.folder, "unet")
        states = common.draw(1, 1, 77, model.config.cross_attention_dim)
        return torch.no_grad()(lambda: model(latents, TIMESTEP, states))
    home = options.controlnet or options.folder / "controlnet-canny"
    model = common.load(home.parent, "controlnet-canny", subfolder=home.name)
    states = common.draw(1, 1, 77, model.config.cross_attention_dim)
    edges = (common.draw(2, 1, 3, options.size, options.size) > 1.5).float()
    return torch.no_grad()(lambda: model(latents, TIMESTEP, states, controlnet_cond=edges))


def lora_step(item, options):
    """A function that does one training step of a UNet adapter."""
    import peft
    import torch

    import common
    import kohya_lora

    unet = common.load(options.folder, "unet")
    paths = list(kohya_lora.inside(unet, "Transformer2DModel"))
    peft.inject_adapter_in_model(peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=paths), unet)
    unet.train()
    if item == "lora_step_checkpointed":
        unet.enable_gradient_checkpointing()
    parameters = [value for value in unet.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=RATE)
    side = options.size // 8
    noisy, noise = (common.draw(seed, 1, 4, side, side) for seed in (0, 1))
    states = common.draw(2, 1, 77, unet.config.cross_attention_dim)

    def step():
        loss = torch.nn.functional.mse_loss(unet(noisy, TIMESTEP, states).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def measure(options):
    """Runs one item in this process and prints its figures as one line of JSON."""
    import torch

    torch.set_num_threads(os.cpu_count())
    make = lora_step if options.item.startswith("lora_step") else forward
    work = make(options.item, options)
    seconds = []
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    # Linux counts in KiB, macOS in bytes
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"item": options.item, "seconds": seconds[1:], "peak_rss_bytes": peak}))


def call(command):
    """Runs a measuring process and reads its last line; stops with its own words if it fails."""
    # the caller imports nothing large: Linux starts a child's peak from its parent's resident size
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def describe(figures):
    """Median with range, and peak in GiB."""
    seconds = figures["seconds"]
    timing = f"{statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})"
    return timing, f"{figures['peak_rss_bytes'] / 2**30:.2f}"


def compare(options):
    """Measures every item with both libraries and prints the table."""
    import importlib.metadata

    names = ("torch", "diffusers", "transformers", "peft")
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"{options.folder}, {options.size}x{options.size}, float32, {options.rounds} rounds, {os.cpu_count()} threads")
    print(f"{platform.platform()}; {libraries}\n")
    print("| item | torch s (range) | driftless s (range) | driftless / torch | torch peak GiB | driftless peak GiB |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    shared = ["--size", options.size, "--rounds", options.rounds]
    shared += ["--controlnet", options.controlnet] if options.controlnet else []
    for item in options.items:
        theirs = call([sys.executable, "-W", "ignore", __file__, options.folder, "--item", item, *shared])
        timing, peak = describe(theirs)
        ours_timing = ratio = ours_peak = "-"
        if options.driftless:
            ours = call([options.driftless, options.folder, "--item", item, *shared])
            ours_timing, ours_peak = describe(ours)
            ratio = f"{statistics.median(ours['seconds']) / statistics.median(theirs['seconds']):.2f}"
        print(f"| {item} | {timing} | {ours_timing} | {ratio} | {peak} | {ours_peak} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512, help="side of the picture in pixels (default 512)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds per item (default 3)")
    parser.add_argument("--controlnet", type=Path, help="default: MODEL_FOLDER/controlnet-canny")
    parser.add_argument("--driftless", type=Path, help="the built Rust example bench_step")
    parser.add_argument("--items", nargs="+", choices=ITEMS, default=ITEMS, help="which items to compare (default all)")
    parser.add_argument("--item", choices=ITEMS, help="measure this one in this process and print JSON")
    options = parser.parse_args()
    measure(options) if options.item else compare(options)


if __name__ == "__main__":
    main()
