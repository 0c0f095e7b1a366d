"""The tables of docs/content-shift.md, from the scores.csv of `extract score`: means with standard errors over images, and what each set
gains over the first one, image by image.

    python3 tests/reference/content_shift.py FOLDER/scores.csv [--score draw_consistency] [--timestep 261] [--gain]
    python3 tests/reference/content_shift.py FOLDER/scores.csv --timestep 261 --keypoints KEYPOINTS.md

With the table of `keypoint_pck.py`: how alike the scores and the keypoints rank the sets, as Spearman's correlation per layer.
"""

import argparse
import csv
from collections import defaultdict

import numpy as np


def mean_with_error(values):
    values = np.array(values)
    return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def read(path, score, timestep):
    """Values by (layer, timestep), set and image; and the order of sets. A set of clean latents has timestep None."""
    found, sets, rows = defaultdict(dict), [], []
    for line in csv.DictReader(open(path)):
        if line["score"] != score:
            continue
        # A set of clean latents has one timestep of its own, which stands for all.
        clean = line["set"] == "cleandift"
        if not clean and timestep not in (None, float(line["timestep"])):
            continue
        key = (line["layer"], None if clean else float(line["timestep"]))
        if line["set"] not in sets:
            sets.append(line["set"])
        if not clean and key not in rows:
            rows.append(key)
        found[key, line["set"]][line["image"]] = float(line["value"])
    return found, sets, rows


def ranks(values):
    """Equal values share the mean of their ranks."""
    values = np.array(values)
    return (values[:, None] > values).sum(1) + 0.5 * (values[:, None] == values).sum(1)


def print_agreement(path, timestep, keypoints):
    """Spearman's correlation over the sets, of each score with the share of keypoints found."""
    by_keypoints = defaultdict(dict)
    for line in open(keypoints).readlines()[2:]:
        layer, name, within = [cell.strip() for cell in line.split("|")[1:4]]
        by_keypoints[layer][name] = float(within.split("±")[0])
    scores = ["draw_consistency", "cka", "paper_scale_free", "warp_pck"]
    print("| layer | " + " | ".join(scores) + " |")
    print("| --- " * (len(scores) + 1) + "|")
    for layer, known in by_keypoints.items():
        cells = []
        for score in scores:
            found, sets, _ = read(path, score, timestep)
            values = [found.get(((layer, timestep), name)) or found.get(((layer, None), name)) for name in sets]
            both = [(np.mean(list(of.values())), known[name]) for name, of in zip(sets, values) if of and name in known]
            pair = [ranks(column) for column in zip(*both)]
            cells.append(f"{np.corrcoef(*pair)[0, 1]:.2f} ({len(both)} sets)")
        print(f"| {layer} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores")
    parser.add_argument("--score", default="draw_consistency")
    parser.add_argument("--timestep", type=float, help="a row per layer at this one; else a row per layer and timestep")
    parser.add_argument("--gain", action="store_true", help="differences to the first set")
    parser.add_argument("--keypoints", help="the table of keypoint_pck.py")
    arguments = parser.parse_args()
    if arguments.keypoints:
        return print_agreement(arguments.scores, arguments.timestep, arguments.keypoints)
    found, sets, rows = read(arguments.scores, arguments.score, arguments.timestep)
    first = sets[0]
    shown = sets[1:] if arguments.gain else sets
    print("| layer | t | " + " | ".join(shown) + " |")
    print("| --- " * (len(shown) + 2) + "|")
    for key in rows:
        cells = []
        for name in shown:
            values = found.get((key, name)) or found.get(((key[0], None), name), {})
            base = found[key, first]
            numbers = [value - base[image] if arguments.gain else value for image, value in values.items()]
            cells.append(mean_with_error(numbers) if numbers else "-")
        print(f"| {key[0] or 'prediction'} | {key[1]:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
