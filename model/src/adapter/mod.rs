//! Adapters: small trainable changes to frozen weights. An adapter is data, not a code path: training, swapping at extraction,
//! merging and every file format go through the types here.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`Adapter`] | one layer's adapter: factors, scale, decorators, and the term it adds to the layer |
//! | [`families`] | the families: one file each, and their registry |
//! | `family` | what a family is to the rest of the room |
//! | [`decorators`] | what goes with any family: DoRA, dropout |
//! | [`Component`], `stored_layer` | the names under which tensors are stored, and what a file holds for one layer |
//! | [`files`] | the files of kohya and LyCORIS, diffusers and PEFT: reading and writing |
//! | [`merged_weight`], [`merged_bias`] | the one place where changes are added to what they change |
//! | `rebuilt` | terms of families whose change is as large as the weight |
//! | [`Algorithm`], [`Trainable`] | training: names, arguments, first values, variables |
//! | [`plain`], [`low_rank`] | plain LoRA in place of any family |
//! | [`ScaledFile`] | `FILE[:SCALE]`, as options have it |
//! | [`targets`] | which layers |

#[expect(clippy::module_inception, reason = "the type that the room is about")]
mod adapter;
mod component;
mod core_product;
pub mod decorators;
pub mod families;
mod family;
pub mod files;
mod layer_shape;
pub mod low_rank;
mod merged;
pub mod plain;
mod rebuilt;
mod scaled_file;
mod stored_layer;
pub mod targets;
mod trainable;
mod training;

pub use adapter::Adapter;
pub use component::Component;
pub use decorators::{BatchClock, Dropout, DropoutRates, DropoutStyle};
pub use families::{Factors, Full, Ia3, KroneckerFactor, Loha, Lokr, LokrOptions, Lora};
pub use files::AdapterFile;
pub use layer_shape::LayerShape;
pub use merged::{merged_bias, merged_weight};
pub use scaled_file::{NotAScaledFile, ScaledFile};
pub use trainable::Trainable;
pub use training::{Algorithm, Argument, TrainableOptions, Value};
