//! The adapter in training: which layers it sits on, its matrices, its parameter groups, its files.
//!
//! Mirrors `networks/lora.py` of sd-scripts 48d368f: text encoder before UNet, up matrices zero. Deliberate difference: first values come
//! from one generator per network in the order of module paths.

pub mod file;
pub mod settings;

pub use settings::{NetworkSettings, RankAlpha};

use crate::optimise::{Group, Parameter};
use crate::options::Options;
use crate::seeds::{Purpose, generator};
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use driftless::adapter::{Lora, TrainableLora, targets};
use driftless::checkpoint::adapter_file::Network;
use driftless::layers::{Slot, Slots};
use std::sync::Arc;

/// A trained adapter.
#[derive(Debug)]
pub struct TrainedNetwork {
    /// One per adapted layer: text encoder first, each in the order of module paths.
    pub layers: Vec<TrainedLayer>,
    /// What was asked for.
    pub settings: NetworkSettings,
    rates: Rates,
}

/// The adapter of one layer.
#[derive(Debug)]
pub struct TrainedLayer {
    /// Whose layer it is.
    pub network: Network,
    /// Module path as in diffusers, `text_model.` included.
    pub path: String,
    /// The matrices.
    pub lora: TrainableLora,
    /// Numerator of the scale.
    pub alpha: f64,
}

/// Learning rates of the two parts; a part without is not trained.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    text_encoder: Option<f64>,
    unet: Option<f64>,
}

impl Rates {
    /// Each part's own rate, else the general one. Rate 0 leaves a part out, as do the two `_only` options.
    fn new(options: &Options) -> Result<Self> {
        let optimisation = &options.optimisation;
        let trained = |rate: f64, left_out: bool| (rate > 0.0 && !left_out).then_some(rate);
        let text = optimisation.text_encoder_lr.first().copied().unwrap_or(optimisation.learning_rate);
        let unet = optimisation.unet_lr.unwrap_or(optimisation.learning_rate);
        let rates = Self {
            text_encoder: trained(text, options.network.network_train_unet_only),
            unet: trained(unet, options.network.network_train_text_encoder_only),
        };
        ensure!(rates.unet.is_some() || rates.text_encoder.is_some(), "every learning rate is 0, so nothing would be trained");
        Ok(rates)
    }
}

impl TrainedNetwork {
    /// Makes adapters for the layers that `options` choose, and puts them into the slots.
    ///
    /// # Errors
    /// When options are wrong, or there is no memory for the matrices.
    pub fn attach(options: &Options, seed: u64, unet: &Slots, text_encoder: &Slots, device: &Device) -> Result<Self> {
        let (settings, rates) = (NetworkSettings::new(options)?, Rates::new(options)?);
        let mut network = Self { layers: vec![], settings, rates };
        if rates.text_encoder.is_some() {
            network.add(Network::TextEncoder, seed, text_encoder, device, targets::text_encoder_matches)?;
        }
        if rates.unet.is_some() {
            let targets = network.settings.targets;
            network.add(Network::Unet, seed, unet, device, |path| targets.matches(path))?;
        }
        ensure!(!network.layers.is_empty(), "the model has no layer that the adapter could sit on");
        Ok(network)
    }

    fn add(&mut self, part: Network, seed: u64, slots: &Slots, device: &Device, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let mut generator = generator(seed, Purpose::Adapter, (part == Network::Unet).into());
        for (path, slot) in slots.all() {
            let Some(RankAlpha { rank, alpha }) = self.settings.for_layer(slot.kind()).filter(|_| chosen(&path)) else {
                continue;
            };
            let lora = TrainableLora::init(slot.kind(), rank, alpha, &mut generator, device)?;
            slot.attach(&path, lora.lora())?;
            self.layers.push(TrainedLayer { network: part, path: canonical(part, path), lora, alpha });
        }
        Ok(())
    }

    /// Whether the text encoder has adapters.
    pub fn trains_text_encoder(&self) -> bool {
        self.rates.text_encoder.is_some()
    }

