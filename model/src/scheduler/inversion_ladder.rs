//! The DDIM inversion of the paper's extractor (`feature/components/ddim_inversion.py`): latents are carried towards noise along the
//! network's own predictions instead of being mixed with random noise.
//!
//! Kept as it is there: the ladder has 100 rungs whatever the scheduler, the first of which is skipped; a rung's prediction is made at
//! the timestep that it leads to; the ladder ends with the first rung at or above the extraction step, so latents may be up to nine
//! timesteps too noisy.
//!
//! Deliberate difference: the output of a network that predicts velocity (SD2's for 768 x 768 pixels) is turned into the noise that it
//! stands for; the original takes it for noise, which it is not.

use candle_core::Tensor;

use super::ScheduleError;
use super::arithmetic::{combine, in_float32, original_and_epsilon, scale};
use super::config::{PredictionType, SchedulerClass, SchedulerConfig};
use super::noise_schedule::NoiseSchedule;
use super::timesteps::whole_timesteps;
use crate::error::Result;

/// Rungs of the whole ladder.
const RUNGS: usize = 100;
/// Training timesteps that a rung goes back for its start: 1000 over [`RUNGS`], a constant in the original.
const STRIDE: usize = 10;

/// One step of an inversion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// The timestep at which the network predicts, and to which the latents are carried.
    pub timestep: usize,
    /// `a` of the timestep that the latents come from.
    pub alpha_from: f32,
    /// `a(timestep)`.
    pub alpha_to: f32,
}

/// The steps from clean latents up to an extraction step.
#[derive(Clone, Debug, PartialEq)]
pub struct InversionLadder {
    /// The steps in order, at least one.
    pub rungs: Vec<Rung>,
    prediction_type: PredictionType,
}

impl InversionLadder {
    /// The ladder for the noise and timestep spacing of `config` (of any class: spacing and offset are read as a DDIM scheduler would),
    /// up to the first rung at or above `extraction_step`; where none is, up to the top.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the settings do not suit a DDIM scheduler or lead beyond the training timesteps.
    pub fn new(config: &SchedulerConfig, extraction_step: f64) -> Result<Self> {
        let schedule = NoiseSchedule::new(config);
        let ddim = config.with_class(SchedulerClass::Ddim)?;
        if ddim.num_train_timesteps() < RUNGS {
            return Err(ScheduleError::Rungs { rungs: RUNGS }.into());
        }
        let mut rungs = Vec::new();
        for timestep in whole_timesteps(&ddim, RUNGS).into_iter().skip(1) {
            // Timesteps above the first are positive.
            let timestep = timestep as usize;
            let (alpha_from, alpha_to) = (schedule.alpha(timestep.saturating_sub(STRIDE))?, schedule.alpha(timestep)?);
            rungs.push(Rung { timestep, alpha_from, alpha_to });
            if timestep as f64 >= extraction_step {
                break;
            }
        }
        Ok(Self { rungs, prediction_type: config.prediction_type() })
    }

    /// The noise that the network's `output` for `latents` at a rung stands for.
    ///
    /// # Shapes
    /// `output` and `latents` `[b, c, h, w]`, as is the result.
    ///
    /// # Errors
    /// [`crate::Error::Tensors`] when the tensors do not fit each other.
    pub fn noise(&self, rung: &Rung, output: &Tensor, latents: &Tensor) -> Result<Tensor> {
        let (output, latents) = in_float32(output, latents)?;
        Ok(original_and_epsilon(self.prediction_type, rung.alpha_to, &output, &latents)?.1)
    }
}

/// `(latents - sqrt(1 - a_from) e) sqrt(a_to) / sqrt(a_from) + sqrt(1 - a_to) e` with `e` the predicted noise.
///
/// # Shapes
/// `latents` and `noise_prediction` `[b, c, h, w]`, as is the result.
///
/// # Errors
/// [`crate::Error::Tensors`] when the tensors do not fit each other.
pub fn ddim_inversion_step(latents: &Tensor, noise_prediction: &Tensor, alpha_from: f32, alpha_to: f32) -> Result<Tensor> {
    let (noise, start) = in_float32(noise_prediction, latents)?;
    let clean = combine(&start, 1.0, &noise, -(1.0 - alpha_from).sqrt())?;
    let carried = scale(&clean, alpha_to.sqrt() / alpha_from.sqrt())?;
    Ok((carried + scale(&noise, (1.0 - alpha_to).sqrt())?)?.to_dtype(latents.dtype())?)
}
