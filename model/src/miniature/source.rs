//! A source that makes up the tensors it is asked for, and remembers them.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::layers::TensorSource;
use crate::rng::Generator;

/// Draws each tensor when a network asks for it; the order of asking, and so the draw, is fixed by the network's constructor.
pub(super) struct SeededSource {
    dtype: DType,
    state: Mutex<(Generator, Vec<(String, Tensor)>)>,
}

impl SeededSource {
    pub fn new(seed: u64, dtype: DType) -> Self {
        Self { dtype, state: Mutex::new((Generator::manual_seed(seed), Vec::new())) }
    }

    /// Everything drawn so far, under the names it was asked for.
    pub fn drawn(&self) -> Vec<(String, Tensor)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl TensorSource for SeededSource {
    fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (center, spread) = distribution(name, shape);
        let uniform = state.0.rand(shape);
        let values: Vec<f32> = uniform.into_iter().map(|u| center + (2.0 * u - 1.0) * spread).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        state.1.push((name.to_owned(), tensor.clone()));
        Ok(tensor.to_device(device)?)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("(seeded)")
    }
}

/// Middle and half width of a parameter's uniform distribution: weights keep the scale of what passes through them, norms stay near
/// the identity, and nothing is zero, so that every parameter matters to the output.
fn distribution(name: &str, shape: &[usize]) -> (f32, f32) {
    let is_norm = name.contains("norm");
    match shape.len() {
        1 if is_norm && name.ends_with("weight") => (1.0, 0.1),
        1 => (0.0, 0.05),
        _ if name.contains("embedding.weight") => (0.0, 0.5),
        _ => {
            let fan_in: usize = shape[1..].iter().product();
            (0.0, (3.0 / fan_in as f32).sqrt())
        }
    }
}
