//! An image file, decoded but not yet turned into RGB, because the reference *resizes first and converts afterwards*, and how it
//! resizes depends on the file's mode.
//!
//! Reference: Pillow 12.3 `Image.open`, `Image.resize` with its default filter, `Image.convert("RGB")`, as called by the paper's
//! extractor; and `Image.convert("RGB")` alone, as called by kohya's trainer. Exif orientation is ignored unless asked for,
//! as in both.
//!
//! Differences: one-bit and palette images are held expanded, which no nearest-neighbor resize can tell; only the first page
//! or frame is read; what [`decode`](super) lists as refused is an error here.

use super::decode::{self, Decoded, Samples};
use super::resize::{Filter, resize_samples};
use super::{Gray, Rgb, orient};
use crate::error::{Error, ImageCause, Result};
use crate::formats::{FileKind, read_bounded};
use image::metadata::Orientation;
use std::path::Path;

/// What the samples of an image mean, under Pillow's names for modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `1`: black or white.
    Bilevel,
    /// `L`: 8-bit gray.
    Gray,
    /// `LA`: gray and alpha.
    GrayAlpha,
    /// `I;16`: 16-bit gray.
    Gray16,
    /// `P`: colors of a palette.
    Palette,
    /// `RGB`.
    Rgb,
    /// `RGBA`.
    Rgba,
    /// `CMYK`: ink, 255 is full.
    Cmyk,
}

impl Mode {
    /// Pillow's name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilevel => "1",
            Self::Gray => "L",
            Self::GrayAlpha => "LA",
            Self::Gray16 => "I;16",
            Self::Palette => "P",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::Cmyk => "CMYK",
        }
    }
}

/// A decoded image file in its own mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    mode: Mode,
    /// One channel for `1` and `L` and `I;16`, 2 for `LA`, 3 for `P` and `RGB`, 4 for `RGBA` and `CMYK`.
    samples: Samples,
}

/// What a file says of its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Width and height that [`Image::open`] gives.
    pub size: (usize, usize),
    /// Those that [`Image::open_oriented`] gives, when it turns or mirrors the image.
    pub upright_size: Option<(usize, usize)>,
}

