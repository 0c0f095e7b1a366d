//! OpenCLIP's names of a text encoder, as LDM checkpoints of Stable Diffusion 2 have them, and transformers' names.
//!
//! | OpenCLIP | transformers |
//! | --- | --- |
//! | `positional_embedding`, `token_embedding.weight` | `text_model.embeddings.{position,token}_embedding.weight` |
//! | `transformer.resblocks.N.ln_1`, `.ln_2` | `text_model.encoder.layers.N.layer_norm1`, `.layer_norm2` |
//! | `....attn.in_proj_weight`, `.in_proj_bias` | `....self_attn.{q,k,v}_proj.weight`, `.bias`: a third of the rows each |
//! | `....attn.out_proj`, `.mlp.c_fc`, `.mlp.c_proj` | `....self_attn.out_proj`, `.mlp.fc1`, `.mlp.fc2` |
//! | `ln_final` | `text_model.final_layer_norm` |
//! | `text_projection`, `logit_scale`, `attn_mask` | nothing: Stable Diffusion does not use them |
//!
//! Stable Diffusion 2 takes the states of the last but one block, so pipeline folders do not have the last one. A tower is taken to
//! have it where it has `text_projection`, or 24 blocks as ViT-H/14: files of diffusers' own script have neither. Read in diffusers
//! 0.32 `loaders/single_file_utils.py` (`convert_open_clip_checkpoint`) and kohya sd-scripts `library/model_util.py`.

use super::ldm::{Filler, Filling, Packing, Renaming};
use super::ldm::{index, replace_head, reversed};

/// Beginning of a block's names.
const BLOCKS: &str = "transformer.resblocks.";
/// Beginning of a layer's names.
const LAYERS: &str = "text_model.encoder.layers.";
/// Blocks of ViT-H/14.
const FULL_DEPTH: usize = 24;
/// The projection of the pooled state.
const TEXT_PROJECTION: &str = "text_projection";
/// The temperature of the training objective.
const LOGIT_SCALE: &str = "logit_scale";

/// Weights outside of the blocks: OpenCLIP, transformers.
const SINGLE: &[(&str, &str)] = &[
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
];

/// Layers of a block: OpenCLIP, transformers.
const BLOCK: &[(&str, &str)] = &[
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
];

/// The projections that are packed in one matrix, in its order.
const PACKED: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
/// The packed matrix and its bias: OpenCLIP's name, and what a projection's is called in transformers.
const PACKED_SUFFIXES: [(&str, &str); 2] = [("attn.in_proj_weight", "weight"), ("attn.in_proj_bias", "bias")];

/// The weights of a tower with these names (without the prefix) under transformers' names. Names that are not understood are not in it.
pub fn to_diffusers(names: &[&str]) -> Vec<Renaming> {
    let unused = unused_block(names);
    names.iter().filter(|name| !is_of_block(name, unused)).flat_map(|name| translated(name)).collect()
}

/// Names of the tower, of those given, that Stable Diffusion does not use.
pub fn unused(names: &[&str]) -> Vec<String> {
    let block = unused_block(names);
    let known = |name: &str| [TEXT_PROJECTION, LOGIT_SCALE, "attn_mask"].contains(&name);
    let of_block = |name: &str| is_of_block(name, block) && !translated(name).is_empty();
    names.iter().filter(|name| known(name) || of_block(name)).map(|name| (*name).to_owned()).collect()
}

/// OpenCLIP's names (without the prefix) of weights with these transformers names.
///
/// # Errors
/// The names that have no counterpart in a tower.
pub fn to_ldm(names: &[&str]) -> Result<Vec<Renaming>, Vec<String>> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match back(&super::text_encoder::with_level(name)) {
            Some((ldm, packing)) => found.push(Renaming { name: (*name).to_owned(), stored: ldm, packing }),
            None => unknown.push((*name).to_owned()),
        }
    }
    if unknown.is_empty() { Ok(found) } else { Err(unknown) }
}

/// What programs look for in a tower and a pipeline folder does not have: the block behind the last, the projection and the
/// temperature. As kohya's sd-scripts (`convert_text_encoder_state_dict_to_sd_v2`, `make_dummy_weights`) the block is a copy of the one
/// before it and the others are ones; nothing that Stable Diffusion computes depends on them, but diffusers takes the width from the
/// projection. `names` are a tower's.
pub fn fillers(names: &[&str]) -> Vec<Filler> {
    let Some(last) = blocks(names).max() else { return Vec::new() };
    let (from, to) = (format!("{BLOCKS}{last}."), format!("{BLOCKS}{}.", last + 1));
    let copies = names.iter().filter_map(|name| {
        let rest = name.strip_prefix(&from)?;
        Some(Filler { stored: format!("{to}{rest}"), filling: Filling::CopyOf((*name).to_owned()) })
    });
    let ones = |stored: &str, filling| Filler { stored: stored.to_owned(), filling };
    copies.chain([ones(TEXT_PROJECTION, Filling::SquareOfOnes), ones(LOGIT_SCALE, Filling::One)]).collect()
}

