//! The plan of a forward pass (what to keep) and the store it fills.

use std::collections::HashSet;

use candle_core::Tensor;

use super::attention::CollectedMaps;
use super::{AttentionCategory, LayerId, Layout, Position, Stop};
use crate::error::ArgumentCause;
use crate::ops::Activation;
use crate::{Error, Result};

/// What one forward pass is to keep. Made once per feature set and image size.
#[derive(Clone, Debug, Default)]
pub struct TapPlan {
    wanted: HashSet<LayerId>,
    categories: Vec<AttentionCategory>,
    /// Attention layers whose head-averaged map goes into the aggregate.
    averaged: HashSet<(Position, usize, bool)>,
    /// The UNet's output is needed as well, so that the pass runs to its end.
    whole: bool,
    /// What is kept stays part of the graph, so that gradients flow from it.
    tracked: bool,
}

impl TapPlan {
    /// Keeps `ids` (of this layout; `vae-out` and `attn` are the extractor's business and ignored here) and the aggregate of
    /// `categories` for latents of `height` x `width`.
    ///
    /// # Errors
    /// [`Error::Argument`] when a requested category has no map of these sizes and no other category has one either.
    pub fn new(
        layout: &Layout,
        ids: impl IntoIterator<Item = LayerId>,
        categories: &[AttentionCategory],
        (height, width): (usize, usize),
    ) -> Result<Self> {
        let wanted = ids.into_iter().filter(|id| !matches!(id, LayerId::VaeOut | LayerId::Attn)).collect();
        let mut averaged = HashSet::new();
        for category in categories {
            let layers = layout.aggregated(*category, (height, width));
            averaged.extend(layers.into_iter().map(|(position, block, _)| (position, block, category.is_cross())));
        }
        if !categories.is_empty() && averaged.is_empty() {
            let categories = categories.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            return Err(Error::argument("--attention", ArgumentCause::NoAttentionMaps { categories, height, width }));
        }
        Ok(Self { wanted, categories: categories.to_vec(), averaged, whole: false, tracked: false })
    }

    /// Keeps nothing and runs to the end: an ordinary forward pass.
    pub fn nothing() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// The same plan, but the pass runs to its end because the predicted noise is needed.
    pub fn to_the_end(self) -> Self {
        Self { whole: true, ..self }
    }

    /// The same plan, but what is kept stays part of the graph: gradients flow from it.
    pub fn tracked(self) -> Self {
        Self { tracked: true, ..self }
    }

    /// An empty store for one pass of this plan.
    pub fn taps(&self) -> Taps<'_> {
        let missing = self.wanted.len() + self.averaged.len();
        Taps { plan: self, missing, kept: Vec::new(), maps: CollectedMaps::default() }
    }
}

impl TapPlan {
    fn handle(&self, value: &Activation) -> Tensor {
        if self.tracked { value.keep() } else { value.keep().detach() }
    }
}

/// The store of one forward pass.
#[derive(Debug)]
pub struct Taps<'plan> {
    plan: &'plan TapPlan,
    missing: usize,
    kept: Vec<(LayerId, Tensor)>,
    maps: CollectedMaps,
}

impl Taps<'_> {
    /// Whether this activation is to be kept; lets the network skip making what nobody wants (attention maps).
    pub(crate) fn wants(&self, id: LayerId) -> bool {
        self.plan.wanted.contains(&id)
    }

    /// Whether the head-averaged map of this attention layer goes into the aggregate.
    pub(crate) fn wants_average(&self, position: Position, block: usize, cross: bool) -> bool {
        self.plan.averaged.contains(&(position, block, cross))
    }

    /// Keeps a feature map `[b, c, h, w]` or an attention map `[b, heads, queries, keys]` if it is wanted.
    ///
    /// # Errors
    /// [`Stop::Complete`] when nothing is wanted any more.
    pub(crate) fn keep(&mut self, id: LayerId, value: &Activation) -> Result<(), Stop> {
        if self.wants(id) {
            self.missing -= 1;
            let value = self.plan.handle(value);
            self.kept.push((id, value));
        }
        self.stop_if_complete()
    }

    /// Keeps tokens `[b, n, c]` as a feature map `[b, c, h, w]`, row by row, if wanted.
    ///
    /// # Errors
    /// When `n` is not `h * w`; [`Stop::Complete`] when nothing is wanted any more.
    pub(crate) fn keep_tokens(&mut self, id: LayerId, tokens: &Activation, (height, width): (usize, usize)) -> Result<(), Stop> {
        if !self.wants(id) {
            return self.stop_if_complete();
        }
        let tokens = self.plan.handle(tokens);
        let (batch, _, channels) = tokens.dims3()?;
        let image = tokens.transpose(1, 2)?.contiguous()?.reshape((batch, channels, height, width))?;
        self.keep(id, &Activation::shared(image))
    }

    /// Keeps a head-averaged attention map `[b, queries, keys]` for the aggregate.
    ///
    /// # Errors
    /// [`Stop::Complete`] when nothing is wanted any more.
    pub(crate) fn keep_average(
        &mut self,
        position: Position,
        cross: bool,
        map: Tensor,
        size: (usize, usize),
    ) -> Result<(), Stop> {
        self.missing -= 1;
        self.maps.0.push((AttentionCategory::of(position, cross), map, size));
        self.stop_if_complete()
    }

    /// Ends the pass once everything wanted is there, unless its output is needed.
    fn stop_if_complete(&self) -> Result<(), Stop> {
        if self.missing == 0 && !self.plan.whole { Err(Stop::Complete) } else { Ok(()) }
    }

    /// What was kept, in forward order.
    pub fn kept(self) -> Vec<(LayerId, Tensor)> {
        self.kept
    }

    /// The aggregated attention for latents of `height` x `width`, `[b, keys, height, width]`; `None` when none was asked for.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn aggregated_attention(&self, height: usize, width: usize) -> Result<Option<Tensor>> {
        if self.plan.categories.is_empty() {
            return Ok(None);
        }
        self.maps.aggregate(&self.plan.categories, height, width).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn plan(ids: impl IntoIterator<Item = LayerId>) -> TapPlan {
        TapPlan::new(&Layout::stable_diffusion_1_5(), ids, &[], (8, 8)).unwrap()
    }

    /// The number of taps, of three, that a pass reaches.
    fn reached(plan: &TapPlan) -> usize {
        let value = Activation::shared(Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu).unwrap());
        let mut taps = plan.taps();
        let ids = [LayerId::UnetIn, LayerId::UnetAfterConvIn, LayerId::UnetOut];
        let stopped = ids.iter().position(|id| matches!(taps.keep(*id, &value), Err(Stop::Complete)));
        stopped.map_or(ids.len(), |last| last + 1)
    }

    #[test]
    fn the_tap_that_completes_a_plan_stops_the_pass() {
        assert_eq!(reached(&plan([LayerId::UnetIn])), 1);
        assert_eq!(reached(&plan([LayerId::UnetAfterConvIn, LayerId::UnetIn])), 2);
        assert_eq!(reached(&plan([LayerId::UnetIn]).to_the_end()), 3);
        assert_eq!(reached(&TapPlan::nothing()), 3);
        // What is no activation of the UNet needs no pass of it.
        assert_eq!(reached(&plan([LayerId::VaeOut])), 1);
    }
}
