//! CPU kernels over plain float32 slices. They know nothing of tensors or graphs; sizes are checked by their callers and asserted
//! here. Every kernel cuts its work the same way whatever the number of threads, so results do not depend on it.

pub mod attention;
pub mod attention_gradient;
pub mod bands;
pub mod block;
pub mod columns;
pub mod convolution;
pub mod direct;
pub mod elementwise;
pub mod exponential;
pub mod filters;
pub mod geglu;
pub mod lanes;
pub mod layout;
pub mod matrices;
pub mod normalization;
pub mod packed;
pub mod product;
pub mod reuse;
pub mod scratch;
pub mod soften;
pub mod softmax;
pub mod tasks;
pub mod transpose;
pub mod vector;
pub mod winograd;
pub mod winograd_transform;
