//! WebP: RGBA when the file has an alpha channel, RGB otherwise; of an animation the first frame.

use super::{Decoded, checked_size, image_problem, read_all};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder};
use std::io::Cursor;

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let (width, height) = open(bytes)?.dimensions();
    checked_size(width, height)
}

pub(super) fn orientation(bytes: &[u8]) -> Result<Option<Orientation>, ImageCause> {
    open(bytes)?.orientation().map(Some).map_err(image_problem)
}

fn open(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, ImageCause> {
    metadata_is_there(bytes)?;
    WebPDecoder::new(Cursor::new(bytes)).map_err(image_problem)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    whole(bytes)?;
    let size = dimensions(bytes)?;
    let mut decoder = open(bytes)?;
    let mode = match decoder.color_type() {
        ColorType::Rgba8 => Mode::Rgba,
        ColorType::Rgb8 => Mode::Rgb,
        other => return Err(ImageCause::Unsupported(ImageFault::ColorType { container: "WebP", found: format!("{other:?}") })),
    };
    let orientation = decoder.orientation().map_err(image_problem)?;
    Ok(Decoded { orientation, ..Decoded::bytes(size, mode, read_all(decoder)?) })
}

/// Refuses files with metadata beyond their end: the library allocates what a chunk's header says, gigabytes, before it reads.
fn metadata_is_there(bytes: &[u8]) -> Result<(), ImageCause> {
    const RIFF_HEADER: usize = 12;
    let mut rest = bytes.get(RIFF_HEADER..).unwrap_or_default();
    while let Some((header, content)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > content.len() {
            let metadata = matches!(&header[..4], b"EXIF" | b"ICCP" | b"XMP ");
            return if metadata { Err(ImageCause::Damaged(ImageFault::CutOff)) } else { Ok(()) };
        }
        // Chunks begin at even places.
        rest = content.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

/// Refuses files that are shorter than they say. The library would make up the rest.
fn whole(bytes: &[u8]) -> Result<(), ImageCause> {
    const RIFF_HEADER: u64 = 8;
    match bytes.get(4..8) {
        Some(&[a, b, c, d]) if u64::from(u32::from_le_bytes([a, b, c, d])) + RIFF_HEADER <= bytes.len() as u64 => Ok(()),
        _ => Err(ImageCause::Damaged(ImageFault::CutOff)),
    }
}
