//! A run from options to files.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`plan`] | everything that can be known and refused before the model is loaded |
//! | `readiness` | the model, the adapter it starts from, and folders, looked at before the run |
//! | [`check`] | `train check`: the plan in words |
//! | [`train`] | model, adapter, loop |
//! | [`hooks`], [`comparison`] | what is written and shown beside the loop; the table at the end |
//! | [`keep`] | what is saved of a run that ends early |
//! | [`left_out`] | images that cannot be read any more |
//! | `output_folder` | where files come to be, by one run at a time |
//! | [`memory`] | how much memory a run will take, about |
//! | `fault` | what keeps a run from starting, or ends it early |

pub mod check;
pub mod comparison;
mod fault;
pub mod hooks;
pub mod keep;
pub mod left_out;
pub mod memory;
mod output_folder;
pub mod plan;
mod readiness;
pub mod train;
