//! What was asked for, from the command line or from a configuration file, in one form.
//!
//! The configuration file's keys are the fields' names. A `[[set]]` that does not name `t`, `layer` or `seed` takes those of the set
//! extracted before it, so that techniques that are compared differ in nothing by accident; everything else starts anew in each set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Fault, FusionMode};
use crate::args::{ExtractArgs, LoraFile, NamedNumber};

/// A whole configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Diffusers folder, checkpoint file or hub id.
    pub model: Option<String>,
    /// For a checkpoint file: folder or hub id with its configurations and tokenizer.
    pub base: Option<String>,
    /// Branch, tag or commit of a hub id.
    pub revision: Option<String>,
    /// Compute type.
    pub dtype: Option<String>,
    /// Where to compute.
    pub device: Option<String>,
    /// Threads of the CPU.
    pub threads: Option<usize>,
    /// Images computed together.
    pub batch_size: Option<usize>,
    /// The images.
    #[serde(default)]
    pub input: InputSettings,
    /// The features' files.
    #[serde(default)]
    pub output: OutputSettings,
    /// ControlNet by kind: folder or hub id.
    #[serde(default)]
    pub controlnet_model: BTreeMap<String, String>,
    /// Folder of ready-made condition images by kind.
    #[serde(default)]
    pub control_image_dir: BTreeMap<String, PathBuf>,
    /// The feature sets.
    #[serde(default, rename = "set")]
    pub sets: Vec<SetSettings>,
    /// Whether this was read from a file, where every set has a name and a folder of its own.
    #[serde(skip)]
    pub from_file: bool,
}

/// `[input]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSettings {
    /// Pattern, folder or file.
    pub images: Option<String>,
    /// Side in pixels.
    pub img_size: Option<usize>,
    /// Whether the parent folder's name belongs to a name.
    #[serde(default)]
    pub nested: bool,
}

/// `[output]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSettings {
    /// Folder.
    pub dir: Option<PathBuf>,
    /// One file per image.
    #[serde(default)]
    pub aggregate: bool,
    /// Files named after the images.
    #[serde(default)]
    pub use_original_filename: bool,
    /// First part of numbered names.
    pub split: Option<String>,
    /// `NAME/LAYER` instead of `LAYER/NAME`.
    #[serde(default)]
    pub sample_name_first: bool,
    /// `float16` or `float32`.
    pub dtype: Option<String>,
    /// `npy` or `safetensors`.
    pub format: Option<String>,
    /// Make anew what is there.
    #[serde(default)]
    pub overwrite: bool,
}

/// One `[[set]]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SetSettings {
    /// The set's folder in the output; from the command line there is none.
    pub name: Option<String>,
    /// One prompt.
    pub prompt: Option<String>,
    /// Its file.
    pub prompt_file: Option<PathBuf>,
    /// A prompt per image.
    pub caption_dir: Option<PathBuf>,
    /// A table of them.
    pub prompt_csv: Option<PathBuf>,
    /// Noise level.
    pub t: Option<usize>,
    /// Start of denoising.
    pub denoising_from: Option<usize>,
    /// Inversion instead of noise.
    #[serde(default)]
    pub use_ddim_inversion: bool,
    /// Image number i draws from this + i.
    pub seed: Option<u64>,
    /// The layers.
    pub layer: Option<LayerSetting>,
    /// Categories of aggregated attention.
    #[serde(default)]
    pub attention: Vec<String>,
    /// Pooling.
    pub feature_resize: Option<usize>,
    /// ControlNets.
    #[serde(default)]
    pub control: Vec<ControlSetting>,
    /// Adapters.
    #[serde(default)]
    pub lora: Vec<LoraSetting>,
    /// A merged model that takes the run's model's place in this set: folder, checkpoint file or hub id.
    pub model: Option<String>,
    /// Whether its features are written; false for a set that only goes into others.
    pub write: Option<bool>,
    /// Names of the sets that this one is made of; such a set has nothing else but a name and a `fuse_mode`.
    #[serde(default)]
    pub fuse: Vec<String>,
    /// `mean` or `concat`.
    pub fuse_mode: Option<FusionMode>,
}

/// `layer = "FILE"` or `layer = ["id", ...]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum LayerSetting {
    /// A layer file.
    File(PathBuf),
    /// The ids themselves.
    Ids(Vec<String>),
}

/// `"KIND"` or `{ kind = "KIND", scale = SCALE, start = SHARE, end = SHARE }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum ControlSetting {
    /// At full strength, at every step.
    Kind(String),
    /// A table.
    Table(ControlTable),
}

/// `{ kind = "KIND", scale = SCALE, start = SHARE, end = SHARE }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ControlTable {
    /// The kind.
    pub kind: String,
    /// What its residuals are multiplied with.
    pub scale: Option<f64>,
    /// The first of the steps that it steers, as a share of their number.
    pub start: Option<f64>,
    /// The end of them.
    pub end: Option<f64>,
}

