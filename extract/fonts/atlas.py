"""The letters of `extract pca`'s sheets, drawn once: DejaVu Sans at the one size that sheets use.

Run: python extract/fonts/atlas.py DejaVuSans.ttf extract/fonts
     (freetype-py 2.5.1 with FreeType 2.13.2, pillow 13.0.0; README.md beside this script says which DejaVuSans.ttf and what the files hold)
Writes letters.png and letters.csv.
"""

import sys
from pathlib import Path

import freetype
from PIL import Image

EM = 16  # pixels
FINE = 4  # columns of the atlas for one pixel, so that a letter may begin at any quarter of a pixel
WIDTH = 1024  # of the atlas
LEVELS = 16  # of gray; more cannot be told apart where four columns make a pixel, and take twice the space
CODES = """
0020-007E 00A0-017F 0300-0304 0306-030C 0327 0328 0370-03FF 0400-045F 0490 0491 2010-2015 2018-201E 2020-2022 2026 2030 2032 2033
2039 203A 20AC 2116 2122 2190-2193 2212 FFFD
"""


def codes():
    for part in CODES.split():
        first, _, last = part.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def main(font, folder):
    face = freetype.Face(font)
    face.set_char_size(64 * EM, 64 * EM, 72 * FINE, 72)
    table = ["code,x,y,width,height,left,top,advance"]
    drawn = []
    x = y = tallest = 0
    for code in codes():
        index = face.get_char_index(code)
        if index == 0:
            continue
        face.load_glyph(index, freetype.FT_LOAD_NO_SCALE)
        advance = face.glyph.advance.x  # in units of the font, exact
        face.load_glyph(index, freetype.FT_LOAD_RENDER | freetype.FT_LOAD_NO_HINTING)
        glyph = face.glyph
        width, height = glyph.bitmap.width, glyph.bitmap.rows
        if x + width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        table.append(f"{code:04X},{x},{y},{width},{height},{glyph.bitmap_left},{glyph.bitmap_top},{advance}")
        if width > 0:
            assert glyph.bitmap.pitch == width
            drawn.append((Image.frombytes("L", (width, height), bytes(glyph.bitmap.buffer)), (x, y)))
        x, tallest = x + width, max(tallest, height)
    assert face.units_per_EM == 2048
    atlas = Image.new("L", (WIDTH, y + tallest))
    for image, place in drawn:
        atlas.paste(image, place)
    most = LEVELS - 1
    atlas = atlas.point(lambda value: (value * most + 127) // 255 * (255 // most))
    atlas.save(folder / "letters.png", optimize=True)
    (folder / "letters.csv").write_text("\n".join(table) + "\n", encoding="ascii", newline="\n")


main(sys.argv[1], Path(sys.argv[2]))
