"""JPEG files block by block, for what no writer at hand can write: any number of channels, any sampling factors, baseline or progressive.

The coefficients are made up (a slow drift of brightness and some texture), since only the way back from them is of interest.
"""

import struct

import numpy as np

DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]


class Bits:
    def __init__(self):
        self.value, self.count, self.bytes = 0, 0, bytearray()

    def put(self, value, count):
        self.value, self.count = self.value << count | value, self.count + count
        while self.count >= 8:
            byte = self.value >> self.count - 8 & 255
            self.bytes += bytes([byte, 0] if byte == 255 else [byte])
            self.count -= 8
        self.value &= (1 << self.count) - 1

    def flushed(self):
        if self.count:
            self.put((1 << 8 - self.count) - 1, 8 - self.count)
        return bytes(self.bytes)


def amplitude(bits, value):
    size = int(abs(value)).bit_length()
    bits.put(value if value > 0 else value + (1 << size) - 1, size)


def segment(marker, data):
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data


def scan(channels, first, last, data):
    selected = b"".join(bytes([channel + 1, 0]) for channel in channels)
    return segment(0xDA, bytes([len(channels)]) + selected + bytes([first, last, 0])) + data


def coefficients(rng, rows, columns):
    """Quantized coefficients in zigzag order, `[rows, columns, 64]`."""
    blocks = np.zeros((rows, columns, 64), dtype=int)
    blocks[..., 0] = rng.integers(-40, 40, (rows, columns))
    for k in (1, 2, 3, 5, 9, 20, 45):
        blocks[..., k] = rng.integers(-14, 15, (rows, columns)) * (rng.random((rows, columns)) < 0.6) // (1 + k // 9)
    return blocks


def put_dc(bits, value, before):
    bits.put(int(abs(value - before)).bit_length(), 4)
    amplitude(bits, int(value - before))
    return value


def put_ac(bits, block):
    run = 0
    for value in block[1:]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.put(AC_SYMBOLS.index(0xF0), 8)
            run -= 16
        bits.put(AC_SYMBOLS.index(run << 4 | int(abs(value)).bit_length()), 8)
        amplitude(bits, int(value))
        run = 0
    if run:
        bits.put(AC_SYMBOLS.index(0x00), 8)


def jpeg(size, samplings, transform=None, progressive=False, seed=1):
    """A file of `size` whose channels have these (horizontal, vertical) sampling factors; `transform` is Adobe's."""
    rng = np.random.default_rng(seed)
    width, height = size
    most = [max(sampling[axis] for sampling in samplings) for axis in (0, 1)]
    across, down = -(-width // (8 * most[0])), -(-height // (8 * most[1]))
    planes = [coefficients(rng, down * v, across * h) for h, v in samplings]
    before = [0] * len(planes)

    def blocks_of(row, column):
        for channel, (h, v) in enumerate(samplings):
            for y in range(v):
                for x in range(h):
                    yield channel, planes[channel][row * v + y, column * h + x]

    def interleaved(with_ac):
        bits = Bits()
        for row in range(down):
            for column in range(across):
                for channel, block in blocks_of(row, column):
                    before[channel] = put_dc(bits, block[0], before[channel])
                    if with_ac:
                        put_ac(bits, block)
        return bits.flushed()

    def alone(channel):
        """Only blocks that hold pixels are in a scan of one channel."""
        h, v = samplings[channel]
        columns = -(-(-(-width * h // most[0])) // 8)
        rows = -(-(-(-height * v // most[1])) // 8)
        bits = Bits()
        for block in planes[channel][:rows, :columns].reshape(-1, 64):
            put_ac(bits, block)
        return bits.flushed()

    adobe = b"" if transform is None else segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))
    steps = bytes(min(255, 6 + 2 * k) for k in range(64))
    frame = struct.pack(">BHHB", 8, height, width, len(samplings))
    frame += b"".join(bytes([channel + 1, h << 4 | v, 0]) for channel, (h, v) in enumerate(samplings))
    # Codes of one length each: 4 bits for DC, 8 for AC.
    dc = bytes([0x00] + [0, 0, 0, len(DC_SYMBOLS)] + [0] * 12 + DC_SYMBOLS)
    ac = bytes([0x10] + [0] * 7 + [len(AC_SYMBOLS)] + [0] * 8 + AC_SYMBOLS)
    head = b"\xff\xd8" + adobe + segment(0xDB, b"\0" + steps) + segment(0xC2 if progressive else 0xC0, frame)
    head += segment(0xC4, dc) + segment(0xC4, ac)
    everything = range(len(samplings))
    if progressive:
        data = scan(everything, 0, 0, interleaved(False)) + b"".join(scan([one], 1, 63, alone(one)) for one in everything)
    else:
        data = scan(everything, 0, 63, interleaved(True))
    return head + data + b"\xff\xd9"
