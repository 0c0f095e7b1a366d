//! kohya's format: each layer keeps its own rank and alpha.

use super::super::elements::cast;
use super::super::naming::kohya;
use super::super::safetensors::write_safetensors;
use super::metadata::{kohya_metadata, tensor_hashes};
use super::{AdapterFile, Factors, Network};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

impl AdapterFile {
    /// Writes kohya's format: `lora_unet_*` and `lora_te_*` with `lora_down.weight`, `lora_up.weight` and `alpha` (a single number
    /// of the factors' type), metadata as given in `metadata` and filled up to kohya's least, hashes recomputed. `dtype` casts
    /// the factors; without it they stay as they are.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a number that `dtype` cannot hold, [`Error::Io`] when the file cannot be written.
    pub fn write_kohya(
        path: impl AsRef<Path>,
        entries: &BTreeMap<(Network, String), Factors>,
        metadata: &BTreeMap<String, String>,
        dtype: Option<DType>,
    ) -> Result<()> {
        let path = path.as_ref();
        let mut tensors = BTreeMap::new();
        for ((network, layer), Factors::Lora(lora)) in entries {
            let name = kohya::name(*network, layer);
            let dtype = dtype.unwrap_or(lora.down.dtype());
            let mut put = |part: &str, tensor: &Tensor| -> Result<()> {
                let key = format!("{name}.{part}");
                let tensor = cast(tensor, dtype).map_err(|problem| Error::tensor(path, &key, problem))?;
                tensors.insert(key, tensor);
                Ok(())
            };
            put("lora_down.weight", &lora.down)?;
            put("lora_up.weight", &lora.up)?;
            if let Some(mid) = &lora.mid {
                put("lora_mid.weight", mid)?;
            }
            let alpha = lora.alpha.unwrap_or(lora.rank() as f64);
            put("alpha", &Tensor::new(alpha, &Device::Cpu)?)?;
        }
        let mut metadata = kohya_metadata(entries, metadata);
        let (model_hash, legacy_hash) = tensor_hashes(&tensors, &metadata)?;
        metadata.insert("sshs_model_hash".into(), model_hash);
        metadata.insert("sshs_legacy_hash".into(), legacy_hash);
        write_safetensors(path, tensors, &metadata)
    }
}
