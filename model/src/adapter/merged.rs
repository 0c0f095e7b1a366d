//! Weights and biases with the changes of adapters: the one place where a change is added to what it changes.

use std::borrow::Borrow;

use candle_core::{DType, Tensor};

use super::Adapter;
use crate::Result;

/// A weight with the changes of all adapters, float32. Each changes the weight as it is given, and the changes add up, as they do where
/// adapters are attached side by side.
///
/// # Errors
/// When the shapes disagree.
pub fn merged_weight<A: Borrow<Adapter>>(weight: &Tensor, adapters: &[A]) -> Result<Tensor> {
    let weight = weight.to_dtype(DType::F32)?;
    adapters.iter().try_fold(weight.clone(), |sum, adapter| Ok((sum + adapter.borrow().delta(&weight)?)?))
}

/// A bias with the changes of all adapters, float32; `None` where nothing changes it. A layer without a bias has one of zeros.
///
/// # Errors
/// When the shapes disagree.
pub fn merged_bias<A: Borrow<Adapter>>(bias: Option<&Tensor>, adapters: &[A]) -> Result<Option<Tensor>> {
    let mut merged: Option<Tensor> = None;
    for adapter in adapters {
        let Some(change) = adapter.borrow().bias_change()? else { continue };
        let change = change.to_dtype(DType::F32)?;
        merged = Some(match (merged, bias) {
            (Some(sum), _) => (sum + change)?,
            (None, Some(bias)) => (bias.to_dtype(DType::F32)? + change)?,
            (None, None) => change,
        });
    }
    Ok(merged)
}
