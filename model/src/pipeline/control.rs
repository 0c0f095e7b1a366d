//! ControlNets at work: which condition images steer a step, and what they add to it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;

use super::{ModelOptions, Pipeline};
use crate::Result;
use crate::controlnet::{self, ControlNet, ControlNetConfig, Hint};
use crate::layers::Weights;
use crate::model_family::Network;
use crate::unet::{Residuals, TextContext};
use crate::weights::Component;

/// One ControlNet with the embedding of its condition images.
pub struct Condition<'a> {
    /// The network.
    pub controlnet: &'a ControlNet,
    /// Made once per image with [`ControlNet::hint`].
    pub hint: &'a Hint,
    /// What its residuals are multiplied with; 1 in the original extractor.
    pub scale: f64,
    /// The range of steps that it steers, as shares of their count: all of them in the original extractor.
    pub steps: RangeInclusive<f64>,
}

impl Condition<'_> {
    /// Every step.
    pub const EVERY_STEP: RangeInclusive<f64> = 0.0..=1.0;
}

/// One step out of several.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What the networks are told.
    pub timestep: f64,
    /// Its index, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Step {
    /// Whether it lies in a range of the steps (diffusers 0.32 `StableDiffusionControlNetPipeline`, `controlnet_keep`).
    fn is_within(self, steps: &RangeInclusive<f64>) -> bool {
        let (begin, end) = (self.index as f64 / self.count as f64, (self.index + 1) as f64 / self.count as f64);
        begin >= *steps.start() && end <= *steps.end()
    }
}

/// The sum of what all conditions add at one step; `None` when none steers it.
///
/// # Errors
/// When a hint does not have the latents' size.
pub fn sum_residuals(conditions: &[Condition], sample: &Tensor, step: Step, context: &TextContext) -> Result<Option<Residuals>> {
    let conditions = conditions.iter().filter(|condition| step.is_within(&condition.steps));
    let residuals = conditions.map(|c| c.controlnet.forward(sample, &[step.timestep], context, c.hint, c.scale));
    controlnet::sum(residuals.collect::<Result<Vec<_>>>()?)
}

impl ControlNet {
    /// Loads a ControlNet's diffusers folder (config.json and weights).
    ///
    /// # Errors
    /// When it is missing, damaged, or not a ControlNet of Stable Diffusion 1.5.
    pub fn open(folder: &Path, options: &ModelOptions) -> Result<Self> {
        let config = ControlNetConfig::from_file(&folder.join("config.json"))?;
        let source = Component::open(Network::ControlNet, folder, options.prefer_half())?;
        Self::load(&config, Weights::new(Arc::new(source), &options.device, options.types()))
    }

    /// The files that [`Self::open`] reads, each with its name in the folder.
    ///
    /// # Errors
    /// When the weights are missing or damaged.
    pub fn sources(folder: &Path, options: &ModelOptions) -> Result<Vec<(String, PathBuf)>> {
        let source = Component::open(Network::ControlNet, folder, options.prefer_half())?;
        let paths = std::iter::once(folder.join("config.json")).chain(source.file().files().map(Path::to_owned));
        let name = |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), path));
        Ok(paths.filter_map(name).collect())
    }
}

impl Pipeline {
    /// Condition images as a ControlNet takes them: moved to the device in the compute type.
    ///
    /// # Shapes
    /// `images` `[b, 3, h, w]` in 0..1, of the size of the image.
    /// # Errors
    /// When the channel count disagrees.
    pub fn hint(&self, controlnet: &ControlNet, images: &Tensor) -> Result<Hint> {
        controlnet.hint(&images.to_device(self.device())?.to_dtype(self.compute_dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_steered() {
        let steered = |steps: RangeInclusive<f64>, count: usize| {
            (0..count).filter(|&index| Step { timestep: 1.0, index, count }.is_within(&steps)).collect::<Vec<_>>()
        };
        // diffusers: [1.0 - float(i / n < start or (i + 1) / n > end) for i in range(n)]
        assert_eq!(steered(Condition::EVERY_STEP, 4), [0, 1, 2, 3]);
        assert_eq!(steered(0.0..=0.5, 4), [0, 1]);
        assert_eq!(steered(0.3..=1.0, 4), [2, 3]);
        assert_eq!(steered(0.0..=0.9, 1), [0usize; 0]);
    }
}
