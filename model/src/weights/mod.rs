//! A network's weights under the names and shapes of today's diffusers and transformers, whatever file they are in and whatever it
//! calls them.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`Component`] | one network's weights |
//! | [`LdmCheckpoint`] | the networks of a whole model in one file, in LDM naming |
//! | [`kind`] | what a weight file holds, by its keys |

mod component;
pub mod kind;
mod ldm_checkpoint;

pub use component::Component;
pub use kind::{ModelKind, model_kind};
pub use ldm_checkpoint::{LdmCheckpoint, UnetWeights};
