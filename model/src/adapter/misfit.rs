//! Why an adapter does not fit a layer.

pub use crate::error::AdapterMisfit as Misfit;
