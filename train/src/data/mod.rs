//! The data set: folders, captions, buckets, batches, pixels.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`mod@plan`] | the data set that was asked for |
//! | [`folders`], [`dataset_config`] | the two ways to ask for it: folder names, or a TOML file |
//! | [`mod@scan`], `oddities` | what is on the disk: images, sizes, captions; sizes that look like a mistake |
//! | [`held_back`] | which images are kept for validation |
//! | [`buckets`] | which size an image becomes |
//! | [`caption_file`], [`caption`] | reading captions; how they change at every draw |
//! | [`batches`] | the order of an epoch |
//! | [`pixels`], [`color`] | an image as the model sees it; changes of its colors |

pub mod batches;
pub mod buckets;
pub mod caption;
pub mod caption_file;
pub mod color;
pub mod dataset_config;
mod fault;
pub mod folders;
pub mod held_back;
mod oddities;
pub mod pixels;
pub mod plan;
pub mod scan;

pub use scan::{DataSet, Sample};

use crate::options::Options;
use anyhow::Result;
use fault::DataFault;
use plan::{DataPlan, DatasetPlan, SubsetPlan};
use std::path::{Path, PathBuf};

/// The plan that the options ask for.
///
/// # Errors
/// When they name no data set, or one that cannot be used.
pub fn plan(options: &Options) -> Result<DataPlan> {
    if let Some(path) = &options.data.dataset_config {
        let mut plan = dataset_config::read(path, options)?;
        for (given, name) in [(&options.data.train_data_dir, "train_data_dir"), (&options.data.reg_data_dir, "reg_data_dir")] {
            if given.is_some() {
                plan.warnings.push(format!("--{name} is not used, because --dataset_config is given"));
            }
        }
        return Ok(rounded(plan));
    }
    let Some(train) = &options.data.train_data_dir else {
        return Err(DataFault::NoDataSet.into());
    };
    let template = SubsetPlan::from_options(options);
    let (mut subsets, mut warnings) = folders::subsets(train, "train_data_dir", &template)?;
    if let Some(reg) = &options.data.reg_data_dir {
        let template = SubsetPlan { is_reg: true, ..template };
        let (more, more_warnings) = folders::subsets(reg, "reg_data_dir", &template)?;
        subsets.extend(more);
        warnings.extend(more_warnings);
    }
    let dataset = DatasetPlan { subsets, ..DatasetPlan::from_options(options) };
    Ok(rounded(DataPlan { datasets: vec![dataset], from_file: false, warnings }))
}

/// The plan with sizes that latents can have: sides in multiples of 8 where all images become one size.
fn rounded(mut plan: DataPlan) -> DataPlan {
    for buckets in plan.datasets.iter_mut().map(|dataset| &mut dataset.buckets).filter(|buckets| !buckets.enable) {
        let (width, height) = buckets.resolution;
        let whole = (width - width % 8, height - height % 8);
        if whole != buckets.resolution {
            let (new_width, new_height) = whole;
            plan.warnings
                .push(format!("resolution {width}x{height} becomes {new_width}x{new_height}: sides must be multiples of 8"));
            buckets.resolution = whole;
        }
    }
    plan
}

/// Extensions of the images that are read. kohya's, and TIFF.
const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff"];

/// The images directly in `folder`, sorted by path; hidden files are left out.
///
/// # Errors
/// When the folder cannot be read.
pub fn images_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !hidden && EXTENSIONS.contains(&extension.as_str()) && path.is_file() {
            images.push(path);
        }
    }
    images.sort();
    Ok(images)
}
