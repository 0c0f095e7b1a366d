//! What was asked for means this: options, configuration file and inputs, checked and resolved, before any model is loaded.
//!
//! All faults are reported together. What depends on the model's sizes (layer ids, pooling) is checked by [`crate::engine`] as soon as its
//! configuration is read, still before its weights.

mod fusion;
mod models;
mod sets;
mod timestep;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use crate::options::{InputSettings, NotAShard, OutputSettings, Settings, Shard};
use driftless::model_family::{FAMILIES, ModelFamily, sd15};

use crate::fault::{Fault, Faults, RequestFault, SetFault};
use crate::ids::IdMap;
use crate::inputs::{Companions, NameRule, Sample, find_images, name_samples};
use crate::manifest::Manifest;
use crate::projection::Projection;
use crate::set::{FeatureSet, Fusion, ModelChoice};
use crate::stores::OutputRule;

use models::Models;

/// The side to which images are resized: Stable Diffusion 1.5's. The original's default, 1024, is SDXL's, its default model.
const DEFAULT_IMG_SIZE: usize = 512;

/// How the condition images of a ControlNet come about.
#[derive(Clone, Debug)]
pub enum ConditionSource {
    /// Edges found in the image.
    Canny,
    /// Ready-made images.
    Images(Companions),
}

/// A ControlNet and its images.
#[derive(Clone, Debug)]
pub struct ControlChoice {
    /// Folder or hub id.
    pub model: String,
    /// The images.
    pub source: ConditionSource,
}

/// Everything about one run.
#[derive(Debug)]
pub struct RunPlan {
    /// The models; one is loaded at a time.
    pub models: IdMap<ModelChoice, ModelChoice>,
    /// Side of the images in pixels.
    pub img_size: usize,
    /// This shard's images.
    pub samples: Vec<Sample>,
    /// The images of all shards.
    pub all: Vec<Sample>,
    /// The feature sets that are extracted, in order.
    pub sets: IdMap<FeatureSet, FeatureSet>,
    /// The feature sets that are made of these.
    pub fusions: IdMap<Fusion, Fusion>,
    /// The ControlNets that any set uses, by kind.
    pub controls: BTreeMap<String, ControlChoice>,
    /// The family that was named, or is meant where none is.
    pub family: &'static ModelFamily,
    /// Where features go.
    pub output: OutputRule,
    /// What features are projected on before they are written.
    pub projection: Option<Projection>,
    /// Make anew what is there.
    pub overwrite: bool,
    /// Images computed together.
    pub batch_size: usize,
    /// The list of images that failed.
    pub failures: PathBuf,
    /// What was passed over, for the user.
    pub notes: Vec<String>,
}

impl RunPlan {
    /// Works out what the settings mean.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let mut faults = Faults::default();
        let img_size = settings.input.img_size.unwrap_or(DEFAULT_IMG_SIZE);
        let batch_size = settings.batch_size.unwrap_or(2);
        check_numbers(settings, img_size, batch_size, &mut faults);
        let Samples { mine: samples, all, notes } = faults.take(find_samples(settings, batch_size));
        let nested = settings.input.nested;
        let family = faults.keep(family(settings.version.as_deref())).unwrap_or(&sd15::FAMILY);
        let Sets { models, sets, fusions } = faults.take(Sets::new(settings, family, img_size, &samples));
        let controls = faults.take(control_choices(settings, family, &samples, nested));
        let output = faults.keep(output_rule(settings));
        let projection = faults.take(projection(settings));
        faults.check()?;
        // It has noted a fault above if it is missing.
        let Some(output) = output else { return Err(Fault::failure(RequestFault::NothingToDo)) };
        let failures = match settings.shard {
            Some(shard) => output.dir.join(format!("failed-{}-of-{}.jsonl", shard.index, shard.count)),
            None => output.dir.join("failed.jsonl"),
        };
        Ok(Self {
            models,
            img_size,
            samples,
            all,
            sets,
            fusions,
            family,
            controls,
            projection,
            overwrite: settings.output.overwrite,
            output,
            batch_size,
            failures,
            notes,
        })
    }
}

/// The sets of a run, with the models that they use.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) models: IdMap<ModelChoice, ModelChoice>,
    pub(crate) sets: IdMap<FeatureSet, FeatureSet>,
    pub(crate) fusions: IdMap<Fusion, Fusion>,
}

impl Sets {
    /// Works out what the settings of all sets mean.
    pub(crate) fn new(
        settings: &Settings,
        family: &'static ModelFamily,
        img_size: usize,
        samples: &[Sample],
    ) -> Result<Self, Fault> {
        let mut faults = Faults::default();
        let mut models = Models::new(settings, family);
        let sets = faults.take(sets::feature_sets(settings, img_size, samples, &mut models));
        for unet in models.unets() {
            faults.require(unet.exists(), || Fault::of_file(unet, SetFault::NoUnet));
        }
        // Without the sets there would be a second complaint about each name.
        let fusions = if sets.is_empty() { IdMap::new() } else { faults.take(fusion::fusions(&settings.sets, &sets)) };
        for (id, set) in sets.iter().filter(|(_, set)| !set.keep.written) {
            let is_used = fusions.values().any(|fusion: &Fusion| fusion.sources().any(|source| source == id));
            let name = set.name.as_deref().unwrap_or_default();
            faults.require(is_used, || Fault::failure(SetFault::NotWritten).of(&format!("set `{name}`: ")));
        }
        faults.check()?;
        Ok(Self { models: models.finish(), sets, fusions })
    }
}

