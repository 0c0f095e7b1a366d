//! Turning rasters upright as Exif orientation 1 to 8 says; Pillow's `ImageOps.exif_transpose`.

use image::metadata::Orientation;

/// The (width, height) after turning.
pub(super) fn size((width, height): (usize, usize), orientation: Orientation) -> (usize, usize) {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (height, width)
        }
        _ => (width, height),
    }
}

/// `samples` of a raster of (width, height) `from`, `channels` interleaved, turned.
pub(super) fn turn<S: Copy>(samples: Vec<S>, from: (usize, usize), channels: usize, orientation: Orientation) -> Vec<S> {
    if orientation == Orientation::NoTransforms {
        return samples;
    }
    let (width, height) = from;
    let (columns, rows) = size(from, orientation);
    let mut turned = Vec::with_capacity(samples.len());
    for y in 0..rows {
        for x in 0..columns {
            let (source_x, source_y) = match orientation {
                Orientation::NoTransforms => (x, y),
                Orientation::FlipHorizontal => (width - 1 - x, y),
                Orientation::Rotate180 => (width - 1 - x, height - 1 - y),
                Orientation::FlipVertical => (x, height - 1 - y),
                Orientation::Rotate90FlipH => (y, x),
                Orientation::Rotate90 => (y, height - 1 - x),
                Orientation::Rotate270FlipH => (width - 1 - y, height - 1 - x),
                Orientation::Rotate270 => (width - 1 - y, x),
            };
            let start = (source_y * width + source_x) * channels;
            turned.extend_from_slice(&samples[start..start + channels]);
        }
    }
    turned
}
