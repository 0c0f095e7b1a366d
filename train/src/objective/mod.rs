//! What is learnt: noise is added to latents, the model predicts it, the error is weighted.
//!
//! Mirrors sd-scripts 48d368f: `train_util.get_noise_noisy_latents_and_timesteps`, `conditional_loss`, and
//! `custom_train_functions`, in the order of their random draws, so that a reference trainer with the same seed sees the same noise.
//! Deliberate difference: the shrinking factors of `multires_noise_iterations` come from the noise generator, not from Python's.

mod loss;
mod noise;

pub use noise::Noised;

use crate::options::{LossType, ObjectiveKind, ObjectiveOptions, Options, ValidationOptions};
use anyhow::{Result, ensure};
use candle_core::Tensor;
use driftless::rng::Generator;
use driftless::scheduler::{NoiseSchedule, SchedulerConfig};

/// Options of the objective that contradict each other.
#[derive(Debug, thiserror::Error)]
enum ObjectiveFault {
    #[error("--min_timestep {least} is not below --max_timestep {most}")]
    Timesteps { least: usize, most: usize },
    #[error("--scale_v_pred_loss_like_noise_pred needs --v_parameterization")]
    ScaleWithoutVelocity,
    #[error("--v_pred_like_loss does not go with --v_parameterization")]
    LikeLossWithVelocity,
    #[error("--zero_terminal_snr needs --v_parameterization: noise cannot be predicted where nothing else is left")]
    ZeroSnrWithoutVelocity,
    #[error("--validation_timesteps measures images that are held out from training; say how many with --validation_split")]
    NothingHeldOut,
    #[error(
        "--objective cleandift compares features; leave out {options}, which belong to the prediction of noise or do not go with it"
    )]
    BesideCleandift { options: String },
    #[error("--objective cleandift trains the UNet alone; give --network_train_unet_only")]
    CleandiftText,
    #[error("--objective cleandift draws timesteps from 1 on; give another --min_timestep")]
    CleandiftZero,
    #[error("--validation_timesteps names {timestep} twice")]
    ValidationTwice { timestep: u32 },
}

/// The objective of a run.
#[derive(Debug, Clone)]
pub struct Objective {
    options: ObjectiveOptions,
    schedule: NoiseSchedule,
    timesteps: std::ops::Range<usize>,
    /// Where held-out images are measured.
    validation: Vec<usize>,
}

impl Objective {
    /// The objective that `options` ask for. The noise schedule is Stable Diffusion's, whatever the model folder names.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn new(options: &Options) -> Result<Self> {
        let objective = &options.objective;
        let config = SchedulerConfig::stable_diffusion_1_5();
        let schedule = if objective.zero_terminal_snr {
            NoiseSchedule::with_zero_terminal_snr(&config)
        } else {
            NoiseSchedule::new(&config)
        };
        let timesteps = objective.min_timestep.unwrap_or(0) as usize..objective.max_timestep.unwrap_or(1000) as usize;
        ensure!(timesteps.start < timesteps.end, ObjectiveFault::Timesteps { least: timesteps.start, most: timesteps.end });
        let v = objective.v_parameterization;
        ensure!(v || !objective.scale_v_pred_loss_like_noise_pred, ObjectiveFault::ScaleWithoutVelocity);
        ensure!(!v || objective.v_pred_like_loss.is_none(), ObjectiveFault::LikeLossWithVelocity);
        ensure!(v || !objective.zero_terminal_snr, ObjectiveFault::ZeroSnrWithoutVelocity);
        cleandift(options)?;
        let validation = validation_timesteps(&options.validation, &timesteps)?;
        Ok(Self { options: objective.clone(), schedule, timesteps, validation })
    }

    /// Draws noise and timesteps for `latents` `[b, c, h, w]` (scaled) and adds the one at the other.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn noised(&self, latents: &Tensor, generator: &mut Generator) -> driftless::Result<Noised> {
        noise::noised(self, latents, None, generator)
    }

    /// The same at a timestep that is not drawn, for all samples.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn noised_at(&self, latents: &Tensor, timestep: usize, generator: &mut Generator) -> driftless::Result<Noised> {
        noise::noised(self, latents, Some(timestep), generator)
    }

    /// The timesteps of validation: those that were asked for, else four spread evenly over those that train (sd-scripts'
    /// `NUM_VALIDATION_TIMESTEPS`).
    pub fn validation_timesteps(&self) -> &[usize] {
        &self.validation
    }

    /// The weighted error of `prediction` `[b, c, h, w]`, a float32 scalar. `weights` has one number per sample.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn loss(&self, prediction: &Tensor, noised: &Noised, weights: &[f64]) -> driftless::Result<Tensor> {
        loss::loss(self, prediction, noised, weights)
    }
}

/// What goes with CleanDIFT's objective.
fn cleandift(options: &Options) -> Result<()> {
    let objective = &options.objective;
    match objective.objective {
        ObjectiveKind::Diffusion => return Ok(()),
        ObjectiveKind::Cleandift => {}
    }
    let given = [
        ("--v2", options.model.v2),
        ("--v_parameterization", objective.v_parameterization),
        ("--noise_offset", objective.noise_offset.is_some_and(|offset| offset != 0.0)),
        ("--multires_noise_iterations", objective.multires_noise_iterations.is_some_and(|iterations| iterations > 0)),
        ("--ip_noise_gamma", objective.ip_noise_gamma.is_some_and(|gamma| gamma > 0.0)),
        ("--zero_terminal_snr", objective.zero_terminal_snr),
        ("--min_snr_gamma", objective.min_snr_gamma.is_some_and(|gamma| gamma > 0.0)),
        ("--debiased_estimation_loss", objective.debiased_estimation_loss),
        ("--scale_v_pred_loss_like_noise_pred", objective.scale_v_pred_loss_like_noise_pred),
        ("--v_pred_like_loss", objective.v_pred_like_loss.is_some_and(|factor| factor > 0.0)),
        ("--loss_type", objective.loss_type != LossType::L2),
        ("--validation_split", options.validation.validation_split > 0.0),
        ("--gradient_checkpointing", options.optimization.gradient_checkpointing),
        ("--network_train_text_encoder_only", options.network.network_train_text_encoder_only),
    ];
    let names: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
    ensure!(names.is_empty(), ObjectiveFault::BesideCleandift { options: names.join(", ") });
    ensure!(options.network.network_train_unet_only, ObjectiveFault::CleandiftText);
    ensure!(objective.min_timestep != Some(0), ObjectiveFault::CleandiftZero);
    Ok(())
}

fn validation_timesteps(options: &ValidationOptions, trained: &std::ops::Range<usize>) -> Result<Vec<usize>> {
    let asked = &options.validation_timesteps;
    if asked.is_empty() {
        return Ok([1, 2, 3, 4].map(|k| trained.start + k * trained.len() / 5).to_vec());
    }
    ensure!(options.validation_split > 0.0, ObjectiveFault::NothingHeldOut);
    let twice = asked.iter().enumerate().find(|(index, timestep)| asked[..*index].contains(timestep));
    ensure!(twice.is_none(), ObjectiveFault::ValidationTwice { timestep: twice.map_or(0, |(_, timestep)| *timestep) });
    Ok(asked.iter().map(|timestep| *timestep as usize).collect())
}
