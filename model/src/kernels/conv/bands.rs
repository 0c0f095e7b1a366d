//! How the output of a convolution is shared out: in *bands*, some rows of one image over its whole width, and in them by *panels* of
//! output channels. Some bands make a *batch*.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::columns::Geometry;
use crate::kernels::tasks;

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

/// Calls `work` for all bands, batch by batch, with the batch's rows of the output and whether all threads may share it.
///
/// Many batches, of `smallest` bands or so: each thread takes its own. Few: one after the other, of at most `largest` bands. How bands
/// are cut does not change what is computed.
pub fn for_each_batch(
    rows: &mut [Rows],
    panels: usize,
    (smallest, largest): (usize, usize),
    work: impl Fn(Range<usize>, &mut [Rows], bool) + Sync,
) {
    let (all, threads) = (rows.len() / panels, rayon::current_num_threads());
    let shared = threads == 1 || all < 2 * threads * smallest;
    let count = if shared { all.div_ceil(largest) } else { all.div_ceil(smallest).next_multiple_of(threads) };
    for_each(batches(rows, panels, all, count), !shared, |(bands, rows)| work(bands, rows, shared));
}

/// Calls `work` for each item, on all threads or on this one.
pub fn for_each<T: Send>(items: Vec<T>, all_threads: bool, work: impl Fn(T) + Sync) {
    match all_threads {
        true => tasks::for_each(items, || (), |(), item| work(item)),
        false => items.into_iter().for_each(work),
    }
}

/// What one task computes of a batch.
pub struct Share<'a, 'b> {
    /// The first of its panels.
    pub first: usize,
    /// How many panels.
    pub panels: usize,
    /// Per band, the rows of each panel.
    pub rows: Vec<&'b mut [Rows<'a>]>,
}

/// Shares out a batch's rows by `width` panels.
pub fn shares<'a, 'b>(rows: &'b mut [Rows<'a>], panels: usize, width: usize) -> Vec<Share<'a, 'b>> {
    let share = |first| Share { first, panels: width.min(panels - first), rows: Vec::with_capacity(rows.len() / panels) };
    let mut shares: Vec<Share> = (0..panels).step_by(width).map(share).collect();
    for band in rows.chunks_mut(panels) {
        for (share, rows) in shares.iter_mut().zip(band.chunks_mut(width)) {
            share.rows.push(rows);
        }
    }
    shares
}

/// Cuts bands into `count` batches of nearly equal size, each with its rows of the output.
fn batches<'a, 'b>(
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
