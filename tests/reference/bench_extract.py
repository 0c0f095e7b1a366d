"""One pass of `extract` over several feature sets beside the original extractor's run per set: time, peak memory, and how far they agree.

The sets are those of configs/correspondence.toml (the seven of the paper's correspondence README). The original (generic-diffusion-feature
e4361a6 over its patched diffusers, see extractor_overlay.py) runs in float32 on the CPU in a process per set, on one image, as its README
has it; `extract` runs once, on --images images. Where the README names a merged model, the original is given the plain model, which costs
the same, and `extract` an adapter, which costs it more; those sets are not compared number by number. Everything starts from the files.

A whole run at full size takes long, so it can be made in pieces: each --run adds to RESULTS, --report prints what is there.

    python bench_extract.py RESULTS.json --model FOLDER --checkout CHECKOUT --overlay OVERLAY --extract target/release/extract \
        --lora ADAPTER.safetensors --size 512 --run ours feature1 feature2 feature3 feature4 feature5 feature6 attn --report
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def sets():
    """The sets of configs/correspondence.toml by name, with what they take from the set before."""
    config = tomllib.loads((ROOT / "configs/correspondence.toml").read_text())
    found, before = {}, {}
    for entry in config["set"]:
        before = {key: before[key] for key in ("t", "seed", "layer") if key in before} | entry
        found[entry["name"]] = before
    return found


def image(folder, number):
    """An image that anybody can make again: waves, discs and fixed noise, 640x480."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:480, 0:640]
    value = np.stack([127 + 100 * np.sin(x / (20 + 9 * c) + number) * np.cos(y / (31 - 7 * c)) for c in range(3)], axis=-1)
    for _ in range(12):
        cx, cy, r = rng.integers(0, 640), rng.integers(0, 480), rng.integers(15, 90)
        value[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.integers(0, 256, 3)
    path = folder / f"{number}.png"
    Image.fromarray(np.clip(value + rng.normal(0, 6, value.shape), 0, 255).astype(np.uint8)).save(path)
    return path


def original(options, name):
    """In a process of its own: one set of the original on one image. Prints a line of JSON."""
    began = time.perf_counter()
    import resource

    import numpy as np
    import torch
    from PIL import Image

    import extractor_oracle

    torch.set_num_threads(options.threads)
    case = sets()[name]
    layers = case["layer"]
    layers = {layer: True for layer in json.loads((ROOT / layers).read_text())} if isinstance(layers, str) else {"none": True}
    options.folder = options.model
    with torch.no_grad():
        extractor = extractor_oracle.import_original(options)(
            layer=layers, version="1-5", device="cpu", dtype="float32", img_size=options.size,
            control=case.get("control"), attention=case.get("attention"),
        )  # fmt: skip
        # as in extractor_oracle.py: neither float16 nor CUDA in the store
        extractor.feature_store.train_unet = True
        prompt = extractor.encode_prompt(case["prompt"])
        loaded = time.perf_counter()
        torch.manual_seed(case["seed"])
        features = extractor.extract(
            prompt, 1, [Image.open(options.image)], t=case["t"], denoising_from=case.get("denoising_from"),
            use_control="control" in case,
        )  # fmt: skip
        side = max(value.shape[-1] for value in features.values())
        joined = [torch.nn.functional.interpolate(value, size=(side, side)) for value in features.values()]
        np.save(options.features, torch.cat(joined, 1)[0].numpy())
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"start_and_load": loaded - began, "image": done - loaded, "peak": peak}))


def run_original(options, name, folder):
    """One set of the original in a fresh process."""
    features = options.results.with_name(f"{options.results.stem}-{name}.npy")
    arguments = ["--original", name, "--image", image(folder, 0), "--features", features]
    for key in ("model", "checkout", "overlay", "size", "threads"):
        arguments += [f"--{key}", getattr(options, key)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    command = [sys.executable, __file__, options.results, *arguments]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, env=environment, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"wall": time.perf_counter() - began, "features": str(features)}


