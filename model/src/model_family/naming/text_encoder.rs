//! CLIP text encoder names: with and without the `text_model.` level.
//!
//! transformers 4 has the level; older LDM files and transformers 5 in memory do not. The common name has it.

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
