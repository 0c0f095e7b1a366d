//! The one door to a network's weights: whatever file they are in and whatever it calls them, they come out under the names and
//! shapes of today's diffusers and transformers. Older spellings are resolved here and nowhere else.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`ModelWeights`] | a whole model: a pipeline folder, or one file in LDM naming |
//! | [`Component`] | one network's weights, out of either, or out of a file or folder of its own |
//! | `folder` | which file of a network's folder holds its weights |
//! | [`LdmCheckpoint`] | the networks of a file in LDM naming |

mod component;
mod folder;
mod ldm_checkpoint;
mod model;

pub use component::Component;
pub use ldm_checkpoint::{LdmCheckpoint, UnetWeights};
pub use model::ModelWeights;
