//! Dropout of adapters in training.
//!
//! Two definitions are in use. kohya's (`networks/lora.py` `LoRAModule.forward`, sd-scripts 48d368f): on the output of `down`,
//! ordinary dropout and a mask over ranks per sample, both scaled up to keep the mean. LyCORIS' (4.1, rebuilt weights): a mask over
//! the rows of the change, not scaled up unless asked. In both a module may be skipped altogether.
//!
//! Deliberate difference: masks follow from seed, layer and the number of the batch, not from a stream of random numbers. So they
//! are the same when gradient checkpointing computes a layer again, and after a run was resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Tensor;

use crate::Result;
use crate::rng::Generator;

/// The number of the batch in hand, which all layers share.
#[derive(Clone, Debug, Default)]
pub struct BatchClock(Arc<AtomicU64>);

impl BatchClock {
    /// Sets the number.
    pub fn set(&self, batch: u64) {
        self.0.store(batch, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whose definition of dropout holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropoutStyle {
    /// On the inner product of LoRA.
    Inner,
    /// On the rows of the change; `rescale` divides the mask by its mean.
    Rows {
        /// Whether the mask is divided by its mean.
        rescale: bool,
    },
}

/// Probabilities, each in `0..1`; 0 is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutRates {
    /// Of a number of the inner product (`DropoutStyle::Inner` alone).
    pub value: f64,
    /// Of a rank of a sample, or of a row of the change.
    pub rank: f64,
    /// Of a whole layer's adapter.
    pub module: f64,
}

/// One layer's dropout.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probabilities.
    pub rates: DropoutRates,
    /// Their meaning.
    pub style: DropoutStyle,
    /// Tells this layer's masks from others'.
    pub seed: u64,
    /// The batch in hand.
    pub clock: BatchClock,
}

/// Streams of one layer and batch.
const MODULE: u64 = 0;
const RANK: u64 = 1;
const VALUE: u64 = 2;

impl Dropout {
    fn generator(&self, stream: u64) -> Generator {
        let number = self.clock.get().wrapping_mul(3).wrapping_add(stream);
        Generator::manual_seed(self.seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Whether the adapter is left out of this batch.
    pub fn skips(&self) -> bool {
        self.rates.module > 0.0 && f64::from(self.generator(MODULE).rand(&[1])[0]) < self.rates.module
    }

    /// Zeros and ones of which a share `rate` are zeros on average.
    fn mask(&self, stream: u64, rate: f64, like: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let kept: Vec<f32> =
            self.generator(stream).rand(shape).into_iter().map(|u| f32::from(u8::from(f64::from(u) > rate))).collect();
        Ok(Tensor::from_vec(kept, shape, like.device())?.to_dtype(like.dtype())?)
    }

    /// The output of LoRA's `down` with dropout: `[b, .., r]`, for convolutions (`channels_first`) `[b, r, h, w]`.
    pub(in crate::adapter) fn inner(&self, mut hidden: Tensor, channels_first: bool) -> Result<Tensor> {
        if self.style != DropoutStyle::Inner {
            return Ok(hidden);
        }
        let DropoutRates { value, rank, .. } = self.rates;
        if value > 0.0 {
            let mask = self.mask(VALUE, value, &hidden, hidden.dims())?;
            hidden = ((hidden * mask)? * (1.0 / (1.0 - value)))?;
        }
        if rank > 0.0 {
            let dims = hidden.dims();
            let axis = if channels_first { 1 } else { dims.len() - 1 };
            let mut shape = vec![1; dims.len()];
            (shape[0], shape[axis]) = (dims[0], dims[axis]);
            let mask = self.mask(RANK, rank, &hidden, &shape)?;
            hidden = (hidden.broadcast_mul(&mask)? * (1.0 / (1.0 - rank)))?;
        }
        Ok(hidden)
    }

    /// The mask over rows of a change of `outputs` rows, `[c_out, 1]`, in this style and unless it is off.
    pub(in crate::adapter) fn rows(&self, like: &Tensor, outputs: usize) -> Result<Option<Tensor>> {
        let DropoutStyle::Rows { rescale } = self.style else { return Ok(None) };
        if self.rates.rank == 0.0 {
            return Ok(None);
        }
        let mask = self.mask(RANK, self.rates.rank, like, &[outputs, 1])?;
        if !rescale {
            return Ok(Some(mask));
        }
        let mean = mask.mean_all()?.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?;
        // All rows dropped: nothing is left to scale.
        Ok(Some(if mean > 0.0 { (mask / f64::from(mean))? } else { mask }))
    }
}
