//! The table at the end: what was measured on images that do not train, the best first, and the file that is best.

use crate::monitor::metrics::Measurement;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How much larger than the best loss that of a slightly overfitted file may be.
const OVERFITTED: f64 = 0.05;
/// Rows that are shown; all are in validation.jsonl.
const ROWS: usize = 20;

/// The lines of the table, for `measured` in the order in which it was measured. `file` tells the file of a measurement, when there is
/// one. Nothing when nothing was measured.
pub fn table(measured: &[Measurement], file: impl Fn(&Measurement) -> Option<PathBuf>) -> Vec<String> {
    // A run that goes on may measure a step again: the later one counts.
    let by_step: BTreeMap<usize, &Measurement> = measured.iter().map(|measurement| (measurement.step, measurement)).collect();
    let mut rows: Vec<(&Measurement, Option<PathBuf>)> = by_step.into_values().map(|one| (one, file(one))).collect();
    // Stable: of equals the earlier one is better, as it took less training.
    rows.sort_by(|(a, _), (b, _)| a.validation_loss.total_cmp(&b.validation_loss));
    let Some((best, best_file)) = rows.first() else { return vec![] };
    let timesteps: Vec<usize> = best.by_timestep.keys().copied().collect();
    let heads: String = timesteps.iter().map(|timestep| format!(" {:>11}", format!("t = {timestep}"))).collect();
    let mut lines = vec![format!("{:>7} {:>8} {:>11} {:>11}{heads}  file", "epoch", "step", "validation", "training")];
    for (one, file) in rows.iter().take(ROWS) {
        let epoch = one.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
        let name = file.as_ref().map_or("not saved".into(), |file| shown(file));
        let each = timesteps.iter().map(|timestep| one.by_timestep.get(timestep));
        let each: String =
            each.map(|loss| loss.map_or_else(|| format!(" {:>11}", "-"), |loss| format!(" {loss:>11.6}"))).collect();
        lines.push(format!("{epoch:>7} {:>8} {:>11.6} {:>11.6}{each}  {name}", one.step, one.validation_loss, one.training_loss));
    }
    if rows.len() > ROWS {
        lines.push(format!("        and {} more in validation.jsonl", rows.len() - ROWS));
    }
    let best_saved = rows.iter().find_map(|(_, file)| file.as_ref());
    lines.push(match (best_file, best_saved) {
        (Some(file), _) => format!("best by validation loss: {}", file.display()),
        (None, Some(file)) => {
            format!("best by validation loss: step {}, which was not saved; of the files, {}", best.step, file.display())
        }
        (None, None) => format!("best by validation loss: step {}, which was not saved; see --save_every_n_epochs", best.step),
    });
    if !timesteps.is_empty() {
        lines.extend(overfitted(&rows));
    }
    lines
}

/// The second file of a data set as "Suppress Content Shift" takes it beside the best: a later and slightly overfitted one. That is the last of
/// those behind the best whose loss is at most so much larger than the best's; where all are, the one that follows it.
fn overfitted(rows: &[(&Measurement, Option<PathBuf>)]) -> Option<String> {
    let (best, _) = rows.iter().find(|(_, file)| file.is_some())?;
    let limit = best.validation_loss * (1.0 + OVERFITTED);
    let mut later: Vec<(&Measurement, &PathBuf)> =
        rows.iter().filter(|(one, _)| one.step > best.step).filter_map(|(one, file)| Some((*one, file.as_ref()?))).collect();
    later.sort_by_key(|(one, _)| one.step);
    let slightly = later.iter().rfind(|(one, _)| one.validation_loss <= limit);
    Some(match slightly.or(later.first()) {
        Some((one, file)) => {
            let more = (one.validation_loss / best.validation_loss - 1.0) * 100.0;
            format!("later, slightly overfitted: {} (loss {more:+.1} %)", file.display())
        }
        None => "later, slightly overfitted: none was saved after the best; train longer for one".to_owned(),
    })
}

fn shown(file: &std::path::Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(step: usize, validation_loss: f64) -> Measurement {
        Measurement { step, epoch: Some(step / 10), training_loss: 0.1, validation_loss, by_timestep: BTreeMap::new() }
    }

    #[test]
    fn two_files_as_the_paper_uses_them() {
        let measured = |step, loss| Measurement {
            by_timestep: BTreeMap::from([(50, loss / 2.0), (261, loss * 1.5)]),
            ..measured(step, loss)
        };
        let file = |one: &Measurement| Some(PathBuf::from(format!("a-{}", one.step)));
        let last = |all: &[Measurement], file: &dyn Fn(&Measurement) -> Option<PathBuf>| table(all, file).last().unwrap().clone();
        let all = [measured(10, 1.0), measured(20, 0.5), measured(30, 0.52), measured(40, 0.51), measured(50, 0.9)];
        let lines = table(&all, file);
        assert!(lines[0].contains("t = 50") && lines[1].contains("0.250000") && lines[1].contains("0.750000"), "{lines:#?}");
        assert_eq!(lines[6], "best by validation loss: a-20");
        assert_eq!(lines[7], "later, slightly overfitted: a-40 (loss +2.0 %)");
        // Of those that were saved; the next one where none is slightly worse; none behind the last.
        assert!(last(&all, &|one| file(one).filter(|_| one.step != 40)).contains("a-30 (loss +4.0 %)"));
        assert!(last(&all, &|one| file(one).filter(|_| ![30, 40].contains(&one.step))).contains("a-50 (loss +80.0 %)"));
        assert!(last(&all[..2], &file).contains("none was saved after the best"));
        assert_eq!(table(&all, |_| None).len(), 7);
    }

    #[test]
    fn the_best_comes_first_and_its_file_is_named() {
        let all = [measured(10, 0.3), measured(20, 0.9), measured(20, 0.1), measured(30, f64::NAN), measured(40, 0.2)];
        let file = |one: &Measurement| Some(PathBuf::from(format!("out/a-{}.safetensors", one.step)));
        let lines = table(&all, file);
        assert_eq!(lines.len(), 6, "{lines:#?}");
        assert!(lines[1].contains("0.100000") && lines[1].contains("a-20.safetensors"), "{lines:#?}");
        assert!(lines[4].contains("NaN"), "{lines:#?}");
        assert_eq!(lines[5], "best by validation loss: out/a-20.safetensors");
        let lines = table(&all, |one| if one.step == 40 { file(one) } else { None });
        assert!(lines[5].contains("step 20, which was not saved") && lines[5].ends_with("out/a-40.safetensors"), "{lines:#?}");
        assert!(table(&all, |_| None)[5].contains("--save_every_n_epochs"));
        assert!(table(&[], |_| None).is_empty());
        let many: Vec<Measurement> = (1..=30).map(|step| measured(step, step as f64)).collect();
        assert!(table(&many, file)[21].contains("10 more"));
    }
}
