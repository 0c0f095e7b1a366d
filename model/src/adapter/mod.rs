//! Adapters: small trainable changes to frozen weights. An adapter is data, not a code path: training, swapping at extraction,
//! merging and every file format go through the types here.

mod layer_kind;
mod lora;
pub mod targets;

pub use layer_kind::LayerKind;
pub use lora::{Lora, TrainableLora};
