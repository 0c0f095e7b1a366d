//! A run from options to files.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`plan`] | everything that can be known and refused before the model is loaded |
//! | [`check`] | `train check`: the plan in words |
//! | [`train`] | model, adapter, loop |
//! | [`hooks`] | what is written and shown beside the loop |

pub mod check;
pub mod hooks;
pub mod plan;
pub mod train;