/// The numbers of the blocks that these names are of.
fn blocks<'a>(names: &[&'a str]) -> impl Iterator<Item = usize> + use<'a> {
    let numbers: Vec<usize> = names.iter().filter_map(|name| Some(index(name.strip_prefix(BLOCKS)?)?.0)).collect();
    numbers.into_iter()
}

/// The last block, where the tower has one more than Stable Diffusion uses.
fn unused_block(names: &[&str]) -> Option<usize> {
    let last = blocks(names).max()?;
    (names.contains(&TEXT_PROJECTION) || last + 1 == FULL_DEPTH).then_some(last)
}

fn is_of_block(name: &str, block: Option<usize>) -> bool {
    let of = name.strip_prefix(BLOCKS).and_then(index).map(|(index, _)| index);
    block.is_some() && of == block
}

/// The weights that a tensor of this name holds.
fn translated(ldm: &str) -> Vec<Renaming> {
    let of = |name: String, packing| Renaming { name, stored: ldm.to_owned(), packing };
    if let Some((_, name)) = SINGLE.iter().find(|(stored, _)| *stored == ldm) {
        return vec![of((*name).to_owned(), Packing::Whole)];
    }
    let Some((block, rest)) = ldm.strip_prefix(BLOCKS).and_then(index) else { return Vec::new() };
    if let Some((_, suffix)) = PACKED_SUFFIXES.iter().find(|(stored, _)| *stored == rest) {
        let third = |(third, layer): (usize, &str)| of(format!("{LAYERS}{block}.{layer}.{suffix}"), Packing::Third(third));
        return PACKED.into_iter().enumerate().map(third).collect();
    }
    replace_head(rest, BLOCK.iter().copied())
        .map(|rest| of(format!("{LAYERS}{block}.{rest}"), Packing::Whole))
        .into_iter()
        .collect()
}

/// Where a weight is in a tower.
fn back(name: &str) -> Option<(String, Packing)> {
    if let Some((ldm, _)) = SINGLE.iter().find(|(_, own)| *own == name) {
        return Some(((*ldm).to_owned(), Packing::Whole));
    }
    let (layer, rest) = index(name.strip_prefix(LAYERS)?)?;
    for (third, projection) in PACKED.into_iter().enumerate() {
        if let Some(suffix) = rest.strip_prefix(projection).and_then(|rest| rest.strip_prefix('.')) {
            let (ldm, _) = PACKED_SUFFIXES.iter().find(|(_, own)| *own == suffix)?;
            return Some((format!("{BLOCKS}{layer}.{ldm}"), Packing::Third(third)));
        }
    }
    Some((format!("{BLOCKS}{layer}.{}", replace_head(rest, reversed(BLOCK))?), Packing::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOWER: [&str; 8] = [
        "positional_embedding",
        "ln_final.bias",
        "transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.0.mlp.c_fc.bias",
        "transformer.resblocks.1.attn.in_proj_weight",
        "transformer.resblocks.1.mlp.c_fc.bias",
        "text_projection",
        "logit_scale",
    ];

    #[test]
    fn a_whole_tower_gives_all_but_its_last_block() {
        let found: Vec<(String, Packing)> = to_diffusers(&TOWER).into_iter().map(|one| (one.name, one.packing)).collect();
        let layer = |name: &str| format!("text_model.encoder.layers.0.{name}");
        let expected = [
            ("text_model.embeddings.position_embedding.weight".to_owned(), Packing::Whole),
            ("text_model.final_layer_norm.bias".to_owned(), Packing::Whole),
            (layer("self_attn.q_proj.weight"), Packing::Third(0)),
            (layer("self_attn.k_proj.weight"), Packing::Third(1)),
            (layer("self_attn.v_proj.weight"), Packing::Third(2)),
            (layer("mlp.fc1.bias"), Packing::Whole),
        ];
        assert_eq!(found, expected);
        assert_eq!(unused(&TOWER), [&TOWER[4..]].concat());
        // Without the projection nothing says that there is a block too many.
        assert_eq!(to_diffusers(&TOWER[..6]).len(), 10);
        assert!(unused(&TOWER[..6]).is_empty());
    }

    #[test]
    fn the_way_back_packs_and_fills() {
        let names: Vec<String> = to_diffusers(&TOWER).into_iter().map(|one| one.name).collect();
        let back = to_ldm(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let again: Vec<(String, Packing)> = back.iter().map(|one| (one.stored.clone(), one.packing)).collect();
        assert_eq!(again[2..5], [0, 1, 2].map(|third| (TOWER[2].to_owned(), Packing::Third(third))));
        assert_eq!((again[0].0.as_str(), again[1].0.as_str(), again[5].0.as_str()), (TOWER[0], TOWER[1], TOWER[3]));
        let filled: Vec<String> = fillers(&TOWER[..4]).into_iter().map(|filler| filler.stored).collect();
        assert_eq!(filled, TOWER[4..]);
        assert_eq!(to_ldm(&["text_model.x"]), Err(vec!["text_model.x".to_owned()]));
    }
}
