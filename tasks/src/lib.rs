//! What features are worth: scores and downstream tasks, over the crate `features` and without a command line or printing.
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | [`report`] | results as one HTML file: tables, curves, images | |

pub mod report;
