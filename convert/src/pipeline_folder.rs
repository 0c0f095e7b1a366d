//! A whole LDM checkpoint as a diffusers pipeline folder.
//!
//! Configurations, tokenizer and scheduler come from a base model's folder, against whose weights every name and shape is checked
//! before anything is written. Weights go from file to file one at a time.

use crate::args::{DiffusersOptions, TextEncoder};
use crate::fault::Fault;
use crate::told::{self, WEIGHTS};
use crate::{model, output};
use candle_core::{DType, Device, Tensor};
use driftless::error::{AdapterCause, ElementError, FileCause};
use driftless::formats::{
    AtomicFolder, TensorSpec, WeightFile, cast, read_config, require_finite, unknown_keys_error, write_atomically,
    write_safetensors_streaming,
};
use driftless::model_family::{Network, Prediction, refused};
use driftless::weights::{Component, LdmCheckpoint, ModelWeights, UnetWeights};
use driftless::{Error, Result};
use driftless_cli::options::Precision;
use driftless_cli::{Console, Progress};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The scheduler's folder.
const SCHEDULER: &str = "scheduler";

/// Files of the base that go along: folder, name, whether a pipeline needs it.
const COPIED: [(&str, &str, bool); 9] = [
    ("unet", "config.json", true),
    ("vae", "config.json", true),
    ("text_encoder", "config.json", true),
    ("tokenizer", "vocab.json", true),
    ("tokenizer", "merges.txt", true),
    ("tokenizer", "tokenizer_config.json", false),
    ("tokenizer", "special_tokens_map.json", false),
    ("tokenizer", "tokenizer.json", false),
    (SCHEDULER, "scheduler_config.json", true),
];

/// Converts the checkpoint.
pub fn run(file: Arc<WeightFile>, options: &DiffusersOptions, console: &Console) -> Result<()> {
    let target = &options.adapter.output;
    let Some(base) = &options.adapter.base else {
        return Err(Error::file(
            file.path(),
            Fault::CheckpointWithoutBase,
            "name a diffusers folder of its base model with --base",
        ));
    };
    let for_adapters = [
        (options.adapter.rank.is_some(), "--rank"),
        (options.adapter.drop_biases, "--drop-biases"),
        (options.adapter.drop_norms, "--drop-norms"),
    ];
    for (given, option) in for_adapters {
        if given {
            return Err(Error::argument(option, Fault::ForAdapters));
        }
    }
    let base = &model::locate(base, options.adapter.dtype == Some(Precision::Float16), console)?;
    if base.is_file() {
        return Err(Error::file(base, Fault::BaseIsAFile, "give a diffusers folder as --base"));
    }
    if output::names_safetensors(target) {
        return Err(Error::file(target, Fault::NamesAFile, "give the name of a folder"));
    }
    let weights = if options.ema { UnetWeights::MovingAverage } else { UnetWeights::Trained };
    let checkpoint = LdmCheckpoint::from_weights(file.clone(), weights)?;
    let base_weights = ModelWeights::open_folder(base)?;
    if base_weights.family() != checkpoint.family {
        let fault = Fault::OtherFamily { expected: base_weights.family(), found: checkpoint.family };
        return Err(Error::file(file.path(), fault, "give a base of the same family with --base"));
    }
    let mut unknown = checkpoint.unknown.clone();
    let mut parts = Vec::new();
    for network in Network::PIPELINE {
        parts.push(choose(&checkpoint, network, &base_weights, options, &mut unknown)?);
    }
    if !unknown.is_empty() && !options.adapter.allow_unknown {
        return Err(unknown_keys_error(file.path(), &unknown));
    }
    told::unknown_keys(&unknown, console);
    checkpoint.dropped.iter().for_each(|key| console.detail(|| format!("left out: {key}")));
    output::prepare(&options.adapter.input, target)?;
    let prediction = options.prediction_type.map(|choice| choice.prediction());
    if let Some(prediction) = prediction.filter(|prediction| !checkpoint.family.predictions.contains(prediction)) {
        console.warn(format!("{} models predict otherwise than {}", checkpoint.family, prediction.name()));
    }
    let dtype = options.adapter.dtype.map(|dtype| dtype.dtype());
    let folder = Folder { base, dtype, prediction, transform: &|_, _, tensor| Ok(tensor) };
    folder.write(target, &parts, console)?;
    for chosen in &parts {
        console.result(format!("{}: {} weights {}", chosen.component.network(), chosen.names.len(), chosen.origin));
    }
    console.result(format!("{}", target.display()));
    Ok(())
}

/// A network's weights, and where they come from.
pub struct Chosen {
    /// The weights.
    pub component: Component,
    /// Those that are written.
    pub names: Vec<String>,
    /// In words.
    pub origin: &'static str,
}

