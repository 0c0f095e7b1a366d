//! GIF: the first frame, drawn on the whole canvas as Pillow does: indices with a palette (mode P), or gray when the palette is the
//! plain gray ramp.

use super::{Decoded, checked_size, look_up};
use crate::error::{ImageCause, ImageFault};
use crate::vision::image::Mode;
use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};
use std::io::Cursor;
use std::num::NonZeroU64;

fn open(bytes: &[u8]) -> Result<gif::Decoder<Cursor<&[u8]>>, ImageCause> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(super::MAX_PIXELS).unwrap_or(NonZeroU64::MIN)));
    options.read_info(Cursor::new(bytes)).map_err(problem)
}

pub(super) fn dimensions(bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let decoder = open(bytes)?;
    checked_size(decoder.width(), decoder.height())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    let mut decoder = open(bytes)?;
    let screen = (decoder.width(), decoder.height());
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(problem)?.ok_or_else(|| ImageCause::Damaged(ImageFault::NoImage))?;

    // A frame that sticks out enlarges the canvas; what it does not cover is transparent, or index 0.
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (columns, rows) = (usize::from(frame.width), usize::from(frame.height));
    let width = usize::from(screen.0).max(left + columns);
    let height = usize::from(screen.1).max(top + rows);
    checked_size(width as u64, height as u64)?;
    let mut indices = vec![frame.transparent.unwrap_or(0); width * height];
    if columns > 0 {
        for (row, line) in frame.buffer.chunks_exact(columns).take(rows).enumerate() {
            indices[(top + row) * width + left..][..columns].copy_from_slice(line);
        }
    }

    let palette = frame.palette.as_deref().or(global.as_deref()).filter(|palette| !is_gray_ramp(palette));
    Ok(match palette {
        Some(palette) => Decoded::bytes((width, height), Mode::Palette, look_up(&indices, palette)),
        None => Decoded::bytes((width, height), Mode::Gray, indices),
    })
}

fn is_gray_ramp(palette: &[u8]) -> bool {
    palette.chunks_exact(3).enumerate().all(|(index, color)| color.iter().all(|&value| usize::from(value) == index))
}

fn problem(error: DecodingError) -> ImageCause {
    ImageCause::Damaged(ImageFault::library(error))
}
