//! Which timesteps image-to-image and the paper's extractor visit.
//!
//! Source: diffusers 0.32.2 `StableDiffusionImg2ImgPipeline.get_timesteps`; generic-diffusion-feature e4361a6, `DiffusionFeature.extract`.
//!
//! Kept as they are there, because features depend on them:
//! - With Stable Diffusion 1.5's PNDM a plain extraction at `t` in 1..=998 runs at `t + 1`, at 0 it runs at 1, at 999 at 999.
//! - `denoising_from` more than 50 above `t` counts in hundredths of the whole way and not in timesteps: 100 and all above start at
//!   the noisiest of 100 timesteps (991), 60 starts at 601.
//!
//! Deliberate differences: at 0 a scheduler whose list has nothing to spare (DDIM) runs at its least noisy timestep, as PNDM does, where
//! the original dies of an empty list; where it dies of an index out of range, the error says what is asked for.

use super::ScheduleError;
use super::Scheduler;
use crate::error::Result;

/// The largest distance of `denoising_from` from `t` that is denoised in single training timesteps.
const FINE_SPAN: usize = 50;
/// Steps, and parts of the whole way, of a fine and of a coarse denoising.
const FINE_STEPS: usize = 1000;
const COARSE_STEPS: usize = 100;

/// The timesteps of one extraction.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtractionSchedule {
    /// What [`Scheduler::set_timesteps`] has to be called with before the steps below.
    pub num_inference_steps: usize,
    /// The timestep whose noise is added to the image's latents.
    pub start: f64,
    /// Timesteps to denoise at, in order; empty without `denoising_from`.
    pub denoised: Vec<f64>,
    /// The timestep at which the network is read.
    pub extraction: f64,
}

impl ExtractionSchedule {
    /// The timesteps that the original visits with its scheduler being `scheduler` (which is copied, not changed) for `--t t` and,
    /// if given, `--denoising_from`; 0 means not given there, as in the original.
    ///
    /// # Errors
    /// [`ScheduleError`] when `t` or `denoising_from` lies beyond the scheduler's timesteps, or no timestep lies between them.
    pub fn new(scheduler: &dyn Scheduler, t: usize, denoising_from: Option<usize>) -> Result<Self> {
        match denoising_from {
            None | Some(0) => Self::plain(scheduler, t),
            Some(from) => Self::denoised(scheduler, t, from),
        }
    }

    fn plain(scheduler: &dyn Scheduler, t: usize) -> Result<Self> {
        let mut timesteps = listed(scheduler, FINE_STEPS, t as f64 / FINE_STEPS as f64)?;
        if timesteps.is_empty() {
            timesteps = listed(scheduler, FINE_STEPS, 1.0 / FINE_STEPS as f64)?;
        }
        let start = *timesteps.first().ok_or(ScheduleError::NoNoise { t })?;
        check_start(scheduler, "t", t, start)?;
        Ok(Self { num_inference_steps: FINE_STEPS, start, denoised: Vec::new(), extraction: start })
    }

    fn denoised(scheduler: &dyn Scheduler, t: usize, from: usize) -> Result<Self> {
        // A start below t takes the fine branch and finds nothing to keep there.
        let steps = if from <= t.saturating_add(FINE_SPAN) { FINE_STEPS } else { COARSE_STEPS };
        if t >= FINE_STEPS {
            return Err(ScheduleError::ExtractionStep { last: FINE_STEPS - 1, t }.into());
        }
        let mut timesteps = listed(scheduler, steps, from as f64 / steps as f64)?;
        timesteps.retain(|&timestep| timestep >= t as f64);
        let (Some(start), Some(extraction)) = (timesteps.first().copied(), timesteps.pop()) else {
            return Err(ScheduleError::NothingToDenoise { from, t }.into());
        };
        check_start(scheduler, "denoising_from", from, start)?;
        Ok(Self { num_inference_steps: steps, start, denoised: timesteps, extraction })
    }
}

/// The timesteps from a strength on, with a copy of `scheduler`.
fn listed(scheduler: &dyn Scheduler, num_inference_steps: usize, strength: f64) -> Result<Vec<f64>> {
    let mut scheduler = scheduler.boxed_clone();
    scheduler.set_timesteps(num_inference_steps)?;
    Ok(image_to_image_timesteps(scheduler.as_ref(), num_inference_steps, strength).to_vec())
}

fn check_start(scheduler: &dyn Scheduler, option: &'static str, given: usize, start: f64) -> Result<()> {
    let last = scheduler.config().num_train_timesteps() - 1;
    if given > FINE_STEPS || start > last as f64 {
        return Err(ScheduleError::TooNoisy { option, given, start, last }.into());
    }
    Ok(())
}

/// How many of `num_inference_steps` timesteps image-to-image skips at `strength` (0: all, 1: none): the count of those it keeps is
/// truncated in float64.
pub fn image_to_image_start(num_inference_steps: usize, strength: f64) -> usize {
    // The conversion saturates at 0 and at usize::MAX.
    let kept = ((num_inference_steps as f64 * strength) as usize).min(num_inference_steps);
    num_inference_steps - kept
}

/// The timesteps of image-to-image at `strength`, for a scheduler set to `num_inference_steps`; its list may be longer than that, and
/// then something is left even at strength 0.
pub fn image_to_image_timesteps(scheduler: &dyn Scheduler, num_inference_steps: usize, strength: f64) -> &[f64] {
    let timesteps = scheduler.timesteps();
    &timesteps[image_to_image_start(num_inference_steps, strength).min(timesteps.len())..]
}
