//! TIFF: the first page, gray (1, 2, 4, 8 and 16 bits), RGB, RGBA and CMYK (8 and 16 bits). Palettes, YCbCr, floating point and
//! other color spaces are refused. Pillow turns TIFF files upright when it loads them, unlike all other kinds.

use super::{Decoded, Samples, bits, checked_size, high_bytes};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use crate::vision::orient;
use image::metadata::Orientation;
use std::io::Cursor;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

fn open(bytes: &[u8]) -> Result<(Reader<'_>, (usize, usize)), ImageCause> {
    directory_is_there(bytes)?;
    let mut limits = Limits::default();
    // No compression here makes more of a byte: fax codes a row of 65,536 white pixels in some bits.
    let most = (super::MAX_PIXELS as usize * 8).min(bytes.len().saturating_mul(1 << 16));
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(problem)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(problem)?;
    let size = checked_size(width, height)?;
    Ok((decoder, size))
}

/// Refuses files whose first directory names texts that are longer than the file: the library allocates what an entry says, and tells
/// standard error where that is more than its limit.
fn directory_is_there(bytes: &[u8]) -> Result<(), ImageCause> {
    const TEXT: u64 = 2;
    let little = bytes.first() == Some(&b'I');
    let number = |at: usize, length: usize| -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(length)?)?.iter();
        let add = |sum: u64, digit: &u8| sum << 8 | u64::from(*digit);
        Some(if little { digits.rev().fold(0, add) } else { digits.fold(0, add) })
    };
    // Places and counts have four bytes, in BigTIFF eight.
    let big = number(2, 2) == Some(43);
    let (place, counted, width, entry) = if big { (8, 8, 8, 20) } else { (4, 2, 4, 12) };
    let Some(start) = number(place, width).and_then(|start| usize::try_from(start).ok()) else { return Ok(()) };
    let entries = number(start, counted).unwrap_or(0).min(bytes.len() as u64 / entry as u64) as usize;
    let too_long = (0..entries).any(|index| {
        let at = start.saturating_add(counted + index * entry);
        number(at.saturating_add(2), 2) == Some(TEXT) && number(at.saturating_add(4), width) > Some(bytes.len() as u64)
    });
    if too_long { Err(ImageCause::Damaged(ImageFault::CutOff)) } else { Ok(()) }
}

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let (mut decoder, size) = open(bytes)?;
    Ok(orient::size(size, orientation(&mut decoder)?))
}

fn orientation(decoder: &mut Reader) -> Result<Orientation, ImageCause> {
    let value = decoder.find_tag_unsigned::<u16>(Tag::Orientation).map_err(problem)?;
    let orientation = value.and_then(|value| Orientation::from_exif(value.try_into().ok()?));
    Ok(orientation.unwrap_or(Orientation::NoTransforms))
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    let (mut decoder, (width, height)) = open(bytes)?;
    let color = decoder.colortype().map_err(problem)?;
    let orientation = orientation(&mut decoder)?;
    let white_is_zero = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(problem)? == Some(0);
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(problem)?.unwrap_or_default();

    let channels = usize::from(color.num_samples());
    let (mode, samples) = match (color, read(&mut decoder, channels)?) {
        (ColorType::Gray(depth @ (1 | 2 | 4 | 8)), Samples::Bytes(packed)) => {
            let depth = usize::from(depth);
            let mut samples = bits::unpack(&packed, width, height, depth).ok_or_else(short)?;
            bits::spread(&mut samples, depth);
            (if depth == 1 { Mode::Bilevel } else { Mode::Gray }, Samples::Bytes(samples))
        }
        (ColorType::Gray(16), Samples::Words(mut words)) => {
            if white_is_zero {
                // The library inverts these, Pillow does not.
                words.iter_mut().for_each(|word| *word = !*word);
            }
            (Mode::Gray16, Samples::Words(words))
        }
        (ColorType::RGB(8 | 16), samples) => (Mode::Rgb, Samples::Bytes(eight_bits(samples))),
        (ColorType::RGBA(8 | 16), samples) => rgba(eight_bits(samples), extra.first().copied()),
        (ColorType::CMYK(8 | 16), samples) => (Mode::Cmyk, Samples::Bytes(eight_bits(samples))),
        (ColorType::Multiband { bit_depth: 8, num_samples: 2 }, Samples::Bytes(samples)) if extra == [2] => {
            (Mode::GrayAlpha, Samples::Bytes(samples))
        }
        (other, _) => {
            return Err(ImageCause::Unsupported(ImageFault::ColorType { container: "TIFF", found: format!("{other:?}") }));
        }
    };
    Ok(Decoded { width, height, mode, samples, orientation, oriented_on_load: true })
}

/// All samples, interleaved.
fn read(decoder: &mut Reader, channels: usize) -> Result<Samples, ImageCause> {
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(problem)?;
    Ok(match result {
        DecodingResult::U8(samples) if layout.planes > 1 => Samples::Bytes(interleave(&samples, channels)),
        DecodingResult::U16(samples) if layout.planes > 1 => Samples::Words(interleave(&samples, channels)),
        DecodingResult::U8(samples) => Samples::Bytes(samples),
        DecodingResult::U16(samples) => Samples::Words(samples),
        _ => return Err(ImageCause::Unsupported(ImageFault::TiffSamples)),
    })
}

fn interleave<T: Copy>(planes: &[T], channels: usize) -> Vec<T> {
    let length = planes.len() / channels;
    (0..length).flat_map(|at| (0..channels).map(move |channel| planes[channel * length + at])).collect()
}

fn eight_bits(samples: Samples) -> Vec<u8> {
    match samples {
        Samples::Bytes(bytes) => bytes,
        Samples::Words(words) => high_bytes(&words),
    }
}

/// What a fourth sample means is said by the ExtraSamples tag: 0 nothing, 1 premultiplied alpha, else alpha.
fn rgba(mut samples: Vec<u8>, extra: Option<u16>) -> (Mode, Samples) {
    match extra {
        Some(0) => {
            let pixels = samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
            return (Mode::Rgb, Samples::Bytes(pixels));
        }
        Some(1) => {
            for pixel in samples.chunks_exact_mut(4) {
                let alpha = u16::from(pixel[3]);
                for value in &mut pixel[..3] {
                    *value = (u16::from(*value) * 255).checked_div(alpha).map_or(0, |value| value.min(255) as u8);
                }
            }
        }
        _ => {}
    }
    (Mode::Rgba, Samples::Bytes(samples))
}

fn short() -> ImageCause {
    ImageCause::Damaged(ImageFault::ShortRows)
}

fn problem(error: TiffError) -> ImageCause {
    match error {
        TiffError::UnsupportedError(_) => ImageCause::Unsupported(ImageFault::library(error)),
        TiffError::LimitsExceeded => ImageCause::TooLarge(ImageFault::library(error)),
        _ => ImageCause::Damaged(ImageFault::library(error)),
    }
}
