//! Times one item of work on a model folder and prints one line of JSON: the peer of tests/reference/bench_torch.py, which runs both.
//!
//! ```text
//! bench_step MODEL --item unet|vae|text|controlnet|lora_step|lora_step_checkpointed [--size 512] [--rounds 3] [--controlnet DIR]
//! ```
//!
//! Batch 1, float32, every core. `lora_step` is rank 64 on kohya's UNet targets with AdamW, latents and text given.

#[path = "../benches/work/mod.rs"]
mod work;

use std::process::ExitCode;
use std::time::Instant;

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
    let missing = |name: &str| driftless::Error::argument(name.to_owned(), "is missing");
    let number = |name: &'static str, default: usize| match value(name) {
        Some(text) => text.parse().map_err(|_| driftless::Error::argument(name, "needs a whole number")),
        None => Ok(default),
    };
    let model = arguments.first().filter(|a| !a.starts_with('-')).ok_or_else(|| missing("MODEL"))?;
    let item = value("--item").ok_or_else(|| missing("--item"))?;
    let (size, rounds) = (number("--size", 512)?, number("--rounds", 3)?);
    let controlnet = value("--controlnet").map(std::path::PathBuf::from);
    let mut work = work::prepare(item, model.as_ref(), controlnet.as_deref(), size)?;
    work()?; // warm-up
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    println!("{}", serde_json::json!({ "item": item, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes() }));
    Ok(())
}

/// The process's largest resident size so far, from Linux's accounting; `None` elsewhere.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
