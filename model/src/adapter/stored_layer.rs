//! What a file holds for one layer: its components by name, and their tensors, checked and in the form of the layer's kind.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::component::Component;
use super::files::Scheme;
use crate::error::{AdapterCause, Error, Result, TensorCause};
use crate::formats::{WeightFile, require_finite};
use crate::model_family::{LayerKind, Network};

/// The keys of one layer's components, and the spelling of each.
pub(super) type Keys = BTreeMap<Component, (String, Scheme)>;

/// One layer's components in a file.
pub(super) struct StoredLayer<'a> {
    pub file: &'a WeightFile,
    pub network: Network,
    pub path: &'a str,
    pub kind: LayerKind,
    pub keys: &'a Keys,
}

impl StoredLayer<'_> {
    /// The key of a component, where it is there.
    pub fn key(&self, component: Component) -> Option<&str> {
        self.keys.get(&component).map(|(key, _)| key.as_str())
    }

    /// Whether a component is there.
    pub fn has(&self, component: Component) -> bool {
        self.keys.contains_key(&component)
    }

    /// The first key of the layer, for errors on the whole of it.
    pub fn any_key(&self) -> &str {
        self.keys.values().next().map_or(self.path, |(key, _)| key.as_str())
    }

    /// The key of a component without which `other`, which is there, means nothing.
    pub fn needed(&self, component: Component, other: Component) -> Result<&str> {
        self.key(component).ok_or_else(|| {
            let key = self.key(other).unwrap_or_else(|| self.any_key());
            self.wrong(key, AdapterCause::PartnerMissing { component: component.description().to_string() })
        })
    }

    /// The error for a key.
    pub fn wrong(&self, key: &str, cause: impl Into<TensorCause>) -> Error {
        Error::tensor(self.file.path(), key, cause)
    }

    /// The error for a shape that is none of those expected.
    pub fn wrong_shape(&self, key: &str, shape: &[usize], expected: &str) -> Error {
        let layer = match self.kind {
            LayerKind::Linear => "linear layer",
            LayerKind::PointwiseConvolution => "1x1 convolution",
            LayerKind::Convolution => "convolution",
            LayerKind::Norm => "norm",
        };
        self.wrong(key, AdapterCause::Shape { found: shape.to_vec(), layer, expected: expected.to_owned() })
    }

    /// A number.
    pub fn scalar(&self, key: &str) -> Result<f64> {
        self.file.scalar(key)
    }

    /// A factor: floating-point, not empty, every number finite.
    pub fn numbers(&self, key: &str) -> Result<Tensor> {
        if let Some(info) = self.file.info(key) {
            if info.shape.contains(&0) || info.shape.is_empty() {
                return Err(self.wrong(key, AdapterCause::NotAMatrix { found: info.shape.clone() }));
            }
            if !info.tensor_dtype().is_some_and(|dtype| dtype.is_float()) {
                return Err(self.wrong(key, AdapterCause::NotFloat { found: info.dtype }));
            }
        }
        let tensor = self.file.tensor(key, &Device::Cpu)?;
        require_finite(&tensor).map_err(|cause| self.wrong(key, cause))?;
        Ok(tensor)
    }

    /// A matrix whatever the layer is.
    pub fn matrix(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match *tensor.dims() {
            [_, _] => Ok(tensor),
            [rows, columns, 1, 1] => Ok(tensor.reshape((rows, columns))?),
            ref shape => Err(self.wrong_shape(key, shape, "a matrix")),
        }
    }

    /// A vector.
    pub fn vector(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match tensor.dims() {
            [_] => Ok(tensor),
            shape => Err(self.wrong_shape(key, shape, "one size")),
        }
    }

    /// A core of Tucker's decomposition.
    pub fn core(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match tensor.dims() {
            [_, _, _, _] if self.kind == LayerKind::Convolution => Ok(tensor),
            shape => Err(self.wrong_shape(key, shape, "[rank, rank, k, k] on a convolution")),
        }
    }

    /// Checks that a core's first two sizes are the rank.
    pub fn square(&self, key: &str, core: &Tensor, rank: usize) -> Result<()> {
        if core.dims()[..2] == [rank, rank] {
            return Ok(());
        }
        Err(self.wrong(key, AdapterCause::Core { found: core.dims().to_vec(), rank }))
    }

    /// A tensor of the layer's weight's rank, or a smaller one of the same form.
    pub fn weight_like(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match (self.kind, tensor.dims()) {
            (_, [_, _]) | (LayerKind::PointwiseConvolution, [_, _, 1, 1]) | (LayerKind::Convolution, [_, _, _, _]) => Ok(tensor),
            (LayerKind::Linear, &[rows, columns, 1, 1]) => Ok(tensor.reshape((rows, columns))?),
            (_, shape) => Err(self.wrong_shape(key, shape, "the form of the layer's weight")),
        }
    }

    /// A whole weight.
    pub fn weight(&self, key: &str) -> Result<Tensor> {
        let tensor = self.weight_like(key)?;
        match (self.kind, tensor.dims()) {
            (LayerKind::PointwiseConvolution, &[outputs, inputs]) => Ok(tensor.reshape((outputs, inputs, 1, 1))?),
            (LayerKind::Convolution, shape @ [_, _]) => Err(self.wrong_shape(key, shape, "[out, in, k, k]")),
            _ => Ok(tensor),
        }
    }

    /// Checks that a size of one factor is a size of another.
    pub fn agree(
        &self,
        (key, tensor): (&str, &Tensor),
        axis: usize,
        (other, same): (&str, &Tensor),
        same_axis: usize,
    ) -> Result<()> {
        if tensor.dims()[axis] == same.dims()[same_axis] {
            return Ok(());
        }
        let (found, other_shape) = (tensor.dims().to_vec(), same.dims().to_vec());
        Err(self.wrong(key, AdapterCause::Unequal { found, other: other.to_owned(), other_shape }))
    }
}
