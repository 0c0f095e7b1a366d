//! The UNet of Stable Diffusion 1.5 (diffusers 0.32 `UNet2DConditionModel`) at any width and depth that its config.json gives.
//!
//! Differences from the reference: activations can be tapped by the extractor's layer ids, the pass stops after the deepest one, the
//! keys and values of the cross-attention are kept per prompt, and repeats can be recomputed in the backward pass.

mod attention;
mod blocks;
mod config;
mod context;
mod embeddings;
mod encoder;
mod resnet;
mod transformer;

use candle_core::Tensor;

pub use config::UnetConfig;
pub use context::TextContext;
pub use embeddings::{timestep_features, tracked_timestep_features};
pub(crate) use encoder::UnetEncoder;

pub(crate) use blocks::Pass;
use blocks::{BlockSizes, UpBlock};

use crate::Result;
use crate::error::InputError;
use crate::layers::{Conv2d, GroupNorm, Slots, Weights};
use crate::ops::{Activation, GradientSink};
use crate::taps::{LayerId, Stop, TapPlan, Taps};

/// What ControlNets add to a UNet: one tensor per skip connection, in forward order, and one for the middle.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// Added to the skip connections, `[b, c, h, w]` each; 12 in SD1.5.
    pub down: Vec<Tensor>,
    /// Added to the middle's output.
    pub mid: Tensor,
}

/// The inputs of one UNet call.
pub struct UnetInput<'a> {
    /// Noisy latents, `[b, in_channels, h, w]`, any size from 1.
    pub sample: &'a Tensor,
    /// One timestep for the whole batch, or one per image; training steps 0..1000 (fractions allowed).
    pub timesteps: &'a [f64],
    /// The prompt, batch 1 or `b`.
    pub context: &'a TextContext,
    /// What ControlNets add, if any.
    pub residuals: Option<&'a Residuals>,
}

/// The noise predictor.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    encoder: UnetEncoder,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    slots: Slots,
}

impl Unet {
    /// Reads the network.
    ///
    /// # Errors
    /// When a tensor is missing or does not have the shape that `config` asks for.
    pub fn load(config: UnetConfig, weights: Weights) -> Result<Self> {
        let sizes = BlockSizes::new(&config);
        let encoder = UnetEncoder::load(&config, &weights)?;
        let levels = config.block_out_channels.len();
        let up_blocks = (0..levels).map(|level| UpBlock::load(level, sizes, weights.pp("up_blocks").pp(level)));
        let up_blocks = up_blocks.collect::<Result<_>>()?;
        let width = config.block_out_channels[0];
        let conv_norm_out = GroupNorm::load(config.norm_num_groups, width, config.norm_eps, weights.pp("conv_norm_out"))?;
        let conv_out = Conv2d::load(width, config.out_channels, 3, weights.pp("conv_out"))?;
        Ok(Self { encoder, up_blocks, conv_norm_out, conv_out, slots: weights.slots().clone(), config })
    }

    /// The network's sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Every layer that takes an adapter.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The predicted noise.
    ///
    /// # Shapes
    /// Returns `[b, out_channels, h, w]`.
    /// # Errors
    /// When the inputs' shapes disagree.
    pub fn forward(&self, input: &UnetInput) -> Result<Tensor> {
        self.run(input, &mut TapPlan::nothing().taps(), None).map_err(Stop::into_error)
    }

    /// A pass that fills `taps` and stops once they are complete; then it returns `None`.
    ///
    /// # Errors
    /// When the inputs' shapes disagree.
    pub fn forward_tapped(&self, input: &UnetInput, taps: &mut Taps) -> Result<Option<Tensor>> {
        Stop::catch(self.run(input, taps, None))
    }

    /// The predicted noise with every repeat's activations recomputed in the backward pass; gradients of variables inside repeats
    /// arrive in `sink`. `input.sample` has to be tracked (a `Var`), or no gradient reaches the first repeats.
    ///
    /// # Errors
    /// When the inputs' shapes disagree.
    pub fn forward_checkpointed(&self, input: &UnetInput, sink: &GradientSink) -> Result<Tensor> {
        self.run(input, &mut TapPlan::nothing().taps(), Some(sink)).map_err(Stop::into_error)
    }

    /// A pass that fills `taps` and stops once they are complete, at a timestep that gradients flow to; then it returns `None`.
    ///
    /// # Shapes
    /// `sample` `[b, in_channels, h, w]`; `features` `[1, width]` of [`tracked_timestep_features`].
    /// # Errors
    /// When the inputs' shapes disagree.
    pub fn forward_tapped_at(
        &self,
        sample: &Tensor,
        features: &Tensor,
        context: &TextContext,
        taps: &mut Taps,
    ) -> Result<Option<Tensor>> {
        let input = UnetInput { sample, timesteps: &[], context, residuals: None };
        let temb = self.encoder.time_embedding_of(features)?;
        Stop::catch(self.run_at(temb, &input, taps, None))
    }

    fn run(&self, input: &UnetInput, taps: &mut Taps, checkpointing: Option<&GradientSink>) -> Result<Tensor, Stop> {
        let temb = self.encoder.time_embedding(input.timesteps, input.sample)?;
        self.run_at(temb, input, taps, checkpointing)
    }

    /// A pass with this time embedding; the input's timesteps are not looked at.
    fn run_at(
        &self,
        temb: Activation,
        input: &UnetInput,
        taps: &mut Taps,
        checkpointing: Option<&GradientSink>,
    ) -> Result<Tensor, Stop> {
        let mut pass = Pass { temb, context: input.context, taps, checkpointing };
        pass.taps.keep(LayerId::UnetIn, &Activation::shared(input.sample.clone()))?;
        let hidden = self.encoder.conv_in(input.sample)?;
        let (mut hidden, mut skips) = self.encoder.forward(hidden, &mut pass)?;
        if let Some(residuals) = input.residuals {
            if residuals.down.len() != skips.len() {
                return Err(InputError::Residuals { expected: skips.len(), found: residuals.down.len() }.into());
            }
            for (skip, residual) in skips.iter_mut().zip(&residuals.down) {
                *skip = (&*skip + residual)?;
            }
            hidden = hidden.add(&Activation::shared(residuals.mid.clone()))?;
        }
        for up_block in &self.up_blocks {
            hidden = up_block.forward(hidden, &mut skips, &mut pass)?;
        }
        let out = self.conv_out.forward(&self.conv_norm_out.forward_silu(&hidden)?)?;
        pass.taps.keep(LayerId::UnetOut, &out)?;
        Ok(out.into_tensor())
    }
}
