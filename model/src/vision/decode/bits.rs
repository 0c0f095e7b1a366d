//! Samples narrower than a byte.

/// Unpacks rows of 1, 2, 4 or 8-bit samples, most significant bits first, each row starting on a byte.
///
/// `None` when `packed` is too short for `height` rows of `width` samples.
pub(super) fn unpack(packed: &[u8], width: usize, height: usize, bits: usize) -> Option<Vec<u8>> {
    let stride = (width * bits).div_ceil(8);
    let mask = (0xffu16 >> (8 - bits)) as u8;
    let mut samples = Vec::with_capacity(width * height);
    for row in packed.get(..stride * height)?.chunks_exact(stride) {
        samples.extend((0..width).map(|column| {
            let bit = column * bits;
            row[bit / 8] >> (8 - bits - bit % 8) & mask
        }));
    }
    Some(samples)
}

/// Spreads samples of `bits` bits over 0..=255.
pub(super) fn spread(samples: &mut [u8], bits: usize) {
    let factor = (255 / ((1u16 << bits) - 1)) as u8;
    for sample in samples {
        *sample *= factor;
    }
}
