//! Where to compute, and on how many threads.

use crate::options::DeviceChoice;
use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device};
use driftless::error::ArgumentCause;
use driftless::{Error, Result};

/// Opens the device.
///
/// # Errors
/// When this build or this machine does not have it.
pub fn open(choice: DeviceChoice) -> Result<Device> {
    let missing = |feature: &'static str| {
        let cause = ArgumentCause::above(DeviceError::NotBuilt { feature });
        Err(Error::argument(format!("--device {feature}"), cause))
    };
    let unavailable = |name: String, source: candle_core::Error| {
        Error::argument(format!("--device {name}"), ArgumentCause::above(DeviceError::Unavailable { source }))
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

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without it.
    #[error("this build has no {feature} support; build with `cargo build --release --features {feature}`, or use --device cpu")]
    NotBuilt {
        /// The feature of the build.
        feature: &'static str,
    },
    /// The machine does not give it.
    #[error("{source}; or use --device cpu")]
    Unavailable {
        /// What its driver says.
        source: candle_core::Error,
    },
}

/// The compute type of frozen networks when none was asked for: float16 on a GPU, float32 on a CPU.
pub fn default_dtype(device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { DType::F16 }
}

/// The most threads that are made: more than the processors of any one machine.
const MOST_THREADS: usize = 1024;

/// More threads are asked for than are made.
#[derive(Debug, thiserror::Error)]
#[error("at most {MOST_THREADS}; this machine runs {here} at once")]
struct TooManyThreads {
    here: usize,
}

/// Sizes the pool of threads that all kernels compute in: `--threads`, or one a processor. Says how many there are.
///
/// # Errors
/// When the pool was made already, or the system does not give so many threads.
pub fn set_threads(threads: Option<usize>) -> Result<usize> {
    if let Some(threads) = threads {
        if threads > MOST_THREADS {
            let here = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
            return Err(Error::argument(format!("--threads {threads}"), ArgumentCause::above(TooManyThreads { here })));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|error| Error::argument(format!("--threads {threads}"), ArgumentCause::above(error)))?;
    }
    Ok(rayon::current_num_threads())
}
