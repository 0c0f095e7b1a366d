//! What the training loop needs of a model, and nothing more: latents, text states, a prediction, gradients.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`stable_diffusion`] | the real one, on `driftless::pipeline` |
//! | [`place`] | where the model and the device are |

pub mod place;
pub mod stable_diffusion;

pub use stable_diffusion::StableDiffusion;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use driftless::Result;

/// A latent diffusion model with an adapter in training.
pub trait Model {
    /// Where it computes.
    fn device(&self) -> &Device;

    /// Channels, height and width of the latents of a picture of this width and height in pixels.
    fn latent_shape(&self, size: (usize, usize)) -> [usize; 3];

    /// A sample of the latents of pictures, scaled as the predictor sees them, float32.
    ///
    /// # Shapes
    /// `pictures` `[b, 3, h, w]` in -1..1; `noise` `[b, c, h / 8, w / 8]`, standard normal; returns the noise's shape.
    /// # Errors
    /// When a tensor operation fails.
    fn encode_pictures(&self, pictures: &Tensor, noise: &Tensor) -> Result<Tensor>;

    /// The states of captions; they depend on the adapter if it sits in the text encoder.
    ///
    /// # Shapes
    /// `[b, n, c]`, the same `n` for all captions of a run.
    /// # Errors
    /// When the tokenizer does not fit, or a tensor operation fails.
    fn encode_captions(&self, captions: &[&str]) -> Result<Tensor>;

    /// Tells the model that another batch begins, by a number that no other batch of the run has; dropout follows from it.
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

    /// Gradients of `loss` for the adapter.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn backward(&self, loss: &Tensor) -> Result<GradStore>;
}
