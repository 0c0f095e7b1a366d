"""How time and memory of the networks grow with the images' size and number, beside how the arithmetic does.

    python scaling.py MODEL_FOLDER target/release/examples/bench_step [--items unet vae lora_step] [--rounds 3]

MODEL_FOLDER is a full-size Stable Diffusion 1.5. Arithmetic is counted from the architecture: multiplications of convolutions, linear
layers and attention. Everything but attention grows with the pixels; self-attention with their square. Times are medians, relative to
one image of 512 pixels; memory is the peak above that of one image of 64 pixels, which is the weights', relative in the same way.
A ratio of 1 in the last two columns means: in step with the arithmetic.
"""

import argparse
import statistics
import subprocess
import sys

SIZES = ((256, 1), (512, 1), (768, 1), (1024, 1), (512, 2), (512, 4))
# Of one image of 512 pixels, in 1e12 operations: what grows with the pixels, and attention of the image to itself.
COUNTS = {"unet": (0.68, 0.122), "vae": (1.085, 0.034)}


def arithmetic(item, size, batch):
    """Operations relative to those of one image of 512 pixels."""
    linear, square = COUNTS.get(item, COUNTS["unet"])
    pixels = (size / 512) ** 2
    return batch * (linear * pixels + square * pixels**2) / (linear + square)


def measure(options, item, size, batch):
    """The median of some rounds in seconds, and the peak in bytes."""
    command = [options.bench_step, options.model, "--item", item, "--size", str(size), "--batch", str(batch)]
    done = subprocess.run(command, input="\n" * options.rounds, stdout=subprocess.PIPE, text=True, check=True)
    *seconds, peak = done.stdout.split()[1:]
    return statistics.median(map(float, seconds)), int(peak)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("bench_step")
    parser.add_argument("--items", nargs="+", default=["unet", "vae", "lora_step"], choices=["unet", "vae", "lora_step", "lora_step_checkpointed"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| item | size | batch | arithmetic | s | time | peak GiB | memory | time / arithmetic | memory / arithmetic |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for item in options.items:
        _, weights = measure(options, item, 64, 1)
        found = {case: measure(options, item, *case) for case in SIZES}
        seconds, peak = found[512, 1]
        for (size, batch), (own, own_peak) in found.items():
            work, time, memory = arithmetic(item, size, batch), own / seconds, (own_peak - weights) / (peak - weights)
            print(f"| {item} | {size} | {batch} | {work:.2f} | {own:.2f} | {time:.2f} | {own_peak / (1 << 30):.2f} | {memory:.2f} |", end="")
            print(f" {time / work:.2f} | {memory / work:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
