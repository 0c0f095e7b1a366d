//! BMP. The `image` crate decodes the pixels; the header tells which of Pillow's modes they are.

use super::{Decoded, checked_size, image_problem, read_all};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};
use std::io::Cursor;

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let (width, height) = BmpDecoder::new(Cursor::new(bytes)).map_err(image_problem)?.dimensions();
    checked_size(width, height)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(image_problem)?;
    let size = dimensions(bytes)?;
    let color = decoder.color_type();
    let indexed = indexed_mode(bytes, decoder.get_palette());
    let mut samples = read_all(decoder)?;
    if let Some(bits) = narrow_channels(bytes) {
        let channels = usize::from(color.channel_count());
        samples.chunks_exact_mut(channels).for_each(|pixel| truncate(pixel, bits));
        // A bit of alpha in a 16-bit file is ignored.
        let pixels = samples.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        return Ok(Decoded::bytes(size, Mode::Rgb, pixels));
    }
    Ok(match (color, indexed) {
        (ColorType::Rgb8, Some(mode @ (Mode::Bilevel | Mode::Gray))) => {
            Decoded::bytes(size, mode, samples.chunks_exact(3).map(|pixel| pixel[0]).collect())
        }
        (ColorType::Rgb8, indexed) => Decoded::bytes(size, indexed.unwrap_or(Mode::Rgb), samples),
        (ColorType::Rgba8, _) => Decoded::bytes(size, Mode::Rgba, samples),
        (other, _) => {
            return Err(ImageCause::Unsupported(ImageFault::ColorType { container: "BMP", found: format!("{other:?}") }));
        }
    })
}

/// The mode of a file with a palette: gray when entry i is gray level i (or black and white), a palette otherwise.
fn indexed_mode(bytes: &[u8], palette: Option<&[[u8; 3]]>) -> Option<Mode> {
    let palette = palette?;
    let stated = stated_colors(bytes)?;
    let shown = &palette[..palette.len().min(stated)];
    let level = |index: usize| if stated == 2 { index * 255 } else { index };
    let gray = shown.iter().enumerate().all(|(index, color)| color.iter().all(|&value| usize::from(value) == level(index)));
    Some(match gray {
        true if stated == 2 => Mode::Bilevel,
        true => Mode::Gray,
        false => Mode::Palette,
    })
}

/// The bits of red, green and blue in a 16-bit file of one of the two layouts that Pillow reads.
fn narrow_channels(bytes: &[u8]) -> Option<[u32; 3]> {
    const BITFIELDS: usize = 3;
    let long = field(bytes, 14, 4)? >= 40;
    if !long || field(bytes, 28, 2)? != 16 {
        return None;
    }
    match field(bytes, 30, 4)? {
        BITFIELDS => match [54, 58, 62].map(|at| field(bytes, at, 4)) {
            [Some(0xf800), Some(0x07e0), Some(0x001f)] => Some([5, 6, 5]),
            [Some(0x7c00), Some(0x03e0), Some(0x001f)] => Some([5, 5, 5]),
            _ => None,
        },
        _ => Some([5, 5, 5]),
    }
}

/// Pillow spreads 5 and 6 bits over a byte rounding down, the library rounds to nearest.
fn truncate(pixel: &mut [u8], bits: [u32; 3]) {
    for (value, bits) in pixel.iter_mut().zip(bits) {
        let top = (1u32 << bits) - 1;
        let narrow = (u32::from(*value) * top + 127) / 255;
        *value = (narrow * 255 / top) as u8;
    }
}

/// A little-endian number.
fn field(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

/// The palette's length by the header: a field of the long headers, else what the bit depth can tell apart.
fn stated_colors(bytes: &[u8]) -> Option<usize> {
    let short = field(bytes, 14, 4)? == 12;
    let (bits, colors) = if short { (field(bytes, 24, 2)?, 0) } else { (field(bytes, 28, 2)?, field(bytes, 46, 4)?) };
    if colors != 0 { Some(colors) } else { (bits <= 8).then(|| 1 << bits) }
}
