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
    let mut decoder = open(bytes)?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(problem)?.ok_or_else(|| ImageCause::Damaged(ImageFault::NoImage))?;
    canvas(screen, frame, bytes)
}

/// The size of the first image. A frame that sticks out enlarges the canvas.
fn canvas(screen: (u16, u16), frame: &gif::Frame, bytes: &[u8]) -> Result<(usize, usize), ImageCause> {
    let width = u32::from(screen.0).max(u32::from(frame.left) + u32::from(frame.width));
    let height = u32::from(screen.1).max(u32::from(frame.top) + u32::from(frame.height));
    // A code has at least two bits and stands for at most 4096 pixels.
    let most = bytes.len() as u64 * 4 * 4096;
    if u64::from(frame.width) * u64::from(frame.height) > most {
        return Err(ImageCause::Damaged(ImageFault::CutOff));
    }
    checked_size(width, height)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, ImageCause> {
    let mut decoder = open(bytes)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (width, height) = dimensions(bytes)?;
    let frame = decoder.read_next_frame().map_err(problem)?.ok_or_else(|| ImageCause::Damaged(ImageFault::NoImage))?;

    // What the frame does not cover is transparent, or index 0.
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (columns, rows) = (usize::from(frame.width), usize::from(frame.height));
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
