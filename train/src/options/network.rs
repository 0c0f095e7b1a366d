//! Options: the adapter that is trained.

use super::values::{KeyValue, positive};
use std::path::PathBuf;

/// Which adapter, how large, and where.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Network")]
pub struct NetworkOptions {
    /// Kind of adapter: networks.lora or lycoris.kohya
    #[arg(long, value_name = "MODULE", default_value = "networks.lora")]
    pub network_module: String,

    /// Rank
    #[arg(long, value_name = "RANK", default_value_t = 4)]
    pub network_dim: usize,

    /// The adapter is scaled by alpha / rank; 0 means alpha = rank
    #[arg(long, value_name = "ALPHA", default_value_t = 1.0, value_parser = super::values::not_negative)]
    pub network_alpha: f64,

    /// Further settings of the adapter: conv_dim=N conv_alpha=A rank_dropout=P module_dropout=P loraplus_lr_ratio=R
    /// loraplus_unet_lr_ratio=R loraplus_text_encoder_lr_ratio=R; with lycoris.kohya also algo=lora|locon|loha|lokr|full
    /// preset=full|full-lin|attn-mlp|attn-only|unet-only|unet-transformer-only|unet-convblock-only dora_wd=True wd_on_output=False
    /// use_tucker=True rs_lora=True rank_dropout_scale=True, and for lokr factor=N decompose_both=True full_matrix=True
    #[arg(long, value_name = "KEY=VALUE", num_args = 0..)]
    pub network_args: Vec<KeyValue>,

    /// Probability with which a number between down and up matrix is dropped in training (networks.lora)
    #[arg(long, value_name = "P", value_parser = super::values::probability)]
    pub network_dropout: Option<f64>,

    /// Start from this adapter
    #[arg(long, value_name = "FILE")]
    pub network_weights: Option<PathBuf>,

    /// Take rank and alpha from --network_weights
    #[arg(long)]
    pub dim_from_weights: bool,

    /// Train adapters of the UNet only
    #[arg(long, conflicts_with = "network_train_text_encoder_only")]
    pub network_train_unet_only: bool,

    /// Train adapters of the text encoder only
    #[arg(long)]
    pub network_train_text_encoder_only: bool,

    /// After each step, scale adapters down to at most this norm
    #[arg(long, value_name = "NORM", value_parser = positive)]
    pub scale_weight_norms: Option<f64>,
}
