"""Resizing and edges of many varied images, ours against Pillow 12 and OpenCV: photographs out of wheels, and synthetic ones.

Takes every image that Pillow reads out of wheels or folders (wheels of scikit-image 0.17.2, scikit-learn and matplotlib ship test
photographs), adds synthetic ones, resizes each as the original extractor does (in its own mode, then RGB) to each side, and compares
bytes: the resized image with Pillow's, its edges with cv2.Canny(100, 200) of that image.

    pip download --no-deps --only-binary=:all: --python-version 3.8 scikit-image==0.17.2
    pip download --no-deps scikit-learn matplotlib
    cargo build --release -p driftless --example prepared
    python photos.py target/release/examples/prepared *.whl
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIDES = [512, 128, 100]
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp"}


def unpacked(sources, folder):
    """The images in folders and wheels that are large enough to show something."""
    for source in map(Path, sources):
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel:
                names = [name for name in wheel.namelist() if Path(name).suffix.lower() in IMAGES]
                wheel.extractall(folder / source.stem, names)
            source = folder / source.stem
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in IMAGES and is_image(path):
                yield path


def is_image(path):
    """Whether Pillow reads it as 8-bit and it is no icon."""
    try:
        with Image.open(path) as image:
            image.load()
            return min(image.size) >= 48 and image.mode in ("RGB", "RGBA", "L", "LA", "P", "1")
    except OSError:
        return False


def synthetic(folder):
    """Noise, waves and blocks in sizes that divide nothing."""
    folder.mkdir()
    for number in range(20):
        rng = np.random.default_rng(number)
        height, width = int(rng.integers(37, 900)), int(rng.integers(37, 900))
        y, x = np.mgrid[0:height, 0:width]
        waves = np.stack([127 + 110 * np.sin(x / rng.uniform(2, 60)) * np.cos(y / rng.uniform(2, 60)) for _ in range(3)], -1)
        blocks = rng.integers(0, 256, (height // 17 + 1, width // 13 + 1, 3)).repeat(17, 0).repeat(13, 1)[:height, :width]
        kinds = [waves, blocks, rng.normal(127, 60, (height, width, 3)), (waves + blocks) / 2]
        path = folder / f"{number}.png"
        Image.fromarray(np.clip(kinds[number % 4], 0, 255).astype(np.uint8)).save(path)
        yield path


def expected(path, side):
    """The two hashes by Pillow and OpenCV."""
    with Image.open(path) as image:
        resized = np.asarray(image.resize((side, side)).convert("RGB"))
    edges = cv2.Canny(resized, 100, 200)
    return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in (resized, np.stack([edges] * 3, -1))]


def main(program, *sources):
    with tempfile.TemporaryDirectory() as folder:
        files = [*unpacked(sources, Path(folder)), *synthetic(Path(folder) / "synthetic")]
        print(f"Pillow {Image.__version__}, OpenCV {cv2.__version__}, {len(files)} images")
        for side in SIDES:
            command = [program, str(side), *map(str, files)]
            lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
            wrong = [0, 0]
            for path, line in zip(files, lines, strict=True):
                for part, (ours, theirs) in enumerate(zip(line.split(), expected(path, side), strict=True)):
                    if ours != theirs:
                        wrong[part] += 1
                        print(f"  {path.relative_to(folder) if path.is_relative_to(folder) else path}: {('resize', 'edges')[part]} differs")
            print(f"side {side}: {wrong[0]} resized images differ, {wrong[1]} edge maps differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
