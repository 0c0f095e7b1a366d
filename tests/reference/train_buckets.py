"""Buckets of kohya's trainer for random image sizes, as a fixture for train/src/data/buckets.rs.

    python tests/reference/train_buckets.py SD_SCRIPTS_CHECKOUT > tests/fixtures/train/buckets.json

SD_SCRIPTS_CHECKOUT is a checkout of kohya-ss/sd-scripts outside of this repository. Modules that it imports but does not need for
this are replaced by empty ones.
"""

import importlib.abc
import importlib.machinery
import json
import logging
import random
import subprocess
import sys
from unittest.mock import MagicMock

UNNEEDED = {"toml", "imagesize", "voluptuous", "bitsandbytes", "ftfy", "einops", "sentencepiece", "library.lpw_stable_diffusion"}


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in UNNEEDED or name.split(".")[0] in UNNEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        pass


checkout = sys.argv[1]
# sd-scripts prints when it is imported; the fixture is to be alone on standard output.
output, sys.stdout = sys.stdout, sys.stderr
sys.meta_path.insert(0, Empty())
sys.path.insert(0, checkout)
from library.train_util import BaseDataset, BucketManager  # noqa: E402

logging.disable(logging.CRITICAL)
SEED = 20260216
SETTINGS = [
    dict(resolution=(512, 512), enable=True, min=256, max=1024, step=64, no_upscale=False),
    dict(resolution=(640, 500), enable=True, min=300, max=2048, step=32, no_upscale=False),
    dict(resolution=(512, 512), enable=True, min=256, max=1024, step=64, no_upscale=True),
    dict(resolution=(512, 650), enable=False, min=256, max=1024, step=64, no_upscale=False),
]


def image_sizes():
    """Photographs, strips, images at and around bucket sizes; none smaller than a step."""
    rng = random.Random(SEED)
    sizes = [(512, 512), (513, 512), (576, 448), (1024, 256), (650, 512), (300, 200)]
    while len(sizes) < 200:
        kind = rng.random()
        if kind < 0.6:
            size = (rng.randint(200, 4000), rng.randint(200, 4000))
        elif kind < 0.8:
            size = (64 * rng.randint(3, 20) + rng.randint(-1, 1), 64 * rng.randint(3, 20) + rng.randint(-1, 1))
        else:
            size = (rng.randint(64, 700), rng.randint(64, 700))
        sizes.append(size)
    return sizes


def case(setting):
    limits = (setting["min"], setting["max"])
    if not setting["enable"]:
        manager = BucketManager(False, setting["resolution"], None, None, None)
        manager.set_predefined_resos([setting["resolution"]])
    else:
        if not setting["no_upscale"]:
            limits = BaseDataset.adjust_min_max_bucket_reso_by_steps(None, setting["resolution"], *limits, setting["step"])
        manager = BucketManager(setting["no_upscale"], setting["resolution"], *limits, setting["step"])
        if not setting["no_upscale"]:
            manager.make_buckets()
    images = []
    for size in image_sizes():
        bucket, resized, _ = manager.select_bucket(*size)
        images.append(dict(size=size, bucket=bucket, resized=resized))
    return dict(**setting, list=getattr(manager, "predefined_resos", []), images=images)


commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()
result = dict(
    source=f"kohya-ss/sd-scripts {commit}, library.train_util.BucketManager",
    script="tests/reference/train_buckets.py",
    seed=SEED,
    cases=[case(setting) for setting in SETTINGS],
)
json.dump(result, output, separators=(",", ":"))
