"""Puts the original extractor's patched diffusers files over a private copy of diffusers 0.32.2, outside this repository.

The original (github.com/Darkbblue/generic-diffusion-feature, e4361a6) asks its users to overwrite installed library files. Here
they go into a copy. Only the files that Stable Diffusion 1.5 needs are taken, and the patched UNet, which lies in
`models/unet`, goes to `models/unets`, where diffusers reads it; without that the `unet-*` taps never appear.

    python extractor_overlay.py CHECKOUT_OF_THE_ORIGINAL OVERLAY_FOLDER
    pip install --target OVERLAY_FOLDER --no-deps einops==0.8.2
"""

import importlib.util
import shutil
import sys
from pathlib import Path

PATCHED = {
    "models/attention.py": "models/attention.py",
    "models/attention_processor.py": "models/attention_processor.py",
    "models/downsampling.py": "models/downsampling.py",
    "models/resnet.py": "models/resnet.py",
    "models/upsampling.py": "models/upsampling.py",
    "models/transformers/transformer_2d.py": "models/transformers/transformer_2d.py",
    "models/unet/unet_2d_condition.py": "models/unets/unet_2d_condition.py",
}


def main(checkout, overlay):
    installed = Path(importlib.util.find_spec("diffusers").origin).parent
    copy = overlay / "diffusers"
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for source, target in PATCHED.items():
        shutil.copyfile(checkout / "feature" / "diffusers" / source, copy / target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
