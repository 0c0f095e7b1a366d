//! What the training loop needs of a model, and nothing more: latents, text states, a prediction, gradients.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`stable_diffusion`] | the real one, on `driftless::pipeline` |
//! | [`denoiser`] | its UNet: predictions and gradients |
//! | [`location`] | where the model is on this machine, and the type that it computes in |
//! | [`skeleton`] | the networks without their weights: what can be known before they are loaded |
//! | [`maps`] | the maps of its UNet that CleanDIFT aligns |
//! | [`prediction`] | noise or velocity |
//! | [`vae`] | an autoencoder other than the model's own; which one a run uses |

pub mod denoiser;
mod fault;
pub mod location;
pub mod maps;
pub mod prediction;
pub mod skeleton;
pub mod stable_diffusion;
pub mod vae;

pub use denoiser::Denoiser;
pub use stable_diffusion::StableDiffusion;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use driftless::Result;
use driftless::vae::Posterior;

/// A latent diffusion model with an adapter in training.
pub trait Model {
    /// Where it computes.
    fn device(&self) -> &Device;

    /// Channels, height and width of the latents of an image of this width and height in pixels.
    fn latent_shape(&self, size: (usize, usize)) -> [usize; 3];

    /// The distribution of the latents of images, float32.
    ///
    /// # Shapes
    /// `images` `[b, 3, h, w]` in -1..1; the posterior is `[b, c, h / 8, w / 8]`.
    /// # Errors
    /// When a tensor operation fails.
    fn posterior(&self, images: &Tensor) -> Result<Posterior>;

    /// The factor between a sample of that distribution and what the predictor sees.
    fn latent_scale(&self) -> f64;

    /// A sample of the latents of images, scaled as the predictor sees them, float32.
    ///
    /// # Shapes
    /// As [`Model::posterior`]; `noise` is standard normal; returns the noise's shape.
    /// # Errors
    /// When a tensor operation fails.
    fn encode_images(&self, images: &Tensor, noise: &Tensor) -> Result<Tensor> {
        self.sample(&self.posterior(images)?, noise)
    }

    /// A sample of a posterior, scaled as the predictor sees it.
    ///
    /// # Errors
    /// When the shapes disagree.
    fn sample(&self, posterior: &Posterior, noise: &Tensor) -> Result<Tensor> {
        Ok((posterior.sample(noise)? * self.latent_scale())?)
    }

    /// The states of captions; they depend on the adapter if it sits in the text encoder.
    ///
    /// # Shapes
    /// `[b, n, c]`, the same `n` for all captions of a run.
    /// # Errors
    /// When the tokenizer does not fit, or a tensor operation fails.
    fn encode_captions(&self, captions: &[&str]) -> Result<Tensor>;

    /// Called before each batch with a number that no other batch of the run has; dropout is drawn from it.
    fn begin_batch(&self, _number: u64) {}

    /// Whether the states of a caption change during training.
    fn trains_text_encoder(&self) -> bool;

    /// The prediction for noisy latents.
    ///
    /// # Shapes
    /// `noisy` `[b, c, h, w]`, `text` `[b, n, c]`; returns `[b, c, h, w]`.
    /// # Errors
    /// When a tensor operation fails.
    fn predict(&self, noisy: &Tensor, timesteps: &[usize], text: &Tensor) -> Result<Tensor>;

    /// The UNet in training.
    fn denoiser(&self) -> &Denoiser;

    /// Gradients of `loss` for the adapter.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn backward(&self, loss: &Tensor) -> Result<GradStore>;
}
