//! Means over all images, by set, timestep, layer and score: sums alone are kept.

use std::collections::BTreeMap;
use std::path::Path;

use driftless::formats::write_atomically;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settings::ShiftSettings;
use super::{Result, output_error};
use crate::report::Mean;

/// The file's name.
pub const SUMMARY: &str = "summary.json";

/// A line of `scores.csv`.
#[derive(Deserialize)]
struct Row {
    #[allow(dead_code)] // the column is there
    image: String,
    set: String,
    timestep: Option<f64>,
    layer: String,
    score: String,
    value: f64,
}

/// What a mean is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The set's name.
    pub set: String,
    /// The timestep; `None` for features that were written.
    pub timestep: Option<f64>,
    /// The layer's id; empty for what is said of the whole prediction.
    pub layer: String,
    /// The score's name.
    pub score: String,
}

/// Numbers so far (B. Welford, Technometrics 4(3), 1962).
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: usize,
    mean: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn mean(self) -> Mean {
        let count = self.count as f64;
        let error = (self.count > 1).then(|| (self.squares / (count - 1.0) / count).sqrt());
        Mean { mean: self.mean, error, count: self.count }
    }
}

/// Means over images.
#[derive(Default)]
pub struct Summary {
    /// In the order in which they were first seen, which is that of the first image's lines.
    places: Vec<Place>,
    sums: Vec<Sums>,
    /// By the bytes of a place.
    index: BTreeMap<(String, u64, String, String), usize>,
    /// Images.
    pub images: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    set: &'a str,
    timestep: Option<f64>,
    layer: &'a str,
    score: &'a str,
    mean: f64,
    standard_error: Option<f64>,
    images: usize,
}

impl Summary {
    /// Adds an image's lines; `path` is where they come from.
    pub fn add(&mut self, lines: &str, path: &Path) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines.as_bytes());
        for row in reader.deserialize() {
            let Row { image: _, set, timestep, layer, score, value } = row.map_err(|error| output_error(path)(error.into()))?;
            // Timesteps are written as they are read, so equal ones have equal bits; none is infinite.
            let bits = timestep.unwrap_or(f64::INFINITY).to_bits();
            let place = *self.index.entry((set.clone(), bits, layer.clone(), score.clone())).or_insert(self.places.len());
            if place == self.places.len() {
                self.places.push(Place { set, timestep, layer, score });
                self.sums.push(Sums::default());
            }
            self.sums[place].add(value);
        }
        self.images += 1;
        Ok(())
    }

    /// All means.
    pub fn means(&self) -> impl Iterator<Item = (&Place, Mean)> {
        self.places.iter().zip(self.sums.iter().map(|sums| sums.mean()))
    }

    /// One of them.
    pub fn mean(&self, wanted: impl Fn(&Place) -> bool) -> Option<Mean> {
        self.means().find(|(place, _)| wanted(place)).map(|(_, mean)| mean)
    }

    /// Writes them; without `settings` where features were written before.
    pub fn write(&self, path: &Path, settings: Option<&ShiftSettings>, failed: usize) -> Result<()> {
        let entry = |(place, mean): (&'_ Place, Mean)| {
            let Place { set, timestep, layer, score } = place.clone();
            json!(Entry {
                set: &set,
                timestep,
                layer: &layer,
                score: &score,
                mean: mean.mean,
                standard_error: mean.error,
                images: mean.count
            })
        };
        let means: Vec<_> = self.means().map(entry).collect();
        let program = format!("driftless {}", env!("CARGO_PKG_VERSION"));
        let summary =
            json!({ "program": program, "images": self.images, "failed": failed, "settings": settings, "means": means });
        let text = serde_json::to_string_pretty(&summary).map_err(|error| output_error(path)(error.into()))?;
        Ok(write_atomically(path, |file| file.write_bytes(format!("{text}\n").as_bytes()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_all_numbers() {
        let mut summary = Summary::default();
        let values = [0.25, 0.5, 0.125, 1.0];
        for (number, value) in values.iter().enumerate() {
            let lines = format!("i{number},a,50,up,cka,{value}\ni{number},\"b, c\",261.5,,imagination,{}\n", value * 2.0);
            summary.add(&lines, Path::new("x.csv")).unwrap();
        }
        let of = |set: &str| summary.mean(|place| place.set == set).unwrap();
        let expected = Mean::of(&values).unwrap();
        assert!((of("a").mean - expected.mean).abs() < 1e-15 && (of("a").error.unwrap() - expected.error.unwrap()).abs() < 1e-15);
        assert_eq!((of("b, c").mean, of("b, c").count, summary.images), (2.0 * expected.mean, 4, 4));
        assert!(summary.add("i,a,fifty,up,cka,1\n", Path::new("x.csv")).unwrap_err().to_string().contains("x.csv"));
    }
}
