//! The UNet's two attentions (diffusers `Attention`): over the image's tokens, and from them to the text's. No bias on queries, keys
//! and values; scale `1 / sqrt(head size)`; no mask.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::{TextContext, expand_batch};
use super::transformer::BlockPosition;
use crate::Result;
use crate::layers::{Linear, Weights};
use crate::ops::{self, Activation, Mask};
use crate::taps::{BlockTap, Stop, Taps};

/// Attention of the image's tokens to themselves.
#[derive(Debug)]
pub(super) struct SelfAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl SelfAttention {
    pub fn load(width: usize, heads: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            to_q: Linear::load_no_bias(width, width, weights.pp("to_q"))?,
            to_k: Linear::load_no_bias(width, width, weights.pp("to_k"))?,
            to_v: Linear::load_no_bias(width, width, weights.pp("to_v"))?,
            to_out: Linear::load(width, width, weights.pp("to_out.0"))?,
            heads,
        })
    }

    /// `x` `[b, n, c]`, normalized; returns `[b, n, c]`.
    pub fn forward(&self, x: &Activation, at: BlockPosition, taps: &mut Taps) -> Result<Activation, Stop> {
        let q = self.to_q.forward(x)?;
        taps.keep_tokens(at.id(BlockTap::SelfQ), &q, at.size)?;
        let k = self.to_k.forward(x)?;
        taps.keep_tokens(at.id(BlockTap::SelfK), &k, at.size)?;
        let v = self.to_v.forward(x)?;
        taps.keep_tokens(at.id(BlockTap::SelfV), &v, at.size)?;
        keep_maps(&q, &k, self.heads, at, false, taps)?;
        Ok(self.to_out.forward(&q.attention(&k, &v, self.heads, Mask::None)?)?)
    }
}

/// Attention of the image's tokens to the text's.
#[derive(Debug)]
pub(super) struct CrossAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    /// A number of its own, under which a [`TextContext`] keeps this layer's keys and values.
    id: usize,
}

static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

impl CrossAttention {
    pub fn load(width: usize, heads: usize, cross_attention_dim: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            to_q: Linear::load_no_bias(width, width, weights.pp("to_q"))?,
            to_k: Linear::load_no_bias(cross_attention_dim, width, weights.pp("to_k"))?,
            to_v: Linear::load_no_bias(cross_attention_dim, width, weights.pp("to_v"))?,
            to_out: Linear::load(width, width, weights.pp("to_out.0"))?,
            heads,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// `x` `[b, n, c]`, normalized; returns `[b, n, c]`.
    pub fn forward(&self, x: &Activation, context: &TextContext, at: BlockPosition, taps: &mut Taps) -> Result<Activation, Stop> {
        let q = self.to_q.forward(x)?;
        taps.keep_tokens(at.id(BlockTap::CrossQ), &q, at.size)?;
        let (k, v) = context.keys_values(self.id, |states| {
            let states = Activation::shared(states.clone());
            Ok((self.to_k.forward(&states)?.into_tensor(), self.to_v.forward(&states)?.into_tensor()))
        })?;
        let batch = x.read().dim(0)?;
        let [k, v] = [Activation::shared(expand_batch(&k, batch)?), Activation::shared(expand_batch(&v, batch)?)];
        keep_maps(&q, &k, self.heads, at, true, taps)?;
        Ok(self.to_out.forward(&q.attention(&k, &v, self.heads, Mask::None)?)?)
    }
}

/// Makes and keeps the attention's probabilities where the taps want them: per head, averaged over heads, or both.
fn keep_maps(q: &Activation, k: &Activation, heads: usize, at: BlockPosition, cross: bool, taps: &mut Taps) -> Result<(), Stop> {
    let id = at.id(if cross { BlockTap::CrossMap } else { BlockTap::SelfMap });
    if taps.wants(id) {
        taps.keep(id, &Activation::new(ops::attention_probabilities(q.read(), k.read(), heads)?))?;
    }
    if taps.wants_average(at.position, at.block, cross) {
        taps.keep_average(at.position, cross, ops::attention_probabilities_mean(q.read(), k.read(), heads)?, at.size)?;
    }
    Ok(())
}
