//! One entry of an adapter file: which layer it belongs to and what part of the adapter it is, in every spelling.
//!
//! | scheme | key |
//! | --- | --- |
//! | kohya | `lora_unet_` or `lora_te_` + underscored path, then `.lora_down.weight`, `.lora_up.weight`, `.alpha` |
//! | diffusers | `unet.` or `text_encoder.` + path + `.lora_A.weight`, `.lora_B.weight` |
//! | diffusers, own | path + `.lora.down.weight`; text encoder: path + `.lora_linear_layer.down.weight` |
//! | diffusers, older | `...attn1.processor.to_q_lora.down.weight`; text encoder: `...self_attn.to_q_lora.down.weight` |
//! | oldest | the UNet part of that, without `unet.` |
//! | PEFT | `base_model.model.` + path + `.lora_A.weight`; in memory `.lora_A.NAME.weight` |
//!
//! Read in kohya sd-scripts `networks/lora.py`, diffusers 0.32 `utils/state_dict_utils.py` and `loaders/lora_pipeline.py`, peft
//! 0.14 `utils/save_and_load.py`, LyCORIS 3.2 `modules/`.

use super::kohya_name::{self, KohyaName};
pub use crate::adapter::Part;
use crate::model_family::naming::text_encoder;
use crate::model_family::{Network, layer_kind};

