//! The layers of SD1.5 and its kin that an adapter can stand on, as patterns of diffusers and transformers module paths.
//!
//! A pattern's `#` stands for any index, so models of any depth and width fit. Resolving against whole patterns is what makes
//! kohya's underscored names unambiguous: undoing underscores piece by piece would split `to_out`, `time_emb_proj` or `linear_1`.
//! Names follow diffusers 0.32 `UNet2DConditionModel` and transformers 4.49 `CLIPTextModel`.

use super::Network;
use std::sync::LazyLock;

/// How a layer's weight is laid out, which decides how adapter factors for it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// A matrix `[out, in]`.
    Linear,
    /// A 1x1 convolution `[out, in, 1, 1]`.
    PointwiseConvolution,
    /// A convolution with a larger kernel `[out, in, k, k]`.
    Convolution,
    /// A group or layer normalization, scale and shift `[channels]`.
    Norm,
}

impl LayerKind {
    /// Whether the layer is a convolution of any kernel size.
    pub fn is_convolution(self) -> bool {
        matches!(self, Self::PointwiseConvolution | Self::Convolution)
    }
}

/// Layers inside a `Transformer2DModel`.
const TRANSFORMER: &[(&str, LayerKind)] = &[
    ("norm", LayerKind::Norm),
    ("proj_in", LayerKind::PointwiseConvolution),
    ("proj_out", LayerKind::PointwiseConvolution),
    ("transformer_blocks.#.attn1.to_q", LayerKind::Linear),
    ("transformer_blocks.#.attn1.to_k", LayerKind::Linear),
    ("transformer_blocks.#.attn1.to_v", LayerKind::Linear),
    ("transformer_blocks.#.attn1.to_out.0", LayerKind::Linear),
    ("transformer_blocks.#.attn2.to_q", LayerKind::Linear),
    ("transformer_blocks.#.attn2.to_k", LayerKind::Linear),
    ("transformer_blocks.#.attn2.to_v", LayerKind::Linear),
    ("transformer_blocks.#.attn2.to_out.0", LayerKind::Linear),
    ("transformer_blocks.#.ff.net.0.proj", LayerKind::Linear),
    ("transformer_blocks.#.ff.net.2", LayerKind::Linear),
    ("transformer_blocks.#.norm1", LayerKind::Norm),
    ("transformer_blocks.#.norm2", LayerKind::Norm),
    ("transformer_blocks.#.norm3", LayerKind::Norm),
];

/// Layers inside a `ResnetBlock2D`.
const RESNET: &[(&str, LayerKind)] = &[
    ("conv1", LayerKind::Convolution),
    ("conv2", LayerKind::Convolution),
    ("conv_shortcut", LayerKind::PointwiseConvolution),
    ("time_emb_proj", LayerKind::Linear),
    ("norm1", LayerKind::Norm),
    ("norm2", LayerKind::Norm),
];

/// Layers of the UNet that stand alone.
const UNET_SINGLE: &[(&str, LayerKind)] = &[
    ("conv_in", LayerKind::Convolution),
    ("conv_out", LayerKind::Convolution),
    ("conv_norm_out", LayerKind::Norm),
    ("time_embedding.linear_1", LayerKind::Linear),
    ("time_embedding.linear_2", LayerKind::Linear),
    ("down_blocks.#.downsamplers.#.conv", LayerKind::Convolution),
    ("up_blocks.#.upsamplers.#.conv", LayerKind::Convolution),
];

/// Layers inside a `CLIPEncoderLayer`.
const TEXT_LAYER: &[(&str, LayerKind)] = &[
    ("self_attn.q_proj", LayerKind::Linear),
    ("self_attn.k_proj", LayerKind::Linear),
    ("self_attn.v_proj", LayerKind::Linear),
    ("self_attn.out_proj", LayerKind::Linear),
    ("mlp.fc1", LayerKind::Linear),
    ("mlp.fc2", LayerKind::Linear),
    ("layer_norm1", LayerKind::Norm),
    ("layer_norm2", LayerKind::Norm),
];

struct Pattern {
    network: Network,
    dotted: String,
    kind: LayerKind,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let mut patterns = Vec::new();
    let mut add = |network, dotted, kind| patterns.push(Pattern { network, dotted, kind });
    for (list, layers) in [("attentions", TRANSFORMER), ("resnets", RESNET)] {
        for block in ["down_blocks.#", "mid_block", "up_blocks.#"] {
            for (layer, kind) in layers {
                add(Network::Unet, format!("{block}.{list}.#.{layer}"), *kind);
            }
        }
    }
    for (layer, kind) in UNET_SINGLE {
        add(Network::Unet, (*layer).to_owned(), *kind);
    }
    for (layer, kind) in TEXT_LAYER {
        add(Network::TextEncoder, format!("text_model.encoder.layers.#.{layer}"), *kind);
    }
    add(Network::TextEncoder, "text_model.final_layer_norm".to_owned(), LayerKind::Norm);
    patterns
});

