//! Extraction, told on the terminal: what will be done, how far it is, how it ended.

use anyhow::{Context, Result};
use driftless_cli::memory::peak_rss_bytes;
use driftless_cli::{Console, Ended, interrupt};
use features::engine::Run;
use features::fault::both;
use features::plan::RunPlan;
use features::set::Timestep;
use features::timings::Timings;

use crate::args::{ExtractArgs, Hardware};
use crate::model::Equipment;
use crate::terminal::{Terminal, counted};
use crate::{model, request};

/// Beyond so many steps the original denoises in strides of ten, from a level that it takes for a hundredth.
const LARGEST_DENOISING: usize = 50;

/// Extracts features.
///
/// # Errors
/// When the request is wrong, the model cannot be loaded, or a file cannot be written. An image that cannot be read is no error but
/// listed in the failures.
pub fn extract(args: &ExtractArgs, console: &Console) -> Result<Ended> {
    let timings = Timings::begin();
    let settings = request::from_args(args)?;
    let (hardware, plan) = both(Hardware::of(&settings), RunPlan::new(&settings))?;
    plan.notes.iter().for_each(|note| console.warn(note));
    let Equipment { threads, options, models } = model::equip(&plan, &settings, hardware, console)?;
    let run = Run::new(&plan, &models, &options)?;
    announce(&plan, &run, console);
    let controls = model::find_controlnets(&run, options.dtype, console)?;
    interrupt::finish_first("the images in hand", console);
    let terminal = Terminal::new(console);
    let outcome = run.execute(&controls, &timings, &terminal)?;
    if let Some(path) = &settings.command.timings {
        timings.write(path, outcome.images, threads, peak_rss_bytes()).context("--timings")?;
    }
    Ok(conclude(&plan, outcome, &timings, console))
}

fn announce(plan: &RunPlan, run: &Run, console: &Console) {
    let images = run.images();
    let mine = match plan.samples.len() == plan.all.len() {
        true => counted(plan.all.len()),
        false => format!("{} of {}", plan.samples.len(), counted(plan.all.len())),
    };
    let there = match plan.samples.len() - images {
        0 => String::new(),
        done => format!(", {done} of them there already (--overwrite makes them anew)"),
    };
    let sets = match plan.sets.values().filter(|set| set.keep.written).count() + plan.fusions.len() {
        1 => String::new(),
        count => format!(", {count} feature sets"),
    };
    let bytes = run.bytes_per_image();
    let size = format!("{} per image, {} in all", size_text(bytes), size_text(bytes.saturating_mul(images as u64)));
    console.info(format!("{mine}{there}{sets}; {size}"));
    for set in plan.sets.values() {
        match (set.pass.t, set.pass.denoising_from) {
            (Timestep::Noised(t), Some(from)) if from > t + LARGEST_DENOISING => {
                let why = format!("{from} is more than {LARGEST_DENOISING} above --t {t}");
                console.warn(format!(
                    "--denoising-from {why}: as in the original, it begins at ten times that level, at most at 991"
                ));
            }
            (Timestep::Noised(_), _) => {}
            (Timestep::Clean(t), _) => {
                let set = set.name.as_ref().map_or(String::new(), |name| format!("set `{name}`: "));
                console.info(format!("{set}clean latents at timestep {}", t.get()));
            }
        }
    }
}

/// `12.3 MB`.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

fn conclude(plan: &RunPlan, outcome: features::engine::Outcome, timings: &Timings, console: &Console) -> Ended {
    if interrupt::requested() {
        return Ended::Interrupted("every file that is there is whole; run the same command again to go on".into());
    }
    let written = outcome.images - outcome.failed.min(outcome.images);
    let seconds = timings.wall_seconds();
    console.info(format!("{} written to {} in {seconds:.1} s", counted(written), plan.output.dir.display()));
    match outcome.failed {
        0 => Ended::Done,
        count => {
            console.error(format!("{} failed; see the list in {}", counted(count), plan.failures.display()));
            Ended::SomeFailed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_text(999), "999 B");
        assert_eq!(size_text(1_234_567), "1.2 MB");
        assert_eq!(size_text(u64::MAX), "18446744.1 TB");
    }
}