/// The family of Stable Diffusion by the original's name of its version; 1-5 without a name.
///
/// # Errors
/// For a name that is none of these.
pub fn family(version: Option<&str>) -> Result<&'static ModelFamily, Fault> {
    let Some(name) = version else { return Ok(&sd15::FAMILY) };
    ModelFamily::of_extractor_version(name).ok_or_else(|| {
        let known = FAMILIES.map(|family| family.extractor.version).join(" and ");
        Fault::usage(RequestFault::Version { found: name.to_owned(), known })
    })
}

fn out_of_range(option: &'static str, found: usize, (least, most): (usize, usize), unit: &'static str) -> Fault {
    Fault::usage(RequestFault::OutOfRange { option, found, least, most, unit })
}

fn check_numbers(settings: &Settings, img_size: usize, batch_size: usize, faults: &mut Faults) {
    faults.require((8..=8192).contains(&img_size), || out_of_range("--img-size", img_size, (8, 8192), "pixels"));
    faults.require((1..=4096).contains(&batch_size), || out_of_range("--batch-size", batch_size, (1, 4096), "images"));
    if let Some(threads) = settings.threads {
        faults.require((1..=1024).contains(&threads), || out_of_range("--threads", threads, (1, 1024), "threads"));
    }
}

/// The images of a run.
#[derive(Default)]
struct Samples {
    /// This shard's.
    mine: Vec<Sample>,
    /// Those of all shards.
    all: Vec<Sample>,
    /// What was passed over.
    notes: Vec<String>,
}

fn find_samples(settings: &Settings, batch_size: usize) -> Result<Samples, Fault> {
    if settings.input.images.is_empty() {
        return Err(match &settings.file {
            Some(path) => Fault::of_file(path, RequestFault::NoInput),
            None => Fault::usage(RequestFault::NoInputOption),
        });
    }
    let rule = NameRule {
        split: settings.output.split.clone().unwrap_or_else(|| "train".to_owned()),
        original: settings.output.use_original_filename,
        nested: settings.input.nested,
    };
    let found = find_images(&settings.input.images, rule.nested)?;
    let mut all = name_samples(found.paths, &rule)?;
    if rule.original && !settings.output.overwrite {
        let numbers = Manifest::numbers(&output_dir(settings));
        all.iter_mut().for_each(|sample| sample.number = numbers.get(&sample.name).copied().unwrap_or(sample.number));
    }
    // Whole batches, so that an image is computed beside the same others however the work is cut.
    let is_mine = |sample: &&Sample| settings.shard.is_none_or(|shard| shard.takes(sample.index / batch_size.max(1)));
    Ok(Samples { mine: all.iter().filter(is_mine).cloned().collect(), all, notes: found.notes })
}

/// The ControlNets that any set uses.
fn control_choices(
    settings: &Settings,
    family: &ModelFamily,
    samples: &[Sample],
    nested: bool,
) -> Result<BTreeMap<String, ControlChoice>, Fault> {
    let mut faults = Faults::default();
    let mut choices = BTreeMap::new();
    let used: Vec<&str> = settings.sets.iter().flat_map(|set| &set.control).map(|control| control.kind.as_str()).collect();
    for kind in settings.controlnet_model.keys().chain(settings.control_image_dir.keys()) {
        faults
            .require(used.contains(&kind.as_str()), || Fault::usage(RequestFault::NetworkWithoutControl { kind: kind.clone() }));
    }
    for kind in used {
        if !choices.contains_key(kind)
            && let Some(choice) = faults.keep(control_choice(kind, settings, family, samples, nested))
        {
            choices.insert(kind.to_owned(), choice);
        }
    }
    faults.check()?;
    Ok(choices)
}

fn control_choice(
    kind: &str,
    settings: &Settings,
    family: &ModelFamily,
    samples: &[Sample],
    nested: bool,
) -> Result<ControlChoice, Fault> {
    let default = family.extractor.controlnets.iter().find(|(known, _)| *known == kind).map(|(_, model)| (*model).to_owned());
    let model = settings
        .controlnet_model
        .get(kind)
        .cloned()
        .or(default)
        .ok_or_else(|| Fault::usage(RequestFault::UnknownControl { kind: kind.to_owned() }))?;
    let source = match settings.control_image_dir.get(kind) {
        Some(folder) => {
            let images = Companions::images(folder, nested)?;
            images.check(samples)?;
            ConditionSource::Images(images)
        }
        None if kind == "canny" => ConditionSource::Canny,
        None => {
            return Err(Fault::failure(RequestFault::NoConditionImages { kind: kind.to_owned() }));
        }
    };
    Ok(ControlChoice { model, source })
}

fn projection(settings: &Settings) -> Result<Option<Projection>, Fault> {
    match (&settings.output.pca, settings.output.pca_dims) {
        (None, None) => Ok(None),
        (Some(path), Some(dims)) => Projection::read(path, dims).map(Some).map_err(|fault| fault.of("--pca ")),
        (Some(_), None) => Err(Fault::usage(RequestFault::PcaWithoutDims)),
        (None, Some(_)) => Err(Fault::usage(RequestFault::DimsWithoutPca)),
    }
}

fn output_dir(settings: &Settings) -> PathBuf {
    settings.output.dir.clone().unwrap_or_else(|| PathBuf::from("./output/"))
}

fn output_rule(settings: &Settings) -> Result<OutputRule, Fault> {
    let split = settings.output.split.as_deref().unwrap_or("train");
    if !is_plain_name(&format!("{split}0")) {
        return Err(Fault::usage(RequestFault::Split { found: split.to_owned() }));
    }
    Ok(OutputRule {
        dir: output_dir(settings),
        aggregate: settings.output.aggregate,
        sample_name_first: settings.output.sample_name_first,
        dtype: settings.output.dtype.unwrap_or_default().dtype(),
        format: settings.output.format.unwrap_or_default(),
    })
}

/// Whether a text is the name of one file or folder, not a path.
fn is_plain_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod identity;
