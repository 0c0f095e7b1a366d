//! What every command of this workspace shares, so that all of them look and behave alike.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`program`] | a command as a whole: its first words, `completions` and `man` among them; how it ends and with which exit status |
//! | [`options`] | options that several commands have: `--quiet --verbose --log-json`, `--device`, `--dtype`, `FILE:SCALE` |
//! | [`spelling`] | long options with dashes or underscores |
//! | [`console`], [`progress`] | messages, and how far a piece of work is: bars on a terminal, plain or JSON lines elsewhere |
//! | [`hub`] | models on a hub, with the progress of their downloads |
//! | [`device`], [`memory`] | where to compute, on how many threads; how much memory it took |
//! | [`interrupt`] | Ctrl-C and its kin |
//! | [`failure`] | errors as sentences |
//! | [`escape`], [`output`] | text of unknown origin made harmless; writing that survives a closed pipe and a full disk |

pub mod console;
pub mod device;
pub mod escape;
pub mod failure;
pub mod hub;
pub mod interrupt;
pub mod memory;
pub mod options;
pub mod output;
pub mod program;
pub mod progress;
pub mod spelling;
mod tools;

pub use console::Console;
pub use failure::Failure;
pub use options::Logging;
pub use program::{Call, Ended, Program};
pub use progress::{Progress, Unit};
