//! Images: decoding, resizing, edges and conversion to tensors, equal to the libraries that the reference code calls.
//!
//! | file | what lives there | equal to |
//! | --- | --- | --- |
//! | [`image`] | a decoded file in the mode Pillow gives it; the reference's resize-then-convert recipe | Pillow 12.3 `Image` |
//! | `decode/` | one small file per container | Pillow 12.3 plugins |
//! | [`raster`] | [`Rgb`] and [`Gray`] bytes, PNG output | |
//! | [`mod@resize`] | antialiased resampling | Pillow 12.3 `Image.resize`, byte for byte |
//! | [`area`] | area averaging | OpenCV 5.0 `cv2.resize(..., INTER_AREA)`, byte for byte |
//! | [`mod@canny`] | edges of a color image | OpenCV 5.0 `cv2.Canny`, byte for byte |
//! | [`tensor`] | bytes to tensors and back | diffusers 0.32.2 `VaeImageProcessor` |
//!
//! Equality to the byte is on purpose: on a miniature model, resized bytes that are off by one level move features by 5 %.

pub mod area;
pub mod canny;
mod decode;
pub mod image;
mod orient;
pub mod raster;
pub mod resize;
pub mod tensor;

pub use area::resize_area;
pub use canny::canny;
pub use image::{Header, Image, Mode};
pub use raster::{Gray, Rgb};
pub use resize::{Filter, resize};
