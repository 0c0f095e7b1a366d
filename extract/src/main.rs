//! The `extract` command.

use std::process::ExitCode;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    driftless_extract::PROGRAM.main()
}
