//! Options that say which model computes, where and how: the same for extracting from images and while an image is generated.

use clap::Args;
use driftless_cli::options::{DeviceChoice, Precision};

/// Options of the model.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Diffusers folder, checkpoint file or hub id [default: stable-diffusion-v1-5/stable-diffusion-v1-5]
    #[arg(long, alias = "pretrained-model-name-or-path", value_name = "DIR|FILE|ID", help_heading = "Model")]
    pub model: Option<String>,
    /// For a checkpoint file: folder or hub id with its configurations and tokenizer [default: stable-diffusion-v1-5's]
    #[arg(long, value_name = "DIR|ID", help_heading = "Model")]
    pub base: Option<String>,
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REVISION", help_heading = "Model")]
    pub revision: Option<String>,
    /// Compute type [default: float16 on a GPU, float32 on a CPU]
    #[arg(long, value_enum, value_name = "TYPE", help_heading = "Model")]
    pub dtype: Option<Precision>,
    /// auto, cpu, cuda, cuda:N or metal [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Model")]
    pub device: Option<DeviceChoice>,
    /// Threads of the CPU [default: all]
    #[arg(long, value_name = "N", help_heading = "Running")]
    pub threads: Option<usize>,
}
