//! Between stored little-endian bytes and candle tensors, in pieces, so that a tensor is in memory once.

use crate::error::{ArgumentCause, ElementError, Error, Result};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, WithDType};
use half::{bf16, f16};
use safetensors::Dtype;

/// Bytes read or written at once.
const PIECE: usize = 1 << 20;

/// candle's name for a stored type; `None` for types of which candle makes no tensors (booleans, signed bytes, 8-bit floats and
/// the like). A stored float64 becomes float32: no network here computes in float64.
pub(super) fn tensor_dtype(stored: Dtype) -> Option<DType> {
    Some(match stored {
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 | Dtype::F64 => DType::F32,
        _ => return None,
    })
}

/// The type in which a tensor of this candle type is stored.
pub(super) fn stored_dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        _ => return None,
    })
}

/// Bytes in one element of a stored type; `None` where elements do not fill whole bytes.
pub(super) fn element_size(stored: Dtype) -> Option<usize> {
    let bits = stored.bitsize();
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// One stored number of any type as float64; `None` for types that are not numbers here.
pub(super) fn number(stored: Dtype, bytes: &[u8]) -> Option<f64> {
    fn le<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
    Some(match stored {
        Dtype::U8 => f64::from(u8::from_le_bytes(le(bytes)?)),
        Dtype::I8 => f64::from(i8::from_le_bytes(le(bytes)?)),
        Dtype::U16 => f64::from(u16::from_le_bytes(le(bytes)?)),
        Dtype::I16 => f64::from(i16::from_le_bytes(le(bytes)?)),
        Dtype::U32 => f64::from(u32::from_le_bytes(le(bytes)?)),
        Dtype::I32 => f64::from(i32::from_le_bytes(le(bytes)?)),
        Dtype::U64 => u64::from_le_bytes(le(bytes)?) as f64,
        Dtype::I64 => i64::from_le_bytes(le(bytes)?) as f64,
        Dtype::F16 => f16::from_le_bytes(le(bytes)?).to_f64(),
        Dtype::BF16 => bf16::from_le_bytes(le(bytes)?).to_f64(),
        Dtype::F32 => f64::from(f32::from_le_bytes(le(bytes)?)),
        Dtype::F64 => f64::from_le_bytes(le(bytes)?),
        _ => return None,
    })
}

/// A source of consecutive bytes: fills the buffer with the next ones.
pub(super) type NextBytes<'a> = dyn FnMut(&mut [u8]) -> Result<()> + 'a;

/// Reads `shape`'s elements of type `stored` from `next` and makes a tensor of them; `None` for a type that candle lacks.
pub(super) fn read_tensor(stored: Dtype, shape: &[usize], next: &mut NextBytes<'_>, device: &Device) -> Result<Option<Tensor>> {
    let count = shape.iter().product();
    let tensor = match stored {
        Dtype::U8 => Tensor::from_vec(collect(count, next, u8::from_le_bytes)?, shape, device),
        Dtype::U32 => Tensor::from_vec(collect(count, next, u32::from_le_bytes)?, shape, device),
        Dtype::I16 => Tensor::from_vec(collect(count, next, i16::from_le_bytes)?, shape, device),
        Dtype::I32 => Tensor::from_vec(collect(count, next, i32::from_le_bytes)?, shape, device),
        Dtype::I64 => Tensor::from_vec(collect(count, next, i64::from_le_bytes)?, shape, device),
        Dtype::BF16 => Tensor::from_vec(collect(count, next, bf16::from_le_bytes)?, shape, device),
        Dtype::F16 => Tensor::from_vec(collect(count, next, f16::from_le_bytes)?, shape, device),
        Dtype::F32 => Tensor::from_vec(collect(count, next, f32::from_le_bytes)?, shape, device),
        Dtype::F64 => Tensor::from_vec(collect(count, next, |bytes| f64::from_le_bytes(bytes) as f32)?, shape, device),
        _ => return Ok(None),
    };
    Ok(Some(tensor?))
}

/// Reads `count` elements of `N` bytes each and decodes them.
fn collect<T, const N: usize>(count: usize, next: &mut NextBytes<'_>, decode: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let mut elements = Vec::new();
    let too_large = |_| Error::argument("tensor", ArgumentCause::OutOfMemory { elements: count });
    elements.try_reserve_exact(count).map_err(too_large)?;
    let mut piece = vec![0; (PIECE / N * N).min(count.saturating_mul(N))];
    while elements.len() < count {
        let bytes = piece.len().min((count - elements.len()) * N);
        next(&mut piece[..bytes])?;
        elements.extend(piece[..bytes].as_chunks::<N>().0.iter().map(|element| decode(*element)));
    }
    Ok(elements)
}

/// Hands the tensor's elements to `put` as little-endian bytes, in row-major order. The type must be one of [`stored_dtype`].
pub(super) fn write_tensor(tensor: &Tensor, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::argument("tensor", ArgumentCause::NotOnCpu));
    };
    let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
    match storage {
        CpuStorage::U8(elements) => emit(&elements[range], put, u8::to_le_bytes),
        CpuStorage::U32(elements) => emit(&elements[range], put, u32::to_le_bytes),
        CpuStorage::I16(elements) => emit(&elements[range], put, i16::to_le_bytes),
        CpuStorage::I32(elements) => emit(&elements[range], put, i32::to_le_bytes),
        CpuStorage::I64(elements) => emit(&elements[range], put, i64::to_le_bytes),
        CpuStorage::BF16(elements) => emit(&elements[range], put, bf16::to_le_bytes),
        CpuStorage::F16(elements) => emit(&elements[range], put, f16::to_le_bytes),
        CpuStorage::F32(elements) => emit(&elements[range], put, f32::to_le_bytes),
        CpuStorage::F64(elements) => emit(&elements[range], put, f64::to_le_bytes),
        _ => Err(Error::argument("tensor", ArgumentCause::CannotBeStored { found: tensor.dtype() })),
    }
}

