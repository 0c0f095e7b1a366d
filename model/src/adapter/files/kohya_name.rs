//! kohya's names for layers (sd-scripts `networks/lora.py`): `lora_unet_` or `lora_te_`, then the module path with every dot
//! turned into an underscore.

use crate::model_family::{self, Network};

/// What a kohya layer name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KohyaName {
    /// A layer of SD1.5.
    Layer(Network, String),
    /// A layer of SDXL: the second text encoder, or UNet blocks under LDM names, which kohya writes for SDXL alone.
    Sdxl,
    /// The prefix is kohya's, the layer is none of SD1.5's.
    Unknown,
}

/// Prefixes of the networks, `oft_unet_` that of kohya's `networks/oft.py`; `lora_te1_` is the only text encoder where no `lora_te2_` stands beside it.
const PREFIXES: [(&str, Network); 4] = [
    ("lora_unet_", Network::Unet),
    ("lora_te_", Network::TextEncoder),
    ("lora_te1_", Network::TextEncoder),
    ("oft_unet_", Network::Unet),
];

/// LDM's block names, in kohya names.
const LDM_BLOCKS: [&str; 5] = ["input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_"];

/// Reads the part of a kohya key before its first dot; `None` when it does not begin like one.
pub fn parse(name: &str) -> Option<KohyaName> {
    if name.starts_with("lora_te2_") {
        return Some(KohyaName::Sdxl);
    }
    let (rest, network) = PREFIXES.iter().find_map(|(prefix, network)| Some((name.strip_prefix(prefix)?, *network)))?;
    if network == Network::Unet && LDM_BLOCKS.iter().any(|block| rest.starts_with(block)) {
        // `time_embed_` is also how `time_embedding_linear_1` begins, without the underscore after `embed`.
        return Some(KohyaName::Sdxl);
    }
    Some(match model_family::resolve_underscored(network, rest) {
        Some(path) => KohyaName::Layer(network, path),
        None => KohyaName::Unknown,
    })
}

/// The kohya name of a layer.
pub fn name(network: Network, path: &str) -> String {
    let prefix = match network {
        Network::Unet => "lora_unet_",
        Network::TextEncoder => "lora_te_",
        Network::Vae => "lora_vae_",
        Network::ControlNet => "lora_controlnet_",
    };
    format!("{prefix}{}", path.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0";
        let kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0";
        assert_eq!(name(Network::Unet, path), kohya);
        assert_eq!(parse(kohya), Some(KohyaName::Layer(Network::Unet, path.into())));
        let text = KohyaName::Layer(Network::TextEncoder, "text_model.encoder.layers.0.mlp.fc1".into());
        assert_eq!(parse("lora_te_text_model_encoder_layers_0_mlp_fc1"), Some(text.clone()));
        assert_eq!(parse("lora_te1_text_model_encoder_layers_0_mlp_fc1"), Some(text));
    }

    #[test]
    fn other_models_are_told_apart() {
        assert_eq!(parse("lora_te2_text_model_encoder_layers_0_mlp_fc1"), Some(KohyaName::Sdxl));
        assert_eq!(parse("lora_unet_input_blocks_4_1_proj_in"), Some(KohyaName::Sdxl));
        assert_eq!(
            parse("lora_unet_time_embedding_linear_1"),
            Some(KohyaName::Layer(Network::Unet, "time_embedding.linear_1".into()))
        );
        assert_eq!(parse("lora_unet_down_blocks_0_nothing"), Some(KohyaName::Unknown));
        assert_eq!(parse("unet.down_blocks.0"), None);
    }
}
