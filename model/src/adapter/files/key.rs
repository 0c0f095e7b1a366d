//! One entry of an adapter file: which layer it belongs to and which component of the adapter it is, in every spelling.
//!
//! | scheme | key |
//! | --- | --- |
//! | kohya | `lora_unet_` or `lora_te_` + underscored path, then `.lora_down.weight`, `.lora_up.weight`, `.alpha` |
//! | diffusers | `unet.` or `text_encoder.` + path + `.lora_A.weight`, `.lora_B.weight` |
//! | diffusers, own | path + `.lora.down.weight`; text encoder: path + `.lora_linear_layer.down.weight` |
//! | diffusers, older | `...attn1.processor.to_q_lora.down.weight`; text encoder: `...self_attn.to_q_lora.down.weight` |
//! | oldest | the UNet's keys of that, without `unet.` |
//! | PEFT | `base_model.model.` + path + `.lora_A.weight`; in memory `.lora_A.NAME.weight` |
//! | cloneofsimo | none: see `nameless` |
//!
//! Read in kohya sd-scripts `networks/lora.py`, diffusers 0.32 `utils/state_dict_utils.py` and `loaders/lora_pipeline.py`, peft
//! 0.14 `utils/save_and_load.py`, LyCORIS 3.2 `modules/`.

use super::kohya_name::{self, KohyaName};
use crate::adapter::Component;
use crate::adapter::component::Spelling;
use crate::adapter::families;
use crate::model_family::naming::text_encoder;
use crate::model_family::{Network, layer_kind};