impl ControlSetting {
    /// The kind.
    pub fn kind(&self) -> &str {
        match self {
            Self::Kind(kind) | Self::Table(ControlTable { kind, .. }) => kind,
        }
    }

    /// All of it.
    pub fn table(&self) -> ControlTable {
        match self {
            Self::Kind(kind) => ControlTable { kind: kind.clone(), scale: None, start: None, end: None },
            Self::Table(table) => table.clone(),
        }
    }
}

/// `"FILE:SCALE"` or `{ file = "FILE", scale = SCALE }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum LoraSetting {
    /// As on the command line.
    Text(String),
    /// A table.
    Table(LoraTable),
}

/// `{ file = "FILE", scale = SCALE }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LoraTable {
    file: PathBuf,
    scale: Option<f64>,
}

impl LoraSetting {
    /// The adapter's file and strength.
    ///
    /// # Errors
    /// When the text form is malformed or the strength is no finite number.
    pub fn file(&self) -> Result<LoraFile, String> {
        match self {
            Self::Text(text) => text.parse(),
            Self::Table(LoraTable { file, scale }) => match scale.unwrap_or(1.0) {
                scale if scale.is_finite() => Ok(LoraFile { file: file.clone(), scale }),
                _ => Err("the scale is not finite".to_owned()),
            },
        }
    }
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has a key that does not exist, or no `[[set]]`.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let fail = |problem: String| Fault::failure(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        Self::from_text(&text).map_err(fail)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let mut settings: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if settings.sets.is_empty() {
            return Err("has no [[set]]; each [[set]] is one feature set".to_owned());
        }
        settings.from_file = true;
        let mut extracted = settings.sets.iter_mut().filter(|set| set.fuse.is_empty()).collect::<Vec<_>>();
        for later in 1..extracted.len() {
            let (before, rest) = extracted.split_at_mut(later);
            let (Some(before), Some(set)) = (before.last(), rest.first_mut()) else { continue };
            set.t = set.t.or(before.t);
            set.seed = set.seed.or(before.seed);
            set.layer = set.layer.take().or_else(|| before.layer.clone());
        }
        Ok(settings)
    }

    /// The command line in the form of a configuration file; with `--config`, that file with what was typed put over it.
    ///
    /// # Errors
    /// When the file is wrong, or an option was typed that belongs to a `[[set]]` of the file.
    pub fn from_args(args: &ExtractArgs) -> Result<Self, Fault> {
        let mut settings = match &args.config {
            Some(path) => {
                refuse_set_options(args, path)?;
                Self::from_file(path)?
            }
            None => {
                refuse_strangers(args)?;
                Self { sets: vec![set_from_args(args)], ..Self::default() }
            }
        };
        put_over(&mut settings.model, args.model.model.clone());
        put_over(&mut settings.threads, args.model.threads);
        put_over(&mut settings.batch_size, args.batch_size);
        put_over(&mut settings.input.images, args.input_dir.clone());
        put_over(&mut settings.input.img_size, args.img_size);
        put_over(&mut settings.output.dir, args.output_dir.clone());
        put_over(&mut settings.output.split, args.split.clone());
        settings.input.nested |= args.nested_input_dir;
        settings.output.aggregate |= args.aggregate_output;
        settings.output.use_original_filename |= args.use_original_filename;
        settings.output.sample_name_first |= args.sample_name_first;
        settings.output.overwrite |= args.overwrite;
        for named in &args.controlnet_model {
            settings.controlnet_model.insert(named.name.clone(), named.value.clone());
        }
        for named in &args.control_image_dir {
            settings.control_image_dir.insert(named.name.clone(), PathBuf::from(&named.value));
        }
        Ok(settings)
    }
}

fn put_over<T>(place: &mut Option<T>, typed: Option<T>) {
    if typed.is_some() {
        *place = typed;
    }
}

fn set_from_args(args: &ExtractArgs) -> SetSettings {
    let mut lora: Vec<LoraSetting> = args.model.lora.iter().map(lora_setting).collect();
    if let (Some(folder), Some(name)) = (&args.offline_lora, &args.offline_lora_filename) {
        lora.insert(0, lora_setting(&LoraFile { file: folder.join(name), scale: 1.0 }));
    }
    SetSettings {
        name: None,
        prompt: args.prompt.clone(),
        prompt_file: args.prompt_file.clone(),
        caption_dir: args.caption_dir.clone(),
        prompt_csv: args.prompt_csv.clone(),
        t: args.t.map(|t| t as usize),
        denoising_from: args.denoising_from.map(|from| from as usize),
        use_ddim_inversion: args.use_ddim_inversion,
        seed: args.seed,
        layer: args.layer.clone().map(LayerSetting::File),
        attention: args.attention.iter().map(ToString::to_string).collect(),
        feature_resize: args.feature_resize,
        model: None,
        write: None,
        fuse: Vec::new(),
        fuse_mode: None,
        control: args.control.iter().map(|kind| control_setting(kind, args)).collect(),
        lora,
    }
}

