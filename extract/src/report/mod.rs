//! What is told while work goes on: a progress bar on a terminal, plain lines otherwise, JSON lines on request; timings; memory.

mod downloads;
mod memory;
mod progress;
mod timings;

pub use memory::peak_rss_bytes;
pub use progress::Reporter;
pub use timings::{Stage, Timings};
