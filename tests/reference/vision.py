"""Reference numbers for driftless::vision: Pillow's resize, OpenCV's INTER_AREA and Canny, diffusers' byte <-> float conversion.

Writes tests/fixtures/vision/rasters.json. Input images are not stored: `image` below is a formula in 32-bit integers that
model/tests/vision.rs repeats, and of most results only the FNV-1a 64 hash is kept.

Run: python tests/reference/vision.py
"""

import json
from pathlib import Path

import cv2
import diffusers
import numpy as np
import PIL
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "vision"
KINDS = ["noise", "gradient", "photo", "shapes", "stripes"]
FILTERS = ["nearest", "box", "bilinear", "bicubic", "lanczos"]
WHOLE = 260  # results of up to this many bytes are stored whole


def mix(value, seed):
    """An integer hash; uint32 arithmetic wraps."""
    value = value.astype(np.uint32) * np.uint32(2654435761) + np.uint32(seed * 40503 & 0xFFFFFFFF)
    value ^= value >> np.uint32(15)
    value *= np.uint32(2246822519)
    value ^= value >> np.uint32(13)
    return value


def wave(phase):
    """A triangle wave of period 256 in 0..=127."""
    phase = phase & np.uint32(255)
    return np.where(phase < 128, phase, np.uint32(255) - phase)


