//! Writing a whole seeded model: the pipeline folder of `StableDiffusionPipeline`, and a ControlNet beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::{Value, json};

use super::source::SeededSource;
use crate::controlnet::{ControlNet, ControlNetConfig};
use crate::formats::{write_atomically, write_safetensors};
use crate::layers::{WeightType, Weights};
use crate::text_encoder::{TextEncoder, TextEncoderConfig};
use crate::tokenizer::{self, Padding};
use crate::unet::{Unet, UnetConfig};
use crate::vae::{Vae, VaeConfig};
use crate::{Error, Result};

/// Which model, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Stable Diffusion 1.5 with a few hundred thousand parameters.
    Miniature,
    /// Stable Diffusion 2.1 (v-prediction) at the same size.
    MiniatureSd2,
    /// Stable Diffusion 1.5's own sizes: 4.3 GB in float32.
    Full,
}

/// The configurations of a model's components.
struct Configurations {
    unet: UnetConfig,
    vae: VaeConfig,
    text: TextEncoderConfig,
    controlnet: ControlNetConfig,
    scheduler: Value,
}

impl Size {
    fn padding(self) -> Padding {
        match self {
            Self::Miniature | Self::Full => Padding::EndToken,
            Self::MiniatureSd2 => Padding::ExclamationMark,
        }
    }

    fn configurations(self, vocab_size: usize) -> Configurations {
        match self {
            Self::Miniature => Configurations {
                unet: UnetConfig::miniature(),
                vae: VaeConfig::miniature(),
                text: TextEncoderConfig::miniature(vocab_size),
                controlnet: ControlNetConfig::miniature(),
                scheduler: scheduler_1_5(),
            },
            Self::MiniatureSd2 => Configurations {
                unet: UnetConfig::miniature_2_1(),
                vae: VaeConfig::miniature(),
                text: TextEncoderConfig::miniature_2_1(vocab_size),
                controlnet: ControlNetConfig::miniature_2_1(),
                scheduler: scheduler_2_1(),
            },
            Self::Full => Configurations {
                unet: UnetConfig::stable_diffusion_1_5(),
                vae: VaeConfig::stable_diffusion_1_5(),
                // The tokenizer of a seeded model is small; the embedding keeps the true size.
                text: TextEncoderConfig::stable_diffusion_1_5(),
                controlnet: ControlNetConfig::stable_diffusion_1_5(),
                scheduler: scheduler_1_5(),
            },
        }
    }
}

/// Writes `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`, `model_index.json` and `controlnet-canny/` into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_model(folder: &Path, size: Size, dtype: DType, seed: u64) -> Result<()> {
    let vocab_size = write_tokenizer(&folder.join("tokenizer"), size.padding())?;
    let Configurations { unet, vae, text, controlnet, scheduler } = size.configurations(vocab_size);
    let network = |name: &str, class: &str, file: &str, config: Value, build: &dyn Fn(Weights) -> Result<()>, seed: u64| {
        let source = Arc::new(SeededSource::new(seed, dtype));
        let types = WeightType { storage: None, compute: DType::F32 };
        build(Weights::new(source.clone(), &Device::Cpu, types))?;
        write_network(&folder.join(name), class, file, config, &source)
    };
    let diffusers = "diffusion_pytorch_model.safetensors";
    let to_json = |value: serde_json::Result<Value>| value.map_err(|error| Error::argument("configuration", error));
    let config = to_json(serde_json::to_value(&unet))?;
    network("unet", "UNet2DConditionModel", diffusers, config, &|w| Unet::load(unet.clone(), w).map(drop), seed)?;
    let config = to_json(serde_json::to_value(&vae))?;
    network("vae", "AutoencoderKL", diffusers, config, &|w| Vae::load_whole(vae.clone(), w).map(drop), seed + 1)?;
    let mut config = to_json(serde_json::to_value(&text))?;
    text_encoder_extras(&mut config, vocab_size);
    network(
        "text_encoder",
        "CLIPTextModel",
        "model.safetensors",
        config,
        &|w| TextEncoder::load(text.clone(), w).map(drop),
        seed + 2,
    )?;
    let config = controlnet_json(to_json(serde_json::to_value(&controlnet))?);
    network("controlnet-canny", "ControlNetModel", diffusers, config, &|w| ControlNet::load(&controlnet, w).map(drop), seed + 3)?;
    write_json(&folder.join("scheduler/scheduler_config.json"), &scheduler)?;
    write_json(&folder.join("model_index.json"), &model_index(&scheduler))
}

fn write_tokenizer(folder: &Path, padding: Padding) -> Result<usize> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    tokenizer::write_miniature(folder, padding)
}

fn write_network(folder: &Path, class: &str, file: &str, mut config: Value, source: &SeededSource) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // transformers names a class under `architectures`, diffusers under `_class_name`.
    match class {
        "CLIPTextModel" => config["architectures"] = json!([class]),
        _ => config["_class_name"] = json!(class),
    }
    write_json(&folder.join("config.json"), &config)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(folder.join(file), source.drawn(), &metadata)
}

fn text_encoder_extras(config: &mut Value, vocab_size: usize) {
    config["model_type"] = json!("clip_text_model");
    config["projection_dim"] = config["hidden_size"].clone();
    // The two special tokens are the last of the vocabulary.
    config["bos_token_id"] = json!(vocab_size - 2);
    config["eos_token_id"] = json!(vocab_size - 1);
    config["pad_token_id"] = json!(vocab_size - 1);
}

/// The entries that `ControlNetModel` takes: the UNet's without its up path.
fn controlnet_json(mut config: Value) -> Value {
    if let Some(entries) = config.as_object_mut() {
        for key in ["sample_size", "out_channels", "up_block_types", "center_input_sample", "dual_cross_attention"] {
            entries.remove(key);
        }
        for key in ["time_cond_proj_dim", "conv_in_kernel", "conv_out_kernel"] {
            entries.remove(key);
        }
    }
    config
}

/// SD1.5's published scheduler configuration.
fn scheduler_1_5() -> Value {
    json!({
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": null
    })
}

/// SD2.1's published scheduler configuration, that of the model for 768 x 768 pixels.
fn scheduler_2_1() -> Value {
    json!({
        "_class_name": "DDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "trained_betas": null
    })
}

fn model_index(scheduler: &Value) -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    write_atomically(path, |file| file.write_bytes(format!("{value:#}\n").as_bytes()))
}
