//! Whether an adapter fits a base model: every layer exists there and has the sizes that the factors have.

use super::{AdapterFile, Network};
use crate::error::{AdapterCause, Error, Result};

impl AdapterFile {
    /// Checks every layer against the base model; `weight_shape` answers the shape of the weight at a module path, `None` where
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming the first layer that is not in the base or has other sizes there.
    pub fn check_fit(&self, weight_shape: impl Fn(Network, &str) -> Option<Vec<usize>>) -> Result<()> {
        for ((network, path), adapter) in &self.entries {
            let layer = format!("{network}.{path}");
            let Some(weight) = weight_shape(*network, path) else {
                return Err(Error::tensor(&self.path, layer, AdapterCause::NoSuchLayer));
            };
            adapter.check(&weight).map_err(|misfit| Error::tensor(&self.path, layer, AdapterCause::BaseModel { misfit }))?;
        }
        Ok(())
    }
}
