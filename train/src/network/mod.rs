//! The adapter in training: which layers it sits on, its matrices, its parameter groups, its files.
//!
//! Mirrors `networks/lora.py` of sd-scripts 48d368f and `kohya.py` of LyCORIS 4.1.3: text encoder before UNet, a change of zero first.
//! Deliberate difference: first values come from one generator per network in the order of module paths.

mod fault;
pub mod file;
mod kohya;
mod lycoris;
pub mod settings;

pub use fault::NetworkFault;
pub use settings::NetworkSettings;

use crate::optimizer::{Group, Parameter};
use crate::options::Options;
use crate::seeds::{Purpose, generator};
use anyhow::Result;
use candle_core::{DType, Device, Var};
use driftless::adapter::files::Network;
use driftless::adapter::targets::TextEncoderTargets;
use driftless::adapter::{Adapter, BatchClock, Component, Dropout, Factors, Trainable, TrainableOptions, families};
use driftless::layers::{Slot, Slots};
use driftless::rng::Generator;
use std::sync::Arc;

/// A trained adapter.
#[derive(Debug)]
pub struct TrainedNetwork {
    /// One per adapted layer: text encoder first, each in the order of module paths.
    pub layers: Vec<TrainedLayer>,
    /// What was asked for.
    pub settings: NetworkSettings,
    /// The current batch, from which dropout is drawn; set before each.
    pub clock: BatchClock,
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
    pub trainable: Trainable,
}

/// Learning rates of the two parts; a part without is not trained.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    text_encoder: Option<f64>,
    unet: Option<f64>,
}

impl Rates {
    /// Each part's own rate, else the general one. Rate 0 leaves a part out, as do the two `_only` options.
    fn new(options: &Options) -> Result<Self, NetworkFault> {
        let optimization = &options.optimization;
        let trained = |rate: f64, left_out: bool| (rate > 0.0 && !left_out).then_some(rate);
        let text = optimization.text_encoder_lr.first().copied().unwrap_or(optimization.learning_rate);
        let unet = optimization.unet_lr.unwrap_or(optimization.learning_rate);
        let rates = Self {
            text_encoder: trained(text, options.network.network_train_unet_only),
            unet: trained(unet, options.network.network_train_text_encoder_only),
        };
        if rates.unet.is_none() && rates.text_encoder.is_none() { Err(NetworkFault::NoRate) } else { Ok(rates) }
    }
}

impl TrainedNetwork {
    /// Makes adapters for the layers that `options` choose, and puts them into the slots.
    ///
    /// # Errors
    /// When options are wrong, or there is no memory for the matrices.
    pub fn attach(options: &Options, seed: u64, unet: &Slots, text_encoder: &Slots, device: &Device) -> Result<Self> {
        let (settings, mut rates) = (NetworkSettings::new(options)?, Rates::new(options)?);
        if settings.text_encoder_targets == TextEncoderTargets::None {
            rates.text_encoder = None;
        }
        let mut network = Self { layers: vec![], settings, clock: BatchClock::default(), rates };
        if rates.text_encoder.is_some() {
            let targets = network.settings.text_encoder_targets;
            network.add(Network::TextEncoder, seed, text_encoder, device, |path| targets.matches(path))?;
        }
        if rates.unet.is_some() {
            let targets = network.settings.targets;
            network.add(Network::Unet, seed, unet, device, |path| targets.matches(path))?;
        }
        if network.layers.is_empty() { Err(NetworkFault::NoLayer.into()) } else { Ok(network) }
    }

    fn add(&mut self, part: Network, seed: u64, slots: &Slots, device: &Device, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let mut generator = generator(seed, Purpose::Adapter, (part == Network::Unet).into());
        for (path, slot) in slots.all() {
            let Some(options) = self.settings.for_layer(slot.kind()).filter(|_| chosen(&path)) else { continue };
            let mut trainable = self.first_values(&slot, &options, &mut generator, device)?;
            trainable.adapter.dropout = self.dropout(seed);
            slot.attach(&path, trainable.adapter.clone())?;
            self.layers.push(TrainedLayer { network: part, path, trainable });
        }
        Ok(())
    }

    fn first_values(
        &self,
        slot: &Slot,
        options: &TrainableOptions,
        generator: &mut Generator,
        device: &Device,
    ) -> driftless::Result<Trainable> {
        Trainable::init(slot.kind(), &slot.weight(), slot.bias().is_some(), options, generator, device)
    }

