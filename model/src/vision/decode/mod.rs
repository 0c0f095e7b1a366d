//! From the bytes of a file to samples in the mode that Pillow gives the same file. One small file per container; the
//! decompression itself is the libraries' work, what stands here is which samples make up which mode.
//!
//! | container | library | equal to Pillow 12.3 |
//! | --- | --- | --- |
//! | JPEG | `libjpeg-turbo-rs` (scalar) | to the byte; 12 bits are refused, as by Pillow |
//! | PNG | `png` | to the byte |
//! | WebP | `image` (`image-webp`) | to the byte; first frame |
//! | BMP | `image` | to the byte |
//! | GIF | `gif` | to the byte; first frame |
//! | TIFF | `tiff` | to the byte; first page; palettes, YCbCr and group 3 fax are refused |
//!
//! Damaged files are refused more readily than by Pillow: a checksum that is cut off is enough.
//!
//! Files come from strangers: sizes are checked before anything of that size is allocated, and a library that panics over a file is taken
//! for one that refuses it (`isolation`).

mod bits;
mod bmp;
mod gif;
mod isolation;
mod jpeg;
mod jpeg_planes;
mod png;
mod tiff;
mod webp;

use super::image::Mode;
use crate::error::{ImageCause, ImageFault};
use image::ImageFormat;
use image::metadata::Orientation;
use isolation::isolated;

/// More pixels than this are refused; Pillow raises its `DecompressionBombError` at the same number.
pub(super) const MAX_PIXELS: u64 = 178_956_970;

/// Interleaved channel values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Samples {
    /// 8 bits per channel.
    Bytes(Vec<u8>),
    /// 16 bits, one channel.
    Words(Vec<u16>),
}

/// A decoded file.
pub(super) struct Decoded {
    pub width: usize,
    pub height: usize,
    pub mode: Mode,
    pub samples: Samples,
    /// What the file's metadata asks viewers to do.
    pub orientation: Orientation,
    /// Whether Pillow does that without being asked (TIFF).
    pub oriented_on_load: bool,
}

impl Decoded {
    /// An upright image of 8-bit samples.
    fn bytes(size: (usize, usize), mode: Mode, samples: Vec<u8>) -> Self {
        let orientation = Orientation::NoTransforms;
        Self { width: size.0, height: size.1, mode, samples: Samples::Bytes(samples), orientation, oriented_on_load: false }
    }
}

/// Decodes a file of any supported container, recognized by content.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    isolated(|| match format(bytes)? {
        ImageFormat::Jpeg => jpeg::decode(bytes),
        ImageFormat::Png => png::decode(bytes),
        ImageFormat::Gif => gif::decode(bytes),
        ImageFormat::Bmp => bmp::decode(bytes),
        ImageFormat::Tiff => tiff::decode(bytes),
        ImageFormat::WebP => webp::decode(bytes),
        other => Err(unsupported_container(&format!("{other:?}"))),
    })
}

/// Width and height that [`decode`] would give, from the header alone.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    isolated(|| match format(bytes)? {
        ImageFormat::Jpeg => jpeg::dimensions(bytes),
        ImageFormat::Png => png::dimensions(bytes),
        ImageFormat::Gif => gif::dimensions(bytes),
        ImageFormat::Bmp => bmp::dimensions(bytes),
        ImageFormat::Tiff => tiff::dimensions(bytes),
        ImageFormat::WebP => webp::dimensions(bytes),
        other => Err(unsupported_container(&format!("{other:?}"))),
    })
}

/// What the file's metadata asks viewers to do and Pillow leaves to them, from the header alone; nothing where it does not tell.
pub(super) fn orientation(bytes: &[u8]) -> Result<Orientation, ImageCause> {
    let found = isolated(|| match format(bytes)? {
        ImageFormat::Jpeg => jpeg::orientation(bytes),
        ImageFormat::Png => Ok(png::orientation(bytes)),
        ImageFormat::WebP => webp::orientation(bytes),
        _ => Ok(None),
    })?;
    Ok(found.unwrap_or(Orientation::NoTransforms))
}

fn format(bytes: &[u8]) -> Result<ImageFormat, ImageCause> {
    if bytes.is_empty() {
        return Err(ImageCause::Damaged(ImageFault::Empty));
    }
    image::guess_format(bytes).map_err(|_| unsupported_container("content"))
}

fn unsupported_container(found: &str) -> ImageCause {
    ImageCause::Unsupported(ImageFault::Container { found: found.to_owned() })
}

/// The size of an image, once it is known to be worth allocating for.
fn checked_size(width: impl Into<u64>, height: impl Into<u64>) -> Result<(usize, usize), ImageCause> {
    let (width, height) = (width.into(), height.into());
    if width == 0 || height == 0 {
        return Err(ImageCause::Damaged(ImageFault::NoPixels { width, height }));
    }
    match width.checked_mul(height) {
        // Both factors are at most the product, which fits.
        Some(pixels) if pixels <= MAX_PIXELS => Ok((width as usize, height as usize)),
        _ => Err(ImageCause::TooLarge(ImageFault::TooManyPixels { width, height, most: MAX_PIXELS })),
    }
}

/// The color of each index; an index beyond the palette is black, as in Pillow.
fn look_up(indices: &[u8], palette: &[u8]) -> Vec<u8> {
    let mut table = [[0; 3]; 256];
    for (entry, color) in table.iter_mut().zip(palette.chunks_exact(3)) {
        entry.copy_from_slice(color);
    }
    indices.iter().flat_map(|&index| table[usize::from(index)]).collect()
}

/// The high bytes of 16-bit samples: how Pillow reads every 16-bit file with more than one channel.
fn high_bytes(words: &[u16]) -> Vec<u8> {
    words.iter().map(|word| (word >> 8) as u8).collect()
}

/// An error of the `image` crate.
fn image_problem(error: image::ImageError) -> ImageCause {
    match error {
        image::ImageError::Unsupported(_) => ImageCause::Unsupported(ImageFault::library(error)),
        image::ImageError::Limits(_) => ImageCause::TooLarge(ImageFault::library(error)),
        _ => ImageCause::Damaged(ImageFault::library(error)),
    }
}

/// All samples of a decoder of the `image` crate.
fn read_all(decoder: impl image::ImageDecoder) -> Result<Vec<u8>, ImageCause> {
    let (width, height) = decoder.dimensions();
    let (width, height) = checked_size(width, height)?;
    let mut samples = vec![0; width * height * usize::from(decoder.color_type().bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(image_problem)?;
    Ok(samples)
}
