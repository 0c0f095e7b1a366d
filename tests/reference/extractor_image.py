"""The synthetic picture that the extractor fixtures look at: 150x110 RGB, smooth colours and sharp edges, no randomness.

It is neither square nor of the model's size, so that the resize takes part, and its edges give Canny something to find.

    python extractor_image.py tests/fixtures/extractor/image.png
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 150, 110


def picture():
    """A colour gradient with a disc, a triangle and stripes on it."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            image.putpixel((x, y), (30 + x, 200 - y, (x + 2 * y) // 2))
    pen = ImageDraw.Draw(image)
    pen.ellipse((18, 14, 78, 74), fill=(220, 60, 40))
    pen.polygon([(90, 20), (142, 96), (70, 88)], fill=(40, 70, 210))
    for x in range(8, 60, 12):
        pen.rectangle((x, 84, x + 5, 104), fill=(240, 240, 230))
    return image


if __name__ == "__main__":
    picture().save(Path(sys.argv[1]), optimize=True)
