//! The table at the end: what was measured on images that do not train, the best first, and the file that is best.

use crate::monitor::metrics::Measurement;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    let mut lines = vec![format!("{:>7} {:>8} {:>11} {:>11}  file", "epoch", "step", "validation", "training")];
    for (one, file) in rows.iter().take(ROWS) {
        let epoch = one.epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
        let name = file.as_ref().map_or("not saved".into(), |file| shown(file));
        lines.push(format!("{epoch:>7} {:>8} {:>11.6} {:>11.6}  {name}", one.step, one.validation_loss, one.training_loss));
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
    lines
}

fn shown(file: &std::path::Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(step: usize, validation_loss: f64) -> Measurement {
        Measurement { step, epoch: Some(step / 10), training_loss: 0.1, validation_loss }
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
