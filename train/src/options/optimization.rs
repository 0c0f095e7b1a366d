//! Options: optimizer, learning rates and the length of the run.

use super::values::{KeyValue, StepsOrShare, not_negative, positive};

/// How the adapter's matrices are moved.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Optimization")]
pub struct OptimizationOptions {
    /// AdamW, Adam, NAdam, RAdam, RMSprop, Adagrad, Adadelta, Adamax, SGD or SGDNesterov; AdamW8bit runs as AdamW
    #[arg(long, value_name = "NAME", default_value = "AdamW")]
    pub optimizer_type: String,

    /// Settings of the optimizer, for instance weight_decay=0.01 betas=0.9,0.999 eps=1e-8
    #[arg(long, value_name = "KEY=VALUE", num_args = 0..)]
    pub optimizer_args: Vec<KeyValue>,

    /// Learning rate of parts that have none of their own
    #[arg(long, value_name = "RATE", default_value_t = 2e-6, value_parser = not_negative)]
    pub learning_rate: f64,

    /// Learning rate of the UNet's adapters
    #[arg(long, value_name = "RATE", value_parser = not_negative)]
    pub unet_lr: Option<f64>,

    /// Learning rate of the text encoder's adapters
    #[arg(long, value_name = "RATE", num_args = 0.., value_parser = not_negative)]
    pub text_encoder_lr: Vec<f64>,

    /// Course of the rate: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial, inverse_sqrt,
    /// cosine_with_min_lr, warmup_stable_decay
    #[arg(long, value_name = "NAME", default_value = "constant")]
    pub lr_scheduler: String,

    /// Steps of rising rate, or their share of all steps (0.1 or 10%)
    #[arg(long, value_name = "STEPS", default_value = "0")]
    pub lr_warmup_steps: StepsOrShare,

    /// Steps of falling rate at the end, for warmup_stable_decay
    #[arg(long, value_name = "STEPS", default_value = "0")]
    pub lr_decay_steps: StepsOrShare,

    /// Restarts, for cosine_with_restarts
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub lr_scheduler_num_cycles: usize,

    /// Exponent, for polynomial
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = positive)]
    pub lr_scheduler_power: f64,

    /// Time scale, for inverse_sqrt (default: the warm-up)
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub lr_scheduler_timescale: Option<u64>,

    /// Lowest rate as a share of the highest, for cosine_with_min_lr and warmup_stable_decay
    #[arg(long, value_name = "SHARE", value_parser = super::values::probability)]
    pub lr_scheduler_min_lr_ratio: Option<f64>,

    /// Clip the norm of all gradients together to this; 0 turns it off
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = not_negative)]
    pub max_grad_norm: f64,

    /// Batches whose gradients are averaged into one step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub gradient_accumulation_steps: usize,

    /// Recompute activations in the backward pass: less memory, more time, same result
    #[arg(long)]
    pub gradient_checkpointing: bool,

    /// Optimizer steps
    #[arg(long, value_name = "N", default_value_t = 1600)]
    pub max_train_steps: usize,

    /// Epochs; wins over --max_train_steps
    #[arg(long, value_name = "N")]
    pub max_train_epochs: Option<usize>,
}
