//! Where to compute, and on how many threads.

use crate::options::DeviceChoice;
use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device};
use driftless::{Error, Result};

/// Opens the device.
///
/// # Errors
/// When this build or this machine does not have it.
pub fn open(choice: DeviceChoice) -> Result<Device> {
    let missing = |name: &str| {
        let advice = format!("build with `cargo build --release --features {name}`, or use --device cpu");
        Err(Error::argument(format!("--device {name}"), format!("this build has no {name} support; {advice}")))
    };
    let unavailable = |name: String, error: candle_core::Error| {
        Error::argument(format!("--device {name}"), format!("{error}; or use --device cpu"))
    };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if cuda_is_available() => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        DeviceChoice::Auto if metal_is_available() => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
        DeviceChoice::Auto => Ok(Device::Cpu),
        DeviceChoice::Cuda(_) if !cuda_is_available() => missing("cuda"),
        DeviceChoice::Cuda(number) => Device::new_cuda(number).map_err(|error| unavailable(format!("cuda:{number}"), error)),
        DeviceChoice::Metal if !metal_is_available() => missing("metal"),
        DeviceChoice::Metal => Device::new_metal(0).map_err(|error| unavailable("metal".into(), error)),
    }
}

/// The compute type of frozen networks when none was asked for: float16 on a GPU, float32 on a CPU.
pub fn default_dtype(device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { DType::F16 }
}

/// Sizes the pool of threads that all kernels compute in: `--threads`, or one a processor. Says how many there are.
///
/// # Errors
/// When the pool was made already, or the system does not give so many threads.
pub fn set_threads(threads: Option<usize>) -> Result<usize> {
    if let Some(threads) = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|error| Error::argument(format!("--threads {threads}"), error.to_string()))?;
    }
    Ok(rayon::current_num_threads())
}
