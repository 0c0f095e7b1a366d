//! Options: noise, timesteps and loss.

use super::values::{not_negative, positive};

/// What is learnt.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Objective")]
pub struct ObjectiveOptions {
    /// Predict the velocity, not the noise; for models trained so, which SD1.5 is not
    #[arg(long)]
    pub v_parameterization: bool,

    /// Noise with a random offset per channel of this strength
    #[arg(long, value_name = "STRENGTH")]
    pub noise_offset: Option<f64>,

    /// Draw the offset's strength from 0 to --noise_offset for each batch
    #[arg(long)]
    pub noise_offset_random_strength: bool,

    /// Add this times the latent's mean to the offset's strength
    #[arg(long, value_name = "SCALE")]
    pub adaptive_noise_scale: Option<f64>,

    /// Add noise of so many coarser resolutions
    #[arg(long, value_name = "N")]
    pub multires_noise_iterations: Option<usize>,

    /// Strength of each coarser resolution relative to the next finer one
    #[arg(long, value_name = "D", default_value_t = 0.3, value_parser = not_negative)]
    pub multires_noise_discount: f64,

    /// Disturb the input by further noise of this strength that is not to be predicted
    #[arg(long, value_name = "STRENGTH", value_parser = not_negative)]
    pub ip_noise_gamma: Option<f64>,

    /// Draw that strength from 0 to --ip_noise_gamma for each batch
    #[arg(long)]
    pub ip_noise_gamma_random_strength: bool,

    /// First timestep that is drawn
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(0..1000))]
    pub min_timestep: Option<u32>,

    /// First timestep that is no longer drawn
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_timestep: Option<u32>,

    /// Stretch the noise schedule so that the last timestep is pure noise
    #[arg(long)]
    pub zero_terminal_snr: bool,

    /// Weight timesteps by min(SNR, gamma) / SNR; 5 is usual
    #[arg(long, value_name = "GAMMA", value_parser = not_negative)]
    pub min_snr_gamma: Option<f64>,

    /// Weight timesteps by 1 / sqrt(SNR)
    #[arg(long)]
    pub debiased_estimation_loss: bool,

    /// Weight timesteps of a velocity loss as a noise loss would
    #[arg(long)]
    pub scale_v_pred_loss_like_noise_pred: bool,

    /// Add this times the loss as a velocity loss would weight it
    #[arg(long, value_name = "FACTOR", value_parser = not_negative)]
    pub v_pred_like_loss: Option<f64>,

    /// Measure of the error
    #[arg(long, value_enum, default_value = "l2")]
    pub loss_type: LossType,

    /// How the Huber threshold depends on the timestep
    #[arg(long, value_enum, default_value = "snr")]
    pub huber_schedule: HuberSchedule,

    /// Huber threshold
    #[arg(long, value_name = "C", default_value_t = 0.1, value_parser = positive)]
    pub huber_c: f64,

    /// Factor on the Huber threshold (constant and exponential)
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub huber_scale: f64,

    /// Weight of regularization images
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = not_negative)]
    pub prior_loss_weight: f64,
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
