//! Units and warnings that several commands share.

use driftless_cli::{Console, Unit};

/// Layers, as progress counts them.
pub const LAYERS: Unit = Unit::new("layer", "layers");
/// Tensors, as progress counts them.
pub const WEIGHTS: Unit = Unit::new("weight", "weights");

/// Warns of each key that was not understood.
pub fn unknown_keys(keys: &[String], console: &Console) {
    for key in keys {
        console.warn(format!("key `{key}` is not understood and left out"));
    }
}
