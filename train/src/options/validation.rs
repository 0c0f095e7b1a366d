//! Options: images held back from training, and when the loss on them is measured.

/// Validation during training.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Validation")]
pub struct ValidationOptions {
    /// Share of the images that does not train; the loss on them is measured with fixed noise and timesteps
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = super::values::probability)]
    pub validation_split: f64,

    /// Seed of the choice of these images and of their noise (default: --seed)
    #[arg(long, value_name = "N")]
    pub validation_seed: Option<u64>,

    /// Measure after every N-th epoch (default: after every epoch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub validate_every_n_epochs: Option<u64>,

    /// Measure after every N-th step too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub validate_every_n_steps: Option<u64>,

    /// Measure on at most N batches (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_validation_steps: Option<u64>,
}
