//! Options: noise, timesteps and loss.

use super::table::options;
use super::values::{not_negative, positive};

options! {
    /// What is learnt.
    pub struct ObjectiveOptions in "Objective" {
        /// What is learnt: to predict noise, or (cleandift) to have of clean latents the features that the frozen model has of noisy ones, for
        /// `extract --noise none`
        #[arg(value_enum, default_value = "diffusion")]
        objective: ObjectiveKind => Fixed;

        /// Predict the velocity, not the noise; for models trained that way, such as Stable Diffusion 2.1 for 768 x 768 pixels
        v_parameterization: bool => Fixed, by "v_parameterization";

        /// Noise with a random offset per channel of this strength
        #[arg(value_name = "STRENGTH")]
        noise_offset: Option<f64> => Fixed, metadata "noise_offset";

        /// Draw the offset's strength from 0 to --noise_offset for each batch
        noise_offset_random_strength: bool => Fixed, metadata "noise_offset_random_strength";

        /// Add this times the latent's mean to the offset's strength
        #[arg(value_name = "SCALE")]
        adaptive_noise_scale: Option<f64> => Fixed, metadata "adaptive_noise_scale";

        /// Add noise at this many coarser resolutions
        #[arg(value_name = "N")]
        multires_noise_iterations: Option<usize> => Fixed, metadata "multires_noise_iterations";

        /// Strength of each coarser resolution relative to the next finer one
        #[arg(value_name = "D", default_value_t = 0.3, value_parser = not_negative)]
        multires_noise_discount: f64 => Fixed, metadata "multires_noise_discount";

        /// Perturb the input by additional noise of this strength, which is not predicted
        #[arg(value_name = "STRENGTH", value_parser = not_negative)]
        ip_noise_gamma: Option<f64> => Fixed, metadata "ip_noise_gamma";

        /// Draw that strength from 0 to --ip_noise_gamma for each batch
        ip_noise_gamma_random_strength: bool => Fixed, metadata "ip_noise_gamma_random_strength";

        /// Lowest timestep that is drawn
        #[arg(value_name = "T", value_parser = clap::value_parser!(u32).range(0..1000))]
        min_timestep: Option<u32> => Fixed, by "timesteps";

        /// Timesteps that are drawn lie below this one
        #[arg(value_name = "T", value_parser = clap::value_parser!(u32).range(1..=1000))]
        max_timestep: Option<u32> => Fixed, by "timesteps";

        /// Stretch the noise schedule so that the last timestep is pure noise
        zero_terminal_snr: bool => Fixed, metadata "zero_terminal_snr";

        /// Weight timesteps by min(SNR, gamma) / SNR; 5 is usual
        #[arg(value_name = "GAMMA", value_parser = not_negative)]
        min_snr_gamma: Option<f64> => Fixed, metadata "min_snr_gamma";

        /// Weight timesteps by 1 / sqrt(SNR)
        debiased_estimation_loss: bool => Fixed, metadata "debiased_estimation";

        /// Weight timesteps of a velocity loss as a noise loss would
        scale_v_pred_loss_like_noise_pred: bool => Fixed, by "scale_v_pred_loss_like_noise_pred";

        /// Add this times the loss as a velocity loss would weight it
        #[arg(value_name = "FACTOR", value_parser = not_negative)]
        v_pred_like_loss: Option<f64> => Fixed, by "v_pred_like_loss";

        /// Loss function
        #[arg(value_enum, default_value = "l2")]
        loss_type: LossType => Fixed, metadata "loss_type";

        /// How the Huber threshold depends on the timestep
        #[arg(value_enum, default_value = "snr")]
        huber_schedule: HuberSchedule => Fixed, metadata "huber_schedule";

        /// Huber threshold
        #[arg(value_name = "C", default_value_t = 0.1, value_parser = positive)]
        huber_c: f64 => Fixed, metadata "huber_c";

        /// Factor on the Huber threshold (constant and exponential)
        #[arg(value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
        huber_scale: f64 => Fixed, metadata "huber_scale";

        /// Weight of regularization images
        #[arg(value_name = "WEIGHT", default_value_t = 1.0, value_parser = not_negative)]
        prior_loss_weight: f64 => Fixed, metadata "prior_loss_weight";
    }
}

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectiveKind {
    /// To predict the noise in latents, or the velocity.
    Diffusion,
    /// Features without noise; see [`crate::alignment`].
    Cleandift,
}

/// kohya's `--loss_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum LossType {
    /// Squared difference.
    L2,
    /// Absolute difference.
    L1,
    /// Pseudo-Huber.
    Huber,
    /// Pseudo-Huber without its leading factor.
    SmoothL1,
}

/// kohya's `--huber_schedule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HuberSchedule {
    /// The same at every timestep.
    Constant,
    /// Falls exponentially with the timestep.
    Exponential,
    /// Follows the signal-to-noise ratio.
    Snr,
}
