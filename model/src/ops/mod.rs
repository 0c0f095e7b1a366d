//! The arithmetic of Stable Diffusion 1.5: each operation with its forward pass and a hand-written backward pass.
//!
//! Mirrors the torch functions of the same names (`torch.nn.functional`, torch 2.x, float32). Differences, all deliberate:
//!
//! - **Frozen weights are not in the graph.** [`linear`], [`conv2d`], [`group_norm`] and [`layer_norm`] hold their weights inside
//!   the operation; their backward pass is the input gradient alone, and no gradient is ever stored for them. Only
//!   [`linear_trainable`] and [`conv2d_trainable`] give a weight gradient: adapter matrices go there.
//! - **Fused.** Norm and SiLU, GEGLU, and attention are one node of the graph each, so autograd keeps their inputs and outputs
//!   and nothing in between. Attention scores are never stored: a logarithm of a sum of exponentials per query is.
//! - **Little is kept for the backward pass.** [`linear_low_rank`] is a layer with its LoRA in one node; an [`Activation`] frees values
//!   that no backward pass reads, which candle's graph would keep, and lends its memory to sums.
//! - **Memory is used again.** Programs should make [`ReusingAllocator`] their allocator: fresh pages cost more than many operations.
//! - **Weights of any float type.** On a CPU activations are float32; frozen weights may be float16 or bfloat16 and are converted
//!   inside the operation, for the length of the call, by convolutions piece by piece as they read.
//! - Results do not depend on the number of threads.
//! - The environment variable `DRIFTLESS_SIMD` (`scalar`, `avx2`, `avx512` or `neon`) forces the vector instructions of the kernels
//!   instead of the widest ones of the processor; what is not there is refused. The few products left to the `gemm` crate choose for
//!   themselves.
//!
//! All tensors of one call live on one device. A CPU runs the kernels in `crate::kernels`; other devices compute in the input's type with
//! candle's own operations, norm and softmax statistics in float32 (`composed`).
//!
//! Shape letters: `b` batch, `c` channels, `h` height, `w` width, `n` queries, `m` keys, `d` head size.

mod activation;
mod adamw;
mod attention;
mod checkpoint;
mod composed;
mod convolution;
mod elementwise;
mod graph;
mod host;
mod linear;
mod low_rank;
mod normalization;
mod probabilities;
mod sum;
mod tokens;
mod upsample;

pub use crate::error::Misfit;
pub use crate::kernels::memory::reuse::ReusingAllocator;
pub use activation::Activation;
pub use adamw::AdamW;
pub use attention::{Mask, attention};
pub use checkpoint::{GradientSink, checkpoint};
pub use convolution::{Padding, conv2d, conv2d_trainable};
pub use elementwise::{geglu, gelu, quick_gelu, silu};
pub use graph::is_tracked;
pub use linear::{linear, linear_trainable};
pub use low_rank::{Before, LowRank, linear_low_rank};
pub use normalization::{group_norm, layer_norm};
pub use probabilities::{attention_probabilities, attention_probabilities_mean};
pub use tokens::{from_tokens, to_tokens};
pub use upsample::upsample_nearest;
