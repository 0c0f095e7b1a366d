"""Runs two builds of the programs over the same work and compares every file that they write, byte for byte.

    python compare_builds.py OLD NEW [--keep FOLDER]

OLD and NEW are folders with the binaries `train`, `convert`, `extract` and, in `examples`, `miniature`, such as `target/release` of two
checkouts. The work: the quickstart's model, data and steps; all layers at two noise levels, denoising, inversion, attention, several sets
in one pass, both output formats; every fixture of an adapter through every format; whole models through LDM files, merging and back; runs of
`train` with LoRA and LyCORIS' algorithms, interrupted and resumed. What may differ is listed in `VOLATILE`: times, and what derives from them.
Exits with 1 where anything else does.
"""

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ROOT / "tests/fixtures/checkpoint/adapters"

# Metadata of a file and columns of metrics.jsonl that hold times, memory, or a hash over such metadata.
VOLATILE = {
    "ss_training_started_at", "ss_training_finished_at", "ss_session_id", "modelspec.date", "sshs_model_hash", "seconds", "peak_rss_bytes",
    "started_at", "finished_at", "wall_seconds", "stages", "driftless_version",
}

# What a later build writes beside the results: the manifest of an output folder with its lock, and in the metadata of a file of features
# the settings and the image that it was made from.
MANIFEST, MANIFEST_METADATA = {"extract.json", ".extract.lock"}, {"extract", "image"}

TRAIN = (
    "--pretrained_model_name_or_path model --resolution 64 --seed 3 --device cpu --threads 2 --train_batch_size 3 --unet_lr 1e-3 "
    "--text_encoder_lr 5e-4 --quiet"
)
EXTRACT = "--model model --input_dir images/*.png --img_size 64 --device cpu --threads 2 --quiet --prompt a_red_circle"

SETS = """
model = "model"
[input]
images = "images/*.png"
img_size = 64
[output]
dir = "sets"
aggregate = true
[[set]]
name = "plain"
prompt = "a photo"
t = 50
seed = 0
layer = "all.json"
[[set]]
name = "same-pass"
prompt = "a photo"
layer = ["up-level1-upsampler-out"]
[[set]]
name = "lora"
prompt = "a photo"
lora = [{ file = "lora/shapes.safetensors", scale = 0.5 }]
[[set]]
name = "steered"
prompt = "a photo"
control = ["canny"]
denoising_from = 60
attention = ["up_cross"]
layer = ["up-level1-upsampler-out", "attn"]
"""


