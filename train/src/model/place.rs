//! Where the model is, and where it computes.

use crate::options::{ModelOptions, Precision};
use anyhow::{Context, Result, bail};
use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device};
use driftless::hub::{self, HubOptions};
use std::path::PathBuf;

/// The model's folder or file on this machine, downloaded if it is a hub id.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn find(options: &ModelOptions) -> Result<PathBuf> {
    find_at(&options.pretrained_model_name_or_path)
}

/// The folder or file of `model`, a path or a hub id.
///
/// # Errors
/// As [`find`].
pub fn find_at(model: &str) -> Result<PathBuf> {
    Ok(hub::resolve(model, &HubOptions::from_env())?)
}

/// The device of `--device`.
///
/// # Errors
/// When this build or this machine does not have it.
pub fn device(options: &ModelOptions) -> Result<Device> {
    let name = options.device.to_ascii_lowercase();
    let (kind, number) = match name.split_once(':') {
        Some((kind, number)) => (kind, number.parse().with_context(|| format!("--device {name}: `{number}` is not a number"))?),
        None => (name.as_str(), 0),
    };
    let needs = |feature: &str| {
        format!("--device {name}: this build has no {feature}; build with --features {feature}, or use --device cpu")
    };
    match kind {
        "auto" if cuda_is_available() => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        "auto" if metal_is_available() => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
        "auto" | "cpu" => Ok(Device::Cpu),
        "cuda" if cuda_is_available() => Device::new_cuda(number).with_context(|| format!("--device {name}")),
        "metal" if metal_is_available() => Device::new_metal(number).with_context(|| format!("--device {name}")),
        "cuda" | "metal" => bail!("{}", needs(kind)),
        _ => Err(driftless::Error::unknown("device", &name, ["auto", "cpu", "cuda", "metal"]).into()),
    }
}

/// The type that the frozen model is asked to compute in.
///
/// # Errors
/// For float16 on a GPU, whose gradients would need their loss scaled.
pub fn dtype(options: &ModelOptions, device: &Device) -> Result<DType> {
    match options.mixed_precision {
        Precision::No => Ok(DType::F32),
        Precision::Bf16 => Ok(DType::BF16),
        Precision::Fp16 if device.is_cpu() => Ok(DType::F16),
        Precision::Fp16 => {
            bail!("--mixed_precision fp16 is not supported on this device, because small gradients vanish; use bf16")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn devices() {
        let open = |name: &str| device(&Options::of(&[&format!("--device={name}")]).model);
        assert!(open("cpu").unwrap().is_cpu());
        for (wrong, expected) in [("gpu", "unknown device"), ("cuda:x", "not a number"), ("cdua", "did you mean `cuda`")] {
            let message = format!("{:#}", open(wrong).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
    }
}
