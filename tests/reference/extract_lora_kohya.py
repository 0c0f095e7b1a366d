"""The adapter inside a merged checkpoint of full size, found by `convert extract-lora` and by kohya's script on the same files.

Run: python tests/reference/extract_lora_kohya.py target/release/convert MODEL_FOLDER SD_SCRIPTS WORK_FOLDER
     (torch 2.15, diffusers 0.32.2; kohya sd-scripts, networks/extract_lora_from_models.py)
MODEL_FOLDER is a diffusers folder in float32 (`cargo run --release -p driftless --example miniature -- DIR --full`). An adapter of rank
64 on kohya's default layers, whose change has 2 % of each weight's norm, is merged in and stored in float16. Printed for each: seconds,
peak memory, the relative error of the recovered change (all layers of a network taken together), and the error of the UNet's output
over what the adapter changes in it. kohya's clamp is at its default, and once more off; its --min_diff is lowered, without which it
leaves the text encoder out. --step does one part: make, convert, kohya, errors.
"""

import argparse
import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

RANK, SHARE = 64, 0.02


def timed(command, **more):
    """Runs a process; wall seconds, processor seconds and peak memory."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    seconds, processor = time.monotonic() - start, usage.ru_utime + usage.ru_stime
    return f"{seconds:.1f} s ({processor:.1f} s of processor time), peak {usage.ru_maxrss * 1024 / 1e9:.2f} GB"


def targets(base):
    """kohya's default layers: key prefix, network and weight name."""
    for network, prefix, file in (
        ("unet", "lora_unet_", "unet/diffusion_pytorch_model.safetensors"),
        ("text_encoder", "lora_te_", "text_encoder/model.safetensors"),
    ):
        with safe_open(base / file, "pt") as weights:
            for name in sorted(weights.keys()):
                path = name.removesuffix(".weight")
                inside = ".attentions." in path if network == "unet" else ".self_attn." in path or ".mlp." in path
                if name.endswith(".weight") and inside and "norm" not in path:
                    yield prefix + path.replace(".", "_"), network, weights.get_tensor(name)


def make(convert, base, work):
    """An adapter of random factors, and the float16 merge."""
    generator = torch.Generator().manual_seed(0)
    adapter = {}
    for key, _, weight in targets(base):
        out, inputs = weight.shape[:2]
        down, up = torch.randn(RANK, inputs, generator=generator), torch.randn(out, RANK, generator=generator)
        size = (SHARE * weight.norm() / (up @ down).norm()).sqrt()
        convolution = (1, 1) if weight.dim() == 4 else ()
        adapter[key + ".lora_down.weight"] = (down * size).reshape(RANK, inputs, *convolution)
        adapter[key + ".lora_up.weight"] = (up * size).reshape(out, RANK, *convolution)
        adapter[key + ".alpha"] = torch.tensor(float(RANK))
    save_file(adapter, work / "adapter.safetensors")
    subprocess.run([convert, "ckpt", base, "--output", work / "base.safetensors", "--quiet"], check=True)
    merge = ["merge", "--base", base, work / "adapter.safetensors", "--dtype", "float16", "--output", work / "merged.safetensors", "--quiet"]
    subprocess.run([convert, *merge], check=True)


def change(adapter, key):
    """The change of a layer's weight."""
    up, down = (adapter[key + part].float().flatten(1) for part in (".lora_up.weight", ".lora_down.weight"))
    return up @ down * (float(adapter[key + ".alpha"]) / down.shape[0])


def errors(base, work, names):
    """Of the change and of the UNet's output, for each file."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    inputs = torch.randn(1, 4, 32, 32), torch.tensor([500]), torch.randn(1, 77, 768)

    def output(adapter):
        unet = UNet2DConditionModel.from_pretrained(base / "unet")
        layers = {"lora_unet_" + path.replace(".", "_"): module for path, module in unet.named_modules()}
        with torch.no_grad():
            for key in {key.split(".")[0] for key in adapter}:
                if key.startswith("lora_unet_"):
                    layers[key].weight += change(adapter, key).reshape(layers[key].weight.shape)
            found = unet(*inputs).sample
        del unet
        gc.collect()
        return found

    true = load_file(work / "adapter.safetensors")
    plain, expected = output({}), output(true)
    print(f"the adapter changes the UNet's output by {((expected - plain).norm() / plain.norm()).item():.3f} of its norm")
    for name in names:
        found = load_file(work / f"{name}.safetensors")
        line = [f"{name}:"]
        for prefix in ("lora_unet_", "lora_te_"):
            error = norm = 0.0
            for key in {key.split(".")[0] for key in true if key.startswith(prefix)}:
                wanted = change(true, key)
                got = change(found, key) if key + ".alpha" in found else torch.zeros_like(wanted)
                error, norm = error + (got - wanted).square().sum().item(), norm + wanted.square().sum().item()
            line.append(f"{prefix}* {(error / norm) ** 0.5:.4f}")
        unexpected = {key.split(".")[0] for key in found} - {key.split(".")[0] for key in true}
        size = (work / f"{name}.safetensors").stat().st_size / 1e6
        share = ((output(found) - expected).norm() / (expected - plain).norm()).item()
        print(*line, f"output {share:.4f} of the effect; {len(unexpected)} other layers; {size:.0f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("convert", "base", "sd_scripts", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--step", choices=("make", "convert", "kohya", "unclamped", "errors"))
    options = parser.parse_args()
    convert, base, work = options.convert.resolve(), options.base, options.work.resolve()
    work.mkdir(exist_ok=True)
    wanted = lambda step: options.step in (None, step)
    if wanted("make"):
        make(convert, base, work)
    if wanted("convert"):
        command = [convert, "extract-lora", work / "merged.safetensors", "--base", base, "--rank", RANK, "--output", work / "convert.safetensors"]
        print("convert:", timed(command), flush=True)
    for name, clamp in (("kohya", 0.99), ("unclamped", 1.0)):
        if wanted(name):
            command = [sys.executable, "networks/extract_lora_from_models.py", "--model_org", work / "base.safetensors"]
            command += ["--model_tuned", work / "merged.safetensors", "--dim", RANK, "--save_to", work / f"{name}.safetensors"]
            command += ["--clamp_quantile", clamp, "--min_diff", 1e-6]
            environment = dict(os.environ, PYTHONPATH=str(options.sd_scripts), HF_HUB_OFFLINE="1")
            print(f"{name}:", timed(command, cwd=options.sd_scripts, env=environment), flush=True)
    if wanted("errors"):
        errors(base, work, [name for name in ("convert", "kohya", "unclamped") if (work / f"{name}.safetensors").exists()])


if __name__ == "__main__":
    main()
