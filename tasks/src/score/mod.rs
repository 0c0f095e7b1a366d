//! Scores of content shift: how far features drift from the image, between draws of the noise, from a reference, from the image's own
//! contours, and under a known warp. Pure functions over features `[c, h, w]` in float32; all sums are in float64.
//!
//! | file | score |
//! | --- | --- |
//! | `draw_consistency` | how little changes from draw to draw |
//! | `cka` | agreement with a reference by linear centered kernel alignment |
//! | `imagination` | how near to the image is what the network predicts it to be, in latents and as an image |
//! | `warp_pck` | points found again in a warped image |
//! | `paper` | contours against the reference's and an anchor's (arXiv 2410.06719, section 5.2) |

mod cka;
mod draw_consistency;
mod imagination;
mod paper;
mod warp_pck;

pub use cka::cka;
pub use draw_consistency::draw_consistency;
pub use imagination::{edge_agreement, gradient_correlation, latent_agreement};
pub use paper::{Paper, paper};
pub use warp_pck::{WarpMatch, warp_pck};

/// Why there is no score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreFault {
    /// One draw says nothing about what changes between draws.
    #[error("{found} draws of the noise; draw_consistency compares draws: give two or more")]
    OneDraw {
        /// How many there are.
        found: usize,
    },
    /// Features that are compared number by number.
    #[error("features of shapes {:?} and {:?} cannot be compared; extract them with the same layers, image size and pooling", shapes[0], shapes[1])]
    Shapes {
        /// Channels, height, width of both.
        shapes: [[usize; 3]; 2],
    },
    /// A warp that moves everything out of the image.
    #[error("no point of the image is in the warped image; the warp has no overlap with it")]
    NoOverlap,
    /// Memory is short.
    #[error(transparent)]
    Tensors(#[from] candle_core::Error),
}

/// Refuses features of different shapes.
fn same_shape(a: &features::stores::Feature, b: &features::stores::Feature) -> Result<(), ScoreFault> {
    match a.shape == b.shape {
        true => Ok(()),
        false => Err(ScoreFault::Shapes { shapes: [a.shape, b.shape] }),
    }
}

#[cfg(test)]
mod tests;
