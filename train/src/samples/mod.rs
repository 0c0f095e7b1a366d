//! Sample pictures during training.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`prompts`] | the prompt file |
//! | [`draw`] | from a prompt to a picture |

pub mod draw;
pub mod prompts;
