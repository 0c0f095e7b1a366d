//! Options: the adapter that is trained.

use super::table::options;
use super::values::{KeyValue, positive};
use std::path::PathBuf;

options! {
    /// Which adapter, how large, and where.
    pub struct NetworkOptions in "Network" {
        /// Kind of adapter: networks.lora or lycoris.kohya
        #[arg(value_name = "MODULE", default_value = "networks.lora")]
        network_module: String => Fixed, metadata "network_module";

        /// Rank
        #[arg(value_name = "RANK", default_value_t = 4)]
        network_dim: usize => Fixed, metadata "network_dim";

        /// The adapter is scaled by alpha / rank; 0 means alpha = rank
        #[arg(value_name = "ALPHA", default_value_t = 1.0, value_parser = super::values::not_negative)]
        network_alpha: f64 => Fixed, metadata "network_alpha";

        /// Further settings of the adapter: conv_dim=N conv_alpha=A rank_dropout=P module_dropout=P loraplus_lr_ratio=R
        /// loraplus_unet_lr_ratio=R loraplus_text_encoder_lr_ratio=R; with lycoris.kohya also algo=lora|locon|loha|lokr|full
        /// preset=full|full-lin|attn-mlp|attn-only|unet-only|unet-transformer-only|unet-convblock-only dora_wd=True wd_on_output=False
        /// use_tucker=True rs_lora=True rank_dropout_scale=True, and for lokr factor=N decompose_both=True full_matrix=True
        #[arg(value_name = "KEY=VALUE", num_args = 0..)]
        network_args: Vec<KeyValue> => Fixed, by "ss_network_args";

        /// Dropout probability of the values between down and up matrix (networks.lora)
        #[arg(value_name = "P", value_parser = super::values::probability)]
        network_dropout: Option<f64> => Fixed, metadata "network_dropout";

        /// Start from this adapter
        #[arg(value_name = "FILE")]
        network_weights: Option<PathBuf> => Irrelevant;

        /// Take rank and alpha from --network_weights
        dim_from_weights: bool => Irrelevant;

        /// Train adapters of the UNet only
        #[arg(conflicts_with = "network_train_text_encoder_only")]
        network_train_unet_only: bool => Fixed, by "network_train_unet_only";

        /// Train adapters of the text encoder only
        network_train_text_encoder_only: bool => Fixed, by "network_train_text_encoder_only";

        /// After each step, scale adapters down to at most this norm
        #[arg(value_name = "NORM", value_parser = positive)]
        scale_weight_norms: Option<f64> => Fixed, metadata "scale_weight_norms";
    }
}
