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
    metadata_is_there(chunks(bytes.get(RIFF_HEADER..).unwrap_or_default()))?;
    WebPDecoder::new(Cursor::new(bytes)).map_err(image_problem)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    whole(bytes)?;
    let size = dimensions(bytes)?;
    frames_fit(bytes, size)?;
    let mut decoder = open(bytes)?;
    let mode = match decoder.color_type() {
        ColorType::Rgba8 => Mode::Rgba,
        ColorType::Rgb8 => Mode::Rgb,
        other => return Err(ImageCause::Unsupported(ImageFault::ColorType { container: "WebP", found: format!("{other:?}") })),
    };
    let orientation = decoder.orientation().map_err(image_problem)?;
    Ok(Decoded { orientation, ..Decoded::bytes(size, mode, read_all(decoder)?) })
}

/// Bytes before the first chunk.
const RIFF_HEADER: usize = 12;

/// A piece of the file.
struct Chunk<'a> {
    name: &'a [u8],
    /// Bytes that its header gives it.
    length: usize,
    /// Those that are there.
    content: &'a [u8],
}

/// The chunks one behind the other, up to one that is not whole.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (header, content) = rest.split_at_checked(8)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        // Chunks begin at even places.
        rest = content.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some(Chunk { name: &header[..4], length, content: &content[..length.min(content.len())] })
    })
}

/// Refuses files with metadata beyond their end: the library allocates what a chunk's header says, gigabytes, before it reads.
fn metadata_is_there<'a>(mut chunks: impl Iterator<Item = Chunk<'a>>) -> Result<(), ImageCause> {
    match chunks.find(|chunk| chunk.length > chunk.content.len()) {
        Some(chunk) if matches!(chunk.name, b"EXIF" | b"ICCP" | b"XMP ") => Err(ImageCause::Damaged(ImageFault::CutOff)),
        Some(_) | None => Ok(()),
    }
}

/// Refuses frames that are larger than the image: the library allocates them, up to 400 MB, before it compares.
fn frames_fit(bytes: &[u8], canvas: (usize, usize)) -> Result<(), ImageCause> {
    const FRAME_HEADER: usize = 16;
    let frame = |chunk: &Chunk| match (chunk.name, chunk.content) {
        // RFC 6386, 9.1: a frame tag, a start code, then sizes whose upper two bits say how to scale.
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..]) => {
            let side = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Some((side(*a, *b), side(*c, *d)))
        }
        // RFC 9649, 3.4: a signature, then 14 bits for each size less one.
        (b"VP8L", [0x2f, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    };
    for chunk in chunks(bytes.get(RIFF_HEADER..).unwrap_or_default()) {
        let of_animation = if chunk.name == b"ANMF" { chunk.content.get(FRAME_HEADER..) } else { None };
        let inner = chunks(of_animation.unwrap_or_default()).find_map(|chunk| frame(&chunk));
        if let Some((width, height)) = frame(&chunk).or(inner).filter(|size| size.0 > canvas.0 || size.1 > canvas.1) {
            return Err(ImageCause::Damaged(ImageFault::FrameBeyondCanvas { width, height }));
        }
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
