//! kohya's format, with the components of LyCORIS' families: each layer keeps its own rank and alpha.

use super::kohya_name;
use super::metadata::{kohya_metadata, tensor_hashes};
use super::{AdapterFile, Entries};
use crate::adapter::Component;
use crate::adapter::component::ALPHA;
use crate::error::{Error, Result};
use crate::formats::{cast, write_safetensors};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

impl AdapterFile {
    /// Writes kohya's format: `lora_unet_*` and `lora_te_*` with `lora_down.weight`, `lora_up.weight` and `alpha` (a single number
    /// of the factors' type), or the components of the layer's family as LyCORIS names them; metadata as given in `metadata` and filled up
    /// to kohya's least, hashes recomputed. `dtype` casts the factors; without it they stay as they are.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a number that `dtype` cannot hold, [`Error::Io`] when the file cannot be written.
    pub fn write_kohya(
        path: impl AsRef<Path>,
        entries: &Entries,
        metadata: &BTreeMap<String, String>,
        dtype: Option<DType>,
    ) -> Result<()> {
        let path = path.as_ref();
        let mut tensors = BTreeMap::new();
        for ((network, layer), adapter) in entries {
            let name = kohya_name::name(*network, layer);
            let mut put = |component: Component, tensor: &Tensor, dtype: DType| -> Result<()> {
                let key = format!("{name}.{}", component.name());
                let tensor = cast(tensor, dtype).map_err(|cause| Error::tensor(path, &key, cause))?;
                tensors.insert(key, tensor);
                Ok(())
            };
            let components = adapter.components();
            let stored = components.first().map_or(DType::F32, |(_, tensor)| tensor.dtype());
            for (component, tensor) in components {
                put(component, tensor, dtype.unwrap_or(tensor.dtype()))?;
            }
            if let Some(alpha) = adapter.alpha.or(adapter.factors.rank().map(|rank| rank as f64)) {
                put(ALPHA, &Tensor::new(alpha, &Device::Cpu)?, alpha_dtype(alpha, dtype.unwrap_or(stored))?)?;
            }
            for (component, number) in adapter.factors.flags() {
                put(component, &Tensor::new(number, &Device::Cpu)?, DType::I64)?;
            }
        }
        let mut metadata = kohya_metadata(entries, metadata);
        let (model_hash, legacy_hash) = tensor_hashes(&tensors, &metadata)?;
        metadata.insert("sshs_model_hash".into(), model_hash);
        metadata.insert("sshs_legacy_hash".into(), legacy_hash);
        write_safetensors(path, tensors, &metadata)
    }
}

/// The factors' type, or float32 for an alpha that this type cannot hold or would make zero, which programs read differently.
fn alpha_dtype(alpha: f64, dtype: DType) -> Result<DType> {
    let held = Tensor::new(alpha, &Device::Cpu)?.to_dtype(dtype)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(if held.is_finite() && (held != 0.0 || alpha == 0.0) { dtype } else { DType::F32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, Factors, Lora};
    use crate::model_family::Network;

    // Found by fuzzing: an alpha of 1e-9 beside float16 factors became 0.
    #[test]
    fn an_alpha_that_the_factors_type_cannot_hold_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.safetensors");
        let layer = (Network::Unet, "mid_block.resnets.0.time_emb_proj".to_owned());
        let ones = |rows: usize, columns: usize| Tensor::ones((rows, columns), DType::F16, &Device::Cpu).unwrap();
        for alpha in [1e-9, 1e6, 2.0] {
            let factors = Factors::Lora(Lora { down: ones(2, 4), up: ones(3, 2), mid: None });
            let adapter = Adapter { alpha: Some(alpha), ..factors.into() };
            let entries = Entries::from([(layer.clone(), adapter)]);
            AdapterFile::write_kohya(&path, &entries, &BTreeMap::new(), None).unwrap();
            let found = AdapterFile::open(&path).unwrap().entries[&layer].alpha.unwrap();
            assert!((found / alpha - 1.0).abs() < 1e-6, "{alpha} became {found}");
        }
    }
}
