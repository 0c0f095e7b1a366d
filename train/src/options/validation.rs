//! Options: images held back from training, and when the loss on them is measured.

use super::table::options;

options! {
    /// Validation during training.
    pub struct ValidationOptions in "Validation" {
        /// Share of the images held out from training; their loss is measured with fixed noise and timesteps
        #[arg(value_name = "SHARE", default_value_t = 0.0, value_parser = super::values::probability)]
        validation_split: f64 => Fixed, metadata "validation_split";

        /// Seed for choosing these images and for their noise (default: --seed)
        #[arg(value_name = "N")]
        validation_seed: Option<u64> => Fixed, metadata "validation_seed";

        /// Measure at these timesteps (default: four spread over those that train), each for itself as well: at those of extraction the loss
        /// says how much of a held-out image the model imagines there, and so which file suppresses content shift best
        #[arg(value_name = "T,T,...", num_args = 1.., value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..1000))]
        validation_timesteps: Vec<u32> => Fixed;

        /// Measure after every N-th epoch (default: after every epoch)
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        validate_every_n_epochs: Option<u64> => MayChange, metadata "validate_every_n_epochs";

        /// Measure after every N-th step too
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        validate_every_n_steps: Option<u64> => MayChange, metadata "validate_every_n_steps";

        /// Measure on at most N batches (default: all)
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        max_validation_steps: Option<u64> => MayChange, metadata "max_validation_steps";
    }
}
