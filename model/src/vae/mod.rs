//! The autoencoder of Stable Diffusion 1.5 (diffusers 0.32 `AutoencoderKL`): images to latents and back.
//!
//! Images are worked on one at a time (the reference's slicing; no number changes), and from [`TILED_FROM`] pixels a side in tiles
//! (the reference's tiling, see `tiling`), so that memory stays bounded.

mod blocks;
mod config;
mod decoder;
mod encoder;
mod tiling;

use std::sync::OnceLock;

use candle_core::Tensor;

pub use config::VaeConfig;
pub use tiling::TILED_FROM;

use crate::Result;
use crate::error::InputError;
use crate::layers::{Conv2d, Weights};
use crate::ops::Activation;
use decoder::Decoder;
use encoder::Encoder;

/// The distribution of an image's latents: a normal per element (diffusers `DiagonalGaussianDistribution`).
#[derive(Clone, Debug)]
pub struct Posterior {
    /// `[b, latent channels, h / 8, w / 8]`, not scaled.
    pub mean: Tensor,
    /// Log-variance in -30..20, of the same shape.
    pub log_variance: Tensor,
}

impl Posterior {
    /// `mean + std * noise`; `noise` of the mean's shape, standard normal.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let std = (&self.log_variance * 0.5)?.exp()?;
        let noise = noise.to_device(std.device())?.to_dtype(std.dtype())?;
        Ok((&self.mean + (std * noise)?)?)
    }
}

/// The autoencoder. Its decoder is read when it is first needed: extraction and training do without, and save its memory.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    decoder: OnceLock<Decoder>,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    weights: Weights,
}

impl Vae {
    /// Reads the network, its decoder when it is first needed.
    ///
    /// # Errors
    /// When a tensor is missing or does not have the shape that `config` asks for.
    pub fn load(config: VaeConfig, weights: Weights) -> Result<Self> {
        Self::read(config, weights, false)
    }

    /// Reads the network and its decoder.
    ///
    /// # Errors
    /// As [`Vae::load`].
    pub fn load_whole(config: VaeConfig, weights: Weights) -> Result<Self> {
        Self::read(config, weights, true)
    }

    fn read(config: VaeConfig, weights: Weights, whole: bool) -> Result<Self> {
        let latents = config.latent_channels;
        Ok(Self {
            encoder: Encoder::load(&config, weights.pp("encoder"))?,
            decoder: match whole {
                true => Decoder::load(&config, weights.pp("decoder"))?.into(),
                false => OnceLock::new(),
            },
            quant_conv: Conv2d::load(2 * latents, 2 * latents, 1, weights.pp("quant_conv"))?,
            post_quant_conv: Conv2d::load(latents, latents, 1, weights.pp("post_quant_conv"))?,
            weights,
            config,
        })
    }

    /// Reads the decoding half now, so that damage to it shows before work that ends in a decoding.
    ///
    /// # Errors
    /// As [`Vae::load`].
    pub fn load_decoder(&self) -> Result<()> {
        self.decoder().map(drop)
    }

    fn decoder(&self) -> Result<&Decoder> {
        if let Some(decoder) = self.decoder.get() {
            return Ok(decoder);
        }
        let decoder = Decoder::load(&self.config, self.weights.pp("decoder"))?;
        Ok(self.decoder.get_or_init(|| decoder))
    }

    /// The network's sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The distribution of the latents of images.
    ///
    /// # Shapes
    /// `images` `[b, 3, h, w]` in -1..1, sides multiples of 8; the posterior is `[b, 4, h / 8, w / 8]`.
    /// # Errors
    /// When a side is not a multiple of the autoencoder's downscale.
    pub fn encode(&self, images: &Tensor) -> Result<Posterior> {
        let (batch, _, height, width) = images.dims4()?;
        let downscale = self.config.downscale();
        if height % downscale != 0 || width % downscale != 0 || height == 0 || width == 0 {
            return Err(InputError::ImageSize { height, width, multiple: downscale }.into());
        }
        let moments = (0..batch).map(|i| tiling::encode(self, &images.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
        let moments = Tensor::cat(&moments, 0)?;
        let latents = self.config.latent_channels;
        let mean = moments.narrow(1, 0, latents)?.contiguous()?;
        let log_variance = moments.narrow(1, latents, latents)?.contiguous()?.clamp(-30f64, 20f64)?;
        Ok(Posterior { mean, log_variance })
    }

    /// Images from latents that are not scaled (divide by `scaling_factor` first).
    ///
    /// # Shapes
    /// `latents` `[b, 4, h, w]`; returns `[b, 3, 8 h, 8 w]`, about -1..1, not clamped.
    /// # Errors
    /// When the channel count disagrees.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let batch = latents.dim(0)?;
        let images = (0..batch).map(|i| tiling::decode(self, &latents.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&images, 0)?)
    }

    /// Moments of one image or tile.
    fn encode_whole(&self, image: &Tensor) -> Result<Tensor> {
        let moments = self.encoder.forward(&Activation::shared(image.clone()))?;
        self.quant_conv.forward(&moments).map(Activation::into_tensor)
    }

    /// Image of one set of latents or one tile of it.
    fn decode_whole(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.post_quant_conv.forward(&Activation::shared(latents.clone()))?;
        self.decoder()?.forward(latents).map(Activation::into_tensor)
    }
}