impl Image {
    /// Reads a PNG, JPEG, WebP, BMP, TIFF or GIF file, recognized by content, not by name.
    ///
    /// Exif orientation is ignored, as the reference does (TIFF's own orientation is obeyed, as Pillow does).
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::File`] when it is damaged, of a kind that is not supported, or
    /// larger than 178 956 970 pixels (where Pillow refuses too).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_bytes(&read_bounded(path.as_ref(), FileKind::Image)?, path)
    }

    /// [`Image::open`], then turned upright as the file's Exif orientation says (`ImageOps.exif_transpose`).
    ///
    /// # Errors
    /// Those of [`Image::open`].
    pub fn open_oriented(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_bytes_oriented(&read_bounded(path.as_ref(), FileKind::Image)?, path)
    }

    /// [`Image::open`] for a file that is already in memory; `name` is used in errors.
    ///
    /// # Errors
    /// [`Error::File`], see [`Image::open`].
    pub fn from_bytes(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self> {
        let decoded = decode::decode(bytes).map_err(|problem| explain(problem, name.as_ref()))?;
        Ok(Self::new(decoded, false))
    }

    /// [`Image::open_oriented`] for a file that is already in memory; `name` is used in errors.
    ///
    /// # Errors
    /// [`Error::File`], see [`Image::open`].
    pub fn from_bytes_oriented(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self> {
        let decoded = decode::decode(bytes).map_err(|problem| explain(problem, name.as_ref()))?;
        Ok(Self::new(decoded, true))
    }

    /// Width and height as stored, without decoding the pixels.
    ///
    /// # Errors
    /// Those of [`Image::open`], as far as the header shows them.
    pub fn dimensions(path: impl AsRef<Path>) -> Result<(usize, usize)> {
        let path = path.as_ref();
        decode::dimensions(&read_bounded(path, FileKind::Image)?).map_err(|problem| explain(problem, path))
    }

    /// What the file says of itself, without decoding the pixels.
    ///
    /// # Errors
    /// Those of [`Image::dimensions`].
    pub fn header(path: impl AsRef<Path>) -> Result<Header> {
        let path = path.as_ref();
        let bytes = read_bounded(path, FileKind::Image)?;
        let read = || Ok((decode::dimensions(&bytes)?, decode::orientation(&bytes)?));
        let (size, orientation) = read().map_err(|problem| explain(problem, path))?;
        let upright_size = (orientation != Orientation::NoTransforms).then(|| orient::size(size, orientation));
        Ok(Header { size, upright_size })
    }

    fn new(decoded: Decoded, upright: bool) -> Self {
        let Decoded { width, height, mode, samples, orientation, oriented_on_load } = decoded;
        let mut image = Self { width, height, mode, samples };
        if upright || oriented_on_load {
            let channels = image.channels();
            let size = (width, height);
            (image.width, image.height) = orient::size(size, orientation);
            image.samples = match image.samples {
                Samples::Bytes(samples) => Samples::Bytes(orient::turn(samples, size, channels, orientation)),
                Samples::Words(samples) => Samples::Words(orient::turn(samples, size, channels, orientation)),
            };
        }
        image
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// What the samples mean.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn channels(&self) -> usize {
        match self.mode {
            Mode::Bilevel | Mode::Gray | Mode::Gray16 => 1,
            Mode::GrayAlpha => 2,
            Mode::Palette | Mode::Rgb => 3,
            Mode::Rgba | Mode::Cmyk => 4,
        }
    }

    /// The reference's recipe: resized to exactly `width` x `height` with Pillow's default filter for the mode, then converted to
    /// RGB. Bicubic, but nearest for `1` and `P`; `LA` and `RGBA` with premultiplied alpha; alpha is dropped, not composited.
    /// An image that has the size already is only converted. A side of 0 gives an empty image.
    pub fn resized_rgb(&self, width: usize, height: usize) -> Rgb {
        let (from, to) = ((self.width, self.height), (width, height));
        if from == to {
            return self.to_rgb();
        }
        let samples = match (&self.samples, self.mode) {
            (Samples::Words(words), _) => Samples::Words(resize_samples::<u16, 1>(words, from, to, Filter::Bicubic)),
            (Samples::Bytes(bytes), Mode::Bilevel) => Samples::Bytes(resize_samples::<u8, 1>(bytes, from, to, Filter::Nearest)),
            (Samples::Bytes(bytes), Mode::Palette) => Samples::Bytes(resize_samples::<u8, 3>(bytes, from, to, Filter::Nearest)),
            (Samples::Bytes(bytes), Mode::GrayAlpha) => Samples::Bytes(resize_with_alpha::<2>(bytes, from, to)),
            (Samples::Bytes(bytes), Mode::Rgba) => Samples::Bytes(resize_with_alpha::<4>(bytes, from, to)),
            (Samples::Bytes(bytes), Mode::Cmyk) => Samples::Bytes(resize_samples::<u8, 4>(bytes, from, to, Filter::Bicubic)),
            (Samples::Bytes(bytes), Mode::Rgb) => Samples::Bytes(resize_samples::<u8, 3>(bytes, from, to, Filter::Bicubic)),
            (Samples::Bytes(bytes), _) => Samples::Bytes(resize_samples::<u8, 1>(bytes, from, to, Filter::Bicubic)),
        };
        Rgb { width, height, pixels: rgb_pixels(&samples, self.mode) }
    }

    /// Pillow's `convert("RGB")` at full size: alpha dropped without compositing, 16-bit gray clipped at 255 (so nearly white), ink
    /// subtracted from white.
    pub fn to_rgb(&self) -> Rgb {
        Rgb { width: self.width, height: self.height, pixels: rgb_pixels(&self.samples, self.mode) }
    }
}

impl From<Rgb> for Image {
    fn from(image: Rgb) -> Self {
        Self { width: image.width, height: image.height, mode: Mode::Rgb, samples: Samples::Bytes(image.pixels) }
    }
}

impl From<Gray> for Image {
    fn from(image: Gray) -> Self {
        Self { width: image.width, height: image.height, mode: Mode::Gray, samples: Samples::Bytes(image.pixels) }
    }
}

fn explain(cause: ImageCause, path: &Path) -> Error {
    let advice = match cause {
        ImageCause::Damaged(_) => "replace the file, or remove it from the inputs",
        ImageCause::Unsupported(_) => "convert it to PNG or JPEG",
        ImageCause::TooLarge(_) => "save it at a smaller size",
    };
    Error::file(path, cause, advice)
}

/// a * b / 255, rounded: Pillow's `MULDIV255`.
fn scaled(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Bicubic on premultiplied samples (last channel alpha), un-multiplied afterwards. What is hidden under alpha 0 is lost.
fn resize_with_alpha<const CHANNELS: usize>(samples: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let mut premultiplied = samples.to_vec();
    for pixel in premultiplied.chunks_exact_mut(CHANNELS) {
        let (colors, alpha) = pixel.split_at_mut(CHANNELS - 1);
        colors.iter_mut().for_each(|value| *value = scaled(*value, alpha[0]));
    }
    let mut resized = resize_samples::<u8, CHANNELS>(&premultiplied, from, to, Filter::Bicubic);
    for pixel in resized.chunks_exact_mut(CHANNELS) {
        let (colors, alpha) = pixel.split_at_mut(CHANNELS - 1);
        if alpha[0] != 0 && alpha[0] != 255 {
            colors.iter_mut().for_each(|value| *value = (255 * u32::from(*value) / u32::from(alpha[0])).min(255) as u8);
        }
    }
    resized
}

fn rgb_pixels(samples: &Samples, mode: Mode) -> Vec<u8> {
    match (samples, mode) {
        (Samples::Words(words), _) => words.iter().flat_map(|&word| [word.min(255) as u8; 3]).collect(),
        (Samples::Bytes(bytes), Mode::Palette | Mode::Rgb) => bytes.clone(),
        (Samples::Bytes(bytes), Mode::GrayAlpha) => bytes.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        (Samples::Bytes(bytes), Mode::Rgba) => bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        (Samples::Bytes(bytes), Mode::Cmyk) => bytes
            .chunks_exact(4)
            .flat_map(|ink| {
                let light = 255 - ink[3];
                [ink[0], ink[1], ink[2]].map(|ink| light - scaled(ink, light))
            })
            .collect(),
        (Samples::Bytes(bytes), _) => bytes.iter().flat_map(|&value| [value; 3]).collect(),
    }
}
