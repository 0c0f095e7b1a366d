//! Whether an adapter fits a base model: every layer exists there and has the sizes that the factors have.

use super::{AdapterFile, Factors, Network};
use crate::error::{Error, Result};

impl AdapterFile {
    /// Checks every layer against the base model; `weight_shape` answers the shape of the weight at a module path, `None` where
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming the first layer that is not in the base or has other sizes there.
    pub fn check_fit(&self, weight_shape: impl Fn(Network, &str) -> Option<Vec<usize>>) -> Result<()> {
        for ((network, path), factors) in &self.entries {
            let layer = format!("{network}.{path}");
            let Some(weight) = weight_shape(*network, path) else {
                return Err(Error::tensor(&self.path, layer, "the base model has no such layer"));
            };
            let change = change_shape(factors);
            if without_unit_kernel(&change) != without_unit_kernel(&weight) {
                let problem = format!("changes a weight of shape {change:?}, the base model's has {weight:?}");
                return Err(Error::tensor(&self.path, layer, problem));
            }
        }
        Ok(())
    }
}

/// Shape of the weight that the factors change.
fn change_shape(factors: &Factors) -> Vec<usize> {
    let Factors::Lora(lora) = factors;
    let mut shape = vec![lora.up.dims()[0], lora.down.dims()[1]];
    shape.extend(&lora.mid.as_ref().unwrap_or(&lora.down).dims()[2..]);
    shape
}

/// A 1x1 convolution is a matrix.
fn without_unit_kernel(shape: &[usize]) -> &[usize] {
    shape.strip_suffix(&[1, 1]).filter(|rest| rest.len() == 2).unwrap_or(shape)
}
