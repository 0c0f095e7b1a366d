//! What is wrong with an image file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;

/// Why a file could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum ImageCause {
    /// The file is broken or is not what it says.
    #[error("not a readable image: {0}")]
    Damaged(ImageFault),
    /// The file may be fine, but this kind is not read.
    #[error("image of an unsupported kind: {0}")]
    Unsupported(ImageFault),
    /// Larger than the limits.
    #[error("image too large to be safe: {0}")]
    TooLarge(ImageFault),
}

/// What a decoder found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    #[error("the file is empty")]
    Empty,
    #[error("{found} is not one of PNG, JPEG, WebP, BMP, TIFF, GIF")]
    Container { found: String },
    #[error("its header gives the size {width}x{height}")]
    NoPixels { width: u64, height: u64 },
    #[error("{width}x{height} pixels are more than {most}")]
    TooManyPixels { width: u64, height: u64, most: u64 },
    /// A size at which the buffer of a decoder cannot be addressed.
    #[error("{width}x{height}")]
    Size { width: usize, height: usize },
    #[error("the file is cut off")]
    CutOff,
    #[error("its frame of {width}x{height} pixels is larger than the image")]
    FrameBeyondCanvas { width: usize, height: usize },
    #[error("rows are too short")]
    ShortRows,
    #[error("it has no palette")]
    NoPalette,
    #[error("it holds no image")]
    NoImage,
    /// `found` is the library's name of a color type.
    #[error("{container} of type {found}")]
    ColorType { container: &'static str, found: String },
    #[error("JPEG with {found} channels")]
    JpegChannels { found: usize },
    #[error("JPEG with {found} bits per sample")]
    JpegPrecision { found: u8 },
    #[error("lossless JPEG with channels of different resolutions")]
    JpegLosslessSampling,
    #[error("JPEG with channels whose resolutions are no multiples of each other")]
    JpegFractions,
    #[error("TIFF with signed, floating point or very deep samples")]
    TiffSamples,
    /// The container's library panicked, with these words.
    #[error("its decoder broke off over it ({message})")]
    Panic { message: String },
    /// The container's library refuses it.
    #[error(transparent)]
    Library(Box<dyn StdError + Send + Sync>),
}

impl ImageFault {
    /// What a library says of a file.
    pub fn library(error: impl StdError + Send + Sync + 'static) -> Self {
        // What the standard library says of a file that ends early.
        if error.to_string().contains("failed to fill whole buffer") { Self::CutOff } else { Self::Library(Box::new(error)) }
    }
}
