//! Plain 8-bit rasters: interleaved [`Rgb`] and single-channel [`Gray`].

use crate::error::{ArgumentCause, Error, Result};
use crate::formats::write_atomically;
use std::path::Path;

/// An 8-bit color image, interleaved R, G, B, row by row from the top.
///
/// `pixels` holds exactly `width * height * 3` bytes; functions of this room panic on a raster built by hand that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` bytes, 0..=255.
    pub pixels: Vec<u8>,
}

/// An 8-bit gray image, row by row from the top.
///
/// `pixels` holds exactly `width * height` bytes; functions of this room panic on a raster built by hand that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gray {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` bytes, 0..=255.
    pub pixels: Vec<u8>,
}

impl Rgb {
    /// An image of the given size in one color.
    pub fn filled(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, pixels: color.repeat(width * height) }
    }

    /// Mirrored left to right, as kohya's flip augmentation.
    pub fn flipped_horizontally(&self) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for row in self.pixels.chunks_exact((self.width * 3).max(1)) {
            pixels.extend(row.chunks_exact(3).rev().flatten());
        }
        Self { width: self.width, height: self.height, pixels }
    }

    /// The window of `width` x `height` pixels whose upper left corner is (`left`, `top`).
    ///
    /// # Errors
    /// [`Error::Argument`] when the window is not wholly inside the image.
    pub fn cropped(&self, left: usize, top: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |start: usize, length: usize, size: usize| start.checked_add(length).is_some_and(|end| end <= size);
        if !inside(left, width, self.width) || !inside(top, height, self.height) {
            let cause = ArgumentCause::CropWindow { size: (width, height), at: (left, top), image: (self.width, self.height) };
            return Err(Error::argument("crop window", cause));
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in top..top + height {
            let start = (row * self.width + left) * 3;
            pixels.extend_from_slice(&self.pixels[start..start + width * 3]);
        }
        Ok(Self { width, height, pixels })
    }

    /// Writes an 8-bit color PNG file; an existing file is replaced, and only by a whole one.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written, [`Error::Argument`] when the image is empty.
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<()> {
        write_png(path.as_ref(), self.width, self.height, &self.pixels, image::ExtendedColorType::Rgb8)
    }

    /// The same file in memory.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be encoded, [`Error::Argument`] when the image is empty.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let bytes = png(self.width, self.height, &self.pixels, image::ExtendedColorType::Rgb8)?;
        bytes.map_err(|problem| Error::io("PNG")(std::io::Error::other(problem)))
    }
}

impl Gray {
    /// The same image as three equal channels, the form in which a ControlNet takes an edge map.
    pub fn to_rgb(&self) -> Rgb {
        let pixels = self.pixels.iter().flat_map(|&value| [value; 3]).collect();
        Rgb { width: self.width, height: self.height, pixels }
    }

    /// Writes an 8-bit gray PNG file; an existing file is replaced, and only by a whole one.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written, [`Error::Argument`] when the image is empty.
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<()> {
        write_png(path.as_ref(), self.width, self.height, &self.pixels, image::ExtendedColorType::L8)
    }
}

fn write_png(path: &Path, width: usize, height: usize, pixels: &[u8], color: image::ExtendedColorType) -> Result<()> {
    // Into memory first: what the encoder's own writer still holds when it is dropped is lost without a word on a full disk.
    let bytes = png(width, height, pixels, color)?.map_err(|problem| Error::io(path)(std::io::Error::other(problem)))?;
    write_atomically(path, |file| file.write_bytes(&bytes))
}

type Encoded = std::result::Result<Vec<u8>, image::ImageError>;

fn png(width: usize, height: usize, pixels: &[u8], color: image::ExtendedColorType) -> Result<Encoded> {
    use image::ImageEncoder;
    let sides = (u32::try_from(width), u32::try_from(height));
    let (Ok(columns @ 1..), Ok(rows @ 1..)) = sides else {
        return Err(Error::argument("image to save as PNG", ArgumentCause::PngSize { width, height }));
    };
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    Ok(encoder.write_image(pixels, columns, rows, color).map(|()| bytes))
}
