//! The pixels of a four-channel JPEG (CMYK, or YCCK as Adobe's programs write it) whose channels have different resolutions, from its
//! planes as they are stored: upsampled and converted with the arithmetic of libjpeg-turbo 3.1 (`jdsample.c`, `jdcolor.c`).
//!
//! libjpeg-turbo-rs 0.9 has this for three channels only; with four it takes the first and the last for full size, and reads past the
//! ends of planes that are smaller.
//!
//! Difference from libjpeg-turbo: a progressive file that lacks its last scans is not smoothed.

use super::jpeg;
use crate::error::{ImageCause, ImageFault};
use libjpeg_turbo_rs::ColorSpace;
use libjpeg_turbo_rs::decode::pipeline::Decoder;

/// Whether this module is needed: any channel is smaller than the largest.
pub(super) fn are_subsampled(decoder: &Decoder) -> bool {
    let components = &decoder.header().components;
    let sampling = |index: usize| (components[index].horizontal_sampling, components[index].vertical_sampling);
    (1..components.len()).any(|index| sampling(index) != sampling(0))
}

/// Cyan, magenta, yellow and black of every pixel, as stored: inverted in Adobe's files.
pub(super) fn ink(decoder: Decoder) -> Result<Vec<u8>, ImageCause> {
    let header = decoder.header();
    if header.is_lossless {
        return Err(ImageCause::Unsupported(ImageFault::JpegLosslessSampling));
    }
    let (width, height) = (usize::from(header.width), usize::from(header.height));
    let samplings =
        header.components.iter().map(|one| (usize::from(one.horizontal_sampling), usize::from(one.vertical_sampling)));
    let samplings: Vec<(usize, usize)> = samplings.collect();
    let ycck = decoder.jpeg_color_space() == ColorSpace::Ycck;
    let raw = decoder.decode_raw().map_err(jpeg::problem)?;
    let planes = raw.planes.iter().zip(&raw.plane_widths).zip(&samplings);
    let planes: Option<Vec<Plane>> = planes
        .map(|((samples, stride), sampling)| Plane::new(samples, *stride, (width, height), *sampling, &samplings))
        .collect();
    let Some(planes) = planes else {
        return Err(ImageCause::Unsupported(ImageFault::JpegFractions));
    };
    // The last column of a plane may stand for pixels beyond the edge.
    let mut rows = vec![vec![0; width + 4]; planes.len()];
    let mut ink = Vec::with_capacity(width * height * 4);
    for y in 0..height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.upsample(y, row);
        }
        for x in 0..width {
            let [first, second, third, black] = [0, 1, 2, 3].map(|channel: usize| rows[channel][x]);
            let colors = if ycck { to_ink(first, second, third) } else { [first, second, third] };
            ink.extend_from_slice(&colors);
            ink.push(black);
        }
    }
    Ok(ink)
}

/// One channel at the resolution in which it is stored.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    /// Samples per row and rows that stand for pixels; what is beyond pads the last block.
    width: usize,
    height: usize,
    /// Pixels per sample.
    across: usize,
    down: usize,
}

impl<'a> Plane<'a> {
    /// None when a sample stands for a fraction of pixels, which libjpeg does not read either.
    fn new(
        samples: &'a [u8],
        stride: usize,
        size: (usize, usize),
        sampling: (usize, usize),
        all: &[(usize, usize)],
    ) -> Option<Self> {
        let most = all.iter().fold((1, 1), |most, one| (most.0.max(one.0), most.1.max(one.1)));
        let multiple = most.0.is_multiple_of(sampling.0) && most.1.is_multiple_of(sampling.1);
        let width = (size.0 * sampling.0).div_ceil(most.0);
        let height = (size.1 * sampling.1).div_ceil(most.1);
        let fits = width <= stride && height.checked_mul(stride).is_some_and(|length| length <= samples.len());
        (multiple && fits).then(|| Self {
            samples,
            stride,
            width,
            height,
            across: most.0 / sampling.0,
            down: most.1 / sampling.1,
        })
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.width]
    }

    /// Writes the row `y` of the image, at full resolution: by triangle filters where libjpeg-turbo has these ("fancy"), else by copies.
    fn upsample(&self, y: usize, out: &mut [u8]) {
        let near = self.row(y / self.down);
        match (self.across, self.down) {
            (2, 1) if self.width > 2 => triangle_across(near, out),
            (1, 2) => {
                // Samples lie between rows; the nearest counts three times. The roundings take turns.
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((out, near), far) in out.iter_mut().zip(near).zip(self.far_row(y)) {
                    *out = ((u16::from(*near) * 3 + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            (2, 2) if self.width > 2 => triangle_both(near, self.far_row(y), out),
            (across, _) => out.iter_mut().enumerate().for_each(|(x, out)| *out = near[(x / across).min(near.len() - 1)]),
        }
    }

    /// Of two rows of samples per sample, the one behind the nearest: above for even rows of pixels, below for odd ones.
    fn far_row(&self, y: usize) -> &[u8] {
        let near = y / 2;
        self.row(if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) })
    }
}

/// `h2v1_fancy_upsample`: three quarters of the nearest sample, one of the next.
fn triangle_across(samples: &[u8], out: &mut [u8]) {
    let at = |x: usize| u16::from(samples[x]);
    let last = samples.len() - 1;
    for (x, out) in out.iter_mut().enumerate().take(2 * samples.len()) {
        let near = x / 2;
        *out = match (x.is_multiple_of(2), near) {
            (true, 0) => samples[0],
            (true, _) => ((3 * at(near) + at(near - 1) + 1) >> 2) as u8,
            (false, _) if near == last => samples[last],
            (false, _) => ((3 * at(near) + at(near + 1) + 2) >> 2) as u8,
        };
    }
}

/// `h2v2_fancy_upsample`: the same in both directions, rounded once.
fn triangle_both(near: &[u8], far: &[u8], out: &mut [u8]) {
    let sum = |x: usize| 3 * u16::from(near[x]) + u16::from(far[x]);
    let last = near.len() - 1;
    for (x, out) in out.iter_mut().enumerate().take(2 * near.len()) {
        let at = x / 2;
        *out = match x.is_multiple_of(2) {
            true => ((3 * sum(at) + sum(at.saturating_sub(1)) + 8) >> 4) as u8,
            false => ((3 * sum(at) + sum((at + 1).min(last)) + 7) >> 4) as u8,
        };
    }
}

/// `ycck_cmyk_convert`: the ink that the color lacks. Fixed-point numbers of 16 bits.
fn to_ink(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let color = [(91_881 * red + HALF) >> 16, (-22_554 * blue - 46_802 * red + HALF) >> 16, (116_130 * blue + HALF) >> 16];
    color.map(|difference| (255 - (luma + difference)).clamp(0, 255) as u8)
}
