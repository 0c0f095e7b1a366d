//! diffusers' format, in the one form that every version of diffusers reads right: PEFT's component names throughout, no alpha (the
//! scale is multiplied into B), one rank for all layers of a network, no `lora_adapter_metadata`.
//!
//! Other forms are read wrongly by some version between 0.25 and 0.42: alphas that differ by layer are taken for one, mixed ranks
//! without metadata get the first layer's scale, metadata fails for text encoders from transformers 5 on.

use super::metadata::without_network_entries;
use super::{AdapterFile, Entries, Network};
use crate::adapter::{Adapter, Factors, Lora};
use crate::error::{AdapterCause, Error, Result};
use crate::formats::cast;
use crate::formats::write_safetensors;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The file's customary name.
pub const WEIGHT_NAME: &str = "pytorch_lora_weights.safetensors";

impl AdapterFile {
    /// Writes diffusers' format to a file: `unet.<path>.lora_A.weight` and `lora_B.weight`, `text_encoder.<path>...`; alpha over
    /// rank multiplied into B in float32 before rounding; smaller ranks padded with zeros up to the largest of the network.
    /// `dtype` casts the factors; without it they stay as they are.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a layer that is not LoRA or a number that the element type cannot hold, [`Error::Io`] when the file cannot be written.
    pub fn write_diffusers(
        path: impl AsRef<Path>,
        entries: &Entries,
        metadata: &BTreeMap<String, String>,
        dtype: Option<DType>,
    ) -> Result<()> {
        let path = path.as_ref();
        let mut ranks: BTreeMap<Network, usize> = BTreeMap::new();
        for ((network, layer), adapter) in entries {
            let rank = ranks.entry(*network).or_default();
            *rank = lora(path, &format!("{network}.{layer}"), adapter)?.rank().max(*rank);
        }
        let mut tensors = BTreeMap::new();
        for ((network, layer), adapter) in entries {
            let lora = lora(path, &format!("{network}.{layer}"), adapter)?;
            let (a, b) = plain_factors(path, &format!("{network}.{layer}"), lora, adapter.scale(), dtype)?;
            let missing = ranks[network] - lora.rank();
            tensors.insert(format!("{network}.{layer}.lora_A.weight"), a.pad_with_zeros(0, 0, missing)?);
            tensors.insert(format!("{network}.{layer}.lora_B.weight"), b.pad_with_zeros(1, 0, missing)?);
        }
        write_safetensors(path, tensors, &without_network_entries(metadata))
    }
}

/// A and B of the change `B A`, with the scale in B.
fn plain_factors(path: &Path, layer: &str, lora: &Lora, scale: f64, dtype: Option<DType>) -> Result<(Tensor, Tensor)> {
    let cast = |tensor: &Tensor, stored: DType, component: &str| {
        cast(tensor, dtype.unwrap_or(stored)).map_err(|cause| Error::tensor(path, format!("{layer}.{component}.weight"), cause))
    };
    let scaled = if scale == 1.0 { lora.up.clone() } else { (lora.up.to_dtype(DType::F32)? * scale)? };
    Ok((cast(&lora.down_with_core()?, lora.down.dtype(), "lora_A")?, cast(&scaled, lora.up.dtype(), "lora_B")?))
}

/// The factors of a layer that is LoRA, with a core or without, and nothing besides.
fn lora<'a>(path: &Path, layer: &str, adapter: &'a Adapter) -> Result<&'a Lora> {
    match &adapter.factors {
        Factors::Lora(lora) if adapter.magnitude.is_none() && adapter.bias.is_none() => Ok(lora),
        _ => {
            let found = if adapter.bias.is_some() { "a difference of a bias".to_owned() } else { adapter.family() };
            Err(Error::tensor(path, layer, AdapterCause::NotInThisFormat { found }))
        }
    }
}
