//! Means over images as tables: of the report, with their curves, and of a terminal.

use features::set::Timestep;

use super::kind::Kind;
use super::levels::Levels;
use super::settings::ShiftSettings;
use super::summary::Summary;
use super::written::SET;
use crate::report::{Block, Column, Curves, Mean, Panel, Point, Row, Score, Section, Table};

/// Layers that a terminal's table has at most.
const TEXT_COLUMNS: usize = 8;

fn number(timestep: Timestep) -> f64 {
    match timestep {
        Timestep::Noised(t) => t as f64,
        Timestep::Clean(t) => t.get(),
    }
}

/// The layers that there are means of, in the order of the first image's lines.
pub fn layers(summary: &Summary) -> Vec<String> {
    let mut layers: Vec<String> = Vec::new();
    for (place, _) in summary.means() {
        if !place.layer.is_empty() && !layers.contains(&place.layer) {
            layers.push(place.layer.clone());
        }
    }
    layers
}

/// Means as tables and curves.
pub struct Tables<'a> {
    summary: &'a Summary,
    sets: Vec<String>,
    /// Sets of clean latents: their one value stands at every timestep.
    clean: Vec<usize>,
    timesteps: Vec<Option<f64>>,
}

impl<'a> Tables<'a> {
    /// Those of a run.
    pub fn of(summary: &'a Summary, levels: &Levels, settings: &ShiftSettings) -> Self {
        let is_clean = |set: &usize| levels.all.iter().any(|level| level.set == *set && level.t.is_clean());
        let clean: Vec<usize> = (0..levels.names.len()).filter(is_clean).collect();
        let timesteps = match clean.len() == levels.names.len() {
            false => settings.timesteps.iter().map(|t| Some(*t as f64)).collect(),
            true => levels.all.iter().map(|level| Some(number(level.t))).collect(),
        };
        Self { summary, sets: levels.names.clone(), clean, timesteps }
    }

    /// Those of draws that were written before.
    pub fn of_written(summary: &'a Summary) -> Self {
        Self { summary, sets: vec![SET.to_owned()], clean: Vec::new(), timesteps: vec![None] }
    }

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

    /// The tables of the report.
    pub fn section(&self, images: usize, draws: usize) -> Section {
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
        let images = counted(images);
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
    pub fn curves(&self) -> Option<Section> {
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

    /// A score's means for a terminal: lines of sets, columns of layers, timestep by timestep.
    pub fn text(&self, kind: Kind) -> String {
        let Score { name, unit, .. } = kind.score();
        let layers = self.layers_of(kind);
        let mut text = format!("{name}: {unit}; means and standard errors of {}", counted(self.summary.images));
        for &timestep in &self.timesteps {
            let corner = timestep.map_or_else(String::new, |t| format!("t = {t}"));
            let mut lines = vec![std::iter::once(corner).chain(layers.iter().take(TEXT_COLUMNS).cloned()).collect::<Vec<_>>()];
            for (set, name) in self.sets.iter().enumerate() {
                let cell =
                    |layer: &String| self.mean(set, layer, timestep, kind).map_or_else(|| "-".to_owned(), |mean| cell(&mean));
                lines.push(std::iter::once(name.clone()).chain(layers.iter().take(TEXT_COLUMNS).map(cell)).collect());
            }
            text += "\n\n";
            text += &aligned(&lines);
        }
        if layers.len() > TEXT_COLUMNS {
            text += &format!("\n\nThe first {TEXT_COLUMNS} of {} layers.", layers.len());
        }
        text
    }
}

fn counted(images: usize) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{images} images") }
}

fn cell(mean: &Mean) -> String {
    mean.error.map_or_else(|| format!("{:.3}", mean.mean), |error| format!("{:.3} \u{b1} {error:.3}", mean.mean))
}

/// Columns of equal width, two spaces apart.
fn aligned(lines: &[Vec<String>]) -> String {
    let length = |cell: &String| cell.chars().count();
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| lines.iter().map(|line| length(&line[column])).max().unwrap_or(0)).collect();
    let padded = |(cell, width): (&String, &usize)| format!("{cell}{}", " ".repeat(width - length(cell)));
    let line = |line: &Vec<String>| line.iter().zip(&widths).map(padded).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_terminal_gets_aligned_columns() {
        let mut summary = Summary::default();
        for (image, values) in [("a", [0.25, 0.5]), ("b", [0.75, 0.5])] {
            let lines = format!(
                "{image},plain,50,up,draw_consistency,{}\n{image},gen\u{e4}u,50,up,draw_consistency,{}\n{image},plain,50,up,cka,1\n",
                values[0], values[1]
            );
            summary.add(&lines, Path::new("x.csv")).unwrap();
        }
        let sets = vec!["plain".to_owned(), "gen\u{e4}u".to_owned(), "lost".to_owned()];
        let tables = Tables { summary: &summary, sets, clean: Vec::new(), timesteps: vec![Some(50.0)] };
        let expected = [
            "draw_consistency: 1 = nothing is invented anew from draw to draw; means and standard errors of 2 images",
            "",
            "t = 50  up",
            "plain   0.500 \u{b1} 0.250",
            "gen\u{e4}u   0.500 \u{b1} 0.000",
            "lost    -",
        ];
        assert_eq!(tables.text(Kind::DrawConsistency), expected.join("\n"));
    }
}
