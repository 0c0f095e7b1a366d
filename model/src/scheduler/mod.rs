//! Noise schedules and the schedulers that walk along them: forward diffusion, denoising steps, inversion, and which timesteps an
//! extraction visits.
//!
//! Mirrors diffusers 0.32.2 (`schedulers/scheduling_{pndm,ddim,ddim_inverse,ddpm,euler_discrete,euler_ancestral_discrete}.py`) and the
//! paper's extractor (generic-diffusion-feature, snapshot e4361a6). Trajectories agree with diffusers in float32 to 1e-5.
//!
//! | file | what |
//! | --- | --- |
//! | [`SchedulerConfig`] | a `scheduler_config.json` with the defaults of its class |
//! | [`NoiseSchedule`] | betas, cumulative alphas, noising |
//! | [`Pndm`], [`Ddim`], [`DdimInverse`], [`Ddpm`], [`EulerDiscrete`], [`EulerAncestralDiscrete`] | the schedulers |
//! | [`InversionLadder`] | the paper's own DDIM inversion |
//! | [`ExtractionSchedule`] | timesteps of image-to-image and of the paper's extractor |
//!
//! Deliberate differences, apart from those named in the files:
//! - A step looks its timestep up instead of counting calls (PNDM does count, its rules depend on it).
//! - Random noise is handed in by the caller ([`Scheduler::step_with_noise`]); diffusers draws it inside `step`.
//! - Samples that are not float32 are stepped in float32 and handed back in their own type.
//! - More inference steps than training timesteps are refused.

mod arithmetic;
mod betas;
mod config;
mod ddim;
mod ddim_inverse;
mod ddpm;
mod euler;
mod euler_ancestral;
mod extraction_schedule;
mod inversion_ladder;
mod noise_schedule;
mod pndm;
mod sigmas;
mod timesteps;

use candle_core::Tensor;

use crate::error::{Error, Result};

pub use crate::error::ScheduleError;
pub use config::{BetaSchedule, FinalSigma, PredictionType, SchedulerClass, SchedulerConfig, TimestepSpacing, VarianceType};
pub use ddim::Ddim;
pub use ddim_inverse::DdimInverse;
pub use ddpm::Ddpm;
pub use euler::EulerDiscrete;
pub use euler_ancestral::EulerAncestralDiscrete;
pub use extraction_schedule::{ExtractionSchedule, image_to_image_start, image_to_image_timesteps};
pub use inversion_ladder::{InversionLadder, Rung, ddim_inversion_step};
pub use noise_schedule::NoiseSchedule;
pub use pndm::Pndm;

/// A way from noise to a sample (or, for [`DdimInverse`], back).
///
/// Timesteps are `f64` because the Euler schedulers visit points between training timesteps; those of the others are whole. They
/// count from 0 (almost clean) to `num_train_timesteps - 1` (almost noise).
pub trait Scheduler: std::fmt::Debug + Send + Sync {
    /// Chooses the timesteps of an inference of `num_inference_steps` steps and forgets all steps done.
    ///
    /// # Errors
    /// [`ScheduleError`] when the number is zero, exceeds the training timesteps or is too small for the method.
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()>;

    /// The timesteps in the order in which they are to be stepped; there may be more of them than steps were asked for.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation of the noise that an inference starts from.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// The sample as the network wants to see it at `timestep`; the sample itself for all but the Euler schedulers.
    ///
    /// # Errors
    /// [`ScheduleError`] when `timestep` is not one of [`Scheduler::timesteps`].
    fn scale_model_input(&self, sample: &Tensor, timestep: f64) -> Result<Tensor> {
        let _ = timestep;
        Ok(sample.clone())
    }

    /// Whether the step at `timestep` needs random noise: then [`Scheduler::step_with_noise`] has to be called in place of
    /// [`Scheduler::step`].
    fn takes_noise(&self, timestep: f64) -> bool {
        let _ = timestep;
        false
    }

    /// The sample after one step, given what the network predicted for `sample` at `timestep`.
    ///
    /// # Shapes
    /// `model_output` and `sample` `[b, c, h, w]`, as is the result.
    ///
    /// # Errors
    /// [`ScheduleError`] when no timesteps were set, `timestep` is not among them, or the step needs noise; [`Error::Tensors`] when
    /// the tensors do not fit each other.
    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor>;

