//! What decides on a run's result and has no place in kohya's metadata, so that a state is not gone on from with something else.

use super::metadata::Facts;
use crate::data::DataSet;
use crate::data::plan::SubsetPlan;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Entries that a state must agree with, beside those of the metadata.
pub fn beyond(facts: &Facts) -> BTreeMap<String, String> {
    let (objective, network) = (&facts.options.objective, &facts.options.network);
    let subsets = facts.data.datasets.iter().flat_map(|dataset| &dataset.subsets);
    // Folders may move.
    let settings: Vec<_> = subsets.map(|subset| SubsetPlan { image_dir: PathBuf::new(), ..subset.plan.clone() }).collect();
    BTreeMap::from([
        ("data".into(), data_digest(facts.data)),
        ("captions_and_augmentation".into(), digest(Sha256::new().chain_update(format!("{settings:?}")))),
        ("timesteps".into(), format!("{:?} to {:?}", objective.min_timestep, objective.max_timestep)),
        ("v_parameterization".into(), objective.v_parameterization.to_string()),
        ("scale_v_pred_loss_like_noise_pred".into(), objective.scale_v_pred_loss_like_noise_pred.to_string()),
        ("v_pred_like_loss".into(), format!("{:?}", objective.v_pred_like_loss)),
        ("network_train_unet_only".into(), network.network_train_unet_only.to_string()),
        ("network_train_text_encoder_only".into(), network.network_train_text_encoder_only.to_string()),
    ])
}

/// What the images of a data set are, in one number: names, sizes, captions and repeats.
fn data_digest(data: &DataSet) -> String {
    let mut hash = Sha256::new();
    for sample in data.datasets.iter().flat_map(|dataset| &dataset.samples) {
        let name = sample.path.file_name().unwrap_or_default().to_string_lossy();
        hash.update(format!("{name}\0{:?}\0{}\0{}\0{:?}\n", sample.size, sample.caption, sample.repeats, sample.placement));
    }
    digest(hash)
}

fn digest(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
