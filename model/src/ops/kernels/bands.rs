//! How the output of a convolution is shared out: in *bands*, some rows of one image over its whole width, and in them by *panels* of
//! output channels. Some bands make a *batch*.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::columns::Geometry;

/// The rows of the output that one band and one panel fill: a run of numbers per output channel.
pub type Rows<'a> = Vec<&'a mut [MaybeUninit<f32>]>;

/// Deals an output `[batch, out_channels, positions]` out to bands of `height` rows and, within them, panels of `width` channels.
pub fn cut<'a>(
    out: &'a mut [MaybeUninit<f32>],
    out_channels: usize,
    sizes: &Geometry,
    height: usize,
    width: usize,
) -> Vec<Rows<'a>> {
    let (bands, panels) = (sizes.out_height.div_ceil(height), out_channels.div_ceil(width));
    let mut rows: Vec<Rows> = Vec::new();
    for (image, planes) in out.chunks_mut(out_channels * sizes.positions()).enumerate() {
        rows.extend((0..bands * panels).map(|_| Rows::with_capacity(width)));
        for (channel, plane) in planes.chunks_mut(sizes.positions()).enumerate() {
            for (band, part) in plane.chunks_mut(height * sizes.out_width).enumerate() {
                rows[(image * bands + band) * panels + channel / width].push(part);
            }
        }
    }
    rows
}

/// Cuts bands into `count` batches of nearly equal size, each with its rows of the output.
pub fn batches<'a, 'b>(
    mut rows: &'b mut [Rows<'a>],
    panels: usize,
    all: usize,
    count: usize,
) -> Vec<(Range<usize>, &'b mut [Rows<'a>])> {
    let mut batches = Vec::with_capacity(count);
    for index in 0..count {
        let bands = index * all / count..(index + 1) * all / count;
        let (own, rest) = rows.split_at_mut(bands.len() * panels);
        rows = rest;
        if !bands.is_empty() {
            batches.push((bands, own));
        }
    }
    batches
}
