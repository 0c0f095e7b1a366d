//! Pictures to latents and back, scaled as the UNet sees them.

use candle_core::Tensor;

use super::Pipeline;
use crate::Result;

impl Pipeline {
    /// Latents of pictures: a sample of the posterior, times the autoencoder's scaling factor.
    ///
    /// # Shapes
    /// `pictures` `[b, 3, h, w]` in -1..1; `noise` `[b, 4, h / 8, w / 8]` standard normal; returns the noise's shape.
    /// # Errors
    /// When a side is not a multiple of 8 or the shapes disagree.
    pub fn encode_pictures(&self, pictures: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let pictures = pictures.to_device(self.device())?.to_dtype(self.compute_dtype())?;
        let sample = self.vae.encode(&pictures)?.sample(noise)?;
        Ok((sample * self.vae.config().scaling_factor)?)
    }

    /// Pictures of scaled latents, about -1..1, not clamped.
    ///
    /// # Shapes
    /// `latents` `[b, 4, h, w]`; returns `[b, 3, 8 h, 8 w]`.
    /// # Errors
    /// When the channel count disagrees.
    pub fn decode_latents(&self, latents: &Tensor) -> Result<Tensor> {
        let unscaled = (latents.to_dtype(self.compute_dtype())? / self.vae.config().scaling_factor)?;
        self.vae.decode(&unscaled)
    }
}
