//! What is told while work goes on: a progress bar on a terminal, plain lines otherwise, JSON lines on request; memory.

mod downloads;
mod memory;
mod progress;

pub use memory::peak_rss_bytes;
pub use progress::Reporter;
