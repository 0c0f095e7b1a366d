//! The manifest of a run, made of its options' rows and of what its files hold.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use driftless::{Error, Result};
use serde_json::{Value, json};

use super::contents::{Contents, FileRecord, short_hash};
use super::images::{ConditionRecord, ImageRecord, size_and_time};
use super::{FORMAT, Manifest, Options};
use crate::ids::IdMap;
use crate::inputs::{Companions, PromptSource, Sample, depends_on_folder};
use crate::options::{RUN_OPTIONS, Record, RunFacts, RunIdentity, SET_OPTIONS, SetFacts};
use crate::set::{FeatureSet, Fusion, LoraFile, ModelChoice};

/// The files of a network or model, each with its name in it.
pub type NamedFiles = Vec<(String, PathBuf)>;

/// A run to be recorded.
pub struct Described<'a> {
    /// What holds for all sets.
    pub run: RunFacts<'a>,
    /// The sets that are extracted.
    pub sets: &'a IdMap<FeatureSet, FeatureSet>,
    /// The sets that are made of them.
    pub fusions: &'a IdMap<Fusion, Fusion>,
    /// The layers of each set, in the order of the store.
    pub layers: IdMap<FeatureSet, &'a [driftless::taps::LayerId]>,
    /// What each model is read from.
    pub models: IdMap<ModelChoice, NamedFiles>,
    /// What each kind's ControlNet is read from.
    pub controls: BTreeMap<String, NamedFiles>,
    /// Ready-made condition images by kind.
    pub conditions: BTreeMap<&'a str, &'a Companions>,
    /// The images of all shards.
    pub all: &'a [Sample],
    /// This shard's.
    pub mine: &'a [Sample],
}

impl Manifest {
    /// The manifest of a run; `known` are hashes of an earlier one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(run: &Described, known: BTreeMap<String, FileRecord>) -> Result<Self> {
        let mut contents = Contents::knowing(known);
        let records = set_records(run, &mut contents)?;
        let written = run.sets.iter().filter(|(_, set)| set.keep.written);
        let mut sets: BTreeMap<String, Options> =
            written.map(|(id, set)| (set.name.clone().unwrap_or_default(), records[id].clone())).collect();
        for fusion in run.fusions.values() {
            let mut record: Options =
                SET_OPTIONS.iter().filter_map(|option| of_fusion(option.key?, option.record, fusion)).collect();
            record.insert("of".to_owned(), fusion.sources().map(|set| json!(records[set])).collect());
            sets.insert(fusion.name.clone(), record);
        }
        let images = image_records(run, &mut contents)?;
        let program = format!("driftless {}", env!("CARGO_PKG_VERSION"));
        Ok(Self { format: FORMAT, program, run: run_record(&run.run), sets, files: contents.used(), images })
    }

    /// A set's settings as a file of its features carries them.
    pub fn metadata(&self, set: Option<&str>) -> String {
        let options = self.sets.get(set.unwrap_or_default());
        json!({ "program": self.program, "run": self.run, "set": options }).to_string()
    }
}

fn run_record(facts: &RunFacts) -> Options {
    let rows = RUN_OPTIONS.iter().filter_map(|option| match option.identity {
        RunIdentity::Fixed(record) | RunIdentity::MayChange(record) => {
            Some((option.key.unwrap_or(option.flag.name).to_owned(), record(facts)))
        }
        RunIdentity::FixedIf(record) => Some((option.key.unwrap_or(option.flag.name).to_owned(), record(facts)?)),
        RunIdentity::Within(_) | RunIdentity::Irrelevant => None,
    });
    rows.collect()
}

/// What the rows say of a set that is extracted.
pub fn set_record(facts: &SetFacts) -> Options {
    let rows = SET_OPTIONS.iter().filter_map(|option| match option.record {
        Record::Set(record) => Some((option.key?.to_owned(), record(facts))),
        Record::SetIf(record) => Some((option.key?.to_owned(), record(facts)?)),
        Record::Fusion(_) | Record::Within(_) | Record::Nowhere(_) => None,
    });
    rows.collect()
}

