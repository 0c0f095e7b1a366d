"""Color augmentation of kohya's trainer, as a fixture for train/src/data/color.rs.

    python tests/reference/train_color.py SD_SCRIPTS_CHECKOUT > tests/fixtures/train/color.json

SD_SCRIPTS_CHECKOUT is a checkout of kohya-ss/sd-scripts outside of this repository. The class AugHelper is cut out of its
library/train_util.py and run by itself, with Python's random numbers replaced by the ones that lead to each case.
"""

import ast
import json
import random
import subprocess
import sys
import types

import cv2
import numpy as np

checkout = sys.argv[1]
SEED = 20260216
HUES = [-8.0, -3.7, -0.25, 0.0, 1.9, 8.0]
POWERS = [0.95, 0.983, 1.0, 1.05]

source = open(f"{checkout}/library/train_util.py", encoding="utf-8").read()
found = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "AugHelper"]


def augment(image, hue=None, power=None):
    """kohya's color_aug with the draws that choose this hue shift or this power."""
    draws = iter([0.0, 1.0 if hue is not None else 0.0])
    fake = types.SimpleNamespace(random=lambda: next(draws), uniform=lambda low, high: hue if hue is not None else power)
    scope = {"cv2": cv2, "np": np, "random": fake}
    exec(compile(ast.Module(found, []), "train_util.py", "exec"), scope)
    return scope["AugHelper"]().color_aug(image)["image"]


rng = random.Random(SEED)
# grays, primaries, and random colors: every sector of the hue circle; 512, because OpenCV rounds otherwise where its vectors end
pixels = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255), (1, 0, 0), (254, 255, 253)]
pixels += [tuple(rng.randint(0, 255) for _ in range(3)) for _ in range(504)]
image = np.array(pixels, dtype=np.uint8)[None]
cases = [{"hue": hue, "power": None, "pixels": augment(image, hue=hue).flatten().tolist()} for hue in HUES]
cases += [{"hue": None, "power": power, "pixels": augment(image, power=power).flatten().tolist()} for power in POWERS]
print(json.dumps({
    "source": "sd-scripts 48d368f train_util.AugHelper",
    "versions": {"opencv": cv2.__version__, "numpy": np.__version__},
    "seed": SEED,
    "pixels": image.flatten().tolist(),
    "cases": cases,
}, separators=(",", ":")))
