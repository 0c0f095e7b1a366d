//! The metadata in an adapter's file: kohya's `ss_` entries and Stability AI's `modelspec`.
//!
//! Keys and spelling as in sd-scripts 48d368f `train_network.py` and `library/sai_model_spec.py`: every value is what Python's `str`
//! makes of it. Deliberate differences: times (`ss_training_started_at`, `ss_training_finished_at`, `modelspec.date`) are written only
//! with `--metadata_times`, because with them no two runs would give the same file; `ss_session_id` follows from the seed; a model
//! folder has no hash. The hashes of the file itself are added where it is written.

use super::fingerprint;
use super::names::Names;
use crate::data::DataSet;
use crate::data::scan::{Dataset, Subset};
use crate::model::location;
use crate::options::table::Value as _;
use crate::options::{Options, Record, identity};
use crate::seeds::{Purpose, generator};
use crate::steps::Steps;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What is the same in all files of a run.
#[derive(Debug, Clone)]
pub struct RunMetadata {
    entries: BTreeMap<String, String>,
    model_spec: BTreeMap<String, String>,
    with_training: bool,
    /// What decides on the result too and has no entry in kohya's metadata.
    beyond: BTreeMap<String, String>,
    /// Unix time of the beginning, when times are written.
    started_at: Option<f64>,
}

/// What a run is, as far as metadata tell.
pub struct Facts<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// The data.
    pub data: &'a DataSet,
    /// The length.
    pub steps: &'a Steps,
    /// The seed in use.
    pub seed: u64,
    /// Name and settings of the optimizer.
    pub optimizer: String,
    /// Names of files.
    pub names: &'a Names,
}

/// The entries that stay under `--no_metadata`.
const LEAST: [&str; 6] =
    ["ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"];

impl RunMetadata {
    /// Collects the entries. Hashes of a model file are computed here, which reads it once.
    pub fn new(facts: &Facts) -> Self {
        let mut entries = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            entries.insert(format!("ss_{key}"), value);
        };
        for (row, value) in facts.options.values() {
            match row.record {
                Record::Metadata(key) => put(key, value.python()),
                Record::Own | Record::By(_) => {}
            }
        }
        model(facts, &mut put);
        training(facts, &mut put);
        match facts.data.from_file {
            true => datasets_from_file(facts.data, &mut put),
            false => dataset_from_folders(facts, &mut put),
        }
        let times = facts.options.output.metadata_times;
        let started_at = times.then(unix_time);
        let with_training = !facts.options.output.no_metadata;
        let mut beyond = fingerprint::beyond(facts);
        beyond.extend(identity::recorded_by_name(facts.options));
        Self { entries, model_spec: model_spec(facts, times), with_training, beyond, started_at }
    }

    /// What has to agree with a state for a run to resume from it.
    pub fn configuration(&self) -> BTreeMap<String, String> {
        let mut configuration = self.entries.clone();
        configuration.extend(self.beyond.clone());
        configuration
    }

    /// The entries of a file that is written now.
    pub fn at(&self, steps: usize, epoch: usize) -> BTreeMap<String, String> {
        let mut entries = self.entries.clone();
        entries.insert("ss_steps".into(), steps.to_string());
        entries.insert("ss_epoch".into(), epoch.to_string());
        if let Some(started_at) = self.started_at {
            entries.insert("ss_training_started_at".into(), started_at.to_string());
            entries.insert("ss_training_finished_at".into(), unix_time().to_string());
        }
        if !self.with_training {
            entries.retain(|key, _| LEAST.contains(&key.as_str()));
        }
        entries.extend(self.model_spec.clone());
        entries
    }
}

/// What the base model is, and whose run this is.
fn model(facts: &Facts, put: &mut impl FnMut(&str, String)) {
    let model = &facts.options.model.pretrained_model_name_or_path;
    // A number below 2^32 as in kohya, told apart from the seed's other uses by its index.
    put("session_id", generator(facts.seed, Purpose::Adapter, u64::MAX).random().to_string());
    put("sd_scripts_commit_hash", format!("driftless {}", env!("CARGO_PKG_VERSION")));
    let path = Path::new(model);
    match path.file_name() {
        Some(name) if path.exists() => put("sd_model_name", name.to_string_lossy().into_owned()),
        _ => put("sd_model_name", model.clone()),
    }
    if path.is_file()
        && let Ok((old, new)) = file_hashes(path)
    {
        put("sd_model_hash", old);
        put("new_sd_model_hash", new);
    }
    if let Some(vae) = &facts.options.model.vae {
        let path = Path::new(vae);
        put("vae_name", path.file_name().map_or_else(|| vae.clone(), |name| name.to_string_lossy().into_owned()));
        if let Ok((old, new)) = file_hashes(path) {
            put("vae_hash", old);
            put("new_vae_hash", new);
        }
    }
    put("base_model_version", base_model_version(facts.options));
}

