//! CPU kernels over plain float32 slices. They know nothing of tensors or graphs; sizes are checked by their callers and asserted
//! here. Every kernel cuts its work the same way whatever the number of threads, so results do not depend on it.
//!
//! | room | what it computes |
//! | --- | --- |
//! | [`isa`] | instruction sets: vectors, the choice between them |
//! | [`gemm`] | matrix products |
//! | [`conv`] | convolutions and their gradients |
//! | [`attention`] | attention without stored scores, and its gradient |
//! | [`norm`] | group and layer normalization, reductions |
//! | [`activation`] | activation functions, GEGLU |
//! | [`memory`] | buffers, outputs that several threads write, transposition |

pub mod activation;
pub mod attention;
pub mod conv;
pub mod gemm;
pub mod isa;
pub mod memory;
pub mod norm;
mod tasks;
mod tuning;
