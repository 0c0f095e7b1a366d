//! Adapters: small trainable changes to frozen weights. An adapter is data, not a code path: training, swapping at extraction,
//! merging and every file format go through the types here.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`Adapter`] | one layer's adapter: factors, scale, DoRA's magnitudes, and the term it adds to the layer |
//! | [`Factors`] | the families: [`Lora`] (and LoCon), [`Loha`], [`Lokr`], the full difference, [`Ia3`] |
//! | [`dora`] | DoRA's magnitudes |
//! | `rebuilt` | terms of families whose change is as large as the weight |
//! | [`Dropout`] | dropout in training |
//! | [`Trainable`] | first values |
//! | [`plain`], [`low_rank`] | plain LoRA in the place of any family |
//! | [`targets`] | which layers |
//! | [`files`] | the files of kohya and LyCORIS, diffusers and PEFT: reading and writing |

#[expect(clippy::module_inception, reason = "the type that the room is about")]
mod adapter;
mod core_product;
pub mod dora;
mod dropout;
mod factors;
pub mod files;
mod ia3;
mod layer_kind;
mod loha;
mod lokr;
mod lora;
pub mod low_rank;
mod part;
pub mod plain;
mod rebuilt;
pub mod targets;
mod trainable;

pub use adapter::Adapter;
pub use dropout::{BatchClock, Dropout, DropoutRates, DropoutStyle};
pub use factors::Factors;
pub use files::AdapterFile;
pub use ia3::Ia3;
pub use layer_kind::LayerKind;
pub use loha::Loha;
pub use lokr::{KroneckerFactor, Lokr, factorization};
pub use lora::Lora;
pub use part::Part;
pub use trainable::{Algorithm, LokrOptions, Trainable, TrainableOptions};