/// The kind of the layer at a dotted module path; `None` when SD1.5 has no layer of that name.
pub fn layer_kind(network: Network, path: &str) -> Option<LayerKind> {
    patterns_of(network).find(|pattern| fits(&pattern.dotted, '.', path).is_some()).map(|pattern| pattern.kind)
}

/// The dotted module path of which `underscored` is the form with every dot turned into an underscore.
pub(crate) fn resolve_underscored(network: Network, underscored: &str) -> Option<String> {
    patterns_of(network).find_map(|pattern| {
        let mut indices = fits(&pattern.dotted, '_', underscored)?.into_iter();
        Some(pattern.dotted.split('#').map(|piece| format!("{piece}{}", indices.next().unwrap_or_default())).collect())
    })
}

fn patterns_of(network: Network) -> impl Iterator<Item = &'static Pattern> {
    PATTERNS.iter().filter(move |pattern| pattern.network == network)
}

/// Matches a name against a pattern whose dots are written as `separator`; the indices on success.
fn fits<'a>(pattern: &str, separator: char, name: &'a str) -> Option<Vec<&'a str>> {
    let mut rest = name;
    let mut indices = Vec::new();
    for (position, piece) in pattern.split('#').enumerate() {
        if position > 0 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (index, after) = rest.split_at(digits);
            if !is_index(index) {
                return None;
            }
            indices.push(index);
            rest = after;
        }
        for expected in piece.chars() {
            let expected = if expected == '.' { separator } else { expected };
            rest = rest.strip_prefix(expected)?;
        }
    }
    rest.is_empty().then_some(indices)
}

/// Whether the digits are an index as a program writes it: not empty, no leading zero, not absurdly long.
fn is_index(digits: &str) -> bool {
    matches!(digits.len(), 1..=4) && (digits == "0" || !digits.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscored_names_resolve_to_the_one_path_they_came_from() {
        let cases = [
            (Network::Unet, "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", LayerKind::Linear),
            (Network::Unet, "up_blocks.3.attentions.2.transformer_blocks.11.ff.net.0.proj", LayerKind::Linear),
            (Network::Unet, "mid_block.attentions.0.proj_in", LayerKind::PointwiseConvolution),
            (Network::Unet, "mid_block.resnets.1.time_emb_proj", LayerKind::Linear),
            (Network::Unet, "up_blocks.12.resnets.0.conv_shortcut", LayerKind::PointwiseConvolution),
            (Network::Unet, "time_embedding.linear_2", LayerKind::Linear),
            (Network::Unet, "down_blocks.2.downsamplers.0.conv", LayerKind::Convolution),
            (Network::TextEncoder, "text_model.encoder.layers.10.mlp.fc1", LayerKind::Linear),
            (Network::Unet, "up_blocks.1.attentions.2.norm", LayerKind::Norm),
            (Network::Unet, "up_blocks.1.attentions.2.transformer_blocks.0.norm3", LayerKind::Norm),
            (Network::Unet, "conv_norm_out", LayerKind::Norm),
            (Network::TextEncoder, "text_model.encoder.layers.10.layer_norm2", LayerKind::Norm),
            (Network::TextEncoder, "text_model.final_layer_norm", LayerKind::Norm),
        ];
        for (network, path, kind) in cases {
            assert_eq!(layer_kind(network, path), Some(kind), "{path}");
            assert_eq!(resolve_underscored(network, &path.replace('.', "_")).as_deref(), Some(path));
        }
    }

    #[test]
    fn names_of_no_layer_do_not_resolve() {
        for name in [
            "",
            "down_blocks_0",
            "down_blocks_x_resnets_0_conv1",
            "down_blocks_00_resnets_0_conv1",
            "conv_in_0",
            "mid_block_1_resnets_0_conv1",
        ] {
            assert_eq!(resolve_underscored(Network::Unet, name), None, "{name}");
        }
        assert_eq!(layer_kind(Network::Unet, "text_model.encoder.layers.0.mlp.fc1"), None);
        assert_eq!(layer_kind(Network::Unet, "mid_block_resnets_0_conv1"), None);
    }
}