/// The checkpoint's weights of a network where it has them and they are wanted, the base's otherwise; checked against the base.
fn choose(
    checkpoint: &LdmCheckpoint,
    network: Network,
    base: &ModelWeights,
    options: &DiffusersOptions,
    unknown: &mut Vec<String>,
) -> Result<Chosen> {
    let expected = base.component(network, false)?;
    let names: Vec<String> = expected.names().map(str::to_owned).collect();
    if network == Network::TextEncoder && options.text_encoder == Some(TextEncoder::Base) {
        return Ok(Chosen { component: expected, names, origin: "from the base (as asked)" });
    }
    let Some(own) = checkpoint.component(network).filter(|own| !own.is_empty()) else {
        return Ok(Chosen { component: expected, names, origin: "from the base (the checkpoint has none)" });
    };
    let path = own.file().path();
    for name in &names {
        let (Some(info), Some(wanted)) = (own.info(name), expected.info(name)) else {
            return Err(Error::tensor(path, format!("{network}.{name}"), Fault::MissingOfBase));
        };
        let stored = own.stored_name(name).unwrap_or(name);
        if info.shape != wanted.shape {
            let (expected, found) = (wanted.shape.clone(), info.shape.clone());
            return Err(Error::tensor(path, stored, Fault::ShapeOfNamed { name: name.clone(), expected, found }));
        }
        if !info.tensor_dtype().is_some_and(|dtype| dtype.is_float()) {
            return Err(Error::tensor(path, stored, AdapterCause::NotFloat { found: info.dtype }));
        }
    }
    unknown.extend(
        own.names().filter(|name| expected.info(name).is_none()).filter_map(|name| own.stored_name(name)).map(str::to_owned),
    );
    Ok(Chosen { component: own.clone(), names, origin: "from the checkpoint" })
}

/// What a pipeline folder is made of.
pub struct Folder<'a> {
    /// The folder that gives everything but the weights.
    pub base: &'a Path,
    /// Element type of the weights; without it as stored.
    pub dtype: Option<DType>,
    /// What the scheduler's configuration says that the network predicts; without it what the base's says.
    pub prediction: Option<Prediction>,
    /// What becomes of each weight.
    pub transform: &'a Transform<'a>,
}

/// What becomes of a weight of a network.
pub type Transform<'a> = dyn Fn(Network, &str, Tensor) -> Result<Tensor> + 'a;

impl Folder<'_> {
    /// Writes the folder; nothing or an empty folder may stand there.
    pub fn write(&self, target: &Path, parts: &[Chosen], console: &Console) -> Result<()> {
        let index = model_index(self.base)?;
        let scheduler = self.scheduler(console)?;
        for (folder, name, needed) in COPIED {
            let path = self.base.join(folder).join(name);
            if needed && !path.is_file() {
                return Err(Error::file(&path, FileCause::NoSuchFile, "give a complete diffusers folder as --base"));
            }
        }
        let folder = AtomicFolder::create(target)?;
        for (part, name, _) in COPIED {
            let (from, to) = (self.base.join(part).join(name), folder.path().join(part));
            if from.is_file() {
                std::fs::create_dir_all(&to).map_err(Error::io(&to))?;
                let bytes = match (&scheduler, part) {
                    (Some(text), SCHEDULER) => text.clone().into_bytes(),
                    _ => std::fs::read(&from).map_err(Error::io(&from))?,
                };
                write_atomically(to.join(name), |file| file.write_bytes(&bytes))?;
            }
        }
        let progress = Progress::new(console, WEIGHTS, parts.iter().map(|chosen| chosen.names.len()).sum());
        for chosen in parts {
            self.write_weights(chosen, folder.path(), &progress)?;
        }
        let text = format!("{:#}\n", Value::Object(index));
        write_atomically(folder.path().join("model_index.json"), |file| file.write_bytes(text.as_bytes()))?;
        folder.commit()
    }

    /// The scheduler's configuration where it is to say another prediction than the base's.
    fn scheduler(&self, console: &Console) -> Result<Option<String>> {
        let path = self.base.join(SCHEDULER).join("scheduler_config.json");
        if !path.is_file() {
            return Ok(None);
        }
        let mut config: Map<String, Value> = read_config(&path)?;
        let stated = config.get("prediction_type").and_then(Value::as_str).unwrap_or("epsilon").to_owned();
        match self.prediction.map(Prediction::name) {
            Some(wanted) if wanted != stated => {
                console.detail(|| format!("scheduler: {wanted} (as asked; the base says {stated})"));
                config.insert("prediction_type".into(), wanted.into());
                Ok(Some(format!("{:#}\n", Value::Object(config))))
            }
            Some(_) | None => {
                console.detail(|| format!("scheduler: {stated}"));
                Ok(None)
            }
        }
    }

    /// Writes one network's weights under the names of today's diffusers.
    fn write_weights(&self, chosen: &Chosen, folder: &Path, progress: &Progress) -> Result<()> {
        let component = &chosen.component;
        let network = component.network();
        let path = folder.join(network.name()).join(format!("{}.safetensors", network.stem()));
        let mut specs = Vec::with_capacity(chosen.names.len());
        for name in &chosen.names {
            if let Some(info) = component.info(name)
                && let Some(stored) = info.tensor_dtype()
            {
                specs.push(TensorSpec { name: name.clone(), dtype: self.dtype.unwrap_or(stored), shape: info.shape.clone() });
            }
        }
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors_streaming(&path, specs, &metadata, |spec| {
            let wrong = |cause: ElementError| {
                let stored = component.stored_name(&spec.name).unwrap_or(&spec.name);
                Error::tensor(component.file().path(), stored, cause)
            };
            let tensor = component.tensor(&spec.name, &Device::Cpu)?;
            require_finite(&tensor).map_err(wrong)?;
            let tensor = (self.transform)(network, &spec.name, tensor)?;
            progress.advance(1);
            cast(&tensor, spec.dtype).map_err(wrong)
        })
    }
}

/// The base's list of parts, without those that are not written.
fn model_index(base: &Path) -> Result<Map<String, Value>> {
    refused::in_folder(base)?;
    let path = base.join("model_index.json");
    let mut index: Map<String, Value> = read_config(&path)?;
    index.insert("_class_name".into(), "StableDiffusionPipeline".into());
    for part in ["safety_checker", "feature_extractor", "image_encoder"] {
        index.insert(part.into(), json!([null, null]));
    }
    index.insert("requires_safety_checker".into(), false.into());
    Ok(index)
}
