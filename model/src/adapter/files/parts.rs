//! Reads the tensors of a layer's parts, in the form of the layer's kind.

use crate::error::{Error, Result};
use crate::formats::WeightFile;
use crate::formats::require_finite;
use crate::model_family::LayerKind;
use candle_core::{Device, Tensor};

/// Reads parts of a layer of a kind.
pub(super) struct Reader<'a> {
    pub file: &'a WeightFile,
    pub kind: LayerKind,
}

impl Reader<'_> {
    /// LoRA's `down`; with a core its kernel is 1x1.
    pub fn down(&self, key: &str, has_core: bool) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        let shape = tensor.dims().to_vec();
        let wide_kernel = self.kind == LayerKind::Convolution && !has_core;
        match (self.kind, shape.as_slice()) {
            (LayerKind::Linear, [_, _]) => Ok(tensor),
            (LayerKind::Linear, &[rank, inputs, 1, 1]) => Ok(tensor.reshape((rank, inputs))?),
            (_, [_, _, 1, 1]) => Ok(tensor),
            (_, [_, _, _, _]) if wide_kernel => Ok(tensor),
            (_, &[rank, inputs]) if !wide_kernel => Ok(tensor.reshape((rank, inputs, 1, 1))?),
            _ => Err(self.wrong(key, &shape, if wide_kernel { "[rank, in, k, k]" } else { "[rank, in]" })),
        }
    }

    /// LoRA's `up`.
    pub fn up(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        let shape = tensor.dims().to_vec();
        match (self.kind, shape.as_slice()) {
            (LayerKind::Linear, [_, _]) => Ok(tensor),
            (LayerKind::Linear, &[outputs, rank, 1, 1]) => Ok(tensor.reshape((outputs, rank))?),
            (_, [_, _, 1, 1]) => Ok(tensor),
            (_, &[outputs, rank]) => Ok(tensor.reshape((outputs, rank, 1, 1))?),
            _ => Err(self.wrong(key, &shape, "[out, rank]")),
        }
    }

    /// A core of Tucker's decomposition.
    pub fn core(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match tensor.dims() {
            [_, _, _, _] if self.kind == LayerKind::Convolution => Ok(tensor),
            shape => Err(self.wrong(key, shape, "[rank, rank, k, k] on a convolution")),
        }
    }

    /// A matrix whatever the layer is.
    pub fn matrix(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match *tensor.dims() {
            [_, _] => Ok(tensor),
            [rows, columns, 1, 1] => Ok(tensor.reshape((rows, columns))?),
            ref shape => Err(self.wrong(key, shape, "a matrix")),
        }
    }

    /// A tensor of the layer's weight's rank, or a smaller one of the same form.
    pub fn weight_like(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match (self.kind, tensor.dims()) {
            (_, [_, _]) | (LayerKind::PointwiseConvolution, [_, _, 1, 1]) | (LayerKind::Convolution, [_, _, _, _]) => Ok(tensor),
            (LayerKind::Linear, &[rows, columns, 1, 1]) => Ok(tensor.reshape((rows, columns))?),
            (_, shape) => Err(self.wrong(key, shape, "the form of the layer's weight")),
        }
    }

    /// A whole weight.
    pub fn weight(&self, key: &str) -> Result<Tensor> {
        let tensor = self.weight_like(key)?;
        match (self.kind, tensor.dims()) {
            (LayerKind::PointwiseConvolution, &[outputs, inputs]) => Ok(tensor.reshape((outputs, inputs, 1, 1))?),
            (LayerKind::Convolution, shape @ [_, _]) => Err(self.wrong(key, shape, "[out, in, k, k]")),
            _ => Ok(tensor),
        }
    }

    /// A vector.
    pub fn vector(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        match tensor.dims() {
            [_] => Ok(tensor),
            shape => Err(self.wrong(key, shape, "one size")),
        }
    }

    /// DoRA's magnitudes: LyCORIS has the weight's number of axes, PEFT one axis on linear layers and `[1, out, 1, 1]` on
    /// convolutions.
    pub fn magnitude(&self, key: &str) -> Result<Tensor> {
        let tensor = self.numbers(key)?;
        let peft = key.contains("lora_magnitude_vector");
        let axes = if self.kind.is_convolution() { 4 } else { 2 };
        let shape = tensor.dims().to_vec();
        let long = shape.iter().filter(|size| **size > 1).count();
        let mut wanted = vec![1; axes];
        match shape.as_slice() {
            [count] => wanted[0] = *count,
            [1, count, 1, 1] if peft => wanted[0] = *count,
            [rows, columns] | [rows, columns, 1, 1] if long <= 1 => (wanted[0], wanted[1]) = (*rows, *columns),
            _ => return Err(self.wrong(key, &shape, "[out, 1] or [1, in], with further sizes of one on a convolution")),
        }
        Ok(tensor.reshape(wanted)?)
    }

    fn wrong(&self, key: &str, shape: &[usize], expected: &str) -> Error {
        let kind = match self.kind {
            LayerKind::Linear => "linear layer",
            LayerKind::PointwiseConvolution => "1x1 convolution",
            LayerKind::Convolution => "convolution",
        };
        Error::tensor(self.file.path(), key, format!("has shape {shape:?} on a {kind}, expected {expected}"))
    }

    /// Reads a factor: floating-point, not empty, every number finite.
    pub fn numbers(&self, key: &str) -> Result<Tensor> {
        let file = self.file;
        if let Some(info) = file.info(key) {
            if info.shape.contains(&0) || info.shape.is_empty() {
                let problem = format!("is empty or a single number (shape {:?}); a matrix is expected", info.shape);
                return Err(Error::tensor(file.path(), key, problem));
            }
            if !info.tensor_dtype().is_some_and(|dtype| dtype.is_float()) {
                let problem = format!("has elements of type {:?}; floating-point numbers are expected", info.dtype);
                return Err(Error::tensor(file.path(), key, problem));
            }
        }
        let tensor = file.tensor(key, &Device::Cpu)?;
        require_finite(&tensor).map_err(|problem| Error::tensor(file.path(), key, problem))?;
        Ok(tensor)
    }
}
