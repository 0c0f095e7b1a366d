//! ControlNet (Zhang et al., arXiv 2302.05543; diffusers 0.32 `ControlNetModel`): a copy of the UNet's down path and middle that
//! looks at a condition image and adds to the UNet's skip connections.

mod config;
mod hint;

use candle_core::Tensor;

pub use config::{ChannelOrder, ControlNetConfig};

use crate::Result;
use crate::error::InputError;
use crate::layers::{Conv2d, Weights};
use crate::ops::Activation;
use crate::taps::{Stop, TapPlan};
use crate::unet::{Pass, Residuals, TextContext, UnetEncoder};
use hint::ConditioningEmbedding;

/// One ControlNet.
#[derive(Debug)]
pub struct ControlNet {
    encoder: UnetEncoder,
    channel_order: ChannelOrder,
    controlnet_cond_embedding: ConditioningEmbedding,
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
}

/// A ControlNet's embedding of a condition image: the same for every denoising step, so it is made once per image.
#[derive(Clone, Debug)]
pub struct Hint(Tensor);

impl Hint {
    /// The embeddings of `len` images of a batch, from number `start` on.
    ///
    /// # Errors
    /// When the batch has fewer.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Self(self.0.narrow(0, start, len)?))
    }
}

impl ControlNet {
    /// Reads the network.
    ///
    /// # Errors
    /// When a tensor is missing or does not have the shape that `config` asks for.
    pub fn load(config: &ControlNetConfig, weights: Weights) -> Result<Self> {
        let encoder = UnetEncoder::load(&config.unet, &weights)?;
        let widths = skip_widths(&config.unet.block_out_channels, config.unet.layers_per_block);
        let controlnet_down_blocks = widths
            .iter()
            .enumerate()
            .map(|(i, &width)| Conv2d::load(width, width, 1, weights.pp("controlnet_down_blocks").pp(i)))
            .collect::<Result<_>>()?;
        let last = config.unet.block_out_channels[config.unet.block_out_channels.len() - 1];
        Ok(Self {
            encoder,
            channel_order: config.controlnet_conditioning_channel_order,
            controlnet_cond_embedding: ConditioningEmbedding::load(config, weights.pp("controlnet_cond_embedding"))?,
            controlnet_down_blocks,
            controlnet_mid_block: Conv2d::load(last, last, 1, weights.pp("controlnet_mid_block"))?,
        })
    }

    /// Embeds condition images.
    ///
    /// # Shapes
    /// `images` `[b, 3, 8 h, 8 w]` in 0..1, red first, for latents of `h` x `w`.
    /// # Errors
    /// When the channel count disagrees.
    pub fn hint(&self, images: &Tensor) -> Result<Hint> {
        let embedding = &self.controlnet_cond_embedding;
        match self.channel_order {
            ChannelOrder::Rgb => embedding.forward(images).map(Hint),
            ChannelOrder::Bgr => embedding.forward(&images.flip(&[1])?.contiguous()?).map(Hint),
        }
    }

    /// What this ControlNet adds to the UNet at one step, times `scale`.
    ///
    /// # Shapes
    /// `sample` `[b, 4, h, w]`: the latents that the UNet gets; `timesteps` one or `b`; see [`Residuals`].
    /// # Errors
    /// When the hint's size does not fit the latents.
    pub fn forward(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        context: &TextContext,
        hint: &Hint,
        scale: f64,
    ) -> Result<Residuals> {
        let temb = self.encoder.time_embedding(timesteps, sample)?;
        let hidden = self.encoder.conv_in(sample)?.into_tensor();
        let (expected, found) = (hidden.dims4()?, hint.0.dims4()?);
        if (expected.2, expected.3) != (found.2, found.3) || (found.0 != 1 && found.0 != expected.0) {
            return Err(InputError::Condition { expected, found }.into());
        }
        let hidden = Activation::shared(hidden.broadcast_add(&hint.0)?);
        let plan = TapPlan::nothing();
        let mut pass = Pass { temb, context, taps: &mut plan.taps(), checkpointing: None };
        let (mid, skips) = self.encoder.forward(hidden, &mut pass).map_err(Stop::into_error)?;
        let scaled = |conv: &Conv2d, x: &Activation| -> Result<Tensor> {
            let residual = conv.forward(x)?.into_tensor();
            if scale == 1.0 { Ok(residual) } else { Ok((residual * scale)?) }
        };
        let down = self.controlnet_down_blocks.iter().zip(skips).map(|(conv, skip)| scaled(conv, &Activation::shared(skip)));
        let down = down.collect::<Result<_>>()?;
        Ok(Residuals { down, mid: scaled(&self.controlnet_mid_block, &mid)? })
    }
}

/// The sum of what several ControlNets add; `None` for none.
///
/// # Errors
/// When the ControlNets belong to UNets of different sizes.
pub fn sum(residuals: impl IntoIterator<Item = Residuals>) -> Result<Option<Residuals>> {
    let mut total: Option<Residuals> = None;
    for next in residuals {
        total = Some(match total {
            None => next,
            Some(sum) => Residuals {
                down: sum.down.iter().zip(&next.down).map(|(a, b)| Ok((a + b)?)).collect::<Result<_>>()?,
                mid: (sum.mid + next.mid)?,
            },
        });
    }
    Ok(total)
}

/// Widths of the skip connections in forward order: `conv_in`, then every repeat and downsampler.
fn skip_widths(block_out_channels: &[usize], layers_per_block: usize) -> Vec<usize> {
    let mut widths = vec![block_out_channels[0]];
    for (level, &width) in block_out_channels.iter().enumerate() {
        let sampler = usize::from(level + 1 < block_out_channels.len());
        widths.extend(std::iter::repeat_n(width, layers_per_block + sampler));
    }
    widths
}