def image(kind, width, height, seed):
    """`[height, width, 3]` bytes."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint32) for n in (height, width, 3)), indexing="ij")
    u = np.uint32
    noise = mix((y * u(width) + x) * u(3) + c, seed) >> u(24)
    if kind == "noise":
        value = noise
    elif kind == "gradient":
        value = (x * (c + u(1)) + y * u(2) + u(seed & 255)) & u(255)
    elif kind == "photo":
        blob = mix((y // u(23)) * u(977) + x // u(31), seed) >> u(26)
        value = wave(x * u(2) + y + c * u(40) + u(seed & 255)) + wave(y * u(3) + x * (c + u(1))) // u(2) + blob + noise // u(16)
    elif kind == "shapes":
        cell = mix((y // u(7)) * u(613) + x // u(5), seed) & u(3)
        disc = (x - u(width // 2)) * (x - u(width // 2)) + (y - u(height // 2)) * (y - u(height // 2)) < u(width * height // 16)
        value = np.where(disc, u(200) - c * u(60), np.where(cell == 0, c * u(20), u(255) - c * u(15)))
    elif kind == "stripes":
        value = np.where((x + y * (c + u(1))) % u(11) < u(4), u(40) + c * u(70), u(230))
    return np.minimum(value, 255).astype(np.uint8)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def result(array):
    data = np.ascontiguousarray(array).tobytes()
    return {"hash": fnv(data)} | ({"hex": data.hex()} if len(data) <= WHOLE else {})


# Source size, target size: shrinking, growing, both, odd ratios, one side alone, one pixel.
RESIZES = [
    ((8, 8), (4, 4)), ((9, 7), (4, 3)), ((5, 5), (9, 9)), ((1, 1), (7, 5)), ((7, 5), (1, 1)), ((2, 3), (8, 8)), ((16, 1), (5, 1)),
    ((1, 16), (1, 5)), ((3, 50), (50, 3)), ((64, 48), (64, 32)), ((64, 48), (40, 48)), ((33, 47), (32, 32)), ((50, 37), (64, 64)),
    ((100, 75), (64, 64)), ((75, 100), (96, 96)), ((127, 61), (64, 80)), ((61, 127), (80, 64)), ((128, 128), (64, 64)),
    ((128, 96), (128, 128)), ((200, 133), (64, 64)), ((160, 120), (96, 96)), ((101, 99), (96, 96)), ((255, 3), (64, 64)),
    ((3, 255), (64, 64)), ((240, 160), (80, 160)), ((97, 89), (194, 178)), ((60, 40), (61, 41)), ((250, 187), (256, 256)),
    ((500, 375), (256, 256)), ((333, 500), (128, 192)),
]  # fmt: skip

# For INTER_AREA: whole numbers (2 x 2 apart), other ratios, one side unchanged, growing sides.
AREAS = [
    ((8, 8), (4, 4)), ((9, 9), (3, 3)), ((8, 9), (4, 3)), ((64, 48), (32, 24)), ((63, 48), (21, 16)), ((64, 60), (16, 10)),
    ((9, 7), (4, 3)), ((10, 10), (7, 7)), ((100, 75), (64, 64)), ((127, 61), (64, 33)), ((128, 128), (127, 127)),
    ((64, 48), (64, 31)), ((64, 48), (37, 48)), ((200, 133), (64, 43)), ((160, 120), (85, 64)), ((333, 250), (170, 128)),
    ((250, 187), (86, 64)), ((101, 99), (33, 33)), ((7, 5), (1, 1)), ((3, 3), (2, 2)), ((500, 375), (171, 128)),
    ((300, 200), (96, 64)), ((640, 427), (96, 64)), ((5, 4), (9, 8)), ((10, 10), (20, 5)), ((33, 20), (20, 33)),
    ((64, 64), (65, 65)), ((1, 1), (4, 4)), ((50, 40), (100, 80)), ((37, 53), (90, 77)),
]  # fmt: skip

CANNIES = [(1, 1), (2, 2), (1, 9), (9, 1), (3, 3), (17, 13), (64, 64), (65, 33), (120, 90), (200, 150)]
THRESHOLDS = [(100, 200), (20, 60), (300, 100), (0, 0)]


def resizes():
    for number, (source, target) in enumerate(RESIZES):
        for order, name in enumerate(FILTERS):
            kind = KINDS[(number + order) % len(KINDS)]
            image = Image.fromarray(image(kind, *source, number))
            resized = image.resize(target, getattr(Image.Resampling, name.upper()))
            yield {"kind": kind, "seed": number, "from": source, "to": target, "filter": name} | result(resized)


def areas():
    for number, (source, target) in enumerate(AREAS):
        for kind in (KINDS[number % len(KINDS)], "noise"):
            resized = cv2.resize(image(kind, *source, number), target, interpolation=cv2.INTER_AREA)
            yield {"kind": kind, "seed": number, "from": source, "to": target} | result(resized)


def cannies():
    for size_number, size in enumerate(CANNIES):
        for number, kind in enumerate(KINDS):
            low, high = (100, 200) if number % 2 == 0 or size_number < 5 else THRESHOLDS[(size_number + number) % 4]
            seed = size_number * 10 + number
            drawn = image(kind, *size, seed)
            edges = cv2.Canny(drawn, low, high)
            case = {"kind": kind, "seed": seed, "size": size, "low": low, "high": high}
            yield case | {"edge_pixels": int((edges > 0).sum())} | result(edges)
            if (low, high) != (100, 200):
                edges = cv2.Canny(drawn, 100, 200)
                case = {"kind": kind, "seed": seed, "size": size, "low": 100, "high": 200}
                yield case | {"edge_pixels": int((edges > 0).sum())} | result(edges)


def tensors():
    """Every byte through preprocess, and floats around all rounding points through postprocess."""
    processor = VaeImageProcessor(vae_scale_factor=8)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([ramp, ramp[::-1], ramp.T], axis=-1))
    tensor = processor.preprocess(image)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == torch.float32
    unit = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_convert_rgb=True).preprocess(image)
    levels = torch.arange(0, 512, dtype=torch.float32)  # halves of a level, so every second one is a tie
    values = torch.cat([levels / 255 - 1, torch.nextafter(levels / 255 - 1, torch.tensor(9.0)), levels / 200 - 1.3])[: 3 * 512]
    values = values.reshape(1, 3, 16, 32)
    [back] = processor.postprocess(values, output_type="pil")
    bits = lambda tensor: fnv(tensor.numpy().astype("<f4").tobytes())
    return {
        "preprocess": bits(tensor),
        "preprocess_unnormalized": bits(unit),
        "ramp": [float(value) for value in tensor[0, 0].flatten()[:8]],
        "postprocess_input_bits": [int(bits) for bits in values.flatten().numpy().view(np.uint32)],
        "postprocess": fnv(np.asarray(back).tobytes()),
    }


def main():
    fixture = {
        "made_by": "tests/reference/vision.py",
        "versions": {
            "pillow": PIL.__version__, "opencv": cv2.__version__, "numpy": np.__version__,
            "diffusers": diffusers.__version__, "torch": torch.__version__,
        },  # fmt: skip
        "images": [{"kind": kind, "seed": 3, "size": (13, 9)} | result(image(kind, 13, 9, 3)) for kind in KINDS],
        "resize": list(resizes()),
        "area": list(areas()),
        "canny": list(cannies()),
        "tensor": tensors(),
    }
    lines = []
    for key, value in fixture.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "rasters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    edges = [case["edge_pixels"] for case in fixture["canny"]]
    print({key: len(value) for key, value in fixture.items()}, "canny cases with edges:", sum(count > 0 for count in edges), "of", len(edges))


if __name__ == "__main__":
    main()
