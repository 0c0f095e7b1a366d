//! The scores of one layer of one image: what each of [`score`](crate::score) is taken of, and the mean over draws or warps.

use features::stores::Feature;

use super::kind::Kind;
use crate::score::{self, ScoreFault};
use crate::warp::Warp;

/// One layer of one image, with all that it is compared with.
pub struct Compared<'a> {
    /// Draws of the noise.
    pub draws: Vec<&'a Feature>,
    /// The reference's set at t = 0.
    pub reference: &'a Feature,
    /// The reference's set at the same timestep, by draw.
    pub anchors: Option<Vec<&'a Feature>>,
    /// By the warp's number.
    pub warped: Vec<&'a Feature>,
    /// The image's number, of which its warps are.
    pub image: usize,
    /// The image's side in pixels.
    pub side: usize,
}

impl Compared<'_> {
    /// Kinds and values; without a value where the score has none.
    pub fn scores(&self) -> Result<Vec<(Kind, f64)>, ScoreFault> {
        let mut scores = vec![(Kind::DrawConsistency, Some(score::draw_consistency(&self.draws)?))];
        let cka = self.draws.iter().map(|draw| score::cka(draw, self.reference)).collect::<Result<Vec<_>, _>>()?;
        scores.push((Kind::Cka, mean_of(cka)));
        if let Some(anchors) = &self.anchors {
            let paper = self.draws.iter().enumerate().map(|(number, draw)| {
                // Another draw of the noise than the feature's own.
                score::paper(draw, self.reference, anchors[(number + 1) % anchors.len()])
            });
            let paper = paper.collect::<Result<Vec<_>, _>>()?;
            scores.push((Kind::Paper, mean_of(paper.iter().map(|paper| paper.raw))));
            scores.push((Kind::PaperScaleFree, mean_of(paper.iter().map(|paper| paper.scale_free))));
        }
        let found = self
            .warped
            .iter()
            .enumerate()
            .map(|(number, warped)| score::warp_pck(self.draws[0], warped, &Warp::new(self.image, number), self.side));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        scores.push((Kind::WarpPck, mean_of(found.iter().map(|found| Some(found.pck)))));
        scores.push((Kind::WarpCells, mean_of(found.iter().map(|found| Some(found.cells)))));
        Ok(scores.into_iter().filter_map(|(score, value)| Some((score, value?))).collect())
    }
}

fn mean_of(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    mean(&values.into_iter().flatten().collect::<Vec<_>>())
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
