//! Where a network's tensors come from while it is built: a source of named tensors, a path into it, and the types to keep them in.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{Slot, Slots};
use crate::error::TensorCause;
use crate::formats::cast;
use crate::{Error, Result};

/// Named tensors of one network, under diffusers' names (`down_blocks.0.resnets.0.conv1.weight`).
pub trait TensorSource: Send + Sync {
    /// The tensor of this name in its stored type, on the CPU or on `device`. `shape` is what the network needs; a source that
    /// makes its tensors up needs it, one that reads them may ignore it (the caller checks).
    ///
    /// # Errors
    /// When the tensor is missing or cannot be read.
    fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor>;

    /// The file or folder, for messages.
    fn path(&self) -> PathBuf;
}

/// In which types a network keeps its weights and computes.
#[derive(Clone, Debug)]
pub struct WeightType {
    /// The type frozen weights are rounded to; `None` keeps what the file has.
    pub storage: Option<DType>,
    /// The type of activations, norms and biases. On a CPU always float32: half types are storage there, converted in the kernels.
    pub compute: DType,
}

impl WeightType {
    /// The types for a requested compute type on a device: on CUDA and Metal weights and activations are `dtype`; on the CPU
    /// activations stay float32, and a half `dtype` rounds the weights as the reference's `.to(dtype)` does.
    pub fn new(dtype: DType, device: &Device) -> Self {
        match (device.is_cpu(), dtype) {
            (true, DType::F32) => Self { storage: None, compute: DType::F32 },
            (true, half) => Self { storage: Some(half), compute: DType::F32 },
            (false, dtype) => Self { storage: Some(dtype), compute: dtype },
        }
    }
}

/// A path into a [`TensorSource`], as one grows while a module tree is built.
#[derive(Clone)]
pub struct Weights {
    source: Arc<dyn TensorSource>,
    prefix: String,
    device: Device,
    types: WeightType,
    slots: Slots,
}

impl fmt::Debug for Weights {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "Weights({}, {:?})", self.path().display(), self.prefix)
    }
}

impl Weights {
    /// The root of `source`: its tensors go to `device` in `types`.
    pub fn new(source: Arc<dyn TensorSource>, device: &Device, types: WeightType) -> Self {
        Self { source, prefix: String::new(), device: device.clone(), types, slots: Slots::default() }
    }

    /// The same source one module deeper, as in Python's attribute path.
    pub fn pp(&self, segment: impl Display) -> Self {
        let prefix = if self.prefix.is_empty() { segment.to_string() } else { format!("{}.{segment}", self.prefix) };
        Self { prefix, ..self.clone() }
    }

    /// The full name of `name` under this path.
    pub fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// A frozen weight in its storage type.
    ///
    /// # Errors
    /// [`Error::Tensor`] when it is missing, unreadable, or not of `shape`.
    pub fn weight(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.checked(name, shape)?;
        Ok(match self.types.storage {
            // On other devices the check would bring every weight back.
            Some(dtype) if tensor.device().is_cpu() => {
                cast(&tensor, dtype).map_err(|cause| Error::tensor(self.source.path(), self.full_name(name), cause))?
            }
            Some(dtype) => tensor.to_dtype(dtype)?,
            None => tensor,
        })
    }

    /// A small parameter (norm, bias, embedding table on request) in the compute type.
    ///
    /// # Errors
    /// As [`Weights::weight`].
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        // Rounded to the storage type first, so that `--dtype float16` means the same as the reference's `.to(float16)`.
        Ok(self.weight(name, shape)?.to_dtype(self.types.compute)?)
    }

    /// Registers the layer at this path as one that takes adapters.
    pub(super) fn register(&self, slot: Slot) -> Arc<Slot> {
        self.slots.insert(self.prefix.clone(), slot)
    }

    /// Every adapter slot registered so far by layers built from this source.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The device that tensors go to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of activations.
    pub fn compute_dtype(&self) -> DType {
        self.types.compute
    }

    /// The file or folder behind the source, for messages.
    pub fn path(&self) -> PathBuf {
        self.source.path()
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.full_name(name);
        let tensor = self.source.tensor(&name, shape, &self.device)?;
        // Some savers keep 1x1 convolutions and linear layers in each other's shape; the numbers are the same.
        let found = tensor.dims();
        if found == shape {
            return Ok(tensor);
        }
        let squeezed = |dims: &[usize]| -> Vec<usize> { dims.iter().copied().filter(|&d| d != 1).collect() };
        if found.len() != shape.len() && squeezed(found) == squeezed(shape) {
            return Ok(tensor.reshape(shape)?);
        }
        Err(Error::tensor(self.source.path(), name, TensorCause::Shape { expected: shape.to_vec(), found: found.to_vec() }))
    }
}

/// The error for a tensor that a source lacks.
pub(crate) fn missing_tensor(path: &Path, name: &str) -> Error {
    Error::tensor(path, name, TensorCause::MissingInNetwork)
}
