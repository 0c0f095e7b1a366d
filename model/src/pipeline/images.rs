//! Images to latents and back, scaled as the UNet sees them.

use candle_core::Tensor;

use super::{Pipeline, finite};
use crate::Result;

impl Pipeline {
    /// Latents of images: a sample of the posterior, times the autoencoder's scaling factor.
    ///
    /// # Shapes
    /// `images` `[b, 3, h, w]` in -1..1; `noise` `[b, 4, h / 8, w / 8]` standard normal; returns the noise's shape.
    /// # Errors
    /// When a side is not a multiple of 8, the shapes disagree, or the result is not finite.
    pub fn encode_images(&self, images: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let images = images.to_device(self.device())?.to_dtype(self.compute_dtype())?;
        let sample = self.vae.encode(&images)?.sample(noise)?;
        finite("the image's latents", (sample * self.vae.config().scaling_factor)?)
    }

    /// Images of scaled latents, about -1..1, not clamped.
    ///
    /// # Shapes
    /// `latents` `[b, 4, h, w]`; returns `[b, 3, 8 h, 8 w]`.
    /// # Errors
    /// When the channel count disagrees or the result is not finite.
    pub fn decode_latents(&self, latents: &Tensor) -> Result<Tensor> {
        let unscaled = (latents.to_dtype(self.compute_dtype())? / self.vae.config().scaling_factor)?;
        finite("the decoded image", self.vae.decode(&unscaled)?)
    }
}
