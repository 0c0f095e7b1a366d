//! Times one item of work on a model folder: the peer of tests/reference/bench_torch.py, which runs both in turn.
//!
//! ```text
//! bench_step MODEL --item ITEM [--size 512] [--batch 1] [--controlnet DIR]
//! ```
//!
//! Does an untimed round, prints `ready`, then the seconds of one round for each line on its input, and at the end its largest resident
//! size in bytes. The items are those of [`benches::ITEMS`], on every core.

use driftless::error::ArgumentCause;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Instant;

use benches::Amount;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> driftless::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).map(String::as_str);
    let missing = |name: &str| driftless::Error::argument(name, ArgumentCause::Missing);
    let model = arguments.first().filter(|a| !a.starts_with('-')).ok_or_else(|| missing("MODEL"))?;
    let item = value("--item").ok_or_else(|| missing("--item"))?;
    let number = |name: &str, otherwise: usize| match value(name) {
        Some(text) => text.parse().map_err(|_| driftless::Error::argument(name, ArgumentCause::NotAWholeNumber)),
        None => Ok(otherwise),
    };
    let amount = Amount { batch: number("--batch", 1)?, size: number("--size", 512)? };
    let controlnet = value("--controlnet").map(std::path::PathBuf::from);
    let mut work = benches::prepare(item, model.as_ref(), controlnet.as_deref(), amount)?;
    work()?;
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        let start = Instant::now();
        work()?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    println!("{}", peak_rss_bytes().unwrap_or(0));
    Ok(())
}

/// The process's largest resident size so far, from Linux's accounting; `None` elsewhere.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
