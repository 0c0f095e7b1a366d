//! Sums that take over the memory of a summand, and the end of values that nothing reads any more: what an
//! [`Activation`](super::Activation) does with values that it alone can reach.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use super::graph::{Output, attach, is_tracked};
use super::host;
use crate::Result;

/// Numbers that one task adds.
const CHUNK: usize = 1 << 15;

/// `x + y` of one shape. The values of `y` are gone afterwards, for everybody who shares them.
///
/// Errors where the shapes differ.
pub(super) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let plain = x.dims() != y.dims() || x.dtype() != DType::F32 || x.id() == y.id();
    let Some(mut sum) = (if plain { None } else { take(y) }) else { return Ok((x + y)?) };
    let input = host::activation("add", x)?;
    let values = host::read(&input)?;
    sum.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(sum, x)| {
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    });
    drop(values);
    attach("add", &[x, y], Output::host(sum, x.shape().clone()), |call| {
        Ok(vec![Some(call.gradient.clone()), Some(call.gradient.clone())])
    })
}

/// `x` `[b, c, h, w]` plus `channels` `[b or 1, c]` at every pixel.
///
/// Errors where the shapes do not fit.
pub(super) fn broadcast_channels(x: &Tensor, channels: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_add(&channels.unsqueeze(2)?.unsqueeze(3)?)?)
}

/// [`broadcast_channels`] in the memory of `x`. As for `y` of [`add`], the values of `x` are gone afterwards.
///
/// Errors where the shapes do not fit.
pub(super) fn add_channels(x: &Tensor, channels: &Tensor) -> Result<Tensor> {
    let (batch, count, height, width) = x.dims4()?;
    let (rows, columns) = channels.dims2()?;
    let fits = columns == count && (rows == 1 || rows == batch) && height * width > 0;
    let Some(mut sum) = (if fits && channels.dtype() == DType::F32 { take(x) } else { None }) else {
        return broadcast_channels(x, channels);
    };
    let input = host::activation("add_channels", channels)?;
    let values = host::read(&input)?;
    sum.par_chunks_mut(height * width).enumerate().for_each(|(plane, sum)| {
        let value = values[plane % values.len()];
        sum.iter_mut().for_each(|sum| *sum += value);
    });
    drop(values);
    attach("add_channels", &[x, channels], Output::host(sum, x.shape().clone()), move |call| {
        let to_channels = call.tracked[1].then(|| {
            let sum = call.gradient.sum((2, 3))?;
            if rows == batch { Ok(sum) } else { sum.sum_keepdim(0) }
        });
        Ok(vec![Some(call.gradient.clone()), to_channels.transpose()?])
    })
}

/// Frees the values of a recorded tensor on a CPU; its position in the graph stays. Nothing may read them any more: neither the
/// backward pass of the operation that made it, nor that of one it went into, nor another holder. Does nothing to a tensor outside
/// the graph, which goes when it is dropped.
pub(super) fn discard(tensor: &Tensor) {
    if is_tracked(tensor) {
        take(tensor);
    }
}

/// Takes a whole float32 tensor's values off a CPU; `None` where it is something else, or part of something, or a variable.
fn take(tensor: &Tensor) -> Option<Vec<f32>> {
    let whole = tensor.is_contiguous() && tensor.layout().start_offset() == 0 && !tensor.is_variable();
    if !whole || tensor.dtype() != DType::F32 || !matches!(tensor.device(), Device::Cpu) {
        return None;
    }
    let take = Take { count: tensor.elem_count(), values: Mutex::new(None) };
    // What candle refuses to hand out stays where it is.
    tensor.inplace_op1(&take).ok()?;
    take.values.into_inner().unwrap_or_else(PoisonError::into_inner)
}

struct Take {
    count: usize,
    values: Mutex<Option<Vec<f32>>>,
}

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(values) = storage
            && values.len() == self.count
        {
            *self.values.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::mem::take(values));
        }
        Ok(())
    }
}
