//! Options of extracting while an image is generated.

use std::path::PathBuf;

use clap::Args;
use driftless::taps::AttentionCategory;
use features::set::LoraFile;
use features::stores::OutputPrecision;

use super::{ANY, ModelArgs, non_empty_path, whole};

/// Options of `extract generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Which model, where and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Adapter of any family, with a strength [default strength: 1]; repeatable
    #[arg(long, value_name = "FILE[:SCALE]", help_heading = "Model")]
    pub lora: Vec<LoraFile>,

    /// What to show
    #[arg(long, value_name = "TEXT", help_heading = "Image")]
    pub prompt: String,
    /// What not to show
    #[arg(long, default_value = "", value_name = "TEXT", help_heading = "Image")]
    pub negative_prompt: String,
    /// Denoising steps of the model's own scheduler
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole::<u32>(1..=1000), allow_negative_numbers = true, help_heading = "Image")]
    pub steps: u32,
    /// Weight of the prompt against the negative prompt; 1 or less turns guidance off
    #[arg(long, default_value_t = 7.5, value_name = "X", allow_negative_numbers = true, help_heading = "Image")]
    pub guidance_scale: f64,
    /// Seed of the noise
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole::<u64>(ANY), allow_negative_numbers = true, help_heading = "Image")]
    pub seed: u64,
    /// Height in pixels, a multiple of 8
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Image")]
    pub height: usize,
    /// Width in pixels, a multiple of 8
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Image")]
    pub width: usize,

    /// Calls of the UNet, from 1, at which features are kept; PNDM makes one more than there are steps
    #[arg(long, required = true, value_delimiter = ',', num_args = 1.., value_name = "N,N,...", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "What to extract")]
    pub at_steps: Vec<usize>,
    /// JSON file of layers [default: all layers]
    #[arg(long, value_name = "FILE", value_parser = non_empty_path, help_heading = "What to extract")]
    pub layer: Option<PathBuf>,
    /// Aggregated attention maps as one more layer, `attn`
    #[arg(long, num_args = 1.., value_name = "CATEGORY", help_heading = "What to extract")]
    pub attention: Vec<AttentionCategory>,
    /// Average features over squares of this many pixels
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "What to extract")]
    pub feature_resize: usize,

    /// Folder of picture.png and LAYER-CALL-ROW.npy; with guidance row 0 is the negative prompt's and 1 the prompt's, else 0 the prompt's
    #[arg(long, default_value = "./output/", value_name = "DIR", value_parser = non_empty_path, help_heading = "Output")]
    pub output_dir: PathBuf,
    /// Type of the numbers in files
    #[arg(long, default_value = "float16", value_name = "float16|float32", help_heading = "Output")]
    pub output_dtype: OutputPrecision,
}
