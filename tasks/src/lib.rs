//! What features are worth: scores and downstream tasks, over the crate `features` and without a command line or printing.
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | [`score`] | scores of content shift: how far features drift | `matching`, `warp` |
//! | [`matching`] | points of one image found in another by their features | |
//! | [`report`] | results as one HTML file: tables, curves, images | |
//! | [`shift`] | content shift of feature sets: the pass over the images that scores them, and its output | `score`, `report`, `warp` |
//! | [`warp`] | known warps of images | |

pub mod matching;
pub mod report;
pub mod score;
pub mod shift;
pub mod warp;
