//! The kinds of scores that a run gives: what each is called in files, and what its numbers mean.

use crate::report::{Better, Score};

/// A kind of score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    DrawConsistency,
    Imagination,
    ImaginationGradients,
    ImaginationEdges,
    Cka,
    WarpPck,
    WarpCells,
    Paper,
    PaperScaleFree,
}

impl Kind {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::DrawConsistency,
        Self::Imagination,
        Self::ImaginationGradients,
        Self::ImaginationEdges,
        Self::Cka,
        Self::WarpPck,
        Self::WarpCells,
        Self::Paper,
        Self::PaperScaleFree,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What the report says of it.
    pub fn score(self) -> Score {
        let (name, unit, better) = self.row();
        Score { name: name.to_owned(), unit: unit.to_owned(), better }
    }

    /// Whether it is drawn over timesteps, too.
    pub fn has_curves(self) -> bool {
        matches!(self, Self::DrawConsistency | Self::Imagination | Self::Cka)
    }

    /// Name, what its numbers mean, which direction is good.
    fn row(self) -> (&'static str, &'static str, Better) {
        match self {
            Self::DrawConsistency => ("draw_consistency", "1 = nothing is invented anew from draw to draw", Better::Higher),
            Self::Imagination => ("imagination", "1 = the predicted clean latents are the image's", Better::Higher),
            Self::ImaginationGradients => {
                ("imagination_gradients", "correlation of gradients of the predicted image with the image's", Better::Higher)
            }
            Self::ImaginationEdges => {
                ("imagination_edges", "F1 of edges of the predicted image against the image's", Better::Higher)
            }
            Self::Cka => ("cka", "agreement with the reference at t = 0, 0 to 1", Better::Higher),
            Self::WarpPck => ("warp_pck", "share of points found again in a warped image", Better::Higher),
            Self::WarpCells => ("warp_cells", "mean distance of points found in a warped image, in cells", Better::Lower),
            Self::Paper => ("paper", "1 = the reference's contours, 0 = those of another draw", Better::Higher),
            Self::PaperScaleFree => ("paper_scale_free", "the same with contours divided by their mean", Better::Higher),
        }
    }
}