/// Encodes elements and hands them out in pieces.
fn emit<T: WithDType, const N: usize>(
    elements: &[T],
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
    encode: impl Fn(T) -> [u8; N],
) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE.min(std::mem::size_of_val(elements)));
    for some in elements.chunks(PIECE / N) {
        piece.clear();
        piece.extend(some.iter().flat_map(|element| encode(*element)));
        put(&piece)?;
    }
    Ok(())
}

/// Checks that no element is NaN or infinite. Tensors of integers always pass.
///
/// # Errors
/// [`ElementError::NotFinite`] with the first such element.
pub fn require_finite(tensor: &Tensor) -> std::result::Result<(), ElementError> {
    let finite = || -> candle_core::Result<Option<usize>> {
        let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        Ok(match &*storage {
            Storage::Cpu(CpuStorage::BF16(elements)) => first_not(bf16::is_finite, &elements[range]),
            Storage::Cpu(CpuStorage::F16(elements)) => first_not(f16::is_finite, &elements[range]),
            Storage::Cpu(CpuStorage::F32(elements)) => first_not(f32::is_finite, &elements[range]),
            Storage::Cpu(CpuStorage::F64(elements)) => first_not(f64::is_finite, &elements[range]),
            _ => None,
        })
    };
    match finite()? {
        None => Ok(()),
        Some(position) => Err(ElementError::NotFinite { position }),
    }
}

/// The first element that is not finite. A run of elements is looked at without a branch for each, which vector instructions can do: all
/// weights of a network pass here while it is loaded.
fn first_not<T: Copy>(finite: impl Fn(T) -> bool, elements: &[T]) -> Option<usize> {
    const RUN: usize = 4096;
    let all = |run: &[T]| run.iter().fold(true, |all, element| all & finite(*element));
    let (number, run) = elements.chunks(RUN).enumerate().find(|(_, run)| !all(run))?;
    let within = run.iter().position(|element| !finite(*element))?;
    Some(number * RUN + within)
}

/// Changes the element type; numbers too large for it are an error, which candle would make infinite.
///
/// # Errors
/// [`ElementError::TooLarge`] with the first such number.
pub fn cast(tensor: &Tensor, dtype: DType) -> std::result::Result<Tensor, ElementError> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    let cast = tensor.to_dtype(dtype)?;
    match require_finite(&cast) {
        Ok(()) => Ok(cast),
        Err(ElementError::NotFinite { position }) => Err(ElementError::TooLarge { dtype, position }),
        Err(error @ (ElementError::TooLarge { .. } | ElementError::Tensors(_))) => Err(error),
    }
}