def run_ours(options, folder):
    """All sets in one pass."""
    for number in range(options.images):
        image(folder, number)
    text = (ROOT / "configs/correspondence.toml").read_text()
    for adapter in ("spair-a", "spair-b"):
        text = text.replace(f"adapters/{adapter}.safetensors", str(options.lora))
    # two strengths, so that the two adapters are two
    text = text.replace(f'lora = ["{options.lora}"]', f'lora = ["{options.lora}:0.7"]', 1)
    text = text.replace('"configs/layers/', f'"{ROOT}/configs/layers/')
    text = text.replace("[input]", f'[controlnet_model]\ncanny = "{options.model}/controlnet-canny"\n\n[input]', 1)
    (folder / "sets.toml").write_text(text)
    out, timings = folder / "out", folder / "timings.json"
    command = [options.extract, "--config", folder / "sets.toml", "--model", options.model, "--input_dir", f"{folder}/*.png"]
    command += ["--img_size", options.size, "--output_dir", out, "--output-dtype", "float32", "--device", "cpu", "--dtype", "float32"]
    command += ["--threads", options.threads, "--timings", timings, "--overwrite"]
    began = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    result = {"wall": time.perf_counter() - began} | json.loads(timings.read_text())
    return result | {"errors": errors(options, out)}


def errors(options, out):
    """Relative difference of the first image's features for the sets without an adapter, where the original was run."""
    import numpy as np

    found = {}
    for name, case in sets().items():
        theirs = options.results.with_name(f"{options.results.stem}-{name}.npy")
        ours = next(iter(out.glob(f"{name}/**/0.npy")), None)
        if theirs.is_file() and ours and "lora" not in case:
            theirs, ours = np.load(theirs).astype(np.float64), np.load(ours).astype(np.float64)
            found[name] = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return found


def report(results):
    """The table."""
    theirs = {name: results[name] for name in sets() if name in results}
    print("| the original, a run per set, one image | start and load s | image s | wall s | peak MiB |\n| --- | --- | --- | --- | --- |")
    for name, one in theirs.items():
        print(f"| {name} | {one['start_and_load']:.1f} | {one['image']:.1f} | {one['wall']:.1f} | {one['peak'] / MIB:.0f} |")
    if "ours" not in results:
        return
    ours = results["ours"]
    images = ours["images"]
    print(f"\nextract, {images} images, all sets in one pass: {ours['wall']:.1f} s, peak {ours['peak_rss_bytes'] / MIB:.0f} MiB")
    for stage, calls in ours["stages"].items():
        print(f"  {stage:13} {len(calls):4} calls {sum(calls):8.2f} s")
    for name, error in ours["errors"].items():
        print(f"  {name}: relative difference {error:.1e}")
    if len(theirs) == len(sets()):
        whole = sum(one["wall"] + (images - 1) * one["image"] for one in theirs.values())
        computing = sum(images * one["image"] for one in theirs.values())
        without_load = ours["wall"] - sum(ours["stages"]["load"])
        print(f"the original for {images} images: {whole:.1f} s with start and load, {computing:.1f} s without")
        print(f"ratio {ours['wall'] / whole:.3f}; without loading {without_load / computing:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=lambda text: Path(text).resolve())
    for name in ("model", "checkout", "overlay", "extract", "lora", "image", "features"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve())
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--run", nargs="+", default=[], choices=["ours", *sets()])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--original", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.original:
        return original(options, options.original)
    results = json.loads(options.results.read_text()) if options.results.is_file() else {}
    # The original first, so that its features are there to be compared with.
    for name in sorted(options.run, key=lambda name: name == "ours"):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            results[name] = run_ours(options, folder) if name == "ours" else run_original(options, name, folder)
        options.results.write_text(json.dumps(results, indent=1))
        print(f"{name}: {results[name]['wall']:.1f} s", flush=True)
    if options.report:
        report(results)


if __name__ == "__main__":
    main()
