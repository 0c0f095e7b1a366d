//! Memory.
//!
//! - `reuse`: the global allocator that programs install. Fresh pages from the operating system cost more than many operations; it
//!   keeps large blocks, whose contents nobody may read before writing them.
//! - `scratch`: working buffers of kernels, which are numbers from the first use on, so that they need no zeros; and results that are
//!   written whole. It serves programs with any allocator.
//! - `shared`: outputs that several threads write.
//! - `transpose`: the exchange of rows and columns.

pub mod reuse;
pub mod scratch;
pub mod shared;
pub mod transpose;
