//! Draws that were written before: one folder of features a draw, whatever the layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftless::formats::AtomicFile;
use features::engine::Outcome;
use features::fault::{Fault, FaultCause};
use features::stores::{Feature, LayerNames, Source, find_features, refuse_equal_names};
use features::{Event, Observer};

use super::kind::Kind;
use super::lines::{self, Line};
use super::settings::ShiftFault;
use super::summary::{self, Summary};
use super::tables::Tables;
use super::{Error, Result, Scores, Unscored, page};
use crate::score::draw_consistency;

/// The name of the set.
pub const SET: &str = "features";

/// The features of a draw by image, then layer.
type Draw = BTreeMap<String, BTreeMap<String, Source>>;

/// Scores the draws that stand in these folders, image by image and layer by layer, by `draw_consistency`, and writes the results into
/// `output`.
///
/// # Errors
/// When there are fewer than two folders, one lacks what another has, a feature cannot be read, or a file cannot be written.
pub fn score_written(folders: &[PathBuf], output: &Path, commands: &[String], observer: &dyn Observer) -> Result<Scores> {
    if folders.len() < 2 {
        return Err(Fault::usage(ShiftFault::OneFolder { found: folders.len() }).into());
    }
    let draws = folders.iter().map(|folder| draw(folder)).collect::<Result<Vec<_>>>()?;
    check_equal(folders, &draws)?;
    std::fs::create_dir_all(output).map_err(|error| Fault::of_file(output, error).of("--output "))?;
    observer.event(Event::Began { images: draws[0].len() });
    let mut scores = AtomicFile::create(output.join(lines::SCORES))?;
    scores.write_bytes(lines::HEADER.as_bytes())?;
    let mut summary = Summary::default();
    for (image, layers) in &draws[0] {
        let line = |layer: &String| consistency(image, layer, &draws);
        let found = layers.keys().map(line).collect::<Result<Vec<_>>>()?;
        let path = output.join(lines::SCORES);
        let text = lines::text(image, &found).map_err(|error| super::output_error(&path)(error.into()))?;
        summary.add(&text, &path)?;
        scores.write_bytes(text.as_bytes())?;
        observer.event(Event::Advanced { images: 1, failed: 0 });
    }
    scores.commit()?;
    observer.event(Event::Ended);
    summary.write(&output.join(summary::SUMMARY), None, 0)?;
    page::write_of_written(&output.join(page::REPORT), &summary, folders.len(), commands)?;
    let outcome = Outcome { images: draws[0].len(), failed: 0 };
    Ok(Scores { outcome, table: Tables::of_written(&summary).text(Kind::DrawConsistency) })
}

fn draw(folder: &Path) -> Result<Draw> {
    let wrong = |fault| Error::from(Fault::failure(FaultCause::above(fault)));
    let sources = find_features(&[folder.to_owned()]).map_err(wrong)?;
    refuse_equal_names(&sources).map_err(wrong)?;
    let names = LayerNames::of_stable_diffusion();
    let mut draw = Draw::new();
    for source in sources {
        let (layer, image) = names.split(&source.name);
        // An aggregate is of no layer.
        draw.entry(image).or_default().insert(layer.unwrap_or_default(), source);
    }
    Ok(draw)
}

/// All draws have to hold the same features.
fn check_equal(folders: &[PathBuf], draws: &[Draw]) -> Result<(), Fault> {
    let features = |draw: &Draw| {
        let of_image = |(image, layers): (&String, &BTreeMap<String, Source>)| {
            layers.keys().map(|layer| (image.clone(), layer.clone())).collect::<Vec<_>>()
        };
        draw.iter().flat_map(of_image).collect::<std::collections::BTreeSet<_>>()
    };
    let all: Vec<_> = draws.iter().map(features).collect();
    for (place, own) in all.iter().enumerate() {
        for (other, others) in all.iter().enumerate() {
            if let Some((image, layer)) = others.difference(own).next() {
                let feature = if layer.is_empty() { image.clone() } else { format!("{layer} of {image}") };
                return Err(Fault::of_file(&folders[place], ShiftFault::Lacks { feature, other: folders[other].clone() }));
            }
        }
    }
    Ok(())
}

fn consistency(image: &str, layer: &str, draws: &[Draw]) -> Result<Line> {
    let sources = draws.iter().filter_map(|draw| draw.get(image)?.get(layer));
    let read = |source: &Source| source.read().map_err(|fault| Error::from(Fault::failure(FaultCause::above(fault))));
    let features = sources.map(|source| Ok(read(source)?.feature)).collect::<Result<Vec<Feature>>>()?;
    let value = draw_consistency(&features.iter().collect::<Vec<_>>()).map_err(|fault| Unscored {
        image: image.to_owned(),
        set: SET.to_owned(),
        layer: layer.to_owned(),
        fault,
    })?;
    Ok(Line { set: SET.to_owned(), timestep: None, layer: layer.to_owned(), score: Kind::DrawConsistency, value })
}
