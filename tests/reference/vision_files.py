"""Small image files in every mode and container, and what Pillow makes of them, for driftless::vision::Image.

Writes tests/fixtures/vision/files/* and tests/fixtures/vision/files.json: per file Pillow's mode and size, and FNV-1a 64 hashes of
`convert("RGB")`, of `resize(...).convert("RGB")` (the paper's recipe) for some sizes, and of the upright image
(`ImageOps.exif_transpose`). PNG kinds that Pillow cannot write are written here, chunk by chunk.

Run: python tests/reference/vision_files.py
"""

import io
import json
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps, features

from jpeg_stored import jpeg
from vision import FOLDER, fnv, mix, image

FILES = FOLDER / "files"
TARGETS = [(16, 16), (9, 31), (64, 40)]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(size, depth, color, rows, extra=b"", interlace=0):
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, interlace)
    data = b"".join(b"\0" + row for row in rows)
    end = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + end


def pack(indices, bits):
    """Rows of narrow samples, most significant bits first."""
    return [np.packbits([value >> bit & 1 for value in row for bit in reversed(range(bits))]).tobytes() for row in indices]


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def files():
    width, height = 23, 17
    color = image("photo", width, height, 7)
    rgb = Image.fromarray(color)
    gray = Image.fromarray(np.ascontiguousarray(color[..., 1]))
    ramp = image("gradient", width, height, 9)[..., 2].astype(np.int32)
    alpha = Image.fromarray(np.clip(ramp * 4 - 100, 0, 255).astype(np.uint8))  # from 0 to 255, with some of both
    at = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    words = (mix(at, 5) >> 16).astype(np.uint16)
    words[: height // 2] //= 300  # around and below 255, where the clipping starts
    indices = (mix(at, 6) >> 24).astype(np.uint8)
    colors = (mix(np.arange(768, dtype=np.uint32), 8) >> 24).astype(np.uint8).tobytes()
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    la = Image.merge("LA", (gray, alpha))
    palette = rgb.quantize(16)
    size = (width, height)

    # PNG
    yield "1.png", saved(gray.convert("1"), "PNG")
    yield "l.png", saved(gray, "PNG")
    yield "l2.png", png(size, 2, 0, pack(indices & 3, 2))
    yield "l4.png", png(size, 4, 0, pack(indices & 15, 4))
    yield "l-transparent.png", png(size, 8, 0, [row.tobytes() for row in color[..., 0]], chunk(b"tRNS", b"\0\x40"))
    yield "la.png", saved(la, "PNG")
    yield "la16.png", png(size, 16, 4, [np.stack([row, row[::-1]], -1).astype(">u2").tobytes() for row in words])
    yield "i16.png", png(size, 16, 0, [row.astype(">u2").tobytes() for row in words])
    yield "rgb.png", saved(rgb, "PNG")
    yield "rgb-transparent.png", png(size, 8, 2, [row.tobytes() for row in color], chunk(b"tRNS", b"\0\x40\0\x40\0\x40"))
    yield "rgb16.png", png(size, 16, 2, [(row.astype(">u2") * 257 + 100).tobytes() for row in color // 2])
    yield "rgba.png", saved(rgba, "PNG")
    yield "rgba16.png", png(size, 16, 6, [(row.astype(">u2") * 256 + 77).tobytes() for row in np.asarray(rgba)])
    yield "p.png", saved(palette, "PNG")
    yield "p-transparent.png", saved(palette, "PNG", transparency=bytes([0, 80, 255]))
    for bits in (1, 2, 4, 8):
        plte = chunk(b"PLTE", colors[: 3 << bits])
        yield f"p{bits}.png", png(size, bits, 3, pack(indices & (1 << bits) - 1, bits), plte)
    yield "p-short.png", png(size, 8, 3, [row.tobytes() for row in indices], chunk(b"PLTE", colors[:30]))
    # Interlaced: seven passes of an image of one sample per pass position.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [row.tobytes() for x, y, dx, dy in passes for row in color[y::dy, x::dx] if row.size]
    yield "rgb-interlaced.png", png(size, 8, 2, rows, interlace=1)
    yield "animated.png", saved(rgb, "PNG", save_all=True, append_images=[ImageOps.flip(rgb)])
    exif = Image.Exif()
    exif[0x112] = 6
    yield "rgb-rotated.png", saved(rgb, "PNG", exif=exif)

    # JPEG
    large = Image.fromarray(image("photo", 93, 70, 3))
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"{name}.jpg", saved(large, "JPEG", quality=85, subsampling=sampling)
        yield f"{name}-progressive.jpg", saved(large, "JPEG", quality=60, subsampling=sampling, progressive=True)
    yield "odd.jpg", saved(Image.fromarray(image("shapes", 37, 5, 3)), "JPEG", quality=40)
    yield "one.jpg", saved(large.crop((5, 5, 6, 6)), "JPEG")
    yield "restarts.jpg", saved(large, "JPEG", quality=75, restart_marker_blocks=2)
    yield "optimized.jpg", saved(large, "JPEG", quality=97, optimize=True)
    yield "l.jpg", saved(large.convert("L"), "JPEG", quality=70)
    yield "cmyk.jpg", saved(rgba.convert("RGB").convert("CMYK"), "JPEG", quality=90)
    # Four channels, some of them smaller than others: Pillow writes those with a large first one, `jpeg_stored` all others.
    ink = large.convert("CMYK")
    yield "cmyk-420.jpg", saved(ink, "JPEG", quality=80, subsampling=2)
    yield "cmyk-422-progressive.jpg", saved(ink.crop((3, 2, 44, 35)), "JPEG", quality=80, subsampling=1, progressive=True)
    full, half = {"420": (2, 2), "422": (2, 1), "440": (1, 2), "411": (4, 1)}, (1, 1)
    for name, first in full.items():
        samplings = [first, half, half, first]
        yield f"ycck-{name}.jpg", jpeg((37, 29), samplings, transform=2, seed=1)
        yield f"ycck-{name}-progressive.jpg", jpeg((26, 19), samplings, transform=2, progressive=True, seed=2)
    yield "ycck-420-narrow.jpg", jpeg((3, 5), [(2, 2), half, half, (2, 2)], transform=2, seed=3)
    yield "cmyk-440.jpg", jpeg((21, 18), [(1, 2), half, half, half], seed=4)
    yield "cmyk-mixed.jpg", jpeg((33, 23), [half, (2, 2), (1, 2), (2, 1)], transform=0, seed=5)
    yield "cmyk-one.jpg", jpeg((1, 1), [half, half, half, (2, 2)], transform=0, seed=6)
    yield "rgb.jpg", saved(large.crop((0, 0, 40, 30)), "JPEG", quality=80, keep_rgb=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        yield f"rotated{orientation}.jpg", saved(rgb, "JPEG", exif=exif, quality=50)

    # WebP
    yield "lossless.webp", saved(rgb, "WEBP", lossless=True)
    yield "lossless-alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", saved(large, "WEBP", quality=60)
    yield "lossy-odd.webp", saved(rgb, "WEBP", quality=90)
    yield "lossy-alpha.webp", saved(rgba, "WEBP", quality=50)
    yield "animated.webp", saved(rgb, "WEBP", save_all=True, append_images=[ImageOps.flip(rgb)], lossless=True)
    yield "rotated.webp", saved(rgb, "WEBP", lossless=True, exif=exif)

    # BMP
    yield "1.bmp", saved(gray.convert("1"), "BMP")
    yield "l.bmp", saved(gray, "BMP")
    yield "p.bmp", saved(palette, "BMP")
    yield "rgb.bmp", saved(rgb, "BMP")
    yield "rgba.bmp", saved(rgba, "BMP")
    info = lambda bits, compression, length: struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, length, 0, 0, 0, 0)
    def bmp(header, data):
        return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data
    short = [np.pad(row, (0, width % 2)).astype("<u2").tobytes() for row in words[::-1]]
    yield "rgb555.bmp", bmp(info(16, 0, 0), b"".join(short))
    yield "rgb565.bmp", bmp(info(16, 3, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F), b"".join(short))
    yield "rgbx32.bmp", bmp(info(32, 0, 0), np.asarray(rgba)[::-1].tobytes())
    table = b"".join(colors[3 * i : 3 * i + 3] + b"\0" for i in range(16))
    yield "p4.bmp", bmp(
        struct.pack("<IiiHHIIiiII", 40, *size, 1, 4, 0, 0, 0, 0, 16, 0) + table,
        b"".join(row.ljust(12, b"\0") for row in pack((indices & 15)[::-1], 4)),
    )
    runs = b"".join(b"".join(bytes([2 if x < width - 1 else 1, value & 15]) for x, value in zip(range(0, width, 2), row[::2])) + b"\0\0" for row in indices)
    yield "rle8.bmp", bmp(struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, len(runs), 0, 0, 16, 0) + table, runs + b"\0\1")
    top_down = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "top-down.bmp", bmp(top_down, b"".join(np.pad(row.reshape(-1), (0, -3 * width % 4)).tobytes() for row in color))

    # GIF
    yield "p.gif", saved(palette, "GIF")
    yield "l.gif", saved(gray, "GIF")
    yield "transparent.gif", saved(palette, "GIF", transparency=3)
    yield "animated.gif", saved(palette, "GIF", save_all=True, append_images=[ImageOps.flip(palette)])
    interlaced = saved(palette, "GIF", interlace=1)
    yield "interlaced.gif", interlaced
    # A frame of 23 x 17 at (5, 3) of a 40 x 30 screen, without and with a transparent index.
    for name, flags in (("offset.gif", 0), ("offset-transparent.gif", 1)):
        plain = saved(palette, "GIF", optimize=False)
        start = plain.index(b",\0\0\0\0" + struct.pack("<HH", *size))
        head = bytearray(plain[:start])
        head[6:10] = struct.pack("<HH", 40, 30)
        if b"!\xf9" in head:
            head = head[: head.index(b"!\xf9")]
        control = b"!\xf9\4" + bytes([flags, 0, 0, 2]) + b"\0"
        yield name, bytes(head) + control + b"," + struct.pack("<HH", 5, 3) + plain[start + 5 :]

    # TIFF
    yield "1.tif", saved(gray.convert("1"), "TIFF")
    yield "l.tif", saved(gray, "TIFF", compression="tiff_lzw")
    yield "la.tif", saved(la, "TIFF")
    yield "i16.tif", saved(Image.fromarray(words), "TIFF", compression="tiff_adobe_deflate")
    yield "rgb.tif", saved(rgb, "TIFF")
    yield "rgb-packbits.tif", saved(rgb, "TIFF", compression="packbits")
    yield "rgba.tif", saved(rgba, "TIFF", compression="tiff_lzw")
    yield "cmyk.tif", saved(rgb.convert("CMYK"), "TIFF")
    yield "rotated.tif", saved(rgb, "TIFF", tiffinfo={274: 6})
    yield "p.tif", saved(palette, "TIFF")


def describe(name):
    image = Image.open(FILES / name)
    entry = {"file": name, "stored_size": image.size}
    image.load()
    entry |= {"mode": image.mode, "size": image.size, "rgb": fnv(image.convert("RGB").tobytes())}
    entry["resized"] = [{"to": to, "hash": fnv(image.resize(to).convert("RGB").tobytes())} for to in TARGETS]
    upright = ImageOps.exif_transpose(image)
    entry["upright"] = {"size": upright.size, "rgb": fnv(upright.convert("RGB").tobytes())}
    return entry


def main():
    FILES.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, data in files():
        (FILES / name).write_bytes(data)
        entries.append(describe(name))
    head = {
        "made_by": "tests/reference/vision_files.py",
        "versions": {"pillow": PIL.__version__} | {name: features.version(name) for name in ("libjpeg_turbo", "webp", "libtiff")},
    }
    rows = ",\n".join("  " + json.dumps(entry) for entry in entries)
    text = json.dumps(head, indent=1)[:-2] + f',\n "files": [\n{rows}\n ]\n}}\n'
    (FOLDER / "files.json").write_text(text)
    print(len(entries), "files,", sum(path.stat().st_size for path in FILES.iterdir()), "bytes")


if __name__ == "__main__":
    main()
