//! BMP. The `image` crate decodes the pixels; the header tells which of Pillow's modes they are.

use super::{Decoded, Problem, checked_size, image_problem, read_all};
use crate::vision::picture::Mode;
use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};
use std::io::Cursor;

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), Problem> {
    let (width, height) = BmpDecoder::new(Cursor::new(bytes)).map_err(image_problem)?.dimensions();
    checked_size(width, height)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Problem> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(image_problem)?;
    let size = dimensions(bytes)?;
    let colour = decoder.color_type();
    let indexed = indexed_mode(bytes, decoder.get_palette());
    let samples = read_all(decoder)?;
    Ok(match (colour, indexed) {
        (ColorType::Rgb8, Some(mode @ (Mode::Bilevel | Mode::Grey))) => {
            Decoded::bytes(size, mode, samples.chunks_exact(3).map(|pixel| pixel[0]).collect())
        }
        (ColorType::Rgb8, indexed) => Decoded::bytes(size, indexed.unwrap_or(Mode::Rgb), samples),
        (ColorType::Rgba8, _) => Decoded::bytes(size, Mode::Rgba, samples),
        (other, _) => return Err(Problem::Unsupported(format!("BMP of type {other:?}"))),
    })
}

/// The mode of a file with a palette: grey when entry i is grey level i (or black and white), a palette otherwise.
fn indexed_mode(bytes: &[u8], palette: Option<&[[u8; 3]]>) -> Option<Mode> {
    let palette = palette?;
    let stated = stated_colours(bytes)?;
    let shown = &palette[..palette.len().min(stated)];
    let level = |index: usize| if stated == 2 { index * 255 } else { index };
    let grey = shown.iter().enumerate().all(|(index, colour)| colour.iter().all(|&value| usize::from(value) == level(index)));
    Some(match grey {
        true if stated == 2 => Mode::Bilevel,
        true => Mode::Grey,
        false => Mode::Palette,
    })
}

/// The palette's length by the header: a field of the long headers, else what the bit depth can tell apart.
fn stated_colours(bytes: &[u8]) -> Option<usize> {
    let field = |at: usize, length: usize| {
        let raw = bytes.get(at..at + length)?;
        Some(raw.iter().rev().fold(0usize, |value, &byte| value << 8 | usize::from(byte)))
    };
    let header = field(14, 4)?;
    let (bits, colours) = if header == 12 { (field(24, 2)?, 0) } else { (field(28, 2)?, field(46, 4)?) };
    if colours != 0 { Some(colours) } else { (bits <= 8).then(|| 1 << bits) }
}