fn of_fusion(key: &str, record: Record, fusion: &Fusion) -> Option<(String, Value)> {
    match record {
        Record::Fusion(record) => Some((key.to_owned(), record(fusion))),
        Record::Set(_) | Record::SetIf(_) | Record::Within(_) | Record::Nowhere(_) => None,
    }
}

fn set_records(run: &Described, contents: &mut Contents) -> Result<IdMap<FeatureSet, Options>> {
    let models = run.models.try_map(|_, files| contents.of_files(files))?;
    let controls = run.controls.iter().map(|(kind, files)| Ok((kind.clone(), contents.of_files(files)?)));
    let controls: BTreeMap<String, Value> = controls.collect::<Result<_>>()?;
    run.sets.try_map(|id, set| {
        let adapters = set.pass.lora.iter().map(|lora| match of_folder(lora) {
            true => Ok(json!({ "of": "each image" })),
            false => contents.of_path(&lora.file).map(Value::String),
        });
        let adapters = adapters.collect::<Result<Vec<_>>>()?;
        let (model, layers) = (&models[set.pass.model], run.layers[id]);
        Ok(set_record(&SetFacts { set, layers, model, adapters: &adapters, controls: &controls }))
    })
}

fn of_folder(lora: &LoraFile) -> bool {
    lora.file.to_str().is_some_and(depends_on_folder)
}

/// All images; what each has of its own is looked at for this shard's.
fn image_records(run: &Described, contents: &mut Contents) -> Result<Vec<ImageRecord>> {
    let mut records = Vec::with_capacity(run.all.len());
    let mut places = HashMap::with_capacity(run.all.len());
    for sample in run.all {
        let (bytes, modified) = size_and_time(&sample.path);
        places.insert(sample.index, records.len());
        records.push(ImageRecord {
            number: sample.number,
            name: sample.name.clone(),
            path: place(&sample.path)?,
            bytes,
            modified,
            ..ImageRecord::default()
        });
    }
    for sample in run.mine {
        // Every shard's image is among all.
        if let Some(record) = places.get(&sample.index).and_then(|place| records.get_mut(*place)) {
            of_its_own(record, sample, run, contents)?;
        }
    }
    records.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    Ok(records)
}

fn of_its_own(record: &mut ImageRecord, sample: &Sample, run: &Described, contents: &mut Contents) -> Result<()> {
    for set in run.sets.values() {
        let name = || set.name.clone().unwrap_or_default();
        match &set.pass.prompt {
            PromptSource::Text(_) => {}
            // A prompt that cannot be read fails its image later.
            source @ (PromptSource::Captions(_) | PromptSource::Table(_)) => {
                if let Ok(prompt) = source.prompt(sample) {
                    record.prompts.insert(name(), short_hash(prompt.text.as_bytes()));
                }
            }
        }
        let chosen = set.pass.lora.iter().filter(|lora| of_folder(lora)).filter_map(|lora| lora.of_folder(sample).ok());
        let hashes = chosen.map(|lora| contents.of_path(&lora.file)).collect::<Result<Vec<_>>>()?;
        if !hashes.is_empty() {
            record.adapters.insert(name(), hashes);
        }
    }
    record.contents = contents.of_image(&sample.path, &record.path);
    for (kind, images) in &run.conditions {
        let Some(file) = images.file(sample) else { continue };
        let path = place(file)?;
        let condition = contents.of_image(file, &path).map(|contents| ConditionRecord { path, contents });
        record.conditions.extend(condition.map(|condition| ((*kind).to_owned(), condition)));
    }
    Ok(())
}

/// A file's path from the root.
fn place(path: &Path) -> Result<String> {
    Ok(std::path::absolute(path).map_err(Error::io(path))?.to_string_lossy().into_owned())
}
