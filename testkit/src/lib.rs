//! What the tests of the workspace share; nothing here is part of a program.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`model`] | the seeded miniature models, written once per test program |
//! | [`mod@fixture`] | numbers of the reference implementations under `tests/fixtures` |
//! | [`close`] | the error measure of all parity tests |
//! | [`program`] | running a binary, and what it said |
//! | [`mod@files`] | folders as lists of names and bytes |
//! | [`scenes`] | procedural images with known truth, in the layouts of public data sets |
//! | [`torch_files`] | torch files made byte by byte, good and bad |

pub mod close;
pub mod files;
pub mod fixture;
pub mod model;
pub mod program;
pub mod scenes;
#[expect(missing_docs, reason = "the names are those of the zip format")]
pub mod torch_files;

pub use close::{assert_close, norm, relative_error};
pub use files::{files, listing, names};
pub use fixture::{Fixture, fixture};
pub use model::{learnt_miniature, miniature, miniature_sd2, pipeline, pipeline_sd2};
pub use program::{Program, message};
