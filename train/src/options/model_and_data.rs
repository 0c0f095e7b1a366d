//! Options: the base model, the images and their captions.

use super::table::options;
use super::values::{Resolution, StepsOrShare};
use driftless_cli::options::DeviceChoice;
use std::path::PathBuf;

options! {
    /// The base model and the machine.
    pub struct ModelOptions in "Model" {
        /// Diffusers folder, hub id, or LDM-format file
        #[arg(visible_alias = "model", value_name = "MODEL", default_value = driftless::model_family::DEFAULT_MODEL)]
        pretrained_model_name_or_path: String => MayChange, by "ss_sd_model_name";

        /// The model is a Stable Diffusion 2 model
        v2: bool => Fixed, metadata "v2";

        /// For an LDM-format file: diffusers folder or hub id with its configurations and tokenizer (default: Stable Diffusion 1.5, with
        /// --v2 Stable Diffusion 2.1)
        #[arg(value_name = "MODEL")]
        base: Option<String> => MayChange;

        /// A separate VAE: a diffusers VAE folder, a model folder with a `vae` in it, or an LDM-format VAE or checkpoint file
        #[arg(value_name = "PATH")]
        vae: Option<String> => Fixed, by "ss_vae_name";

        /// Device: auto, cpu, cuda, cuda:N or metal
        #[arg(value_name = "DEVICE", default_value = "auto")]
        device: DeviceChoice => Irrelevant;

        /// Threads for computing (default: all cores)
        #[arg(value_name = "N")]
        threads: Option<usize> => Irrelevant;

        /// Type that the frozen model computes in; adapters, optimizer and loss stay float32
        #[arg(visible_alias = "dtype", value_enum, default_value = "no")]
        mixed_precision: Precision => Fixed, metadata "mixed_precision";

        /// Hidden state of the text encoder to use, counted from the end (1: the last)
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=12))]
        clip_skip: Option<u32> => Fixed, metadata "clip_skip";

        /// Tokens per caption: 75, 150 or 225
        #[arg(value_name = "N", value_parser = super::values::token_length)]
        max_token_length: Option<usize> => Fixed, by "ss_max_token_length";
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

