//! Nearest-neighbor resizing (`torch.nn.functional.interpolate`, mode "nearest", to a size).
//!
//! Difference from candle's own operation: the backward pass adds to the gradients of other uses instead of replacing them.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;

/// Resizes `x` `[b, c, h, w]` to `height` x `width`: output row `i` is input row `floor(i * h / height)`, columns alike, with the
/// quotient rounded to float32 first, as torch does.
///
/// Errors where `x` has another rank or no pixels.
pub fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let &[batch, channels, in_height, in_width] = x.dims() else {
        return Err(Misfit::Rank { expected: "[b, c, h, w]", found: x.dims().to_vec() }.of("upsample_nearest"));
    };
    if in_height == 0 || in_width == 0 {
        return Err(Misfit::NoPixels.of("upsample_nearest"));
    }
    let input = host::activation("upsample_nearest", x)?;
    if !input.device().is_cpu() {
        let output = composed::upsample_nearest(&input, height, width)?;
        return attach("upsample_nearest", &[x], output.into(), move |call| {
            Ok(vec![Some(composed::upsample_nearest_gradient(&call.gradient, in_height, in_width)?)])
        });
    }
    let (rows, columns) = (sources(in_height, height), sources(in_width, width));
    let values = gather(&host::read(&input)?, in_height * in_width, in_width, &rows, &columns);
    attach("upsample_nearest", &[x], Output::host(values, (batch, channels, height, width)), move |call| {
        let gradient = host::read(&call.gradient)?;
        let values = scatter(&gradient, batch * channels, in_height * in_width, in_width, &rows, &columns);
        Ok(vec![Some(Tensor::from_vec(values, (batch, channels, in_height, in_width), &Device::Cpu)?)])
    })
}

impl Activation {
    /// [`upsample_nearest`]. The backward pass reads no values.
    ///
    /// # Errors
    /// As [`upsample_nearest`].
    pub fn upsample_nearest(&self, height: usize, width: usize) -> Result<Self> {
        upsample_nearest(self.read(), height, width).map(Self::new)
    }
}

/// The input index that each of `to` output indices takes, of `from`.
pub(super) fn sources(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(|index| ((index as f32 * scale).floor() as usize).min(from - 1)).collect()
}

fn gather(x: &[f32], plane: usize, width: usize, rows: &[usize], columns: &[usize]) -> Vec<f32> {
    let size = rows.len() * columns.len();
    let mut out = vec![0.0; x.len() / plane * size];
    if size == 0 {
        return out;
    }
    out.par_chunks_mut(size).zip(x.par_chunks(plane)).for_each(|(out, x)| {
        for (out, &row) in out.chunks_mut(columns.len()).zip(rows) {
            let x = &x[row * width..(row + 1) * width];
            for (out, &column) in out.iter_mut().zip(columns) {
                *out = x[column];
            }
        }
    });
    out
}

fn scatter(gradient: &[f32], planes: usize, plane: usize, width: usize, rows: &[usize], columns: &[usize]) -> Vec<f32> {
    let size = rows.len() * columns.len();
    let mut out = vec![0.0; planes * plane];
    if size == 0 {
        return out;
    }
    out.par_chunks_mut(plane).zip(gradient.par_chunks(size)).for_each(|(out, gradient)| {
        for (gradient, &row) in gradient.chunks(columns.len()).zip(rows) {
            let out = &mut out[row * width..(row + 1) * width];
            for (&gradient, &column) in gradient.iter().zip(columns) {
                out[column] += gradient;
            }
        }
    });
    out
}
