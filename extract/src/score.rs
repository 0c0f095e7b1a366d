//! Scores of content shift, told on the terminal: what is scored, how far it is, where the results are.

use std::borrow::Cow;

use anyhow::{Context, Result};
use driftless_cli::escape;
use driftless_cli::memory::peak_rss_bytes;
use driftless_cli::{Console, Ended, interrupt};
use features::engine::{Outcome, Run};
use features::fault::both;
use features::plan::{RunPlan, Settings};
use features::set::{Finite, Noising, Timestep};
use features::timings::Timings;
use tasks::shift::{Scores, ShiftSettings, Surroundings, expand, score_written};

use crate::args::{Hardware, ScoreArgs};
use crate::model::Equipment;
use crate::terminal::{Terminal, counted};
use crate::{model, request};

/// Scores features.
///
/// # Errors
/// When the request is wrong, the model cannot be loaded, sets cannot be compared, or a file cannot be written. An image that cannot be read
/// is no error but listed in the failures.
pub fn score(args: &ScoreArgs, console: &Console) -> Result<Ended> {
    let commands = [typed()];
    if !args.features.is_empty() {
        let scores = score_written(&args.features, &args.output, &commands, &Terminal::new(console))?;
        console.result(&scores.table);
        console.info(format!("scores of {} in {}", counted(scores.outcome.images), args.output.display()));
        return Ok(Ended::Done);
    }
    let timings = Timings::begin();
    let settings = settings(args)?;
    let (hardware, mut plan) = both(Hardware::of(&settings), RunPlan::new(&settings))?;
    plan.notes.iter().for_each(|note| console.warn(note));
    let shift = expand(&mut plan, &shift_settings(args))?;
    let Equipment { threads, options, models } = model::equip(&plan, &settings, hardware, console)?;
    let run = Run::new(&plan, &models, &options)?;
    let controls = model::find_controlnets(&run, options.dtype, console)?;
    interrupt::finish_first("the images in hand", console);
    let terminal = Terminal::new(console);
    let around = Surroundings { controls: &controls, commands: &commands, timings: &timings, observer: &terminal };
    let Scores { outcome, table } = shift.run(&plan, &run, &around)?;
    if let Some(path) = &settings.command.timings {
        timings.write(path, outcome.images, threads, peak_rss_bytes()).context("--timings")?;
    }
    console.result(&table);
    Ok(conclude(&plan, outcome, &timings, console))
}

/// The configuration file, with what was typed put over it. What the file says of outputs is of features: scores have a folder of
/// their own, and are of whole features. A set needs no timestep, since all are taken at those of the scores.
fn settings(args: &ScoreArgs) -> Result<Settings> {
    let mut settings = request::from_file_and(&args.run.0)?;
    let first = args.timesteps.first().and_then(|&t| Finite::new(t.min(Timestep::LAST) as f64));
    for set in settings.sets.iter_mut().filter(|set| set.noise.unwrap_or_default() == Noising::Added) {
        set.t = set.t.or(first);
    }
    settings.output.dir = Some(args.output.clone());
    (settings.output.pca, settings.output.pca_dims) = (None, None);
    Ok(settings)
}

fn shift_settings(args: &ScoreArgs) -> ShiftSettings {
    ShiftSettings {
        draws: args.draws,
        timesteps: args.timesteps.clone(),
        warps: args.warps,
        decode: args.decode,
        reference: args.reference.clone(),
        shown_images: args.shown_images,
    }
}

fn conclude(plan: &RunPlan, outcome: Outcome, timings: &Timings, console: &Console) -> Ended {
    if interrupt::requested() {
        return Ended::Interrupted("every image that is through has its scores; run the same command again to go on".into());
    }
    let (there, seconds) = (plan.samples.len() - outcome.images, timings.wall_seconds());
    let there = if there == 0 { String::new() } else { format!(" ({there} of them there already)") };
    let scored = counted(plan.samples.len() - outcome.failed);
    console.info(format!("scores of {scored}{there} in {} in {seconds:.1} s: see report.html there", plan.output.dir.display()));
    match outcome.failed {
        0 => Ended::Done,
        count => {
            console.error(format!("{} failed; see the list in {}", counted(count), plan.failures.display()));
            Ended::SomeFailed
        }
    }
}

/// The command as it was typed, to be pasted into a shell.
fn typed() -> String {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    // No word of a command line holds a zero byte, the one that shells cannot quote.
    let quoted = |word: String| shlex::try_quote(&escape::one_line(&word)).map_or_else(|_| String::new(), Cow::into_owned);
    std::iter::once(name).chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}
