//! The UNet in training: predictions that gradients flow through, with gradient checkpointing or without.

use crate::network::TrainedNetwork;
use crate::options::Options;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use driftless::Result;
use driftless::ops::GradientSink;
use driftless::unet::{TextContext, Unet, UnetInput};
use std::sync::Arc;

/// A UNet with adapters in its slots.
pub struct Denoiser {
    unet: Arc<Unet>,
    /// The type of activations.
    dtype: DType,
    /// Set with gradient checkpointing: gradients from inside recomputed blocks.
    sink: Option<GradientSink>,
}

impl Denoiser {
    /// `unet`, which computes in `dtype`, with the adapter matrices of `network` already in its slots.
    pub fn new(unet: Arc<Unet>, dtype: DType, options: &Options, network: &TrainedNetwork) -> Self {
        let sink = options.optimization.gradient_checkpointing.then(|| GradientSink::new(network.variables()));
        Self { unet, dtype, sink }
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