    /// All matrices.
    pub fn variables(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|layer| [layer.lora.down.clone(), layer.lora.up.clone()]).collect()
    }

    /// Numbers that are trained.
    pub fn parameter_count(&self) -> usize {
        self.variables().iter().map(|var| var.elem_count()).sum()
    }

    /// The parameter groups in kohya's order: text encoder, UNet; with LoRA+ the up matrices of each in a group of their own.
    pub fn groups(&self) -> Vec<Group> {
        let parts = [
            (Network::TextEncoder, "textencoder", self.rates.text_encoder, self.settings.plus.text_encoder),
            (Network::Unet, "unet", self.rates.unet, self.settings.plus.unet),
        ];
        let mut groups = Vec::new();
        for (part, name, rate, ratio) in parts {
            let Some(rate) = rate else { continue };
            let (mut ordinary, mut plus) = (Vec::new(), Vec::new());
            for layer in self.layers.iter().filter(|layer| layer.network == part) {
                let parameter =
                    |matrix: &str, var: &Var| Parameter { key: format!("{}.{matrix}", layer.name()), var: var.clone() };
                ordinary.push(parameter("lora_down", &layer.lora.down));
                let faster = if ratio == 1.0 { &mut ordinary } else { &mut plus };
                faster.push(parameter("lora_up", &layer.lora.up));
            }
            groups.push(Group { name: name.into(), rate, parameters: ordinary });
            if !plus.is_empty() {
                groups.push(Group { name: format!("{name} plus"), rate: rate * ratio, parameters: plus });
            }
        }
        groups
    }

    /// Runs `work` with a copy of the adapter in the slots that nothing tracks: else every activation would be kept for a backward pass
    /// that does not come.
    ///
    /// # Errors
    /// Those of `work`, and when a tensor operation fails.
    pub fn frozen<T>(&self, unet: &Slots, text_encoder: &Slots, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.put(unet, text_encoder, |layer| {
            let trained = layer.lora.lora();
            Lora { down: trained.down.detach(), up: trained.up.detach(), scale: trained.scale }
        })?;
        let result = work();
        self.put(unet, text_encoder, |layer| layer.lora.lora())?;
        result
    }

    fn put(&self, unet: &Slots, text_encoder: &Slots, adapter: impl Fn(&TrainedLayer) -> Lora) -> Result<()> {
        for layer in &self.layers {
            let slots = if layer.network == Network::Unet { unet } else { text_encoder };
            if let Some(slot) = slot(slots, &layer.path) {
                slot.detach();
                slot.attach(&layer.path, adapter(layer))?;
            }
        }
        Ok(())
    }

    /// Scales down every layer's adapter whose norm `|scale up down|` is above `most`, sharing the change between both matrices
    /// (`apply_max_norm_regularization`). Returns how many were, and the mean and largest norm after.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn limit_norms(&self, most: f64) -> driftless::Result<Norms> {
        let mut norms = Norms { scaled: 0, mean: 0.0, largest: 0.0 };
        for layer in &self.layers {
            let mut norm =
                f64::from(layer.lora.lora().delta()?.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?.sqrt());
            // Half the limit at least, as in kohya: it keeps a norm of zero out of the division.
            let ratio = norm.clamp(most / 2.0, most) / norm.max(most / 2.0);
            if ratio != 1.0 {
                for var in [&layer.lora.down, &layer.lora.up] {
                    var.set(&(var.as_tensor() * ratio.sqrt())?)?;
                }
                norms.scaled += 1;
                norm *= ratio;
            }
            norms.mean += norm / self.layers.len() as f64;
            norms.largest = norms.largest.max(norm);
        }
        Ok(norms)
    }
}

/// What [`TrainedNetwork::limit_norms`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norms {
    /// Layers that were scaled down.
    pub scaled: usize,
    /// Mean norm, after scaling.
    pub mean: f64,
    /// Largest norm, after scaling.
    pub largest: f64,
}

impl TrainedLayer {
    /// Network and path, for states and messages.
    pub fn name(&self) -> String {
        format!("{}.{}", self.network.name(), self.path)
    }

    /// The adapter with tensors on the CPU that later steps do not change.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn snapshot(&self) -> driftless::Result<Lora> {
        let copy = |var: &Var| -> driftless::Result<Tensor> { Ok(var.as_detached_tensor().copy()?.to_device(&Device::Cpu)?) };
        Ok(Lora { down: copy(&self.lora.down)?, up: copy(&self.lora.up)?, scale: self.lora.scale })
    }
}

/// Text encoders are addressed with and without the leading `text_model.`; files have it.
fn canonical(network: Network, path: String) -> String {
    let bare = network == Network::TextEncoder && !path.starts_with("text_model.");
    if bare { format!("text_model.{path}") } else { path }
}

/// The slot of a layer by its canonical path.
fn slot(slots: &Slots, path: &str) -> Option<Arc<Slot>> {
    slots.get(path).or_else(|| slots.get(path.strip_prefix("text_model.")?))
}
