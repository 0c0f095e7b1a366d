"""A float32 checkpoint of full size through `convert` and through diffusers' own conversion: seconds, peak memory, and whether the
results are the same.

Run: python tests/reference/convert_speed.py target/release/convert MODEL_FOLDER WORK_FOLDER     (torch 2.15, diffusers 0.32.2)
MODEL_FOLDER is a diffusers folder in float32 (`cargo run --release -p driftless --example miniature -- DIR --full`). WORK_FOLDER needs
room for three copies of it. The checkpoint, a pickle in LDM naming as torch.save writes it, is made there once. Both conversions are
whole processes, run in turn as often as --rounds says; before each, the checkpoint is read once, so that it is in memory for both.
Then the way back and forth: LDM, diffusers, LDM must give the same tensors to the bit.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

THEIRS = """
import sys, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_single_file(sys.argv[1], config=sys.argv[2], local_files_only=True, safety_checker=None)
pipe.save_pretrained(sys.argv[3])
"""
IMPORTS = "import torch\nfrom diffusers import StableDiffusionPipeline\n"
FILES = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


def timed(command):
    """Wall seconds, processor seconds, and peak memory in GB of a process."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, env=dict(os.environ, HF_HUB_OFFLINE="1"))
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def warm(path):
    """Reads a file, so that the next reader finds it in memory."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def make_checkpoint(convert, base, checkpoint):
    """torch.save of the model in LDM naming."""
    import torch
    from safetensors.torch import load_file

    single = checkpoint.with_suffix(".safetensors")
    subprocess.run([convert, "ckpt", base, "--output", single, "--quiet"], check=True)
    torch.save({"state_dict": load_file(single), "global_step": 0}, checkpoint)
    single.unlink()


def same(left, right):
    """Whether two safetensors files hold the same tensors, to the bit."""
    import torch
    from safetensors import safe_open

    with safe_open(left, "pt") as a, safe_open(right, "pt") as b:
        return set(a.keys()) == set(b.keys()) and all(
            (x := a.get_tensor(key)).dtype == (y := b.get_tensor(key)).dtype and torch.equal(x, y) for key in a.keys()
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("convert", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--back", action="store_true", help="only the way back and forth")
    options = parser.parse_args()
    convert, base, work = options.convert.resolve(), options.base, options.work
    work.mkdir(exist_ok=True)
    checkpoint, ours, theirs = work / "model.ckpt", work / "ours", work / "theirs"
    if not checkpoint.exists():
        make_checkpoint(convert, base, checkpoint)
    print(f"checkpoint: {checkpoint.stat().st_size / 1e9:.2f} GB")
    if options.back:
        back_and_forth(convert, base, work)
        return
    print(f"python and its imports alone: {timed([sys.executable, '-c', IMPORTS])[0]:.1f} s")
    for number in range(options.rounds):
        for name, target, command in (
            ("convert", ours, [convert, "diffusers", checkpoint, "--base", base, "--output", ours, "--quiet"]),
            ("diffusers", theirs, [sys.executable, "-c", THEIRS, checkpoint, base, theirs]),
        ):
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            warm(checkpoint)
            seconds, processor, memory = timed(command)
            print(f"round {number}, {name}: {seconds:.1f} s ({processor:.1f} s of processor time), peak {memory:.2f} GB", flush=True)
    print("the same tensors:", {file.split("/")[0]: same(ours / file, theirs / file) for file in FILES})
    shutil.rmtree(theirs)


def back_and_forth(convert, base, work):
    """The folder that `convert` made, as one file, against the source; and again as a folder."""
    import torch
    from safetensors import safe_open

    # Before anything is loaded here: a process's peak counts what it was forked from.
    memory = [timed([convert, "ckpt", work / "ours", "--output", single, "--quiet"])[2]]
    memory.append(timed([convert, "diffusers", single, "--base", base, "--output", again, "--quiet"])[2])
    source = torch.load(work / "model.ckpt", mmap=True, weights_only=True)["state_dict"]
    with safe_open(single, "pt") as file:
        equal = set(file.keys()) == source.keys() and all(torch.equal(file.get_tensor(key), source[key]) for key in source)
    print(f"LDM, diffusers, LDM: {len(source)} tensors, equal to the bit: {equal}")
    print("diffusers, LDM, diffusers: the same bytes:", {f.split("/")[0]: (again / f).read_bytes() == (work / "ours" / f).read_bytes() for f in FILES})
    print("peak memory:", [f"{gigabytes:.2f} GB" for gigabytes in memory])
    single.unlink()
    shutil.rmtree(again)


if __name__ == "__main__":
    main()
