//! CleanDIFT: a student that sees clean latents learns the features which the frozen model has of noisy ones, so that features need no noise.
//! (N. Stracke, S. Baumann, K. Bauer, F. Fundel, B. Ommer, "CleanDIFT: Diffusion Features without Noise", arXiv 2412.03439.)
//!
//! Mirrors CompVis/cleandift b070976, `src/sd_feature_extraction.py`, `StableFeatureAligner`: three timesteps for each image, one from each third
//! of the range; eleven maps; heads that turn the student's map into the teacher's at a timestep, and are dropped afterwards; a learned timestep for
//! the student. Deliberate differences: the student is an adapter and not a copy of the UNet; its maps, which do not depend on the teacher's timestep,
//! are computed once for each image and not three times; the loss is the mean over the maps and not their sum, which Adam does not tell apart;
//! samples have weights.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `heads` | the heads, and what they are told of the timestep |

mod heads;

use crate::model::Model;
use crate::model::maps::{self, Map};
use crate::optimizer::{Group, Parameter};
use crate::options::{ObjectiveKind, Options};
use crate::seeds::{Purpose, generator};
use candle_core::{DType, Tensor, Var};
use driftless::Result;
use driftless::rng::Generator;
use driftless::scheduler::{NoiseSchedule, SchedulerConfig};
use driftless::unet::UnetConfig;
use heads::Heads;

/// Parts of the range of timesteps, each of which gives one.
const BINS: usize = 3;
/// The student's first timestep.
const FIRST_TIMESTEP: f32 = 261.0;
/// The range that timesteps are drawn from, the end left out.
const RANGE: (u32, u32) = (1, 999);
/// Below this a norm counts as this, squared (`torch.nn.functional.cosine_similarity`).
const SMALLEST_SQUARE: f64 = 1e-16;

/// What the objective needs beside the adapter.
#[derive(Debug)]
pub struct Alignment {
    heads: Heads,
    timestep: Var,
    range: (u32, u32),
    schedule: NoiseSchedule,
    rate: f64,
}

impl Alignment {
    /// With first values from `seed`; `None` for another objective.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(options: &Options, model: &impl Model, seed: u64) -> Result<Option<Self>> {
        match options.objective.objective {
            ObjectiveKind::Diffusion => return Ok(None),
            ObjectiveKind::Cleandift => {}
        }
        let maps = model.denoiser().maps();
        let objective = &options.objective;
        Ok(Some(Self {
            heads: Heads::new(maps, &mut generator(seed, Purpose::Alignment, 0), model.device())?,
            timestep: Var::new(&[FIRST_TIMESTEP], model.device())?,
            range: (objective.min_timestep.unwrap_or(RANGE.0), objective.max_timestep.unwrap_or(RANGE.1)),
            schedule: NoiseSchedule::new(&SchedulerConfig::stable_diffusion_1_5()),
            rate: options.optimization.unet_lr.unwrap_or(options.optimization.learning_rate),
        }))
    }

    /// Numbers that are trained beside the adapter's.
    ///
    /// # Errors
    /// When the network has no such maps.
    pub fn parameter_count(config: &UnetConfig) -> Result<usize> {
        Ok(1 + heads::parameter_count(&maps::of(config)?))
    }

    /// The heads' matrices and the timestep, at the UNet's rate.
    pub fn group(&self) -> Group {
        let mut parameters = self.heads.parameters();
        parameters.push(Parameter { key: "timestep".into(), var: self.timestep.clone() });
        Group { name: "cleandift".into(), rate: self.rate, parameters }
    }

    /// The student's timestep.
    pub fn timestep(&self) -> &Var {
        &self.timestep
    }

    /// Minus the mean cosine of the heads' maps and the teacher's, a float32 scalar, for `latents` `[b, c, h, w]` with states `text`
    /// `[b, n, c]`. Draws timesteps, then noise; `weights` has one number per image.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn loss(
        &self,
        model: &impl Model,
        latents: &Tensor,
        text: &Tensor,
        weights: &[f64],
        generator: &mut Generator,
    ) -> Result<Tensor> {
        let batch = latents.dim(0)?;
        let timesteps = self.timesteps(batch, generator);
        let teacher = {
            let repeated = repeat(latents)?;
            let noise = generator.randn_tensor(repeated.dims(), latents.device())?;
            let noisy = self.schedule.add_noise(&repeated, &noise, &timesteps)?;
            model.denoiser().teacher(&noisy, &timesteps, &repeat(text)?)?
        };
        let student = model.denoiser().student(latents, self.timestep.as_tensor(), text)?;
        let condition = self.heads.condition(&timesteps, latents.device())?;
        let weights: Vec<f32> = weights.iter().flat_map(|weight| [*weight as f32; BINS]).collect();
        let weights = Tensor::new(weights, latents.device())?;
        let mut losses = Vec::with_capacity(teacher.len());
        for (index, (teacher, student)) in teacher.iter().zip(&student).enumerate() {
            let aligned = self.heads.forward(index, &repeat(&rows(student)?)?, &condition)?;
            let cosine = cosine(&aligned, &rows(teacher)?)?.mean(1)?;
            losses.push((cosine * &weights)?.mean_all()?.neg()?);
        }
        Ok(Tensor::stack(&losses, 0)?.mean_all()?)
    }

    /// A timestep from each part of the range for each image, in float32 as PyTorch computes it.
    fn timesteps(&self, batch: usize, generator: &mut Generator) -> Vec<usize> {
        let (least, most) = self.range;
        let part = (f64::from(most - least) / BINS as f64) as f32;
        let draws = generator.rand(&[batch, BINS]).into_iter().enumerate();
        // Not negative, so that the conversion rounds down as PyTorch's does.
        draws.map(|(index, draw)| (least as f32 + draw * part + (index % BINS) as f32 * part) as usize).collect()
    }
}

/// Each of `[b, ..]` as often as there are timesteps, next to each other: `[b * 3, ..]`.
fn repeat(tensor: &Tensor) -> Result<Tensor> {
    let mut shape = tensor.dims().to_vec();
    shape.insert(1, BINS);
    let repeated = tensor.unsqueeze(1)?.broadcast_as(shape.as_slice())?;
    Ok(repeated.contiguous()?.flatten(0, 1)?)
}

/// `[b, c, h, w]` to `[b, h w, c]`, float32.
fn rows(map: &Tensor) -> Result<Tensor> {
    Ok(map.to_dtype(DType::F32)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?)
}

/// Cosines of the last dimension's vectors.
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let norm = |x: &Tensor| -> Result<Tensor> { Ok((x.sqr()?.sum(2)? + SMALLEST_SQUARE)?.sqrt()?) };
    Ok(((a * b)?.sum(2)? / (norm(a)? * norm(b)?)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn repeated_rows_stand_next_to_each_other() {
        let tensor = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let repeated: Vec<Vec<f32>> = repeat(&tensor).unwrap().to_vec2().unwrap();
        assert_eq!(repeated, [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [3.0, 4.0]]);
    }

    #[test]
    fn cosines() {
        let vectors = |values: [[f32; 2]; 2]| Tensor::new(&[values], &Device::Cpu).unwrap();
        let (a, b) = (vectors([[1.0, 0.0], [0.0, 0.0]]), vectors([[2.0, 2.0], [1.0, 0.0]]));
        let found: Vec<Vec<f32>> = cosine(&a, &b).unwrap().to_vec2().unwrap();
        assert!((found[0][0] - 0.5f32.sqrt()).abs() < 1e-6 && found[0][1] == 0.0, "{found:?}");
    }
}