/// What several options decide together, or an option and the data set.
fn training(facts: &Facts, put: &mut impl FnMut(&str, String)) {
    let (options, steps) = (facts.options, facts.steps);
    let arguments = &options.network.network_args;
    if !arguments.is_empty() {
        let arguments: Map<String, Value> =
            arguments.iter().map(|argument| (argument.key.clone(), argument.value.clone().into())).collect();
        put("network_args", Value::Object(arguments).to_string());
    }
    put("text_encoder_lr", options.optimization.text_encoder_lr.first().copied().python());
    put("optimizer", facts.optimizer.clone());
    put("max_train_steps", steps.total.to_string());
    put("num_epochs", steps.epochs.to_string());
    put("num_batches_per_epoch", steps.batches_per_epoch.to_string());
    put("seed", facts.seed.to_string());
    put("num_train_images", facts.data.num_train_images().to_string());
    put("num_reg_images", facts.data.num_reg_images().to_string());
    put("num_validation_images", facts.data.num_validation_images().to_string());
    put("cache_latents", options.data.caches_latents().python());
    // 75 is how interfaces write kohya's None.
    put("max_token_length", options.model.max_token_length.filter(|tokens| *tokens != 75).python());
    // kohya's options that are never on here.
    for key in ["full_fp16", "fp8_base", "fp8_base_unet", "lowram"] {
        put(key, false.python());
    }
    put("face_crop_aug_range", None::<String>.python());
}

fn dataset_from_folders(facts: &Facts, put: &mut impl FnMut(&str, String)) {
    let (options, steps) = (facts.options, facts.steps);
    put("batch_size_per_device", options.data.train_batch_size.to_string());
    put("total_batch_size", (options.data.train_batch_size * steps.accumulation).to_string());
    put("resolution", format!("({}, {})", options.data.resolution.width, options.data.resolution.height));
    put("color_aug", options.data.color_aug.python());
    put("flip_aug", options.data.flip_aug.python());
    put("random_crop", options.data.random_crop.python());
    put("shuffle_caption", options.captions.shuffle_caption.python());
    put("keep_tokens", options.captions.keep_tokens.to_string());
    let Some(dataset) = facts.data.datasets.first() else { return };
    let buckets = &dataset.plan.buckets;
    let limits = buckets.enable.then(|| buckets.limits());
    put("enable_bucket", buckets.enable.python());
    put("bucket_no_upscale", (buckets.enable && buckets.no_upscale).python());
    put("min_bucket_reso", limits.map(|(min, _)| min).python());
    put("max_bucket_reso", limits.map(|(_, max)| max).python());
    put("bucket_info", bucket_info(dataset).to_string());
    let folders = |is_reg: bool| -> Map<String, Value> {
        let subsets = dataset.subsets.iter().filter(|subset| subset.plan.is_reg == is_reg);
        subsets.map(|subset| (folder_name(subset), folder_info(subset))).collect()
    };
    put("dataset_dirs", Value::Object(folders(false)).to_string());
    put("reg_dataset_dirs", Value::Object(folders(true)).to_string());
    put("tag_frequency", tag_frequency([dataset]).to_string());
}

fn datasets_from_file(data: &DataSet, put: &mut impl FnMut(&str, String)) {
    let mut folders: Map<String, Value> = Map::new();
    let mut described = Vec::new();
    for dataset in &data.datasets {
        let buckets = &dataset.plan.buckets;
        let limits = buckets.enable.then(|| buckets.limits());
        described.push(json!({
            "is_dreambooth": true,
            "batch_size_per_device": dataset.plan.batch_size,
            "num_train_images": dataset.num_train_images,
            "num_reg_images": dataset.num_reg_images,
            "resolution": [buckets.resolution.0, buckets.resolution.1],
            "enable_bucket": buckets.enable,
            "min_bucket_reso": limits.map(|(min, _)| min),
            "max_bucket_reso": limits.map(|(_, max)| max),
            "tag_frequency": tag_frequency([dataset]),
            "bucket_info": bucket_info(dataset),
            "resize_interpolation": null,
            "subsets": dataset.subsets.iter().map(subset_info).collect::<Vec<_>>(),
        }));
        for subset in dataset.subsets.iter().filter(|subset| !subset.plan.is_reg) {
            let name = folder_name(subset);
            let mut free = name.clone();
            let mut number = 2;
            while folders.contains_key(&free) {
                free = format!("{name} ({number})");
                number += 1;
            }
            folders.insert(free, folder_info(subset));
        }
    }
    put("datasets", Value::Array(described).to_string());
    put("dataset_dirs", Value::Object(folders).to_string());
    put("tag_frequency", tag_frequency(&data.datasets).to_string());
}

