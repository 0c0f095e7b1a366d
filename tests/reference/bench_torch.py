"""Times diffusers, transformers and peft on a model folder, and in turn with them the Rust peer, in one run.

    python bench_torch.py MODEL_FOLDER --size 512 --rounds 5 --driftless target/release/examples/bench_step

Batch 1, all cores. An item runs in one process per library. Both are loaded and do an untimed round first; then they take turns, so
that a machine whose speed drifts is unfair to neither: a ratio belongs to two rounds that follow each other, and the table shows the
median with the smallest and the largest. A peak is a process's largest resident size, loading included.

Items: `unet` (one forward pass), `vae` (encode, to the posterior's parameters), `text` (77 tokens), `controlnet` (residuals from
latents and an image), `denoising_step` (ControlNet and UNet, the hint embedded anew), `lora_step` (rank 64, alpha 32 on every Linear
and 1x1 convolution of the UNet's transformers, from ready latents and text states: forward, backward, clipping, AdamW),
`lora_step_checkpointed` (the same with gradient checkpointing), and with frozen weights in bfloat16 `unet_bfloat16` and
`lora_step_bfloat16` (torch's autocast around it, adapter and optimizer in float32, as kohya's `mixed_precision="bf16"`).

The Rust peer is called as `BINARY MODEL_FOLDER --size N --item ITEM`, with `--controlnet DIR` if that was given here. As this
script's own `--item`, it prints `ready`, then the seconds of one round for each line it reads, and at the end its peak in bytes.
"""

import argparse
import contextlib
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ITEMS = (
    "unet", "vae", "text", "controlnet", "denoising_step", "lora_step", "lora_step_checkpointed", "unet_bfloat16", "lora_step_bfloat16",
)
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
    if item.startswith("unet"):
        model = common.load(options.folder, "unet")
        states = common.draw(1, 1, 77, model.config.cross_attention_dim)
        if item == "unet_bfloat16":
            model, latents, states = (value.to(torch.bfloat16) for value in (model, latents, states))
        return torch.no_grad()(lambda: model(latents, TIMESTEP, states))
    home = options.controlnet or options.folder / "controlnet-canny"
    controlnet = common.load(home.parent, "controlnet-canny", subfolder=home.name)
    states = common.draw(1, 1, 77, controlnet.config.cross_attention_dim)
    edges = (common.draw(2, 1, 3, options.size, options.size) > 1.5).float()
    if item == "controlnet":
        return torch.no_grad()(lambda: controlnet(latents, TIMESTEP, states, controlnet_cond=edges))
    unet = common.load(options.folder, "unet")

    def step():
        down, middle = controlnet(latents, TIMESTEP, states, controlnet_cond=edges, return_dict=False)
        unet(latents, TIMESTEP, states, down_block_additional_residuals=down, mid_block_additional_residual=middle)

    return torch.no_grad()(step)


def lora_step(item, options):
    """A function that does one training step of a UNet adapter."""
    import peft
    import torch

    import common
    import kohya_lora

    unet = common.load(options.folder, "unet")
    half = item == "lora_step_bfloat16"
    if half:
        unet.to(torch.bfloat16)
    paths = list(kohya_lora.inside(unet, "Transformer2DModel"))
    peft.inject_adapter_in_model(peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=paths), unet)
    unet.train()
    if item == "lora_step_checkpointed":
        unet.enable_gradient_checkpointing()
    parameters = [value for value in unet.parameters() if value.requires_grad]
    for value in parameters:
        value.data = value.data.float()
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    side = options.size // 8
    noisy, noise = (common.draw(seed, 1, 4, side, side) for seed in (0, 1))
    states = common.draw(2, 1, 77, unet.config.cross_attention_dim)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext():
            prediction = unet(noisy, TIMESTEP, states).sample
        torch.nn.functional.mse_loss(prediction.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(options):
    """Runs an item in this process: `ready`, a round's seconds for each line read, then the peak."""
    import torch

    torch.set_num_threads(os.cpu_count())
    make = lora_step if options.item.startswith("lora_step") else forward
    work = make(options.item, options)
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)
    # Linux counts in KiB, macOS in bytes
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


class Peer:
    """A measuring process."""

    def __init__(self, *command):
        # the caller imports nothing large: Linux starts a child's peak from its parent's resident size
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("ready")
        self.seconds = []

    def expect(self, *words):
        """The next line, one of some words if they are given; stops the script where the process has ended."""
        line = self.process.stdout.readline().strip()
        if not line or (words and line not in words):
            sys.exit(f"{' '.join(self.command)}: said {line!r}, exit status {self.process.poll()}")
        return line

    def round(self):
        """One timed round."""
        print(file=self.process.stdin, flush=True)
        self.seconds.append(float(self.expect()))

    def finish(self):
        """Ends the process; its peak in bytes."""
        self.process.stdin.close()
        peak = int(self.expect())
        self.process.wait()
        return peak


def spread(numbers, digits):
    """Median with range."""
    return f"{statistics.median(numbers):.{digits}f} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


def compare(options):
    """Measures every item with both libraries and prints the table."""
    import importlib.metadata

    names = ("torch", "diffusers", "transformers", "peft")
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"{options.folder}, {options.size}x{options.size}, {options.rounds} rounds, {os.cpu_count()} threads")
    print(f"{platform.platform()}; {libraries}\n")
    print("| item | torch s (range) | driftless s (range) | driftless / torch | torch peak GiB | driftless peak GiB | of torch's |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    shared = ["--size", options.size]
    shared += ["--controlnet", options.controlnet] if options.controlnet else []
    for item in options.items:
        theirs = Peer(sys.executable, "-W", "ignore", __file__, options.folder, "--item", item, *shared)
        ours = Peer(options.driftless, options.folder, "--item", item, *shared) if options.driftless else None
        for _ in range(options.rounds):
            theirs.round()
            if ours:
                ours.round()
        row, peak = [spread(theirs.seconds, 3), "-", "-"], theirs.finish()
        peaks = [f"{peak / 2**30:.2f}", "-", "-"]
        if ours:
            row[1:] = spread(ours.seconds, 3), spread([a / b for a, b in zip(ours.seconds, theirs.seconds)], 2)
            own = ours.finish()
            peaks[1:] = f"{own / 2**30:.2f}", f"{own / peak:.2f}"
        print("|", " | ".join([item, *row, *peaks]), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512, help="side of the image in pixels (default 512)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds per item (default 3)")
    parser.add_argument("--controlnet", type=Path, help="default: MODEL_FOLDER/controlnet-canny")
    parser.add_argument("--driftless", type=Path, help="the built Rust example bench_step")
    parser.add_argument("--items", nargs="+", choices=ITEMS, default=ITEMS, help="which items to compare (default all)")
    parser.add_argument("--item", choices=ITEMS, help="measure this one in this process, a round for each line read")
    options = parser.parse_args()
    measure(options) if options.item else compare(options)


if __name__ == "__main__":
    main()
