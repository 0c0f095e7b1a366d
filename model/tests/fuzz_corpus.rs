//! The fuzzers' entries on their seeds and on some thousands of mutations of those, the same ones in every run: no panic, no endless
//! reading, no memory out of proportion. The fuzzers themselves (`fuzz/`) search on for as long as they are let.

#[path = "../../fuzz/entries.rs"]
mod entries;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations of each entry's seeds, all together.
const MUTATIONS: usize = 2000;
/// Most time for one input, on a machine that does other things as well.
const MOST_TIME: Duration = Duration::from_secs(5);

/// Numbers that look random (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn paths(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter(|path| path.is_file()).collect()
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    paths(folder).iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let endings: &[&str] = match name {
        "jpeg" => &["jpg"],
        "tiff" => &["tif"],
        "png" | "webp" | "bmp" | "gif" => &[name],
        "container" => return [files("fuzz/corpus/container"), files("tests/fixtures/checkpoint/torch")].concat(),
        other => return files(&format!("fuzz/corpus/{other}")),
    };
    let images = paths("tests/fixtures/vision/files").into_iter();
    let images = images.filter(|path| endings.iter().any(|ending| path.extension().is_some_and(|found| found == *ending)));
    images.map(|path| std::fs::read(path).unwrap()).collect()
}

/// Changes a few places: single bits and bytes, numbers at their limits, pieces left out, doubled, or taken from another seed.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], noise: &mut Noise) {
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len());
        let len = 1 + noise.below(24).min(bytes.len().saturating_sub(at + 1));
        let kind = noise.below(8);
        match kind {
            _ if bytes.is_empty() => bytes.push(noise.below(256) as u8),
            0 => bytes[at] ^= 1 << noise.below(8),
            1 => bytes[at] = noise.below(256) as u8,
            2 => bytes[at..(at + len).min(at + 8)].fill([0, 0xff, 0x7f, 0x80][noise.below(4)]),
            3 => drop(bytes.drain(at..at + len)),
            4 => {
                let piece = bytes[at..at + len].to_vec();
                let to = noise.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => bytes.truncate(at),
            _ => {
                let from = noise.below(other.len());
                let piece = other[from..(from + len).min(other.len())].to_vec();
                let replaced = if kind == 6 { at..at } else { at..at + len };
                bytes.splice(replaced, piece);
            }
        }
    }
}

fn run(name: &str, entry: entries::Entry, data: &[u8], folder: &Path) {
    let start = Instant::now();
    let result = std::panic::catch_unwind(|| entry(data, folder));
    let taken = start.elapsed();
    assert!(result.is_ok() && taken < MOST_TIME, "{name}, {taken:?}: {}", data.escape_ascii());
}

// One test, since what is allocated is counted for the process.
#[test]
fn seeds_and_mutations_of_them_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for (name, entry) in entries::ALL {
        let seeds = seeds(name);
        assert!(seeds.len() > 2, "{name} has no seeds");
        seeds.iter().for_each(|seed| run(name, entry, seed, folder.path()));
        for _ in 0..MUTATIONS {
            let (seed, other) = (noise.below(seeds.len()), noise.below(seeds.len()));
            let mut data = seeds[seed].clone();
            mutate(&mut data, &seeds[other], &mut noise);
            run(name, entry, &data, folder.path());
        }
    }
}
