//! The report: tables of means, curves over timesteps, what was shown of some images, and the commands that made it.

use std::path::Path;

use driftless::formats::write_atomically;
use features::inputs::Sample;
use features::plan::RunPlan;
use features::projection::{Basis, COMPONENTS, NoComponents, Positions, colored};
use features::set::Timestep;

use super::exhibit::{Exhibits, Opened};
use super::kind::Kind;
use super::summary::Summary;
use super::{Result, Shift, output_error};
use crate::report::{Block, Column, Curves, Exhibit, Gallery, Image, Mean, Panel, Point, Report, Row, Section, Strip, Table};

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
    let tables = Tables { summary, sets: vec!["features".to_owned()], clean: Vec::new(), timesteps: vec![None] };
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
        let is_clean = |set: &usize| levels.all.iter().any(|level| level.set == *set && level.t.is_clean());
        let clean: Vec<usize> = (0..levels.names.len()).filter(is_clean).collect();
        let timesteps = match clean.len() == levels.names.len() {
            false => settings.timesteps.iter().map(|t| Some(*t as f64)).collect(),
            true => levels.all.iter().map(|level| Some(number(level.t))).collect(),
        };
        let tables = Tables { summary: self.summary, sets: levels.names.clone(), clean, timesteps };
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
        let all = self.layers();
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

    fn layers(&self) -> Vec<String> {
        layers(self.summary)
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

fn number(timestep: Timestep) -> f64 {
    match timestep {
        Timestep::Noised(t) => t as f64,
        Timestep::Clean(t) => t.get(),
    }
}

/// The layers that there are means of, in the order of the first image's lines.
fn layers(summary: &Summary) -> Vec<String> {
    let mut layers: Vec<String> = Vec::new();
    for (place, _) in summary.means() {
        if !place.layer.is_empty() && !layers.contains(&place.layer) {
            layers.push(place.layer.clone());
        }
    }
    layers
}

/// Means as tables and curves.
struct Tables<'a> {
    summary: &'a Summary,
    sets: Vec<String>,
    /// Sets of clean latents: their one value stands at every timestep.
    clean: Vec<usize>,
    timesteps: Vec<Option<f64>>,
}

impl Tables<'_> {
    fn mean(&self, set: usize, layer: &str, timestep: Option<f64>, kind: Kind) -> Option<Mean> {
        let is_clean = self.clean.contains(&set);
        self.summary.mean(|place| {
            let is_there = is_clean || place.timestep == timestep;
            place.set == self.sets[set] && place.layer == layer && place.score == kind.name() && is_there
        })
    }

    /// The layers of a score: none for what is said of the whole prediction.
    fn layers_of(&self, kind: Kind) -> Vec<String> {
        let mut all = layers(self.summary);
        all.push(String::new());
        let has = |layer: &String| self.summary.mean(|place| place.layer == *layer && place.score == kind.name()).is_some();
        all.into_iter().filter(has).collect()
    }

    fn section(&self, images: usize, draws: usize) -> Section {
        let mut columns = Vec::new();
        let mut rows: Vec<Row> = self.sets.iter().map(|set| Row { set: set.clone(), cells: Vec::new() }).collect();
        for kind in Kind::ALL {
            for layer in self.layers_of(kind) {
                for &timestep in &self.timesteps {
                    let shown = if layer.is_empty() { "prediction" } else { &layer };
                    columns.push(Column { layer: shown.to_owned(), timestep, score: kind.score() });
                    for (set, row) in rows.iter_mut().enumerate() {
                        row.cells.push(self.mean(set, &layer, timestep, kind));
                    }
                }
            }
        }
        let images = if images == 1 { "1 image".to_owned() } else { format!("{images} images") };
        let mut blocks =
            vec![Block::Table(Table { caption: format!("{images}, {draws} draws of the noise each."), columns, rows })];
        if !self.clean.is_empty() && self.clean.len() < self.sets.len() {
            let names = self.clean.iter().map(|set| self.sets[*set].as_str()).collect::<Vec<_>>().join(", ");
            blocks.push(Block::Text(format!(
                "Of clean latents: {names}. No noise is added there, so that the same numbers stand at every timestep, nothing is predicted, \
                 and there is no anchor for the paper's score."
            )));
        }
        Section { heading: "Sets".to_owned(), blocks }
    }

    /// Curves, where there are timesteps to draw them over.
    fn curves(&self) -> Option<Section> {
        let times: Vec<f64> = self.timesteps.iter().copied().flatten().collect();
        if times.len() < 2 {
            return None;
        }
        let mut ordered = times;
        ordered.sort_by(f64::total_cmp);
        let point = |set: usize, layer: &str, kind: Kind, x: f64| Some(Point { x, y: self.mean(set, layer, Some(x), kind)? });
        let panel = |layer: &String, kind: Kind| Panel {
            title: if layer.is_empty() { "prediction".to_owned() } else { layer.clone() },
            lines: (0..self.sets.len()).map(|set| ordered.iter().filter_map(|x| point(set, layer, kind, *x)).collect()).collect(),
        };
        let of_kind = |kind: Kind| {
            let panels = self.layers_of(kind).iter().map(|layer| panel(layer, kind)).collect();
            let (caption, series) = ("Means over images with their standard errors.".to_owned(), self.sets.clone());
            Block::Curves(Curves { caption, x: "timestep".to_owned(), y: kind.score(), series, panels })
        };
        let blocks =
            Kind::ALL.into_iter().filter(|kind| kind.has_curves() && !self.layers_of(*kind).is_empty()).map(of_kind).collect();
        Some(Section { heading: "Over timesteps".to_owned(), blocks })
    }
}
