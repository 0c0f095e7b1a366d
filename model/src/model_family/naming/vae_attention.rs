//! The attention layer in the middle of the VAE, which has five spellings in files.
//!
//! | projection | LDM | diffusers before 0.17 and the hub's SD1.5 | diffusers now | half-translated |
//! | --- | --- | --- | --- | --- |
//! | norm | `norm` | `group_norm` | `group_norm` | `norm` |
//! | query, key, value | `q`, `k`, `v` | `query`, `key`, `value` | `to_q`, `to_k`, `to_v` | `to_q`, `to_k`, `to_v` |
//! | output | `proj_out` | `proj_attn` | `to_out.0` | `to_out.0` |
//!
//! The fifth has LDM names with two-dimensional weights. Weights of rank 2, 3 and 4 hold the same numbers.

/// Each layer of it: the name that diffusers has now, LDM's name, and the others.
const LAYERS: [(&str, &str, &[&str]); 5] = [
    ("group_norm", "norm", &[]),
    ("to_q", "q", &["query"]),
    ("to_k", "k", &["key"]),
    ("to_v", "v", &["value"]),
    ("to_out.0", "proj_out", &["proj_attn"]),
];

/// Where the layer stands in the encoder and the decoder, in diffusers' names.
const ATTENTION: &str = "mid_block.attentions.0.";

/// A VAE weight's name in any diffusers spelling, in the spelling of today.
pub fn to_current(name: &str) -> String {
    let Some((before, layer, suffix)) = split(name) else { return name.to_owned() };
    match LAYERS.iter().find(|(now, ldm, others)| layer == *now || layer == *ldm || others.contains(&layer)) {
        Some((now, ..)) => format!("{before}{ATTENTION}{now}.{suffix}"),
        None => name.to_owned(),
    }
}

/// The name of today for a layer in any spelling.
pub(super) fn current_layer(layer: &str) -> Option<&'static str> {
    LAYERS.iter().find(|(now, ldm, others)| layer == *now || layer == *ldm || others.contains(&layer)).map(|(now, ..)| *now)
}

/// LDM's name of a layer that has the spelling of today.
pub(super) fn ldm_layer(layer: &str) -> Option<&'static str> {
    LAYERS.iter().find(|(now, ..)| layer == *now).map(|(_, ldm, _)| *ldm)
}

/// Whether the name, in the spelling of today, is a projection whose weight is a matrix in diffusers and a 1x1 convolution in
/// LDM.
pub fn is_projection_weight(name: &str) -> bool {
    split(name).is_some_and(|(_, layer, suffix)| suffix == "weight" && layer != "group_norm")
}

/// Splits `encoder.mid_block.attentions.0.to_q.weight` into `encoder.`, `to_q` and `weight`.
fn split(name: &str) -> Option<(&str, &str, &str)> {
    let start = name.find(ATTENTION)?;
    let (layer, suffix) = name[start + ATTENTION.len()..].rsplit_once('.')?;
    Some((&name[..start], layer, suffix))
}
