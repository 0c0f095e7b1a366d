//! ControlNets at work: which condition pictures steer a step, and what they add to it.

use std::path::Path;

use candle_core::Tensor;

use super::files::network_weights;
use super::{ModelOptions, Pipeline};
use crate::Result;
use crate::controlnet::{self, ControlNet, ControlNetConfig, Hint};
use crate::layers::Weights;
use crate::unet::{Residuals, TextContext};

/// One ControlNet with the embedding of its condition pictures.
pub struct Condition<'a> {
    /// The network.
    pub controlnet: &'a ControlNet,
    /// Made once per picture with [`ControlNet::hint`].
    pub hint: &'a Hint,
    /// What its residuals are multiplied with; 1 in the original extractor.
    pub scale: f64,
}

/// The sum of what all conditions add at one step; `None` without conditions.
///
/// # Errors
/// When a hint does not have the latents' size.
pub fn sum_residuals(
    conditions: &[Condition],
    sample: &Tensor,
    timestep: f64,
    context: &TextContext,
) -> Result<Option<Residuals>> {
    let residuals = conditions.iter().map(|c| c.controlnet.forward(sample, &[timestep], context, c.hint, c.scale));
    controlnet::sum(residuals.collect::<Result<Vec<_>>>()?)
}

impl ControlNet {
    /// Loads a ControlNet's diffusers folder (config.json and weights).
    ///
    /// # Errors
    /// When it is missing, damaged, or not a ControlNet of Stable Diffusion 1.5.
    pub fn open(folder: &Path, options: &ModelOptions) -> Result<Self> {
        let config = ControlNetConfig::from_file(&folder.join("config.json"))?;
        let source = network_weights(folder, options.prefer_half())?;
        Self::load(&config, Weights::new(source, &options.device, options.types()))
    }
}

impl Pipeline {
    /// Condition pictures as a ControlNet takes them: moved to the device in the compute type.
    ///
    /// # Shapes
    /// `pictures` `[b, 3, h, w]` in 0..1, of the size of the image.
    /// # Errors
    /// When the channel count disagrees.
    pub fn hint(&self, controlnet: &ControlNet, pictures: &Tensor) -> Result<Hint> {
        controlnet.hint(&pictures.to_device(self.device())?.to_dtype(self.compute_dtype())?)
    }
}
