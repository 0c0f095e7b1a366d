"""Keypoints found again by features: the share within a tenth of the image's longer side (and of the target's box), per feature set.

    python3 tests/reference/keypoint_pck.py FEATURES SPAIR/JPEGImages/spair_71k_test.json [--layer up-level1-upsampler-out ...]

FEATURES holds a folder per set, as `extract --config --nested-input-dir --use_original_filename` writes them:
SET/LAYER/CATEGORY/STEM.npy of shape [channels, height, width]. Features are enlarged bilinearly to SIDE x SIDE and matched by cosine: the
nearest neighbor of every source keypoint, no head, no training. Standard errors are those of the mean over pairs. A second
implementation beside the Rust one, on purpose. Made with torch 2.15.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


def enlarged(path, side):
    """Unit vectors [channels, side, side]."""
    feature = torch.from_numpy(np.load(path)).float()
    return F.normalize(F.interpolate(feature[None], (side, side), mode="bilinear", align_corners=False)[0], dim=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--layer", nargs="+", required=True)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--sets", nargs="+")
    arguments = parser.parse_args()
    pairs = json.loads(arguments.pairs.read_text())
    sets = arguments.sets or sorted(path.name for path in arguments.features.iterdir() if path.is_dir())
    print("| layer | set | within 0.1 of the image | within 0.1 of the box | points |")
    print("| --- | --- | --- | --- | --- |")
    for layer in arguments.layer:
        for name in sets:
            cache, by_image, by_box, points = {}, [], [], 0

            def feature(path):
                if path not in cache:
                    cache[path] = enlarged((arguments.features / name / layer / path).with_suffix(".npy"), arguments.side)
                return cache[path]

            for pair in pairs:
                source, target = feature(pair["source_path"]), feature(pair["target_path"])
                left, top, right, bottom = pair["target_bounding_box"]
                distances = []
                for (x, y), wanted in zip(pair["source_points"], pair["target_points"]):
                    column, row = (min(round(value), arguments.side - 1) for value in (x, y))
                    cosines = torch.einsum("c,chw->hw", source[:, row, column], target)
                    found = divmod(cosines.argmax().item(), arguments.side)
                    distances.append(((found[1] - wanted[0]) ** 2 + (found[0] - wanted[1]) ** 2) ** 0.5)
                distances, points = np.array(distances), points + len(distances)
                by_image.append((distances <= 0.1 * arguments.side).mean())
                by_box.append((distances <= 0.1 * max(right - left, bottom - top)).mean())
            text = [f"{100 * np.mean(v):.1f} ± {100 * np.std(v, ddof=1) / len(v) ** 0.5:.1f}" for v in (by_image, by_box)]
            print(f"| {layer} | {name} | {text[0]} | {text[1]} | {points} |", flush=True)


if __name__ == "__main__":
    main()
