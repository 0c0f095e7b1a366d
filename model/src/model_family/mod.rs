//! What a base model is: its networks, the layers in them that an adapter can change, and what files call their weights.

mod layers;
pub mod naming;
mod network;

pub(crate) use layers::resolve_underscored;
pub use layers::{LayerKind, layer_kind};
pub use network::Network;
