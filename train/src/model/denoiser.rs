//! The UNet in training: predictions that gradients flow through, with gradient checkpointing or without.

use super::maps::{self, Map};
use crate::network::TrainedNetwork;
use crate::options::{ObjectiveKind, Options};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use driftless::Result;
use driftless::adapter::Adapter;
use driftless::layers::Slot;
use driftless::ops::GradientSink;
use driftless::taps::{TapPlan, Taps};
use driftless::unet::{TextContext, Unet, UnetInput, tracked_timestep_features};
use std::sync::Arc;

/// A UNet with adapters in its slots.
pub struct Denoiser {
    unet: Arc<Unet>,
    /// The type of activations.
    dtype: DType,
    /// Set with gradient checkpointing: gradients from inside recomputed blocks.
    sink: Option<GradientSink>,
    /// What CleanDIFT aligns; none where that is not the objective.
    maps: Vec<Map>,
}

impl Denoiser {
    /// `unet`, which computes in `dtype`, with the adapter matrices of `network` already in its slots.
    pub fn new(unet: Arc<Unet>, dtype: DType, options: &Options, network: &TrainedNetwork) -> Self {
        let sink = options.optimization.gradient_checkpointing.then(|| GradientSink::new(network.variables()));
        let maps = match options.objective.objective {
            ObjectiveKind::Diffusion => Vec::new(),
            // A UNet without these layers is told by the plan of the run.
            ObjectiveKind::Cleandift => maps::of(unet.config()).unwrap_or_default(),
        };
        Self { unet, dtype, sink, maps }
    }

    /// Where checkpointed blocks leave their gradients, when there are such blocks.
    pub(super) fn sink(&self) -> Option<&GradientSink> {
        self.sink.as_ref()
    }

    /// The prediction for noisy latents.
    ///
    /// # Shapes
    /// `noisy` `[b, c, h, w]`, `text` `[b, n, c]`; returns `[b, c, h, w]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn predict(&self, noisy: &Tensor, timesteps: &[usize], text: &Tensor) -> Result<Tensor> {
        let timesteps: Vec<f64> = timesteps.iter().map(|timestep| *timestep as f64).collect();
        // Uncached: keys and values of the text change with every step.
        let context = TextContext::uncached(text.clone());
        let sample = noisy.to_dtype(self.dtype)?;
        match &self.sink {
            Some(sink) => {
                // Recomputation starts where something is tracked, so the sample has to be.
                let sample = Var::from_tensor(&sample)?.into_inner();
                self.unet.forward_checkpointed(&input(&sample, &timesteps, &context), sink)
            }
            None => self.unet.forward(&input(&sample, &timesteps, &context)),
        }
    }

    /// The maps that CleanDIFT aligns; none with another objective.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The maps of the frozen UNet, without the adapter, for noisy latents.
    ///
    /// # Shapes
    /// As [`Denoiser::predict`]; returns `[b, c, h, w]` for each of [`Denoiser::maps`].
    /// # Errors
    /// When a tensor operation fails.
    pub fn teacher(&self, noisy: &Tensor, timesteps: &[usize], text: &Tensor) -> Result<Vec<Tensor>> {
        let slots = self.unet.slots().all().into_iter().map(|(path, slot)| (path, slot.clone(), slot.adapters()));
        let adapted: Vec<(String, Arc<Slot>, Vec<Arc<Adapter>>)> =
            slots.filter(|(_, _, adapters)| !adapters.is_empty()).collect();
        adapted.iter().for_each(|(_, slot, _)| slot.detach());
        let timesteps: Vec<f64> = timesteps.iter().map(|timestep| *timestep as f64).collect();
        let sample = noisy.to_dtype(self.dtype)?;
        let maps = self.tapped(
            &sample,
            |plan| plan,
            |unet, taps| {
                let context = TextContext::uncached(text.clone());
                unet.forward_tapped(&input(&sample, &timesteps, &context), taps)
            },
        );
        // Whatever came of it, the adapter stands in its place again.
        for (path, slot, adapters) in &adapted {
            adapters.iter().try_for_each(|adapter| slot.attach(path, Adapter::clone(adapter)))?;
        }
        maps
    }

    /// The maps of the UNet with the adapter for clean latents, which gradients flow through to the adapter and to `timestep`, one number.
    ///
    /// # Shapes
    /// As [`Denoiser::teacher`].
    /// # Errors
    /// When a tensor operation fails.
    pub fn student(&self, clean: &Tensor, timestep: &Tensor, text: &Tensor) -> Result<Vec<Tensor>> {
        let sample = clean.to_dtype(self.dtype)?;
        let features = tracked_timestep_features(timestep, self.unet.config().block_out_channels[0])?;
        self.tapped(&sample, TapPlan::tracked, |unet, taps| {
            unet.forward_tapped_at(&sample, &features, &TextContext::uncached(text.clone()), taps)
        })
    }

    /// The maps of a pass, in their order.
    fn tapped(
        &self,
        sample: &Tensor,
        plan: impl FnOnce(TapPlan) -> TapPlan,
        pass: impl FnOnce(&Unet, &mut Taps) -> Result<Option<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let (_, _, height, width) = sample.dims4()?;
        let ids = self.maps.iter().map(|map| map.id);
        let plan = plan(TapPlan::new(&self.unet.config().layout(), ids, &[], (height, width))?);
        let mut taps = plan.taps();
        pass(&self.unet, &mut taps)?;
        Ok(taps.kept().into_iter().map(|(_, map)| map).collect())
    }

    /// Gradients of `loss` for the adapter.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        let mut gradients = loss.backward()?;
        if let Some(sink) = &self.sink {
            sink.merge_into(&mut gradients)?;
        }
        Ok(gradients)
    }
}

fn input<'a>(sample: &'a Tensor, timesteps: &'a [f64], context: &'a TextContext) -> UnetInput<'a> {
    UnetInput { sample, timesteps, context, residuals: None }
}
