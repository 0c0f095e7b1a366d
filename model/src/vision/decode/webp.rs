//! WebP: RGBA when the file has an alpha channel, RGB otherwise; of an animation the first frame.

use super::{Decoded, checked_size, image_problem, read_all};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder};
use std::io::Cursor;

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let (width, height) = WebPDecoder::new(Cursor::new(bytes)).map_err(image_problem)?.dimensions();
    checked_size(width, height)
}

pub(super) fn orientation(bytes: &[u8]) -> Result<Option<Orientation>, ImageCause> {
    WebPDecoder::new(Cursor::new(bytes)).and_then(|mut decoder| decoder.orientation()).map(Some).map_err(image_problem)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    whole(bytes)?;
    let size = dimensions(bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(image_problem)?;
    let mode = match decoder.color_type() {
        ColorType::Rgba8 => Mode::Rgba,
        ColorType::Rgb8 => Mode::Rgb,
        other => return Err(ImageCause::Unsupported(ImageFault::ColorType { container: "WebP", found: format!("{other:?}") })),
    };
    let orientation = decoder.orientation().map_err(image_problem)?;
    Ok(Decoded { orientation, ..Decoded::bytes(size, mode, read_all(decoder)?) })
}

/// Refuses files that are shorter than they say. The library would make up the rest.
fn whole(bytes: &[u8]) -> Result<(), ImageCause> {
    const RIFF_HEADER: u64 = 8;
    match bytes.get(4..8) {
        Some(&[a, b, c, d]) if u64::from(u32::from_le_bytes([a, b, c, d])) + RIFF_HEADER <= bytes.len() as u64 => Ok(()),
        _ => Err(ImageCause::Damaged(ImageFault::CutOff)),
    }
}
