//! A layer's term from a weight that is rebuilt out of an adapter's factors, without keeping that weight.
//!
//! Families other than plain LoRA have no thin inner product: their change is a matrix as large as the layer's weight. Kept for the
//! backward pass, with all that leads to it, it would cost several times the model's memory; so it is made again there (gradient
//! checkpointing around one layer), and what is kept are the input and the factors.

use candle_core::Tensor;

use crate::Result;
use crate::ops::{self, GradientSink, Padding};

/// How convolutions pad around 1x1 kernels: not at all.
const NO_PADDING: Padding = Padding { top: 0, bottom: 0, left: 0, right: 0 };

/// How a weight meets an activation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Application {
    /// `x W^T`.
    Linear,
    /// A convolution.
    Conv2d { stride: usize, padding: Padding },
}

impl Application {
    /// Applies a weight, which may be tracked, to `x`.
    pub fn apply(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear => ops::linear_trainable(x, weight),
            Self::Conv2d { stride, padding } => ops::conv2d_trainable(x, weight, stride, padding),
        }
    }

    /// The same for a 1x1 kernel after or before this one.
    pub fn pointwise(self) -> Self {
        match self {
            Self::Linear => Self::Linear,
            Self::Conv2d { .. } => Self::Conv2d { stride: 1, padding: NO_PADDING },
        }
    }

    /// Whether channels are the second axis.
    pub fn channels_first(self) -> bool {
        matches!(self, Self::Conv2d { .. })
    }
}

/// `application` of `x` and the weight that `rebuild` makes of `factors` (in this order); gradients flow to `x` and `factors`.
///
/// # Errors
/// Those of `rebuild`, and when the shapes disagree.
pub(super) fn term(
    x: &Tensor,
    factors: &[Tensor],
    application: Application,
    rebuild: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !factors.iter().any(ops::is_tracked) {
        return application.apply(x, &rebuild(factors)?.to_dtype(x.dtype())?);
    }
    // One node of the graph takes three inputs at most, so the factors go in as one.
    let shapes: Vec<Vec<usize>> = factors.iter().map(|factor| factor.dims().to_vec()).collect();
    let flat = factors.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
    let flat = Tensor::cat(&flat, 0)?;
    let nothing = flat.narrow(0, 0, 1)?.detach();
    // No variable hides inside the block: all that is tracked comes in.
    let sink = GradientSink::new(Vec::new());
    ops::checkpoint(&sink, [x, &flat, &nothing], move |[x, flat, _]| {
        let (mut factors, mut start) = (Vec::with_capacity(shapes.len()), 0);
        for shape in &shapes {
            let count = shape.iter().product();
            factors.push(flat.narrow(0, start, count)?.reshape(shape.as_slice())?);
            start += count;
        }
        application.apply(x, &rebuild(&factors)?.to_dtype(x.dtype())?)
    })
}