/// A family of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// kohya's sd-scripts and LyCORIS.
    Kohya,
    /// diffusers with PEFT's part names.
    Diffusers,
    /// diffusers' own part names, before PEFT.
    DiffusersOwn,
    /// diffusers' attention processors, with a network prefix.
    DiffusersOlder,
    /// diffusers' attention processors of the UNet alone.
    DiffusersOldest,
    /// PEFT's folder of one model.
    Peft,
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Kohya => "kohya",
            Self::Diffusers => "diffusers",
            Self::DiffusersOwn => "diffusers (own spelling)",
            Self::DiffusersOlder => "diffusers (older spelling)",
            Self::DiffusersOldest => "diffusers (oldest spelling)",
            Self::Peft => "PEFT",
        })
    }
}

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterKey {
    /// A part of the adapter of one layer.
    Part {
        /// Whose names these are.
        scheme: Scheme,
        /// The network the layer is in.
        network: Network,
        /// The layer's module path.
        path: String,
        /// The part.
        part: Part,
    },
    /// A part of an adapter of a type that is not supported, by the type's name.
    OtherType(&'static str),
    /// A key of something that is known and not supported, in words.
    Refused(&'static str),
    /// Not understood.
    Unknown,
}

/// Refusals.
const SDXL: &str = "an SDXL adapter";
const CLONEOFSIMO: &str = "a LoRA of cloneofsimo's format, whose layers have numbers in the place of names";

/// Reads one key.
pub fn parse(key: &str) -> AdapterKey {
    let (head, suffix) = key.split_once('.').unwrap_or((key, ""));
    if let Some(name) = kohya_name::parse(head) {
        return match (name, Part::from_name(suffix)) {
            (KohyaName::Sdxl, _) => AdapterKey::Refused(SDXL),
            (KohyaName::Layer(network, path), Some(part)) => AdapterKey::Part { scheme: Scheme::Kohya, network, path, part },
            (_, None) => other_type(suffix).map_or(AdapterKey::Unknown, AdapterKey::OtherType),
            (KohyaName::Unknown, Some(_)) => AdapterKey::Unknown,
        };
    }
    if key.starts_with("unet:") || key.starts_with("text_encoder:") {
        return AdapterKey::Refused(CLONEOFSIMO);
    }
    if key.starts_with("text_encoder_2.") {
        return AdapterKey::Refused(SDXL);
    }
    parse_dotted(key).unwrap_or(AdapterKey::Unknown)
}

/// Reads a key with a dotted path.
fn parse_dotted(key: &str) -> Option<AdapterKey> {
    let (prefix, rest) = [("base_model.model.", Prefix::Peft), ("unet.", Prefix::Unet), ("text_encoder.", Prefix::TextEncoder)]
        .into_iter()
        .find_map(|(text, prefix)| Some((prefix, key.strip_prefix(text)?)))
        .unwrap_or((Prefix::None, key));
    let (path, spelling, part) = dotted_part(rest)?;
    let path = text_encoder::with_level(path);
    let network = match prefix {
        Prefix::Unet => Network::Unet,
        Prefix::TextEncoder => Network::TextEncoder,
        Prefix::Peft | Prefix::None if path.starts_with("text_model.") => Network::TextEncoder,
        Prefix::Peft | Prefix::None => Network::Unet,
    };
    let path = if spelling == Spelling::Processor { processor_layer(network, &path)? } else { path };
    layer_kind(network, &path)?;
    let scheme = match (prefix, spelling) {
        (Prefix::Peft, _) => Scheme::Peft,
        (Prefix::None, Spelling::Processor) => Scheme::DiffusersOldest,
        (_, Spelling::Processor) => Scheme::DiffusersOlder,
        (_, Spelling::Own) => Scheme::DiffusersOwn,
        (_, Spelling::Peft) => Scheme::Diffusers,
    };
    Some(AdapterKey::Part { scheme, network, path, part })
}

#[derive(Clone, Copy, PartialEq)]
enum Prefix {
    Peft,
    Unet,
    TextEncoder,
    None,
}

#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    Peft,
    Own,
    Processor,
}

/// Part names at the end of a dotted key; the first that fits counts.
const DOTTED_PARTS: [(&str, Spelling, Part); 17] = [
    (".lora_A.weight", Spelling::Peft, Part::Down),
    (".lora_B.weight", Spelling::Peft, Part::Up),
    (".lora_linear_layer.down.weight", Spelling::Own, Part::Down),
    (".lora_linear_layer.up.weight", Spelling::Own, Part::Up),
    (".lora.down.weight", Spelling::Own, Part::Down),
    (".lora.up.weight", Spelling::Own, Part::Up),
    ("_lora.down.weight", Spelling::Processor, Part::Down),
    ("_lora.up.weight", Spelling::Processor, Part::Up),
    ("_lora.alpha", Spelling::Processor, Part::Alpha),
    (".lora.alpha", Spelling::Own, Part::Alpha),
    (".lora_linear_layer.alpha", Spelling::Own, Part::Alpha),
    (".alpha", Spelling::Peft, Part::Alpha),
    (".lora_magnitude_vector.weight", Spelling::Peft, Part::Magnitude),
    (".lora_magnitude_vector", Spelling::Peft, Part::Magnitude),
    (".lora_linear_layer.dora_scale", Spelling::Own, Part::Magnitude),
    (".lora.dora_scale", Spelling::Own, Part::Magnitude),
    (".dora_scale", Spelling::Peft, Part::Magnitude),
];

/// Splits a dotted key into layer and part.
fn dotted_part(key: &str) -> Option<(&str, Spelling, Part)> {
    if let Some(found) = DOTTED_PARTS.iter().find_map(|(end, spelling, part)| Some((key.strip_suffix(end)?, *spelling, *part))) {
        return Some(found);
    }
    // In memory, PEFT has the adapter's name between the part and `weight`.
    let in_memory = key.strip_suffix(".weight").unwrap_or(key);
    let (rest, _name) = in_memory.rsplit_once('.')?;
    [(".lora_A", Part::Down), (".lora_B", Part::Up), (".lora_magnitude_vector", Part::Magnitude)]
        .into_iter()
        .find_map(|(end, part)| Some((rest.strip_suffix(end)?, Spelling::Peft, part)))
}

/// The layer behind an attention processor's `attn1.processor.to_q` or `self_attn.to_q`.
fn processor_layer(network: Network, path: &str) -> Option<String> {
    let (parent, projection) = path.rsplit_once('.')?;
    let parent = parent.strip_suffix(".processor").unwrap_or(parent);
    let layer = match (network, projection) {
        (Network::Unet, "to_q" | "to_k" | "to_v") => projection,
        (Network::Unet, "to_out") => "to_out.0",
        (Network::TextEncoder, "to_q") => "q_proj",
        (Network::TextEncoder, "to_k") => "k_proj",
        (Network::TextEncoder, "to_v") => "v_proj",
        (Network::TextEncoder, "to_out") => "out_proj",
        _ => return None,
    };
    Some(format!("{parent}.{layer}"))
}

/// The type of adapter that has a part of this name after the first dot of a kohya key.
fn other_type(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "w_norm" | "b_norm" => "norm",
        "a1.weight" | "a2.weight" | "b1.weight" | "b2.weight" | "bm1.weight" | "bm2.weight" => "GLoRA",
        _ if suffix.starts_with("hada_") => "LoHa of a form that is not known",
        _ if suffix.starts_with("lokr_") => "LoKr of a form that is not known",
        "bias_indices" | "bias_values" | "bias_size" => "sparse bias",
        _ if suffix.starts_with("oft_") || suffix == "rescale" => "OFT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: &str) -> (Scheme, Network, String, Part) {
        match parse(key) {
            AdapterKey::Part { scheme, network, path, part } => (scheme, network, path, part),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn every_spelling_names_the_same_layer() {
        let unet = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0";
        let text = "text_model.encoder.layers.0.self_attn.out_proj";
        let block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
        let cases = [
            (format!("lora_unet_{}.lora_down.weight", unet.replace('.', "_")), Scheme::Kohya, unet, Part::Down),
            (format!("lora_te_{}.lora_up.weight", text.replace('.', "_")), Scheme::Kohya, text, Part::Up),
            (format!("lora_unet_{}.alpha", unet.replace('.', "_")), Scheme::Kohya, unet, Part::Alpha),
            (format!("unet.{unet}.lora_A.weight"), Scheme::Diffusers, unet, Part::Down),
            (format!("unet.{unet}.lora_B.default_0.weight"), Scheme::Diffusers, unet, Part::Up),
            (format!("text_encoder.{text}.lora_B.weight"), Scheme::Diffusers, text, Part::Up),
            ("text_encoder.encoder.layers.0.self_attn.out_proj.lora_B.weight".into(), Scheme::Diffusers, text, Part::Up),
            (format!("unet.{unet}.lora.down.weight"), Scheme::DiffusersOwn, unet, Part::Down),
            (format!("text_encoder.{text}.lora_linear_layer.up.weight"), Scheme::DiffusersOwn, text, Part::Up),
            (format!("unet.{block}.processor.to_out_lora.up.weight"), Scheme::DiffusersOlder, unet, Part::Up),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight".into(),
                Scheme::DiffusersOlder,
                text,
                Part::Up,
            ),
            (format!("{block}.processor.to_out_lora.down.weight"), Scheme::DiffusersOldest, unet, Part::Down),
            (format!("base_model.model.{unet}.lora_A.weight"), Scheme::Peft, unet, Part::Down),
            (format!("base_model.model.{text}.lora_A.default.weight"), Scheme::Peft, text, Part::Down),
        ];
        for (key, scheme, path, expected) in cases {
            let network = if path == text { Network::TextEncoder } else { Network::Unet };
            assert_eq!(part(&key), (scheme, network, path.to_owned(), expected), "{key}");
        }
    }

    #[test]
    fn every_family_has_its_parts() {
        for (key, expected) in [
            ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", Part::HadamardW1A),
            ("lora_unet_mid_block_resnets_0_conv1.lokr_t2", Part::KroneckerT2),
            ("lora_unet_mid_block_resnets_0_conv1.diff_b", Part::BiasDifference),
            ("lora_unet_mid_block_resnets_0_conv1.dora_scale", Part::Magnitude),
            ("unet.mid_block.resnets.0.conv1.lora_magnitude_vector", Part::Magnitude),
            ("base_model.model.mid_block.resnets.0.conv1.lora_magnitude_vector.default.weight", Part::Magnitude),
        ] {
            let (_, network, path, found) = part(key);
            assert_eq!((network, path.as_str(), found), (Network::Unet, "mid_block.resnets.0.conv1", expected), "{key}");
        }
    }

    #[test]
    fn other_types_and_models_are_named() {
        let layer = "lora_unet_mid_block_resnets_0_conv1";
        for (suffix, name) in [("hada_w3_a", "LoHa of a form that is not known"), ("oft_blocks", "OFT"), ("w_norm", "norm")] {
            assert_eq!(parse(&format!("{layer}.{suffix}")), AdapterKey::OtherType(name));
        }
        assert_eq!(parse("lora_unet_down_blocks_0_resnets_0_norm1.w_norm"), AdapterKey::OtherType("norm"));
        assert_eq!(parse("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha"), AdapterKey::Refused(SDXL));
        assert_eq!(parse("unet:0:up"), AdapterKey::Refused(CLONEOFSIMO));
        for key in [
            "",
            ".",
            "unet.",
            "lora_unet_mid_block_resnets_0_conv1",
            "lora_unet_x.alpha",
            "unet.conv_in.weight",
            "emb_params",
            "unet.to_q_lora.up.weight",
        ] {
            assert_eq!(parse(key), AdapterKey::Unknown, "{key}");
        }
    }
}
