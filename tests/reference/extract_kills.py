"""Kills `extract` with SIGKILL at moments spread over its writing, runs the same command again, and compares every file with those of a run
that was not killed: the manifest, features (a file per layer, a file per image, two shards at once) and the pictures of `extract pca`.

    python extract_kills.py MODEL_FOLDER --extract target/release/extract --kills 50 --seed 0

MODEL_FOLDER is the miniature. Prints a line per kind of run; exits with 1 where a file differs, or is left that a whole run does not have.
"""

import argparse
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

IMAGES = 24
LAYERS = '["up-level1-upsampler-out", "up-level1-repeat1-vit-block0-cross-q", "mid-vit-out"]'
COMMON = "--t 50 --img_size 64 --prompt object --layer layers.json --device cpu --quiet --threads 1".split()
RUNS = {
    "features, a file per layer": [COMMON],
    "features, a file per image": [[*COMMON, "--output-format", "safetensors", "--aggregate_output", "--use_original_filename"]],
    "features, two shards at once": [[*COMMON, "--shard", "0/2"], [*COMMON, "--shard", "1/2"]],
}


def write_png(path, rng):
    """A noisy image of 64 x 64, written without a library."""
    rows = b"".join(b"\0" + rng.randbytes(3 * 64) for _ in range(64))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def count(folder):
    return sum(path.is_file() for path in folder.rglob("*")) if folder.exists() else 0


def whole(commands, work):
    for command in commands:
        subprocess.run(command, cwd=work, check=True)


def killed(commands, work, out, kills, expected, rng):
    """Kills all processes of a run when some more files are there, or at once; how many kills came before the end."""
    amid = 0
    for kill in range(kills):
        # From the start again where nearly all is there, so that every kill meets some work.
        if count(out) > expected * 3 // 4:
            shutil.rmtree(out)
        before, wanted = count(out), rng.choice([0, 0, 1, 2, 3, 5, expected // 4])
        runs = [subprocess.Popen(command, cwd=work) for command in commands]
        while any(run.poll() is None for run in runs) and count(out) < before + wanted:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.15 if wanted == 0 else 0.01))
        alive = [run for run in runs if run.poll() is None]
        for run in alive:
            run.kill()
        for run in runs:
            run.wait()
        amid += bool(alive)
    return amid


def differences(there, expected):
    wrong = [name for name in expected if there.get(name) != expected[name]]
    return wrong + [f"{name} (left)" for name in there if name not in expected]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--extract", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of run whose names hold this")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    failed = False
    extract, model = options.extract.resolve(), options.model.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "in").mkdir()
        (work / "layers.json").write_text(LAYERS)
        for number in range(IMAGES):
            write_png(work / f"in/{number:03}.png", rng)
        base = [extract, "--model", model, "--input_dir", "in/*.png"]
        commands = {kind: [[*base, *run, "--output_dir", "{}"] for run in runs] for kind, runs in RUNS.items()}
        commands["pictures of extract pca"] = [[extract, "pca", "whole-0/up-level1-upsampler-out", "--output", "{}", "--size", "256", "--quiet"]]
        for number, (kind, runs) in enumerate(commands.items()):
            place = lambda out: [[out if word == "{}" else word for word in run] for run in runs]
            whole(place(f"whole-{number}"), work)
            if options.only not in kind:
                continue
            expected = files(work / f"whole-{number}")
            start = time.time()
            amid = killed(place("killed"), work, work / "killed", options.kills, len(expected), rng)
            for command in place("killed"):
                subprocess.run(command, cwd=work, check=True)
            wrong = differences(files(work / "killed"), expected)
            shutil.rmtree(work / "killed")
            failed |= bool(wrong)
            verdict = "equal" if not wrong else f"{len(wrong)} DIFFER: {wrong[:3]}"
            print(f"{kind:32} {len(expected):4} files  {options.kills} kills, {amid} amid the work  {verdict}  ({time.time() - start:.0f} s)", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
