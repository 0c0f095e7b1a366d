//! The networks without their weights: what the headers of the weight files say, or, for a model that is not on this machine yet, the
//! configuration of its family. Takes hardly any memory, and shows what is missing or has another shape before anything is loaded.

use super::{location, vae};
use crate::faults::Faults;
use crate::options::{ModelOptions, Precision};
use candle_core::{DType, Device, Tensor};
use driftless::layers::{TensorSource, WeightType, Weights};
use driftless::model_family::Network;
use driftless::pipeline::ModelFiles;
use driftless::scheduler::SchedulerConfig;
use driftless::text_encoder::{TextEncoder, TextEncoderConfig};
use driftless::tokenizer::Tokenizer;
use driftless::unet::{Unet, UnetConfig};
use driftless::vae::{Vae, VaeConfig};
use driftless::weights::{Component, ModelWeights};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The networks of a run; their weights are zero.
pub struct Skeleton {
    /// The noise predictor.
    pub unet: Unet,
    /// Its configuration.
    pub unet_config: UnetConfig,
    /// The text encoder.
    pub text_encoder: TextEncoder,
    /// The autoencoder's configuration.
    pub vae_config: VaeConfig,
    /// Elements of the weights of all three.
    pub elements: usize,
    /// Whether the UNet's weights are stored in half precision.
    pub is_half: bool,
}

impl Skeleton {
    /// The networks that `options` name. All that is wrong with files that are on this machine goes to `faults`; `None` when something
    /// was.
    pub fn new(options: &ModelOptions, faults: &mut Faults) -> Option<Self> {
        let here = faults.keep(location::local(options));
        let model = here.as_ref().and_then(Option::as_ref).map(|here| here.model.clone());
        let other_vae = faults.keep(vae::look(options, model.as_deref()));
        let local = match here? {
            Some(location::Local { model, base }) => Some(faults.keep(Files::open(&model, base.as_deref(), options))?),
            None => None,
        };
        let local = local.as_ref();
        local.iter().for_each(|local| local.look_at_small_files(faults));
        let elements = Arc::new(AtomicUsize::new(0));
        let hollow = |component| Hollow::weights(component, &elements);
        let unet =
            faults.keep(part(local, Network::Unet, UnetConfig::from_file, UnetConfig::of_family(location::family(options))));
        let is_half = unet.iter().any(|(_, component)| component.as_ref().is_some_and(stores_half));
        let unet = unet.and_then(|(config, component)| {
            faults.keep(Unet::load(config.clone(), hollow(component))).map(|network| (config, network))
        });
        let usual = match options.v2 {
            true => TextEncoderConfig::stable_diffusion_2_1(),
            false => TextEncoderConfig::stable_diffusion_1_5(),
        };
        let text_encoder = faults.keep(part(local, Network::TextEncoder, TextEncoderConfig::from_file, usual));
        let text_encoder = text_encoder.and_then(|(config, component)| faults.keep(TextEncoder::load(config, hollow(component))));
        let vae = match other_vae? {
            Some((config, component)) => Some((config, Some(component))),
            None => faults.keep(part(local, Network::Vae, VaeConfig::from_file, VaeConfig::stable_diffusion_1_5())),
        };
        let vae_config =
            vae.and_then(|(config, component)| faults.keep(Vae::load(config.clone(), hollow(component))).map(|_| config));
        let ((unet_config, unet), elements) = (unet?, elements.load(Ordering::Relaxed));
        Some(Self { unet, unet_config, text_encoder: text_encoder?, vae_config: vae_config?, elements, is_half })
    }
}

/// The files of a model on this machine.
struct Files {
    files: ModelFiles,
    weights: ModelWeights,
    prefer_half: bool,
}

impl Files {
    fn open(model: &Path, base: Option<&Path>, options: &ModelOptions) -> driftless::Result<Self> {
        let prefer_half = options.mixed_precision != Precision::No;
        Ok(Self { files: ModelFiles::open(model, base, prefer_half)?, weights: ModelWeights::open(model)?, prefer_half })
    }

    fn look_at_small_files(&self, faults: &mut Faults) {
        faults.keep(Tokenizer::from_folder(&self.files.tokenizer()));
        faults.keep(SchedulerConfig::from_file(self.files.scheduler_config()));
    }
}

/// What a network is made from: its configuration, and, where its files are on this machine, their header.
fn part<C>(
    local: Option<&Files>,
    network: Network,
    read: impl FnOnce(&Path) -> driftless::Result<C>,
    usual: C,
) -> driftless::Result<(C, Option<Component>)> {
    let Some(local) = local else { return Ok((usual, None)) };
    Ok((read(&local.files.config(network))?, Some(local.weights.component(network, local.prefer_half)?)))
}

fn stores_half(component: &Component) -> bool {
    let first = component.names().next().and_then(|name| component.info(name));
    first.and_then(|info| info.tensor_dtype()).is_some_and(|dtype| dtype != DType::F32)
}

/// Weights that take no memory: all zero, of the shape that a file's header says, or, without a file, of the shape that is asked for.
struct Hollow {
    component: Option<Component>,
    elements: Arc<AtomicUsize>,
}

impl Hollow {
    fn weights(component: Option<Component>, elements: &Arc<AtomicUsize>) -> Weights {
        let source = Arc::new(Self { component, elements: elements.clone() });
        Weights::new(source, &Device::Cpu, WeightType { storage: None, compute: DType::F32 })
    }
}

impl TensorSource for Hollow {
    fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> driftless::Result<Tensor> {
        let shape = match &self.component {
            None => shape,
            Some(component) => match component.info(name) {
                Some(info) => info.shape.as_slice(),
                // Says that it is missing, and in which file.
                None => return component.tensor(name, device),
            },
        };
        self.elements.fetch_add(shape.iter().product(), Ordering::Relaxed);
        Ok(Tensor::zeros((), DType::F32, device)?.broadcast_as(shape)?)
    }

    fn path(&self) -> PathBuf {
        self.component.as_ref().map_or_else(|| PathBuf::from("(sizes alone)"), TensorSource::path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_without_memory() {
        let elements = Arc::new(AtomicUsize::new(0));
        Unet::load(UnetConfig::stable_diffusion_1_5(), Hollow::weights(None, &elements)).unwrap();
        // diffusers 0.32: sum(p.numel() for p in UNet2DConditionModel.from_config(SD1.5).parameters()).
        assert_eq!(elements.load(Ordering::Relaxed), 859_520_964);
    }
}