    /// The dropout of the next layer; each has masks of its own.
    fn dropout(&self, seed: u64) -> Option<Arc<Dropout>> {
        let (rates, style) = (self.settings.dropout, self.settings.dropout_style);
        if [rates.value, rates.rank, rates.module] == [0.0; 3] {
            return None;
        }
        // First values take the first two generators of this purpose.
        let seed = generator(seed, Purpose::Adapter, 2 + self.layers.len() as u64).random64();
        Some(Arc::new(Dropout { rates, style, seed, clock: self.clock.clone() }))
    }

    /// Whether the text encoder has adapters.
    pub fn trains_text_encoder(&self) -> bool {
        self.rates.text_encoder.is_some()
    }

    /// All matrices.
    pub fn variables(&self) -> Vec<Var> {
        let of_layer = |layer: &TrainedLayer| layer.trainable.variables.iter().map(|(_, var)| var.clone()).collect::<Vec<_>>();
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// Whether all matrices hold numbers.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn is_finite(&self) -> driftless::Result<bool> {
        for var in self.variables() {
            if !var.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Ok(false);
            }
        }
        Ok(true)
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
                for (component, var) in &layer.trainable.variables {
                    let parameter = Parameter { key: format!("{}.{}", layer.name(), short_name(*component)), var: var.clone() };
                    let faster = *component == families::UP && ratio != 1.0;
                    if faster { &mut plus } else { &mut ordinary }.push(parameter);
                }
            }
            groups.push(Group { name: name.into(), rate, parameters: ordinary });
            if !plus.is_empty() {
                groups.push(Group { name: format!("{name} plus"), rate: rate * ratio, parameters: plus });
            }
        }
        groups
    }

    /// Runs `work` with a copy of the adapter in the slots that nothing tracks, without dropout: else every activation would be kept for a backward pass
    /// that does not come.
    ///
    /// # Errors
    /// Those of `work`, and when a tensor operation fails.
    pub fn frozen<T>(&self, unet: &Slots, text_encoder: &Slots, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.put(unet, text_encoder, |layer| {
            let still = layer.trainable.adapter.map(|_, tensor| Ok(tensor.detach()))?;
            Ok(Adapter { dropout: None, ..still })
        })?;
        let result = work();
        self.put(unet, text_encoder, |layer| Ok(layer.trainable.adapter.clone()))?;
        result
    }

    fn put(
        &self,
        unet: &Slots,
        text_encoder: &Slots,
        adapter: impl Fn(&TrainedLayer) -> driftless::Result<Adapter>,
    ) -> Result<()> {
        for layer in &self.layers {
            let slots = if layer.network == Network::Unet { unet } else { text_encoder };
            if let Some(slot) = slots.get(&layer.path) {
                slot.detach();
                slot.attach(&layer.path, adapter(layer)?)?;
            }
        }
        Ok(())
    }

    /// Scales down every layer's LoRA whose norm `|scale up down|` is above `most`, sharing the change between its matrices
    /// (`apply_max_norm_regularization`). Returns how many were, and the mean and largest norm after.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn limit_norms(&self, most: f64) -> driftless::Result<Norms> {
        let mut norms = Norms { scaled: 0, mean: 0.0, largest: 0.0 };
        for layer in &self.layers {
            let Factors::Lora(lora) = &layer.trainable.adapter.factors else { continue };
            let square = lora.product()?.detach().sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
            let mut norm = f64::from(square.sqrt()) * layer.trainable.adapter.scale();
            // Half the limit at least, as in kohya: it keeps a norm of zero out of the division.
            let ratio = norm.clamp(most / 2.0, most) / norm.max(most / 2.0);
            if ratio != 1.0 {
                let count = layer.trainable.variables.len() as f64;
                for (_, var) in &layer.trainable.variables {
                    var.set(&(var.as_tensor() * ratio.powf(1.0 / count))?)?;
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
    pub fn snapshot(&self) -> driftless::Result<Adapter> {
        let still = self.trainable.adapter.map(|_, tensor| Ok(tensor.detach().copy()?.to_device(&Device::Cpu)?))?;
        Ok(Adapter { dropout: None, ..still })
    }
}

/// A component's name in states.
fn short_name(component: Component) -> &'static str {
    component.name().trim_end_matches(".weight")
}