/// A family of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// kohya's sd-scripts and LyCORIS.
    Kohya,
    /// diffusers with PEFT's component names.
    Diffusers,
    /// diffusers' own component names, before PEFT.
    DiffusersOwn,
    /// diffusers' attention processors, with a network prefix.
    DiffusersOlder,
    /// diffusers' attention processors of the UNet alone.
    DiffusersOldest,
    /// PEFT's folder of one model.
    Peft,
    /// cloneofsimo's, whose layers have an order in the place of names.
    Nameless,
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
            Self::Nameless => "cloneofsimo (without names)",
        })
    }
}

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterKey {
    /// A component of the adapter of one layer.
    Component {
        /// Whose names these are.
        scheme: Scheme,
        /// The network the layer is in.
        network: Network,
        /// The layer's module path.
        path: String,
        /// The component.
        component: Component,
    },
    /// A component of an adapter of a type that is not supported, by the type's name.
    OtherType(&'static str),
    /// A key of something that is known and not supported, in words.
    Refused(&'static str),
    /// Not understood.
    Unknown,
}

/// A refusal.
const SDXL: &str = "an SDXL adapter";

/// Reads one key.
pub fn parse(key: &str) -> AdapterKey {
    let (head, suffix) = key.split_once('.').unwrap_or((key, ""));
    if let Some(name) = kohya_name::parse(head) {
        return match (name, families::components().find(|component| component.name() == suffix)) {
            (KohyaName::Sdxl, _) => AdapterKey::Refused(SDXL),
            (KohyaName::Layer(network, path), Some(component)) => {
                AdapterKey::Component { scheme: Scheme::Kohya, network, path, component }
            }
            (_, None) => other_type(suffix).map_or(AdapterKey::Unknown, AdapterKey::OtherType),
            (KohyaName::Unknown, Some(_)) => AdapterKey::Unknown,
        };
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
    let (path, spelling, component) = dotted_component(rest)?;
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
    Some(AdapterKey::Component { scheme, network, path, component })
}

#[derive(Clone, Copy, PartialEq)]
enum Prefix {
    Peft,
    Unet,
    TextEncoder,
    None,
}

/// Splits a dotted key into layer and component; the longest ending that fits counts.
fn dotted_component(key: &str) -> Option<(&str, Spelling, Component)> {
    let endings = || {
        let of = |component: Component| component.endings().iter().map(move |(spelling, end)| (*spelling, *end, component));
        families::components().flat_map(of)
    };
    let longest = endings().filter(|(_, end, _)| key.ends_with(end)).max_by_key(|(_, end, _)| end.len());
    if let Some((spelling, end, component)) = longest {
        return Some((key.strip_suffix(end)?, spelling, component));
    }
    // In memory, PEFT has the adapter's name between the component and `weight`.
    let in_memory = key.strip_suffix(".weight").unwrap_or(key);
    let (rest, _name) = in_memory.rsplit_once('.')?;
    endings()
        .filter_map(|(spelling, end, component)| Some((spelling, end.strip_suffix(".weight")?, component)))
        .filter(|(spelling, ..)| *spelling == Spelling::Peft)
        .find_map(|(spelling, end, component)| Some((rest.strip_suffix(end)?, spelling, component)))
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

/// The type of adapter that has a component of this name after the first dot of a kohya key.
fn other_type(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "bm.weight" | "bm1.weight" | "bm2.weight" => "GLoRA with a core",
        _ if suffix.starts_with("hada_") => "LoHa of a form that is not known",
        _ if suffix.starts_with("lokr_") => "LoKr of a form that is not known",
        "bias_indices" | "bias_values" | "bias_size" => "sparse bias",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(key: &str) -> (Scheme, Network, String, &'static str) {
        match parse(key) {
            AdapterKey::Component { scheme, network, path, component } => (scheme, network, path, component.name()),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn every_spelling_names_the_same_layer() {
        let unet = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0";
        let text = "text_model.encoder.layers.0.self_attn.out_proj";
        let block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
        let cases = [
            (format!("lora_unet_{}.lora_down.weight", unet.replace('.', "_")), Scheme::Kohya, unet, "lora_down.weight"),
            (format!("lora_te_{}.lora_up.weight", text.replace('.', "_")), Scheme::Kohya, text, "lora_up.weight"),
            (format!("lora_unet_{}.alpha", unet.replace('.', "_")), Scheme::Kohya, unet, "alpha"),
            (format!("unet.{unet}.lora_A.weight"), Scheme::Diffusers, unet, "lora_down.weight"),
            (format!("unet.{unet}.lora_B.default_0.weight"), Scheme::Diffusers, unet, "lora_up.weight"),
            (format!("text_encoder.{text}.lora_B.weight"), Scheme::Diffusers, text, "lora_up.weight"),
            ("text_encoder.encoder.layers.0.self_attn.out_proj.lora_B.weight".into(), Scheme::Diffusers, text, "lora_up.weight"),
            (format!("unet.{unet}.lora.down.weight"), Scheme::DiffusersOwn, unet, "lora_down.weight"),
            (format!("text_encoder.{text}.lora_linear_layer.up.weight"), Scheme::DiffusersOwn, text, "lora_up.weight"),
            (format!("unet.{block}.processor.to_out_lora.up.weight"), Scheme::DiffusersOlder, unet, "lora_up.weight"),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight".into(),
                Scheme::DiffusersOlder,
                text,
                "lora_up.weight",
            ),
            (format!("{block}.processor.to_out_lora.down.weight"), Scheme::DiffusersOldest, unet, "lora_down.weight"),
            (format!("base_model.model.{unet}.lora_A.weight"), Scheme::Peft, unet, "lora_down.weight"),
            (format!("base_model.model.{text}.lora_A.default.weight"), Scheme::Peft, text, "lora_down.weight"),
        ];
        for (key, scheme, path, expected) in cases {
            let network = if path == text { Network::TextEncoder } else { Network::Unet };
            assert_eq!(component(&key), (scheme, network, path.to_owned(), expected), "{key}");
        }
    }

    #[test]
    fn every_family_has_its_components() {
        for (key, expected) in [
            ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", "hada_w1_a"),
            ("lora_unet_mid_block_resnets_0_conv1.lokr_t2", "lokr_t2"),
            ("lora_unet_mid_block_resnets_0_conv1.diff_b", "diff_b"),
            ("lora_unet_mid_block_resnets_0_conv1.dora_scale", "dora_scale"),
            ("unet.mid_block.resnets.0.conv1.lora_magnitude_vector", "dora_scale"),
            ("base_model.model.mid_block.resnets.0.conv1.lora_magnitude_vector.default.weight", "dora_scale"),
        ] {
            let (_, network, path, found) = component(key);
            assert_eq!((network, path.as_str(), found), (Network::Unet, "mid_block.resnets.0.conv1", expected), "{key}");
        }
    }

    #[test]
    fn other_types_and_models_are_named() {
        let layer = "lora_unet_mid_block_resnets_0_conv1";
        assert_eq!(parse(&format!("{layer}.hada_w3_a")), AdapterKey::OtherType("LoHa of a form that is not known"));
        let norm = component("lora_unet_down_blocks_0_resnets_0_norm1.w_norm");
        assert_eq!(norm, (Scheme::Kohya, Network::Unet, "down_blocks.0.resnets.0.norm1".to_owned(), "w_norm"));
        assert_eq!(parse("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha"), AdapterKey::Refused(SDXL));
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