def commands():
    """Every command with a name, in order: later ones work on what earlier ones wrote."""
    yield "miniature", ["examples/miniature", "model", "--pictures"]
    shutil_images = ["sh", "-c", "mv model/images images && mv model/train data"]
    yield None, shutil_images
    yield "train lora", ["train", *TRAIN.split(), "--train_data_dir", "data", "--max_train_steps", "6", "--network_dim", "8", "--network_alpha", "4",
                         "--cache_latents", "--save_every_n_steps", "3", "--save_state", "--output_dir", "lora", "--output_name", "shapes"]
    yield "train resumed", ["train", *TRAIN.split(), "--train_data_dir", "data", "--max_train_steps", "6", "--network_dim", "8", "--network_alpha", "4",
                            "--cache_latents", "--resume", "lora/shapes-step00000003-state", "--output_dir", "resumed", "--output_name", "shapes"]
    for algorithm, more in [("locon", ["conv_dim=2"]), ("loha", ["conv_dim=2"]), ("lokr", ["factor=4"]), ("full", []), ("lora", ["dora_wd=True"])]:
        name = "-".join([algorithm, *more]).replace("=", "")
        yield f"train {name}", ["train", *TRAIN.split(), "--train_data_dir", "data", "--max_train_steps", "2", "--network_dim", "4", "--network_alpha", "2",
                                "--network_module", "lycoris.kohya", "--network_args", f"algo={algorithm}", *more, "--output_dir", "lycoris", "--output_name", name]
    yield "train options", ["train", *TRAIN.split(), "--train_data_dir", "data", "--max_train_steps", "4", "--network_dim", "4", "--gradient_checkpointing",
                            "--min_snr_gamma", "5", "--noise_offset", "0.05", "--flip_aug", "--shuffle_caption", "--caption_dropout_rate", "0.2", "--lr_scheduler", "cosine",
                            "--lr_warmup_steps", "1", "--gradient_accumulation_steps", "2", "--clip_skip", "2", "--enable_bucket", "--min_bucket_reso", "64",
                            "--validation_split", "0.1", "--save_model_as", "diffusers", "--output_dir", "options", "--output_name", "a"]
    for name, more in [
        ("t50", ["--t", "50"]), ("t261-safetensors", ["--t", "261", "--output_format", "safetensors", "--output-dtype", "float32"]),
        ("aggregate", ["--t", "50", "--aggregate_output", "--use_original_filename", "--layer", "two.json"]),
        ("denoising", ["--t", "50", "--denoising_from", "60", "--layer", "two.json"]), ("inversion", ["--t", "50", "--use_ddim_inversion", "--layer", "two.json"]),
        ("attention", ["--t", "50", "--attention", "up_cross", "down_self", "--layer", "two.json"]),
        ("control", ["--t", "50", "--control", "canny", "--controlnet-model", "canny=model/controlnet-canny", "--layer", "two.json"]),
        ("lora", ["--t", "50", "--lora", "lora/shapes.safetensors:0.7", "--lora", "lycoris/loha-conv_dim2.safetensors", "--layer", "two.json"]),
        ("bfloat16", ["--t", "50", "--dtype", "bfloat16", "--layer", "two.json"]), ("resize", ["--t", "50", "--feature_resize", "2", "--layer", "two.json"]),
    ]:
        yield f"extract {name}", ["extract", *EXTRACT.split(), *more, "--output_dir", f"features/{name}"]
    yield "extract sets", ["extract", "--config", "sets.toml", "--controlnet-model", "canny=model/controlnet-canny", "--device", "cpu", "--quiet"]
    yield "extract generate", ["extract", "generate", "--model", "model", "--prompt", "a red circle", "--at-steps", "1,4", "--steps", "5", "--height", "64", "--width", "64",
                               "--layer", "two.json", "--device", "cpu", "--quiet", "--output_dir", "generated"]
    yield "extract pca", ["extract", "pca", "features/aggregate", "--output", "drawn", "--images", "images/*.png", "--quiet"]
    yield "extract layers", ["extract", "--model", "model", "--show_all_layers", "--img_size", "64", "--t", "50", "--output_dir", "layers"]
    for path in sorted(ADAPTERS.iterdir()):
        if path.suffix in {".safetensors", ".ckpt", ".pt"} and path.stem != "expected":
            for target, output in [("kohya", f"{path.name}.safetensors"), ("peft", f"{path.name}"), ("diffusers", f"{path.name}")]:
                yield f"convert {target} {path.name}", ["convert", target, str(path), "--output", f"{target}/{output}", "--quiet"]
    yield "convert trained", ["convert", "diffusers", "lycoris/lokr-factor4.safetensors", "--rank", "4", "--output", "plain", "--quiet"]
    yield "convert merge", ["convert", "merge", "--base", "model", "lora/shapes.safetensors", "lycoris/loha-conv_dim2.safetensors:0.5", "--output", "merged", "--quiet"]
    yield "convert ckpt", ["convert", "ckpt", "merged", "--output", "merged.safetensors", "--quiet"]
    yield "convert pickle", ["convert", "ckpt", "merged", "--output", "merged.ckpt", "--quiet"]
    yield "convert back", ["convert", "diffusers", "merged.ckpt", "--base", "model", "--output", "back", "--quiet"]
    yield "convert extract-lora", ["convert", "extract-lora", "merged.safetensors", "--base", "model", "--rank", "4", "--output", "found.safetensors", "--quiet"]


def run(binaries, folder):
    """Does all the work in a folder; what failed, with its last words."""
    layers = ["up-level1-upsampler-out", "up-level1-repeat1-vit-block0-cross-q"]
    (folder / "two.json").write_text(json.dumps({layer: True for layer in layers}))
    (folder / "all.json").write_text(json.dumps([*layers, "vae-out", "mid-vit-out"]))
    (folder / "sets.toml").write_text(SETS)
    failed = {}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "no-hub")}
    for name, command in commands():
        program = command if name is None else [binaries / command[0], *command[1:]]
        done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            failed[name] = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
    return failed


def plain(value):
    """JSON without what may differ."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in VOLATILE | MANIFEST_METADATA}
    return [plain(item) for item in value] if isinstance(value, list) else value


def digest(path):
    """A hash of a file without what may differ."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        size = struct.unpack("<Q", data[:8])[0]
        header, data = json.loads(data[8 : 8 + size]), data[8 + size :]
        header = plain(header)
        if not header.get("__metadata__"):
            header.pop("__metadata__", None)
        # The order of a file's entries is part of it.
        data = json.dumps(header).encode() + data
    elif path.suffix in {".jsonl", ".json"}:
        data = "\n".join(json.dumps(plain(json.loads(line))) for line in data.decode().splitlines()).encode() if path.suffix == ".jsonl" else \
            json.dumps(plain(json.loads(data))).encode()
    return hashlib.sha256(data).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for what both builds write, which stays")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp())
    digests = {}
    for side, binaries in [("old", options.old), ("new", options.new)]:
        folder = work / side
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            failed = run(binaries.resolve(), folder)
            (folder / "done").write_text(json.dumps(failed, indent=1))
        failed = json.loads((folder / "done").read_text())
        for name, words in failed.items():
            print(f"{side}: `{name}` failed: {words[0]}")
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != "done")
        digests[side] = {str(path.relative_to(folder)): digest(path) for path in files}
    old, new = digests["old"], digests["new"]
    manifests = [name for name in new.keys() - old.keys() if Path(name).name in MANIFEST]
    for name in manifests:
        del new[name]
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    for name in differing:
        print(f"only in {'new' if name not in old else 'old'}: {name}" if name not in old or name not in new else f"differs: {name}")
    print(f"{len(old)} files, {len(differing)} differ; {len(manifests)} manifests and locks are only in new")
    if not options.keep:
        shutil.rmtree(work)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