/// A kind with what other options say of it; the last of equal options wins.
fn control_setting(kind: &str, args: &ExtractArgs) -> ControlSetting {
    let of = |named: &[NamedNumber]| named.iter().rfind(|named| named.name == kind).map(|named| named.value);
    let (scale, start, end) = (of(&args.control_scale), of(&args.control_start), of(&args.control_end));
    ControlSetting::Table(ControlTable { kind: kind.to_owned(), scale, start, end })
}

fn lora_setting(lora: &LoraFile) -> LoraSetting {
    LoraSetting::Table(LoraTable { file: lora.file.clone(), scale: Some(lora.scale) })
}

/// A strength or range of a kind that `--control` does not name would be silently out of force.
fn refuse_strangers(args: &ExtractArgs) -> Result<(), Fault> {
    let mut numbers = args.control_scale.iter().chain(&args.control_start).chain(&args.control_end);
    match numbers.find(|named| !args.control.contains(&named.name)) {
        Some(NamedNumber { name, .. }) => {
            Err(Fault::usage(format!("`{name}` has a strength or range, but --control does not name it")))
        }
        None => Ok(()),
    }
}

/// With `--config` the file's sets say what to extract; an option that would be silently out of force is refused.
fn refuse_set_options(args: &ExtractArgs, path: &Path) -> Result<(), Fault> {
    let typed = [
        ("--prompt", args.prompt.is_some()),
        ("--prompt-file", args.prompt_file.is_some()),
        ("--caption-dir", args.caption_dir.is_some()),
        ("--t", args.t.is_some()),
        ("--denoising-from", args.denoising_from.is_some()),
        ("--use-ddim-inversion", args.use_ddim_inversion),
        ("--layer", args.layer.is_some()),
        ("--attention", !args.attention.is_empty()),
        ("--feature-resize", args.feature_resize.is_some()),
        ("--prompt-csv", args.prompt_csv.is_some()),
        ("--control", !args.control.is_empty()),
        ("--control-scale", !args.control_scale.is_empty()),
        ("--control-start", !args.control_start.is_empty()),
        ("--control-end", !args.control_end.is_empty()),
        ("--lora", !args.model.lora.is_empty()),
        ("--offline-lora-filename", args.offline_lora_filename.is_some()),
        ("--seed", args.seed.is_some()),
        ("--show-all-layers", args.show_all_layers),
    ];
    let typed: Vec<&str> = typed.iter().filter(|(_, typed)| *typed).map(|(name, _)| *name).collect();
    match typed.is_empty() {
        true => Ok(()),
        false => Err(Fault::usage(format!(
            "{} cannot be used together with --config; write it into the sets of {}",
            typed.join(", "),
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"
        model = "stable-diffusion-v1-5/stable-diffusion-v1-5"
        [input]
        images = "SPair-71k/JPEGImages/**/*.jpg"
        img_size = 512
        [output]
        dir = "features/spair"
        aggregate = true
        [[set]]
        name = "prompt-a"
        prompt = "a photo of ..., high quality"
        t = 50
        seed = 0
        layer = "configs/layers/legacy.json"
        [[set]]
        name = "control-lora"
        prompt = "a photo"
        lora = [{ file = "horse-a.safetensors", scale = 0.5 }, "b.safetensors:2"]
        control = ["canny"]
        denoising_from = 60
        attention = ["up_cross"]
    "#;

    #[test]
    fn the_contracts_example() {
        let settings = Settings::from_text(CONTRACT).unwrap();
        assert_eq!(settings.sets.len(), 2);
        let second = &settings.sets[1];
        assert_eq!((second.t, second.seed, second.denoising_from), (Some(50), Some(0), Some(60)));
        assert!(matches!(&second.layer, Some(LayerSetting::File(path)) if path.ends_with("legacy.json")));
        let loras: Vec<LoraFile> = second.lora.iter().map(|lora| lora.file().unwrap()).collect();
        assert_eq!(loras[0], LoraFile { file: "horse-a.safetensors".into(), scale: 0.5 });
        assert_eq!(loras[1], LoraFile { file: "b.safetensors".into(), scale: 2.0 });
    }

    #[test]
    fn unknown_keys_and_empty_files_are_errors() {
        let message = Settings::from_text(&CONTRACT.replace("denoising_from", "denoise_from")).unwrap_err();
        assert!(message.contains("denoise_from") && message.contains("denoising_from"), "{message}");
        assert!(Settings::from_text("model = \"x\"").unwrap_err().contains("[[set]]"));
    }

    #[test]
    fn every_shipped_configuration_parses() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let ours = ["correspondence.toml", "label-scarce-segmentation.toml", "segmentation.toml"];
        for name in ours {
            let settings = Settings::from_file(&Path::new(folder).join(name)).unwrap();
            assert!(settings.sets.iter().all(|set| set.t.is_some()), "{name}");
        }
    }
}
