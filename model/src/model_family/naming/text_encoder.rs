//! CLIP text encoder names: with and without the `text_model.` level.
//!
//! transformers 4 has the level; older LDM files and transformers 5 in memory do not. The common name has it.

use super::ldm::{Filler, Packing, Renaming};

/// Beginnings of names that lack `text_model.`.
const BARE: [&str; 3] = ["embeddings.", "encoder.", "final_layer_norm."];

/// The name with the `text_model.` level, whatever it had.
pub fn with_level(name: &str) -> String {
    if BARE.iter().any(|bare| name.starts_with(bare)) { format!("text_model.{name}") } else { name.to_owned() }
}

/// Whether the entry is the list of positions 0..76, which some files hold and which is no weight.
pub fn is_position_ids(name: &str) -> bool {
    name == "position_ids" || name.ends_with(".position_ids")
}

/// The weights with these names in an LDM file (without the prefix) under today's names.
pub fn to_diffusers(names: &[&str]) -> Vec<Renaming> {
    let renaming = |name: &&str| Renaming { name: with_level(name), stored: (*name).to_owned(), packing: Packing::Whole };
    names.iter().filter(|name| !is_position_ids(name)).map(renaming).collect()
}

/// The names in an LDM file (without the prefix) of weights with these names: those of transformers 4.
///
/// # Errors
/// None; other encoders have them.
pub fn to_ldm(names: &[&str]) -> Result<Vec<Renaming>, Vec<String>> {
    let renaming = |name: &&str| Renaming { name: (*name).to_owned(), stored: with_level(name), packing: Packing::Whole };
    Ok(names.iter().map(renaming).collect())
}

/// CLIP uses all that an LDM file has of it.
pub fn unused(_: &[&str]) -> Vec<String> {
    Vec::new()
}

/// An LDM file has no more of CLIP than a pipeline folder has.
pub fn fillers(_: &[&str]) -> Vec<Filler> {
    Vec::new()
}
