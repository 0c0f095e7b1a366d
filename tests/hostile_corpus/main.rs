//! A corpus of hostile model folders, images, names and texts, made here from a seed, through the one program that holds all commands.
//!
//! Handled well is: the program ends by itself within two seconds of processor time and 300 MB with a status of its own (0, 1 or 2; 1 or 2 where the case
//! cannot be anything but refused), without a panic, with an error where it fails that names the file, with no control or directional character on its
//! outputs, and with nothing written beside its own folder. The same with thousands of mutations, with signals, limits and full disks
//! does `tests/reference/hostile_tries.py`.
#![cfg(unix)]

mod case;
mod images;
mod models;
mod names;
mod texts;

use case::{Case, Verdict};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Programs that run at once.
const AT_ONCE: usize = 4;

#[test]
fn every_case_of_the_corpus_is_handled_well() {
    let cases: Vec<Case> = [models::cases(), images::cases(), names::cases(), texts::cases()].into_iter().flatten().collect();
    assert!(cases.len() >= 400, "{} cases", cases.len());
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(std::thread::available_parallelism().map_or(2, usize::from)) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = case.try_it();
                    verdicts.lock().unwrap().push((case, verdict));
                }
            });
        }
    });
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut faults = Vec::new();
    for (case, verdict) in verdicts.into_inner().unwrap() {
        // Slow because of what else the machine does: once more, alone.
        let verdict = if verdict.is_slow() { case.try_it() } else { verdict };
        let (tried, well) = counts.entry(case.group).or_default();
        *tried += 1;
        match verdict {
            Verdict::Well => *well += 1,
            Verdict::Slow(what) | Verdict::Badly(what) => faults.push(format!("{}, {}: {what}", case.group, case.name)),
        }
    }
    for (group, (tried, well)) in &counts {
        println!("{group}: {well} of {tried} handled well");
    }
    println!("all: {} of {} handled well", cases.len() - faults.len(), cases.len());
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}
