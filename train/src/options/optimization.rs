//! Options: optimizer, learning rates and the length of the run.

use super::table::options;
use super::values::{KeyValue, StepsOrShare, not_negative, positive};

options! {
    /// How the adapter's matrices are moved.
    pub struct OptimizationOptions in "Optimization" {
        /// AdamW, Adam, NAdam, RAdam, RMSprop, Adagrad, Adadelta, Adamax, SGD or SGDNesterov; AdamW8bit runs as AdamW
        #[arg(value_name = "NAME", default_value = "AdamW")]
        optimizer_type: String => Fixed, by "ss_optimizer";

        /// Settings of the optimizer, for instance weight_decay=0.01 betas=0.9,0.999 eps=1e-8
        #[arg(value_name = "KEY=VALUE", num_args = 0..)]
        optimizer_args: Vec<KeyValue> => Fixed, by "ss_optimizer";

        /// Learning rate of networks without a rate of their own
        #[arg(value_name = "RATE", default_value_t = 2e-6, value_parser = not_negative)]
        learning_rate: f64 => MayChange, metadata "learning_rate";

        /// Learning rate of the UNet's adapters
        #[arg(value_name = "RATE", value_parser = not_negative)]
        unet_lr: Option<f64> => MayChange, metadata "unet_lr";

        /// Learning rate of the text encoder's adapters
        #[arg(value_name = "RATE", num_args = 0.., value_parser = not_negative)]
        text_encoder_lr: Vec<f64> => MayChange, by "ss_text_encoder_lr";

        /// Learning-rate schedule: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial, inverse_sqrt,
        /// cosine_with_min_lr, warmup_stable_decay
        #[arg(value_name = "NAME", default_value = "constant")]
        lr_scheduler: String => MayChange, metadata "lr_scheduler";

        /// Warm-up steps, as a count or as a share of all steps (0.1 or 10%)
        #[arg(value_name = "STEPS", default_value = "0")]
        lr_warmup_steps: StepsOrShare => MayChange, metadata "lr_warmup_steps";

        /// Decay steps at the end, for warmup_stable_decay
        #[arg(value_name = "STEPS", default_value = "0")]
        lr_decay_steps: StepsOrShare => MayChange;

        /// Restarts, for cosine_with_restarts
        #[arg(value_name = "N", default_value_t = 1)]
        lr_scheduler_num_cycles: usize => MayChange;

        /// Exponent, for polynomial
        #[arg(value_name = "P", default_value_t = 1.0, value_parser = positive)]
        lr_scheduler_power: f64 => MayChange;

        /// Time scale, for inverse_sqrt (default: the warm-up)
        #[arg(value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
        lr_scheduler_timescale: Option<u64> => MayChange;

        /// Lowest rate as a share of the highest, for cosine_with_min_lr and warmup_stable_decay
        #[arg(value_name = "SHARE", value_parser = super::values::probability)]
        lr_scheduler_min_lr_ratio: Option<f64> => MayChange;

        /// Clip the total norm of all gradients to this; 0 disables clipping
        #[arg(value_name = "NORM", default_value_t = 1.0, value_parser = not_negative)]
        max_grad_norm: f64 => MayChange, metadata "max_grad_norm";

        /// Batches whose gradients are averaged into one step
        #[arg(value_name = "N", default_value_t = 1)]
        gradient_accumulation_steps: usize => Fixed, metadata "gradient_accumulation_steps";

        /// Recompute activations in the backward pass: less memory, more time, same result
        gradient_checkpointing: bool => MayChange, metadata "gradient_checkpointing";

        /// Optimizer steps
        #[arg(value_name = "N", default_value_t = 1600)]
        max_train_steps: usize => MayChange, by "ss_max_train_steps";

        /// Epochs; takes precedence over --max_train_steps
        #[arg(value_name = "N")]
        max_train_epochs: Option<usize> => MayChange, by "ss_num_epochs";
    }
}
