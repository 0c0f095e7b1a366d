//! `Linear` and `Conv2d`: a frozen weight plus an adapter slot. Nothing else in the model owns weights that an adapter can reach.
//!
//! [`Weights`] hands out the tensors of one network by their diffusers names and checks each shape; [`Slots`] is the list of
//! every layer of a network that takes an adapter, by module path.

mod conv2d;
mod linear;
mod norm;
mod slot;
mod weights;

pub use conv2d::Conv2d;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use slot::{Slot, Slots};
pub(crate) use weights::missing_tensor;
pub use weights::{TensorSource, WeightType, Weights};
