//! Bytes to tensors and back, as diffusers' `VaeImageProcessor` does it.
//!
//! Reference: diffusers 0.32.2 `image_processor.VaeImageProcessor.preprocess` and `.postprocess`, float32.

use super::{Gray, Rgb};
use crate::error::{ArgumentCause, Error, Result};
use candle_core::{DType, Device, Tensor};

impl Rgb {
    /// The VAE's input: `[1, 3, height, width]`, float32, `2 * (byte / 255) - 1`, so -1..1.
    ///
    /// # Errors
    /// [`Error::Tensors`] when the device has no room.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        planes(&self.pixels, 3, self.height, self.width, device, |unit| 2.0 * unit - 1.0)
    }

    /// A ControlNet's condition: `[1, 3, height, width]`, float32, `byte / 255`, so 0..1.
    ///
    /// # Errors
    /// [`Error::Tensors`] when the device has no room.
    pub fn to_unit_tensor(&self, device: &Device) -> Result<Tensor> {
        planes(&self.pixels, 3, self.height, self.width, device, |unit| unit)
    }

    /// The image in a tensor `[3, height, width]` or `[1, 3, height, width]` of values -1..1: `x / 2 + 0.5`, clamped to 0..1,
    /// times 255, rounded half to even (numpy's rule). Values outside are clamped; not-a-number becomes 0.
    ///
    /// # Errors
    /// [`Error::Argument`] for another shape, [`Error::Tensors`] when the tensor cannot be read.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let (height, width) = match *tensor.dims() {
            [3, height, width] | [1, 3, height, width] => (height, width),
            ref other => {
                return Err(Error::argument("image tensor", ArgumentCause::ImageShape { found: other.to_vec() }));
            }
        };
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let plane = height * width;
        // `as u8` saturates and maps NaN to 0.
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
        let pixels = (0..plane).flat_map(|at| [0, 1, 2].map(|channel| byte(values[channel * plane + at]))).collect();
        Ok(Self { width, height, pixels })
    }
}

impl Gray {
    /// `[1, 1, height, width]`, float32, `byte / 255`, so 0..1.
    ///
    /// # Errors
    /// [`Error::Tensors`] when the device has no room.
    pub fn to_unit_tensor(&self, device: &Device) -> Result<Tensor> {
        planes(&self.pixels, 1, self.height, self.width, device, |unit| unit)
    }
}

/// Interleaved bytes as channel planes, each byte through `map(byte / 255)`.
fn planes(
    pixels: &[u8],
    channels: usize,
    height: usize,
    width: usize,
    device: &Device,
    map: impl Fn(f32) -> f32,
) -> Result<Tensor> {
    let table: [f32; 256] = std::array::from_fn(|byte| map(byte as f32 / 255.0));
    let mut values = Vec::with_capacity(pixels.len());
    for channel in 0..channels {
        values.extend(pixels.iter().skip(channel).step_by(channels).map(|&byte| table[usize::from(byte)]));
    }
    Ok(Tensor::from_vec(values, (1, channels, height, width), device)?)
}