fn subset_info(subset: &Subset) -> Value {
    let plan = &subset.plan;
    json!({
        "img_count": subset.images,
        "num_repeats": plan.repeats,
        "color_aug": plan.color,
        "flip_aug": plan.flip,
        "random_crop": plan.random_crop,
        "shuffle_caption": plan.captions.shuffle,
        "keep_tokens": plan.captions.keep_tokens,
        "keep_tokens_separator": plan.captions.keep_tokens_separator.clone().unwrap_or_default(),
        "secondary_separator": plan.captions.secondary_separator,
        "enable_wildcard": plan.captions.wildcard,
        "caption_prefix": plan.captions.prefix,
        "caption_suffix": plan.captions.suffix,
        "resize_interpolation": plan.interpolation.map(|filter| filter.python()),
        "image_dir": folder_name(subset),
        "class_tokens": plan.class_tokens,
        "is_reg": plan.is_reg,
    })
}

fn folder_name(subset: &Subset) -> String {
    let folder = &subset.plan.image_dir;
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
}

fn folder_info(subset: &Subset) -> Value {
    json!({ "n_repeats": subset.plan.repeats, "img_count": subset.images })
}

/// Folder to tag to count; a folder that several datasets use counts once.
fn tag_frequency<'a>(datasets: impl IntoIterator<Item = &'a Dataset>) -> Value {
    let mut folders = Map::new();
    for subset in datasets.into_iter().flat_map(|dataset| &dataset.subsets) {
        folders.entry(folder_name(subset)).or_insert_with(|| json!(subset.tag_frequency));
    }
    Value::Object(folders)
}

fn bucket_info(dataset: &Dataset) -> Value {
    if !dataset.plan.buckets.enable {
        return Value::Null;
    }
    let buckets =
        dataset.buckets.iter().enumerate().map(|(index, (size, entries))| {
            (index.to_string(), json!({ "resolution": [size.0, size.1], "count": entries.len() }))
        });
    json!({ "buckets": buckets.collect::<Map<_, _>>(), "mean_img_ar_error": dataset.mean_aspect_error() })
}

/// sd-scripts' `get_model_version_str_for_sd1_sd2`.
fn base_model_version(options: &Options) -> String {
    let prediction = if options.objective.v_parameterization { "_v" } else { "" };
    format!("{}{prediction}", location::family(&options.model).kohya_version)
}

/// sd-scripts' `determine_architecture`.
fn architecture(options: &Options) -> String {
    let family = location::family(&options.model);
    let size = match (family.kohya_v2, options.objective.v_parameterization) {
        (false, _) => "",
        (true, false) => "-512",
        (true, true) => "-768-v",
    };
    format!("{}{size}", family.architecture)
}

fn model_spec(facts: &Facts, with_date: bool) -> BTreeMap<String, String> {
    let (output, objective) = (&facts.options.output, &facts.options.objective);
    let resolution = facts.options.data.resolution;
    let mut spec = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            spec.insert(format!("modelspec.{key}"), value);
        }
    };
    put("sai_model_spec", Some("1.0.1".into()));
    put("architecture", Some(format!("{}/lora", architecture(facts.options))));
    put("implementation", Some("diffusers".into()));
    put("title", Some(output.metadata_title.clone().unwrap_or_else(|| facts.names.title())));
    put("resolution", Some(resolution.to_string()));
    put("prediction_type", Some(if objective.v_parameterization { "v" } else { "epsilon" }.into()));
    put("author", output.metadata_author.clone());
    put("description", output.metadata_description.clone());
    put("license", output.metadata_license.clone());
    put("tags", output.metadata_tags.clone());
    let (min, max) = (objective.min_timestep, objective.max_timestep);
    put("timestep_range", (min.is_some() || max.is_some()).then(|| format!("{},{}", min.unwrap_or(0), max.unwrap_or(1000))));
    put("encoder_layer", facts.options.model.clip_skip.map(|skip| skip.to_string()));
    put("date", with_date.then(|| crate::monitor::time::iso(unix_time() as u64)));
    spec
}

/// The old and the new hash of web interfaces: eight digits over 64 KiB at 0x100000, and the SHA-256 of the whole file.
fn file_hashes(path: &Path) -> std::io::Result<(String, String)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(0x100000))?;
    let mut window = Vec::new();
    (&mut file).take(0x10000).read_to_end(&mut window)?;
    file.rewind()?;
    let mut whole = Sha256::new();
    std::io::copy(&mut file, &mut whole)?;
    Ok((hex(&Sha256::digest(&window))[..8].to_owned(), hex(&whole.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let (old, new) = file_hashes(file.path()).unwrap();
        // SHA-256 of nothing, as the file ends before the window, and of "abc" (FIPS 180-2, B.1).
        assert_eq!(old, "e3b0c442");
        assert_eq!(new, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
