//! The device that was asked for.

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device};
use features::plan::Fault;

use crate::args::DeviceChoice;

/// Opens the device.
///
/// # Errors
/// When this build or this machine does not have it.
pub fn open(choice: DeviceChoice) -> Result<Device, Fault> {
    let missing = |what: &str, feature: &str| {
        let advice = format!("build with `cargo build --release --features {feature}`, or use --device cpu");
        Fault::failure(format!("--device {what}: this build has no {feature} support; {advice}"))
    };
    let unavailable =
        |what: &str, error: candle_core::Error| Fault::failure(format!("--device {what}: {error}; or use --device cpu"));
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if cuda_is_available() => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        DeviceChoice::Auto if metal_is_available() => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
        DeviceChoice::Auto => Ok(Device::Cpu),
        DeviceChoice::Cuda(_) if !cuda_is_available() => Err(missing("cuda", "cuda")),
        DeviceChoice::Cuda(number) => Device::new_cuda(number).map_err(|error| unavailable(&format!("cuda:{number}"), error)),
        DeviceChoice::Metal if !metal_is_available() => Err(missing("metal", "metal")),
        DeviceChoice::Metal => Device::new_metal(0).map_err(|error| unavailable("metal", error)),
    }
}

/// The compute type when none was asked for: the original's float16 on a GPU, float32 on a CPU.
pub fn default_dtype(device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { DType::F16 }
}
