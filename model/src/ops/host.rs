//! Reads CPU tensors as float32 slices.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::RwLockReadGuard;

use candle_core::{CpuStorage, DType, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::Misfit;
use crate::kernels::conv::Numbers;
use crate::kernels::isa;
use crate::{Error, Result};

/// The values of a contiguous CPU tensor in row-major order: borrowed where they are float32, converted where they are not.
pub(crate) enum Values<'a> {
    Borrowed { storage: RwLockReadGuard<'a, Storage>, start: usize, end: usize },
    Converted(Vec<f32>),
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed { storage, start, end } => match &**storage {
                Storage::Cpu(CpuStorage::F32(values)) => &values[*start..*end],
                // `read` borrows float32 CPU storages only.
                _ => &[],
            },
            Self::Converted(values) => values,
        }
    }
}

/// An activation: detached, contiguous, and on a CPU float32.
///
/// Errors where a CPU tensor is not float32, or where the environment asks for vector instructions that are not there.
pub(crate) fn activation(name: &'static str, x: &Tensor) -> Result<Tensor> {
    isa::check().map_err(|(variable, refused)| {
        let misfit = match refused {
            isa::Refused::NotText => Misfit::InstructionsNotText,
            isa::Refused::Unknown { found, available } => Misfit::Instructions { found, available },
        };
        misfit.of(variable)
    })?;
    if x.device().is_cpu() && x.dtype() != DType::F32 {
        return Err(Misfit::ActivationType { found: x.dtype() }.of(name));
    }
    Ok(x.detach().contiguous()?)
}

/// A weight: detached and contiguous, of whatever float type it has.
pub(crate) fn weight(weight: &Tensor) -> Result<Tensor> {
    Ok(weight.detach().contiguous()?)
}

/// The values of a contiguous CPU tensor of any float type.
pub(crate) fn read(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| not_contiguous(tensor))?;
    let converted = match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => None,
        Storage::Cpu(CpuStorage::F64(values)) => Some(values[start..end].iter().map(|&value| value as f32).collect()),
        Storage::Cpu(CpuStorage::F16(values)) => Some(widen(&values[start..end], |from, to| from.convert_to_f32_slice(to))),
        Storage::Cpu(CpuStorage::BF16(values)) => Some(widen(&values[start..end], |from, to| from.convert_to_f32_slice(to))),
        Storage::Cpu(_) => {
            return Err(Misfit::ElementType { found: tensor.dtype() }.of("tensor"));
        }
        _ => return Err(Misfit::Device.of("tensor")),
    };
    Ok(match converted {
        Some(values) => Values::Converted(values),
        None => Values::Borrowed { storage, start, end },
    })
}

/// The numbers of a contiguous CPU tensor in the type that it keeps them in.
pub(crate) struct Kept<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    start: usize,
    end: usize,
    /// Numbers of a type that kernels do not read.
    converted: Option<Vec<f32>>,
}

impl Kept<'_> {
    /// The numbers.
    pub fn numbers(&self) -> Numbers<'_> {
        match (&self.converted, &*self.storage) {
            (Some(values), _) => Numbers::F32(values),
            (None, Storage::Cpu(CpuStorage::F32(values))) => Numbers::F32(&values[self.start..self.end]),
            (None, Storage::Cpu(CpuStorage::F16(values))) => Numbers::F16(&values[self.start..self.end]),
            (None, Storage::Cpu(CpuStorage::BF16(values))) => Numbers::BF16(&values[self.start..self.end]),
            // `keep` converts all others.
            _ => Numbers::F32(&[]),
        }
    }
}

/// The numbers of a contiguous CPU tensor of any float type, for kernels that convert them as they read.
pub(crate) fn keep(tensor: &Tensor) -> Result<Kept<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| not_contiguous(tensor))?;
    let kept = matches!(&*storage, Storage::Cpu(CpuStorage::F32(_) | CpuStorage::F16(_) | CpuStorage::BF16(_)));
    let converted = if kept { None } else { Some(read(tensor)?.to_vec()) };
    Ok(Kept { storage, start, end, converted })
}

fn not_contiguous(tensor: &Tensor) -> Error {
    Misfit::NotContiguous { found: tensor.dims().to_vec() }.of("tensor")
}

/// The values of an optional bias.
pub(crate) fn read_optional(tensor: Option<&Tensor>) -> Result<Option<Values<'_>>> {
    tensor.map(read).transpose()
}

/// Elements that one task converts.
const CHUNK: usize = 1 << 16;

fn widen<T: Sync>(from: &[T], convert: impl Fn(&[T], &mut [f32]) + Sync) -> Vec<f32> {
    let mut to = vec![0.0; from.len()];
    from.par_chunks(CHUNK).zip(to.par_chunks_mut(CHUNK)).for_each(|(from, to)| convert(from, to));
    to
}

/// The weight in the type that the product is computed in: on other devices than a CPU the input's.
pub(crate) fn cast<'a>(weight: &'a Tensor, x: &Tensor) -> Result<Cow<'a, Tensor>> {
    if weight.dtype() == x.dtype() { Ok(Cow::Borrowed(weight)) } else { Ok(Cow::Owned(weight.to_dtype(x.dtype())?)) }
}

/// Hands a contiguous CPU tensor's values to `work`, whole rows of `row` elements at a time, with the number of the first: float32 all
/// at once and as they are, other types in pieces converted into memory that a cache holds.
pub(crate) fn read_rows(tensor: &Tensor, row: usize, mut work: impl FnMut(usize, &[f32])) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F16(values)), Some((start, end))) if row > 0 => {
            pieces(&values[start..end], row, |from, to| from.convert_to_f32_slice(to), work);
        }
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) if row > 0 => {
            pieces(&values[start..end], row, |from, to| from.convert_to_f32_slice(to), work);
        }
        _ => {
            drop(storage);
            work(0, &read(tensor)?);
        }
    }
    Ok(())
}

fn pieces<T: Sync>(from: &[T], row: usize, convert: impl Fn(&[T], &mut [f32]) + Sync, mut work: impl FnMut(usize, &[f32])) {
    /// Elements of a piece: 4 MiB.
    const PIECE: usize = 1 << 20;
    let rows = (PIECE / row).max(1);
    let mut to = vec![0.0; from.len().min(rows * row)];
    for (index, from) in from.chunks(rows * row).enumerate() {
        let to = &mut to[..from.len()];
        from.par_chunks(CHUNK).zip(to.par_chunks_mut(CHUNK)).for_each(|(from, to)| convert(from, to));
        work(index * rows, to);
    }
}
