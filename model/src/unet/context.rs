//! The text that a UNet attends to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::Result;

/// A prompt's states with the cross-attention keys and values made from them, which depend on the text alone: computed at the first
/// use and kept for every later image and step.
///
/// The keys and values belong to one network with the adapters it had then: make a new context after swapping adapters.
#[derive(Debug)]
pub struct TextContext {
    states: Tensor,
    keys_values: Option<Mutex<HashMap<usize, (Tensor, Tensor)>>>,
}

impl TextContext {
    /// A context that keeps keys and values.
    ///
    /// # Shapes
    /// `states` `[1 or b, n, cross_attention_dim]`.
    pub fn new(states: Tensor) -> Self {
        Self { states, keys_values: Some(Mutex::default()) }
    }

    /// A context that keeps nothing, for training: there the states or the layers change.
    pub fn uncached(states: Tensor) -> Self {
        Self { states, keys_values: None }
    }

    /// The text encoder's states, `[1 or b, n, cross_attention_dim]`.
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// The keys and values of the cross-attention layer numbered `layer`.
    pub(super) fn keys_values(
        &self,
        layer: usize,
        compute: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        let Some(cache) = &self.keys_values else { return compute(&self.states) };
        // A panic elsewhere cannot leave half an entry in the map, so a poisoned lock is still good.
        if let Some(found) = cache.lock().unwrap_or_else(PoisonError::into_inner).get(&layer) {
            return Ok(found.clone());
        }
        let made = compute(&self.states)?;
        cache.lock().unwrap_or_else(PoisonError::into_inner).insert(layer, made.clone());
        Ok(made)
    }
}

/// Repeats a batch of one to `batch`; a full batch stays as it is.
pub(super) fn expand_batch(tensor: &Tensor, batch: usize) -> Result<Tensor> {
    let dims = tensor.dims3()?;
    if dims.0 == batch {
        return Ok(tensor.clone());
    }
    Ok(tensor.broadcast_as((batch, dims.1, dims.2))?.contiguous()?)
}