options! {
    /// Images, buckets and caches.
    pub struct DataOptions in "Images" {
        /// Folder whose subfolders are named REPEATS_name and hold images
        #[arg(value_name = "DIR")]
        train_data_dir: Option<PathBuf> => Fixed, by "data";

        /// The same for regularization images
        #[arg(value_name = "DIR")]
        reg_data_dir: Option<PathBuf> => Fixed, by "data";

        /// Data set as TOML, with tables general, datasets and datasets.subsets; replaces the two folders
        #[arg(value_name = "FILE")]
        dataset_config: Option<PathBuf> => Fixed, by "data";

        /// Repeats of subsets in --dataset_config that name none
        #[arg(value_name = "N", default_value_t = 1)]
        dataset_repeats: usize => Fixed, by "captions_and_augmentation";

        /// Size of the images: 512, or width,height
        #[arg(default_value = "512", value_name = "W,H")]
        resolution: Resolution => Fixed, by "data";

        /// Sort images into buckets by aspect ratio instead of cropping all to one size
        enable_bucket: bool => Fixed, by "data";

        /// Shortest side of a bucket
        #[arg(value_name = "PIXELS", default_value_t = 256)]
        min_bucket_reso: usize => Fixed, by "data";

        /// Longest side of a bucket
        #[arg(value_name = "PIXELS", default_value_t = 1024)]
        max_bucket_reso: usize => Fixed, by "data";

        /// Sides of buckets are multiples of this
        #[arg(value_name = "PIXELS", default_value_t = 64)]
        bucket_reso_steps: usize => Fixed, by "data";

        /// Make buckets from the images' sizes and never enlarge an image
        bucket_no_upscale: bool => Fixed, by "data";

        /// Resampling filter (default: area averaging to shrink, Lanczos to enlarge)
        #[arg(value_enum, value_name = "FILTER")]
        resize_interpolation: Option<Interpolation> => Fixed, metadata "resize_interpolation";

        /// Rotate photographs upright by their Exif orientation, which kohya's trainer does not do
        exif_orientation: bool => Fixed, by "captions_and_augmentation";

        /// Mirror each drawn image with probability one half
        flip_aug: bool => Fixed, by "captions_and_augmentation";

        /// Slightly change the hue or brightness of a third of the draws; not with cached latents
        color_aug: bool => Fixed, by "captions_and_augmentation";

        /// Crop at a random position instead of the center; not with cached latents
        random_crop: bool => Fixed, by "captions_and_augmentation";

        /// Encode every image once, before training
        cache_latents: bool => Fixed, by "ss_cache_latents";

        /// The same, kept in NAME.latents.safetensors beside each image for later runs
        cache_latents_to_disk: bool => Fixed, by "ss_cache_latents";

        /// Keep them in this folder instead of beside the images
        #[arg(value_name = "DIR", requires = "cache_latents_to_disk")]
        latent_cache_dir: Option<PathBuf> => Irrelevant;

        /// Images that may become unreadable during training: steps are done without them, and they are listed; one more ends the run,
        /// with its adapter and a state saved
        #[arg(value_name = "N", default_value_t = 10)]
        max_skipped_images: usize => Irrelevant;

        /// Images per step
        #[arg(value_name = "N", default_value_t = 1)]
        train_batch_size: usize => Fixed, by "ss_batch_size_per_device";
    }
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

options! {
    /// Captions and what is done to them at every draw.
    pub struct CaptionOptions in "Captions" {
        /// Extension of caption files
        #[arg(alias = "caption_extention", value_name = "EXT", default_value = ".txt")]
        caption_extension: String => Fixed, by "captions_and_augmentation";

        /// Shuffle the tags of a caption
        shuffle_caption: bool => Fixed, by "captions_and_augmentation";

        /// Tags at the beginning that stay where they are
        #[arg(value_name = "N", default_value_t = 0)]
        keep_tokens: usize => Fixed, by "captions_and_augmentation";

        /// Text that separates fixed tags from shuffled ones
        #[arg(value_name = "TEXT")]
        keep_tokens_separator: Option<String> => Fixed, by "captions_and_augmentation";

        /// Separator between tags
        #[arg(value_name = "TEXT", default_value = ",")]
        caption_separator: String => Fixed, by "captions_and_augmentation";

        /// Separator inside a group of tags that moves and drops as one
        #[arg(value_name = "TEXT")]
        secondary_separator: Option<String> => Fixed, by "captions_and_augmentation";

        /// Choose one of {a|b|c}, and one line of captions with several
        enable_wildcard: bool => Fixed, by "captions_and_augmentation";

        /// Text put before every caption
        #[arg(value_name = "TEXT")]
        caption_prefix: Option<String> => Fixed, by "captions_and_augmentation";

        /// Text put after every caption
        #[arg(value_name = "TEXT")]
        caption_suffix: Option<String> => Fixed, by "captions_and_augmentation";

        /// Probability of an empty caption
        #[arg(value_name = "P", default_value_t = 0.0, value_parser = super::values::probability)]
        caption_dropout_rate: f64 => Fixed, metadata "caption_dropout_rate";

        /// Empty captions in every N-th epoch
        #[arg(value_name = "N", default_value_t = 0)]
        caption_dropout_every_n_epochs: usize => Fixed, metadata "caption_dropout_every_n_epochs";

        /// Probability of dropping a tag
        #[arg(value_name = "P", default_value_t = 0.0, value_parser = super::values::probability)]
        caption_tag_dropout_rate: f64 => Fixed, metadata "caption_tag_dropout_rate";

        /// Tags at the first step of the tag warm-up
        #[arg(value_name = "N", default_value_t = 1)]
        token_warmup_min: usize => Fixed, by "captions_and_augmentation";

        /// Steps, or share of all steps, until a caption has all its tags
        #[arg(value_name = "N", default_value = "0")]
        token_warmup_step: StepsOrShare => Fixed, by "captions_and_augmentation";
    }
}
