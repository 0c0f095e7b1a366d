//! Memory: allocation that reuses large blocks, buffers that outlive a call, outputs that several threads write, and the transposition
//! of matrices.

pub mod reuse;
pub mod scratch;
pub mod shared;
pub mod transpose;
