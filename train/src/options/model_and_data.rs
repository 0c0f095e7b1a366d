//! Options: the base model, the images and their captions.

use super::values::{Resolution, StepsOrShare};
use std::path::PathBuf;

/// The base model and the machine.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Model")]
pub struct ModelOptions {
    /// Diffusers folder, hub id, or LDM-format file
    #[arg(long, visible_alias = "model", value_name = "MODEL", default_value = "stable-diffusion-v1-5/stable-diffusion-v1-5")]
    pub pretrained_model_name_or_path: String,

    /// For an LDM-format file: diffusers folder or hub id with its configurations and tokenizer
    #[arg(long, value_name = "MODEL", default_value = "stable-diffusion-v1-5/stable-diffusion-v1-5")]
    pub base: String,

    /// VAE of its own: a diffusers VAE folder, a model folder with a `vae` in it, or an LDM-format VAE or checkpoint file
    #[arg(long, value_name = "PATH")]
    pub vae: Option<String>,

    /// Device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// Threads for computing (default: all cores)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Type that the frozen model computes in; adapters, optimizer and loss stay float32
    #[arg(long, visible_alias = "dtype", value_enum, default_value = "no")]
    pub mixed_precision: Precision,

    /// Hidden state of the text encoder to use, counted from the end (1: the last)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=12))]
    pub clip_skip: Option<u32>,

    /// Tokens per caption: 75, 150 or 225
    #[arg(long, value_name = "N", value_parser = parse_token_length)]
    pub max_token_length: Option<usize>,
}

fn parse_token_length(text: &str) -> Result<usize, String> {
    match text {
        "75" | "150" | "225" => Ok(text.parse().unwrap_or(75)),
        _ => Err("one of 75, 150, 225".into()),
    }
}

/// kohya's `--mixed_precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// float32 throughout.
    #[value(name = "no", alias = "float32")]
    No,
    /// float16.
    #[value(name = "fp16", alias = "float16")]
    Fp16,
    /// bfloat16.
    #[value(name = "bf16", alias = "bfloat16")]
    Bf16,
}

/// Images, buckets and caches.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Images")]
pub struct DataOptions {
    /// Folder whose subfolders are named REPEATS_name and hold images
    #[arg(long, value_name = "DIR")]
    pub train_data_dir: Option<PathBuf>,

    /// The same for regularization images
    #[arg(long, value_name = "DIR")]
    pub reg_data_dir: Option<PathBuf>,

    /// Data set as TOML ([general], [[datasets]], [[datasets.subsets]]); replaces the two folders
    #[arg(long, value_name = "FILE")]
    pub dataset_config: Option<PathBuf>,

    /// Repeats of subsets in --dataset_config that name none
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub dataset_repeats: usize,

    /// Size of the images: 512, or width,height
    #[arg(long, default_value = "512", value_name = "W,H")]
    pub resolution: Resolution,

    /// Sort images into buckets by aspect ratio instead of cropping all to one size
    #[arg(long)]
    pub enable_bucket: bool,

    /// Shortest side of a bucket
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    pub min_bucket_reso: usize,

    /// Longest side of a bucket
    #[arg(long, value_name = "PIXELS", default_value_t = 1024)]
    pub max_bucket_reso: usize,

    /// Sides of buckets are multiples of this
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    pub bucket_reso_steps: usize,

    /// Make buckets from the images' sizes and never enlarge an image
    #[arg(long)]
    pub bucket_no_upscale: bool,

    /// Resampling filter (default: area averaging to shrink, Lanczos to enlarge)
    #[arg(long, value_enum, value_name = "FILTER")]
    pub resize_interpolation: Option<Interpolation>,

    /// Turn photographs upright as their Exif orientation says, which kohya's trainer does not
    #[arg(long)]
    pub exif_orientation: bool,

    /// Mirror each drawn image with probability one half
    #[arg(long)]
    pub flip_aug: bool,

    /// Change the hue or brightness of a third of the draws a little; not with cached latents
    #[arg(long)]
    pub color_aug: bool,

    /// Cut at a random place instead of the center; not with cached latents
    #[arg(long)]
    pub random_crop: bool,

    /// Encode every image once, before training
    #[arg(long)]
    pub cache_latents: bool,

    /// The same, kept in NAME.latents.safetensors beside each image for later runs
    #[arg(long)]
    pub cache_latents_to_disk: bool,

    /// Keep them in this folder instead of beside the images
    #[arg(long, value_name = "DIR", requires = "cache_latents_to_disk")]
    pub latent_cache_dir: Option<PathBuf>,

    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub train_batch_size: usize,
}

impl DataOptions {
    /// Whether images are encoded once; keeping latents on disk implies it.
    pub fn caches_latents(&self) -> bool {
        self.cache_latents || self.cache_latents_to_disk
    }
}

/// kohya's `--resize_interpolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Interpolation {
    /// Pillow's Lanczos, antialiased.
    Lanczos,
    /// OpenCV's area averaging.
    Area,
    /// Pillow's box filter.
    Box,
    /// The nearest pixel.
    Nearest,
}

/// Captions and what is done to them at every draw.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Captions")]
pub struct CaptionOptions {
    /// Extension of caption files
    #[arg(long, alias = "caption_extention", value_name = "EXT", default_value = ".txt")]
    pub caption_extension: String,

    /// Shuffle the tags of a caption
    #[arg(long)]
    pub shuffle_caption: bool,

    /// Tags at the beginning that stay where they are
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_tokens: usize,

    /// Text that parts fixed tags from flexible ones
    #[arg(long, value_name = "TEXT")]
    pub keep_tokens_separator: Option<String>,

    /// What stands between tags
    #[arg(long, value_name = "TEXT", default_value = ",")]
    pub caption_separator: String,

    /// Separator inside a group of tags that moves and drops as one
    #[arg(long, value_name = "TEXT")]
    pub secondary_separator: Option<String>,

    /// Choose one of {a|b|c}, and one line of captions with several
    #[arg(long)]
    pub enable_wildcard: bool,

    /// Text put before every caption
    #[arg(long, value_name = "TEXT")]
    pub caption_prefix: Option<String>,

    /// Text put after every caption
    #[arg(long, value_name = "TEXT")]
    pub caption_suffix: Option<String>,

    /// Probability of an empty caption
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = super::values::probability)]
    pub caption_dropout_rate: f64,

    /// Empty captions in every N-th epoch
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub caption_dropout_every_n_epochs: usize,

    /// Probability of dropping a tag
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = super::values::probability)]
    pub caption_tag_dropout_rate: f64,

    /// Tags at the first step of the tag warm-up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub token_warmup_min: usize,

    /// Steps, or share of all steps, until a caption has all its tags
    #[arg(long, value_name = "N", default_value = "0")]
    pub token_warmup_step: StepsOrShare,
}
