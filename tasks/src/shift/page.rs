//! The report: tables of means, curves over timesteps, what was shown of some images, and the commands that made it.

use std::path::Path;

use driftless::formats::write_atomically;
use features::inputs::Sample;
use features::plan::RunPlan;
use features::projection::{Basis, COMPONENTS, NoComponents, Positions, colored};

use super::exhibit::{Exhibits, Opened};
use super::summary::Summary;
use super::tables::{Tables, layers};
use super::{Result, Shift, output_error};
use crate::report::{Block, Exhibit, Gallery, Image, Report, Section, Strip};

/// The file's name.
pub const REPORT: &str = "report.html";
/// Layers whose features are shown: a page of more could not be opened.
const LAYERS_SHOWN: usize = 8;

/// What a report is made of.
pub struct Shown<'a> {
    pub plan: &'a RunPlan,
    pub shift: &'a Shift,
    pub summary: &'a Summary,
    pub exhibits: &'a Exhibits,
    pub commands: &'a [String],
}

/// Writes the report of a run.
pub fn write(path: &Path, shown: &Shown) -> Result<()> {
    save(path, &shown.report(path)?)
}

/// Writes the report of draws that were written before.
pub fn write_of_written(path: &Path, summary: &Summary, draws: usize, commands: &[String]) -> Result<()> {
    let tables = Tables::of_written(summary);
    let report = Report {
        title: TITLE.to_owned(),
        summary: vec![SUMMARY.to_owned()],
        facts: vec![fact("Images", summary.images), fact("Draws", draws)],
        sections: vec![tables.section(summary.images, draws), of_commands(commands)],
        made_by: made_by(),
    };
    save(path, &report)
}

const TITLE: &str = "Content shift of features";
const SUMMARY: &str =
    "How far features drift from the image: what differs between independent draws of the noise was invented, not seen.";

fn save(path: &Path, report: &Report) -> Result<()> {
    let page = report.render();
    Ok(write_atomically(path, |file| file.write_bytes(page.as_bytes()))?)
}

fn fact(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn made_by() -> String {
    format!("driftless {}", env!("CARGO_PKG_VERSION"))
}

fn of_commands(commands: &[String]) -> Section {
    let blocks = vec![Block::Text("This page was made by:".to_owned()), Block::Commands(commands.to_vec())];
    Section { heading: "Commands".to_owned(), blocks }
}

impl Shown<'_> {
    fn report(&self, path: &Path) -> Result<Report> {
        let (plan, settings, levels) = (self.plan, &self.shift.settings, &self.shift.levels);
        let tables = Tables::of(self.summary, levels, settings);
        let mut facts: Vec<_> = plan.models.values().map(|model| fact("Model", &model.model)).collect();
        facts.push(fact("Images", self.summary.images));
        facts.push(fact("Image size", format!("{0} \u{d7} {0}", plan.img_size)));
        facts.push(fact("Draws", settings.draws));
        facts.push(fact("Timesteps", settings.timesteps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
        facts.push(fact("Warps", settings.warps));
        facts.push(fact("Reference", format!("{} at t = 0", levels.names[levels.reference_set])));
        let mut sections = vec![tables.section(self.summary.images, settings.draws)];
        sections.extend(tables.curves());
        sections.extend(self.images(path)?);
        sections.push(of_commands(self.commands));
        Ok(Report { title: TITLE.to_owned(), summary: vec![SUMMARY.to_owned()], facts, sections, made_by: made_by() })
    }

    /// Photos, what sets imagine, and features in a common basis of all that are shown.
    fn images(&self, path: &Path) -> Result<Option<Section>> {
        let is_there = |sample: &&Sample| self.exhibits.wants(sample) && self.exhibits.has(sample);
        let samples: Vec<&Sample> = self.plan.samples.iter().filter(is_there).collect();
        let opened = samples.iter().map(|sample| self.exhibits.open(sample)).collect::<Result<Vec<_>>>()?;
        let names = &self.shift.levels.names;
        let all = layers(self.summary);
        let mut exhibits = Vec::with_capacity(samples.len());
        for (sample, opened) in samples.iter().zip(&opened) {
            let mut first = vec![image(path, "photo", &opened.photo()?)?];
            for (set, name) in names.iter().enumerate() {
                if let Some(imagined) = opened.imagined(set)? {
                    first.push(image(path, &format!("{name} imagines"), &imagined)?);
                }
            }
            exhibits.push(Exhibit { name: sample.name.clone(), strips: vec![Strip { label: String::new(), images: first }] });
        }
        for layer in all.iter().take(LAYERS_SHOWN) {
            let Some(basis) = self.basis(path, layer, &opened)? else { continue };
            for (exhibit, opened) in exhibits.iter_mut().zip(&opened) {
                let mut images = Vec::new();
                for (set, name) in names.iter().enumerate() {
                    if let Some(feature) = opened.feature(set, layer)? {
                        let drawn = colored(&feature, &basis).map_err(|error| output_error(path)(error.into()))?;
                        images.push(image(path, name, &drawn)?);
                    }
                }
                exhibit.strips.push(Strip { label: layer.clone(), images });
            }
        }
        let t = self.shift.settings.shown_timestep();
        let mut caption = format!(
            "At t = {t}, the first draw. What a set imagines is the decoded image that its prediction means; of clean latents nothing is \
             predicted. Features are drawn in one basis per layer: the same color means the same in all images and sets."
        );
        if all.len() > LAYERS_SHOWN {
            caption += &format!(" The first {LAYERS_SHOWN} of {} layers.", all.len());
        }
        let gallery = Gallery { caption, exhibits };
        let is_empty = gallery.exhibits.is_empty();
        Ok((!is_empty).then(|| Section { heading: "Images".to_owned(), blocks: vec![Block::Gallery(gallery)] }))
    }

    /// The basis of a layer; `None` where it has no three components.
    fn basis(&self, path: &Path, layer: &str, opened: &[Opened]) -> Result<Option<Basis>> {
        let mut positions: Option<Positions> = None;
        for opened in opened {
            for set in 0..self.shift.levels.names.len() {
                let Some(feature) = opened.feature(set, layer)? else { continue };
                let [channels, height, width] = feature.shape;
                let positions = positions.get_or_insert_with(|| Positions::new(channels));
                let added = positions.add(&feature.values, channels, height * width);
                added.map_err(|error| output_error(path)(error.into()))?;
            }
        }
        match positions.map(|positions| positions.basis(COMPONENTS)) {
            None | Some(Err(NoComponents::TooFew { .. })) => Ok(None),
            Some(Ok(basis)) => Ok(Some(basis)),
            Some(Err(error)) => Err(output_error(path)(error.into())),
        }
    }
}

fn image(path: &Path, label: &str, image: &driftless::vision::Rgb) -> Result<Image> {
    Image::new(label, image.to_png()?).map_err(|error| output_error(path)(error.into()))
}
