//! What every command of this workspace shares, so that all of them look and behave alike.
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | [`program`] | a command as a whole: its first words; how it ends and with which exit status | `tools`, `interrupt`, `console`, `output`, `failure`, `mistakes`, `options`, `spelling` |
//! | `tools` | `completions` and `man` | `output`, `failure` |
//! | [`hub`] | models on a hub, with the progress of their downloads | `interrupt`, `console`, `escape` |
//! | [`interrupt`] | Ctrl-C and its kin | `console`, `options` |
//! | [`progress`] | how far a piece of work is: bars on a terminal, plain or JSON lines elsewhere | `console`, `escape` |
//! | [`console`] | messages | `output`, `escape`, `options` |
//! | [`device`] | where to compute, on how many threads | `options` |
//! | [`output`] | writing that survives a closed pipe and a full disk | `escape` |
//! | [`escape`] | text of unknown origin made harmless | |
//! | [`failure`] | errors as sentences | |
//! | `mistakes` | all of a command line's unknown options | |
//! | [`memory`] | how much memory a run took | |
//! | [`options`] | options that several commands have: `--quiet --verbose --log-json`, `--device`, `--dtype`, `FILE:SCALE` | |
//! | [`spelling`] | long options with dashes or underscores | |

pub mod console;
pub mod device;
pub mod escape;
pub mod failure;
pub mod hub;
pub mod interrupt;
pub mod memory;
mod mistakes;
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
