//! What decides on a run's result and has no entry in kohya's metadata, so that a state is not resumed with something else.

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

#[cfg(test)]
mod tests {
    use super::super::metadata::RunMetadata;
    use super::super::names::Names;
    use super::*;
    use crate::optimizer::choice::Choice;
    use crate::options::identity::Configuration;
    use crate::options::{Options, Record, rows};
    use crate::steps::Steps;
    use driftless::vision::Rgb;
    use std::path::Path;

    /// Images of different shapes in `2_thing`, and the same in `more/1_other`.
    fn images(folder: &Path) {
        for group in ["train/2_thing", "more/1_other"] {
            let group = folder.join(group);
            std::fs::create_dir_all(&group).unwrap();
            for (index, (width, height)) in [(64, 64), (2000, 500), (600, 450)].into_iter().enumerate() {
                Rgb::filled(width, height, [10, 20, 30]).save_png(group.join(format!("{index}.png"))).unwrap();
            }
        }
    }

    fn configuration(arguments: &[String]) -> Configuration {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = Options::of(&arguments);
        let seed = options.run.seed.unwrap_or(0);
        let data = DataSet::scan(crate::data::plan(&options).unwrap(), seed).unwrap();
        let steps = Steps::new(&options, data.batches_per_epoch()).unwrap();
        let optimizer = Choice::new(&options.optimization).unwrap().build(&[]).unwrap().description();
        let names = Names::new(&options.output);
        RunMetadata::new(&Facts { options: &options, data: &data, steps: &steps, seed, optimizer, names: &names }).configuration()
    }

    /// For each option that is recorded `by` an entry, a value that is not the one in [`usual`].
    const OTHER_VALUES: &[&str] = &[
        "pretrained_model_name_or_path=other",
        "vae=other.safetensors",
        "max_token_length=150",
        "train_data_dir=FOLDER/more",
        "reg_data_dir=FOLDER/more",
        "dataset_config=FOLDER/other.toml",
        "dataset_repeats=3",
        "resolution=256",
        "enable_bucket",
        "min_bucket_reso=384",
        "max_bucket_reso=768",
        "bucket_reso_steps=128",
        "bucket_no_upscale",
        "exif_orientation",
        "flip_aug",
        "color_aug",
        "random_crop",
        "cache_latents",
        "cache_latents_to_disk",
        "train_batch_size=2",
        "caption_extension=.caption",
        "shuffle_caption",
        "keep_tokens=1",
        "keep_tokens_separator=|||",
        "caption_separator=;",
        "secondary_separator=;;;",
        "enable_wildcard",
        "caption_prefix=a",
        "caption_suffix=b",
        "token_warmup_min=2",
        "token_warmup_step=10",
        "network_args=conv_dim=4",
        "network_train_unet_only",
        "network_train_text_encoder_only",
        "optimizer_type=Adam",
        "optimizer_args=weight_decay=0.5",
        "text_encoder_lr=1",
        "max_train_steps=7",
        "max_train_epochs=2",
        "v_parameterization",
        "min_timestep=1",
        "max_timestep=999",
        "scale_v_pred_loss_like_noise_pred",
        "v_pred_like_loss=1",
        "seed=1",
    ];

    #[test]
    fn an_option_changes_the_entry_that_its_row_names() {
        let folder = tempfile::tempdir().unwrap();
        images(folder.path());
        let path = folder.path().display().to_string();
        for (name, repeats) in [("set", ""), ("other", "num_repeats = 7")] {
            let set = format!("[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{path}/train/2_thing'\n{repeats}\n");
            std::fs::write(folder.path().join(name).with_extension("toml"), set).unwrap();
        }
        let usual = |name: &str| match name {
            // Repeats of subsets in a file that names none.
            "dataset_repeats" | "dataset_config" => vec![format!("--dataset_config={path}/set.toml")],
            "min_bucket_reso" | "max_bucket_reso" | "bucket_reso_steps" | "bucket_no_upscale" => {
                vec![format!("--train_data_dir={path}/train"), "--enable_bucket".to_owned()]
            }
            _ => vec![format!("--train_data_dir={path}/train")],
        };
        for row in rows() {
            let Record::By(entry) = row.record else { continue };
            let other = OTHER_VALUES.iter().find(|other| other.split('=').next() == Some(row.name));
            let other = other.unwrap_or_else(|| panic!("{}: no other value is in OTHER_VALUES", row.name));
            let before = configuration(&usual(row.name));
            let other = [format!("--{}", other.replace("FOLDER", &path))];
            let arguments =
                usual(row.name).into_iter().filter(|argument| argument.split('=').next() != other[0].split('=').next());
            let after = configuration(&arguments.chain(other.clone()).collect::<Vec<_>>());
            assert_ne!(before.get(entry), after.get(entry), "{} is said to be recorded in {entry}", row.name);
        }
    }
}