    /// [`Scheduler::step`] with the standard normal noise that it draws in diffusers.
    ///
    /// # Shapes
    /// `noise` as `sample`.
    ///
    /// # Errors
    /// As in [`Scheduler::step`], and [`ScheduleError::TakesNoNoise`] when this step takes no noise.
    fn step_with_noise(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let _ = (model_output, sample, noise);
        Err(ScheduleError::TakesNoNoise { timestep }.into())
    }

    /// The clean sample that a prediction for `sample` at `timestep` means, before any clipping, in float32.
    ///
    /// # Shapes
    /// `model_output` and `sample` `[b, c, h, w]`, as is the result.
    ///
    /// # Errors
    /// [`ScheduleError`] when there is no such timestep, or it holds noise alone; [`Error::Tensors`] when the tensors do not fit each
    /// other.
    fn predicted_original(&self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        let alpha = self.noise_schedule().alpha(arithmetic::whole(timestep)? as usize)?;
        let (output, sample) = arithmetic::in_float32(model_output, sample)?;
        Ok(arithmetic::original_and_epsilon(self.config().prediction_type(), alpha, &output, &sample)?.0)
    }

    /// A clean sample brought to the noise of `timestep`.
    ///
    /// # Shapes
    /// `original` and `noise` `[b, ...]`, as is the result.
    ///
    /// # Errors
    /// [`ScheduleError`] when there is no such timestep; [`Error::Tensors`] when the tensors do not fit each other.
    fn add_noise(&self, original: &Tensor, noise: &Tensor, timestep: f64) -> Result<Tensor> {
        self.noise_schedule().add_noise(original, noise, &[arithmetic::whole(timestep)? as usize])
    }

    /// The settings it was built from.
    fn config(&self) -> &SchedulerConfig;

    /// The cumulative alphas that it walks along.
    fn noise_schedule(&self) -> &NoiseSchedule;

    /// A copy, steps done included.
    fn boxed_clone(&self) -> Box<dyn Scheduler>;
}

impl Clone for Box<dyn Scheduler> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

/// The scheduler that `config` names.
///
/// # Errors
/// None at present: a [`SchedulerConfig`] is checked when it is read.
pub fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Scheduler>> {
    Ok(match config.class() {
        SchedulerClass::Pndm => Box::new(Pndm::new(config)),
        SchedulerClass::Ddim => Box::new(Ddim::new(config)),
        SchedulerClass::DdimInverse => Box::new(DdimInverse::new(config)),
        SchedulerClass::Ddpm => Box::new(Ddpm::new(config)),
        SchedulerClass::EulerDiscrete => Box::new(EulerDiscrete::new(config)),
        SchedulerClass::EulerAncestralDiscrete => Box::new(EulerAncestralDiscrete::new(config)),
    })
}

/// The samplers of [`from_name`], by kohya's names.
pub const SAMPLERS: &[&str] = &["ddim", "ddpm", "euler", "euler_a", "k_euler", "k_euler_a", "pndm"];

/// The scheduler that kohya's trainer builds for `--sample_sampler NAME` (`get_my_scheduler`): Stable Diffusion's betas, otherwise the
/// defaults of the class, which for `ddim` and `ddpm` clip the predicted sample to -1..1.
///
/// # Errors
/// [`Error::Unknown`] for a name outside [`SAMPLERS`] (kohya falls back to DDIM for a misspelt one, and knows `lms`, `heun`, `dpm_2`,
/// `dpm_2_a`, `dpmsolver`, `dpmsolver++` and `dpmsingle` as well); [`Error::Config`] when the scheduler cannot use `prediction_type`.
pub fn from_name(name: &str, prediction_type: PredictionType) -> Result<Box<dyn Scheduler>> {
    let class = match name {
        "ddim" => SchedulerClass::Ddim,
        "ddpm" => SchedulerClass::Ddpm,
        "euler" | "k_euler" => SchedulerClass::EulerDiscrete,
        "euler_a" | "k_euler_a" => SchedulerClass::EulerAncestralDiscrete,
        "pndm" => SchedulerClass::Pndm,
        _ => return Err(Error::unknown("sampler", name, SAMPLERS.iter().copied())),
    };
    from_config(&SchedulerConfig::stable_diffusion(class).with_prediction_type(prediction_type)?)
}

/// The error of a step before [`Scheduler::set_timesteps`].
fn no_timesteps() -> Error {
    ScheduleError::NoTimesteps.into()
}

/// The error of a step that needs noise and got none.
fn noise_missing(timestep: f64) -> Error {
    ScheduleError::NoiseMissing { timestep }.into()
}
