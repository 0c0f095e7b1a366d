//! What was asked for, in the form of a configuration file: [`RUN_OPTIONS`](super::RUN_OPTIONS) and [`SET_OPTIONS`](super::SET_OPTIONS) read
//! it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftless::formats::{FileKind, read_text};

use super::{SetSettings, Shard, read_run, read_sets};
use crate::fault::{Fault, RequestFault, both};
use crate::stores::{OutputFormat, OutputPrecision};

/// A whole configuration file, and what the command line has besides.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Version of Stable Diffusion by the original extractor's name: 1-5 or 2-1.
    pub version: Option<String>,
    /// Diffusers folder, checkpoint file or hub id.
    pub model: Option<String>,
    /// For a checkpoint file: folder or hub id with its configurations and tokenizer.
    pub base: Option<String>,
    /// Branch, tag or commit of a hub id.
    pub revision: Option<String>,
    /// File or folder of a UNet that takes the place of the model's.
    pub unet: Option<PathBuf>,
    /// Compute type, by its name.
    pub dtype: Option<String>,
    /// Where to compute, by its name.
    pub device: Option<String>,
    /// Threads of the CPU.
    pub threads: Option<usize>,
    /// Images computed together.
    pub batch_size: Option<usize>,
    /// The images.
    pub input: InputSettings,
    /// The features' files.
    pub output: OutputSettings,
    /// ControlNet by kind: folder or hub id.
    pub controlnet_model: BTreeMap<String, String>,
    /// Folder of ready-made condition images by kind.
    pub control_image_dir: BTreeMap<String, PathBuf>,
    /// The feature sets.
    pub sets: Vec<SetSettings>,
    /// The file that this was read from: there every set has a name and a folder of its own.
    pub file: Option<PathBuf>,
    /// The part of the images that is wanted; `None` for all of them.
    pub shard: Option<Shard>,
    /// What configuration files have no key for.
    pub command: CommandSettings,
}

/// `[input]`.
#[derive(Clone, Debug, Default)]
pub struct InputSettings {
    /// Patterns, folders or files.
    pub images: Vec<PathBuf>,
    /// Side in pixels.
    pub img_size: Option<usize>,
    /// Whether the parent folder's name belongs to a name.
    pub nested: bool,
}

/// `[output]`.
#[derive(Clone, Debug, Default)]
pub struct OutputSettings {
    /// Folder.
    pub dir: Option<PathBuf>,
    /// One file per image.
    pub aggregate: bool,
    /// Files named after the images.
    pub use_original_filename: bool,
    /// First part of numbered names.
    pub split: Option<String>,
    /// `NAME/LAYER` instead of `LAYER/NAME`.
    pub sample_name_first: bool,
    /// `float16` or `float32`.
    pub dtype: Option<OutputPrecision>,
    /// `npy` or `safetensors`.
    pub format: Option<OutputFormat>,
    /// File of the bases that features are projected on.
    pub pca: Option<PathBuf>,
    /// Components that are written of projected features.
    pub pca_dims: Option<usize>,
    /// Make anew what is there.
    pub overwrite: bool,
}

/// What the command line alone has, for the command to act on.
#[derive(Clone, Debug, Default)]
pub struct CommandSettings {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where the stages' times go.
    pub timings: Option<PathBuf>,
    /// A merged model, or the folder of an adapter.
    pub offline_lora: Option<PathBuf>,
    /// The adapter's file in that folder.
    pub offline_lora_filename: Option<String>,
    /// Layers are listed instead of extracted.
    pub show_all_layers: bool,
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has no `[[set]]`; otherwise every key that does not exist and every wrong value.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let context = format!("{}: ", path.display());
        // Its own error names the file.
        let text = read_text(path, FileKind::Configuration).map_err(Fault::failure)?;
        let settings = Self::from_text(&text).map_err(|fault| fault.of(&context))?;
        Ok(Self { file: Some(path.to_owned()), ..settings })
    }

    /// One set without a name, as a command line asks for it.
    pub fn of_set(set: SetSettings) -> Self {
        Self { sets: vec![set], ..Self::default() }
    }

    fn from_text(text: &str) -> Result<Self, Fault> {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| Fault::failure(RequestFault::from(error)))?;
        let sets = match table.remove("set") {
            Some(sets) => sets.try_into::<Vec<toml::Table>>().map_err(|_| Fault::failure(RequestFault::SetsAreNoTables))?,
            None => Vec::new(),
        };
        let mut settings = Self::default();
        let read = match sets.is_empty() {
            true => Err(Fault::failure(RequestFault::NoSets)),
            false => read_sets(sets),
        };
        let ((), sets) = both(read_run(&table, &mut settings), read)?;
        settings.sets = sets;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LayerSetting;
    use crate::set::{Finite, LoraFile};

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
        assert_eq!((second.t, second.seed, second.denoising_from), (Some(50.into()), Some(0), Some(60)));
        assert!(matches!(&second.layer, Some(LayerSetting::File(path)) if path.ends_with("legacy.json")));
        let loras = &second.lora;
        assert_eq!(loras[0], LoraFile { file: "horse-a.safetensors".into(), scale: Finite::new(0.5).unwrap() });
        assert_eq!(loras[1], LoraFile { file: "b.safetensors".into(), scale: Finite::new(2.0).unwrap() });
    }

    #[test]
    fn unknown_keys_and_empty_files_are_errors() {
        let message = Settings::from_text(&CONTRACT.replace("denoising_from", "denoise_from")).unwrap_err().to_string();
        assert!(message.contains("denoise_from") && message.contains("denoising_from"), "{message}");
        assert!(Settings::from_text("model = \"x\"").unwrap_err().to_string().contains("[[set]]"));
    }

    #[test]
    fn keys_of_the_run_and_faults_together() {
        let read = |text: &str| Settings::from_text(&format!("{text}\n[[set]]\nname = 'a'\n"));
        let settings =
            read("[input]\nimages = ['a/*.png', 'b']\n[output]\nformat = 'safetensors'\n[controlnet_model]\ncanny = 'c'")
                .unwrap();
        assert_eq!(settings.input.images, [Path::new("a/*.png"), Path::new("b")]);
        assert_eq!((settings.output.format, settings.controlnet_model["canny"].as_str()), (Some(OutputFormat::Safetensors), "c"));
        let text = "batch_size = 'two'\nthread = 2\n[input]\nimg_size = -1\n[output]\nformat = 'nyp'\nsplti = 'x'\n[controlnet_model]\ncanny = 3";
        let message = read(text).unwrap_err().to_string();
        for part in ["batch_size = \"two\"", "`threads`", "input.img_size = -1", "npy, safetensors", "`output.split`", "canny"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(read("input = 3").unwrap_err().to_string().contains("[input]"));
        assert!(Settings::from_text("set = 3").unwrap_err().to_string().contains("[[set]]"));
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
