"""The synthetic images that the extractor fixtures look at: RGB, smooth colors and sharp edges, no randomness.

They are neither square nor of the model's size, so that the resize takes part, and their edges give Canny something to find:
image.png is 150x110, odd.jpg 97x211 with the losses of a photograph's file.

    python extractor_image.py tests/fixtures/extractor
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

def image(width, height):
    """A color gradient with a disc, a triangle and stripes on it."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            image.putpixel((x, y), (30 + x, max(200 - y, 0), (x + 2 * y) // 2))
    pen = ImageDraw.Draw(image)
    pen.ellipse((18, 14, 78, 74), fill=(220, 60, 40))
    pen.polygon([(90, 20), (142, 96), (70, 88)], fill=(40, 70, 210))
    for x in range(8, 60, 12):
        pen.rectangle((x, 84, x + 5, 104), fill=(240, 240, 230))
    return image


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    image(150, 110).save(folder / "image.png", optimize=True)
    image(97, 211).save(folder / "odd.jpg", quality=90)
