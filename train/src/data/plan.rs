//! What the data set shall be: subsets and their settings, before any image is looked at.

use super::buckets::BucketSettings;
use super::caption::CaptionSettings;
use crate::options::{Interpolation, Options};
use std::path::PathBuf;

/// The whole data set.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPlan {
    /// Batches of all of them are mixed.
    pub datasets: Vec<DatasetPlan>,
    /// Whether it was written in a `--dataset_config`, and not read off folder names.
    pub from_file: bool,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// Images that share a resolution and a batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetPlan {
    /// Sizes.
    pub buckets: BucketSettings,
    /// Images per batch.
    pub batch_size: usize,
    /// Folders.
    pub subsets: Vec<SubsetPlan>,
}

/// The images of one folder.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetPlan {
    /// The folder that holds the images.
    pub image_dir: PathBuf,
    /// How often each image is drawn per epoch.
    pub repeats: usize,
    /// The caption of images that have no caption file.
    pub class_tokens: Option<String>,
    /// With or without the dot.
    pub caption_extension: String,
    /// Regularization images.
    pub is_reg: bool,
    /// What is done to captions.
    pub captions: CaptionSettings,
    /// Turn images upright as their Exif orientation says.
    pub exif_orientation: bool,
    /// Mirror half of the draws.
    pub flip: bool,
    /// Change hue or brightness of some draws.
    pub color: bool,
    /// Crop at a random position.
    pub random_crop: bool,
    /// Resampling filter, when one is forced.
    pub interpolation: Option<Interpolation>,
    /// Share of the images that is held back for validation.
    pub validation_split: f64,
    /// Seed of that choice, when it is not the run's.
    pub validation_seed: Option<u64>,
}

impl DataPlan {
    /// How many images there will be to look at; folders that cannot be read have none.
    pub fn count_images(&self) -> usize {
        let subsets = self.datasets.iter().flat_map(|dataset| &dataset.subsets).filter(|subset| subset.repeats > 0);
        subsets.map(|subset| super::images_in(&subset.image_dir).map_or(0, |images| images.len())).sum()
    }
}

impl DatasetPlan {
    /// What the options say, without subsets.
    pub fn from_options(options: &Options) -> Self {
        let data = &options.data;
        let buckets = BucketSettings {
            resolution: (data.resolution.width, data.resolution.height),
            enable: data.enable_bucket,
            min: data.min_bucket_reso,
            max: data.max_bucket_reso,
            step: data.bucket_reso_steps,
            no_upscale: data.bucket_no_upscale,
        };
        Self { buckets, batch_size: data.train_batch_size, subsets: vec![] }
    }
}

impl SubsetPlan {
    /// What the options say, without a folder.
    pub fn from_options(options: &Options) -> Self {
        let (data, captions) = (&options.data, &options.captions);
        Self {
            image_dir: PathBuf::new(),
            repeats: data.dataset_repeats,
            class_tokens: None,
            caption_extension: captions.caption_extension.clone(),
            is_reg: false,
            captions: CaptionSettings {
                prefix: captions.caption_prefix.clone(),
                suffix: captions.caption_suffix.clone(),
                dropout_rate: captions.caption_dropout_rate,
                dropout_every_n_epochs: captions.caption_dropout_every_n_epochs,
                wildcard: captions.enable_wildcard,
                shuffle: captions.shuffle_caption,
                keep_tokens: captions.keep_tokens,
                keep_tokens_separator: captions.keep_tokens_separator.clone(),
                separator: captions.caption_separator.clone(),
                secondary_separator: captions.secondary_separator.clone(),
                tag_dropout_rate: captions.caption_tag_dropout_rate,
                warmup_min: captions.token_warmup_min,
                warmup: captions.token_warmup_step,
            },
            exif_orientation: data.exif_orientation,
            flip: data.flip_aug,
            color: data.color_aug,
            random_crop: data.random_crop,
            interpolation: data.resize_interpolation,
            validation_split: options.validation.validation_split,
            validation_seed: options.validation.validation_seed,
        }
    }
}
