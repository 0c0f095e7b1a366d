//! Reports on a run: on the console, in `metrics.jsonl`, in TensorBoard.

pub mod console;
mod event_file;
pub mod metrics;
pub mod tensorboard;
pub mod time;

pub use console::Console;
