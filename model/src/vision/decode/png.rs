//! PNG in the modes of Pillow's `PngImagePlugin._MODES`. Of an animation the image that viewers without animation show.

use super::{Decoded, Samples, bits, checked_size, high_bytes, look_up};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use image::metadata::Orientation;
use png::{BitDepth, ColorType, DecodingError, Limits, Reader, Transformations};
use std::io::Cursor;

/// For what is not pixels: palettes, profiles, Exif.
const MAX_METADATA: usize = 64 << 20;

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_METADATA });
    let info = decoder.read_header_info().map_err(problem)?;
    checked_size(info.width, info.height)
}

/// Exif may stand behind the pixels, so the chunks are walked over, not decoded. A chunk whose checksum is wrong says nothing.
pub(super) fn orientation(bytes: &[u8]) -> Option<Orientation> {
    let mut rest = bytes.get(8..)?;
    while let Some((head, after)) = rest.split_at_checked(8) {
        let (length, name) = head.split_at(4);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let (data, after) = after.split_at_checked(length)?;
        // A checksum of four bytes, of name and data, ends every chunk.
        let (checksum, after) = after.split_at_checked(4)?;
        if name == b"eXIf" {
            let mut found = crc32fast::Hasher::new();
            found.update(name);
            found.update(data);
            let is_whole = found.finalize().to_be_bytes() == checksum;
            return Orientation::from_exif_chunk(data).filter(|_| is_whole);
        }
        rest = after;
    }
    None
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    let mut reader = open(bytes)?;
    let info = reader.info();
    let (width, height) = checked_size(info.width, info.height)?;
    let (color, depth) = (info.color_type, info.bit_depth);
    let palette = info.palette.as_ref().map(|palette| palette.to_vec());
    let length = reader.output_buffer_size().ok_or_else(|| ImageCause::TooLarge(ImageFault::Size { width, height }))?;
    let mut data = vec![0; length];
    reader.next_frame(&mut data).map_err(problem)?;
    let (mode, samples) = interpret(color, depth, data, width, height, palette.as_deref())?;
    // As the header tells it, so that what is planned for an image fits it.
    let orientation = orientation(bytes).unwrap_or(Orientation::NoTransforms);
    Ok(Decoded { width, height, mode, samples, orientation, oriented_on_load: false })
}

fn open(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>, ImageCause> {
    dimensions(bytes)?;
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_METADATA });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.read_info().map_err(problem)
}

fn interpret(
    color: ColorType,
    depth: BitDepth,
    data: Vec<u8>,
    width: usize,
    height: usize,
    palette: Option<&[u8]>,
) -> Result<(Mode, Samples), ImageCause> {
    let narrow =
        |data: &[u8]| bits::unpack(data, width, height, depth as usize).ok_or_else(|| ImageCause::Damaged(ImageFault::ShortRows));
    let words = |data: &[u8]| data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>();
    let bytes = |mode, data| Ok((mode, Samples::Bytes(data)));
    match (color, depth) {
        (ColorType::Indexed, _) => {
            let palette = palette.ok_or_else(|| ImageCause::Damaged(ImageFault::NoPalette))?;
            bytes(Mode::Palette, look_up(&narrow(&data)?, palette))
        }
        (ColorType::Grayscale, BitDepth::Sixteen) => Ok((Mode::Gray16, Samples::Words(words(&data)))),
        (ColorType::Grayscale, _) => {
            let mut samples = narrow(&data)?;
            bits::spread(&mut samples, depth as usize);
            bytes(if depth == BitDepth::One { Mode::Bilevel } else { Mode::Gray }, samples)
        }
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
            // Pillow has no 16-bit form of it and makes it color.
            let samples = high_bytes(&words(&data));
            bytes(Mode::Rgba, samples.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect())
        }
        (ColorType::Rgb, BitDepth::Sixteen) => bytes(Mode::Rgb, high_bytes(&words(&data))),
        (ColorType::Rgba, BitDepth::Sixteen) => bytes(Mode::Rgba, high_bytes(&words(&data))),
        (ColorType::GrayscaleAlpha, _) => bytes(Mode::GrayAlpha, data),
        (ColorType::Rgb, _) => bytes(Mode::Rgb, data),
        (ColorType::Rgba, _) => bytes(Mode::Rgba, data),
    }
}

fn problem(error: DecodingError) -> ImageCause {
    match error {
        DecodingError::LimitsExceeded => ImageCause::TooLarge(ImageFault::library(error)),
        _ => ImageCause::Damaged(ImageFault::library(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8], checksum: u32) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, &name[..], data, &checksum.to_be_bytes()].concat()
    }

    fn checksum(name: &[u8], data: &[u8]) -> u32 {
        crc32fast::hash(&[name, data].concat())
    }

    // Found by a fuzzer: the header believed an eXIf chunk that the decoder had passed over for its checksum.
    #[test]
    fn header_and_pixels_agree_about_exif() {
        let mut file = Vec::new();
        let mut writer = png::Encoder::new(&mut file, 3, 2);
        writer.set_color(ColorType::Rgb);
        writer.write_header().unwrap().write_image_data(&[7; 18]).unwrap();
        // Orientation 6: turned by 90 degrees.
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let right = checksum(b"eXIf", exif);
        for (sum, expected) in [(right, Some(Orientation::Rotate90)), (right ^ 1, None)] {
            // Behind the header, and behind the pixels.
            for place in [33, file.len() - 12] {
                let bytes = [&file[..place], &chunk(b"eXIf", exif, sum), &file[place..]].concat();
                assert_eq!(orientation(&bytes), expected, "{place}");
                let decoded = decode(&bytes).unwrap();
                assert_eq!(decoded.orientation, expected.unwrap_or(Orientation::NoTransforms), "{place}");
            }
        }
    }
}
