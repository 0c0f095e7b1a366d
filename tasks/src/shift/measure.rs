//! The scores of some images: all draws, sets and timesteps, with what they share made once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use candle_core::Tensor;
use driftless::vision::Rgb;
use features::engine::{Draw, Drawing, Encodings, Imagined, PassId, ReadImage};
use features::inputs::Sample;
use features::plan::RunPlan;
use features::set::{ModelId, SetId, Timestep};
use features::stores::ImageFeatures;
use rayon::prelude::*;

use super::compare::{Compared, mean};
use super::exhibit::{Exhibit, Exhibits};
use super::kind::Kind;
use super::levels::{Level, Levels};
use super::lines::Line;
use super::settings::ShiftSettings;
use super::{Result, Unscored};
use crate::score;
use crate::warp::Warp;

/// The networks at work on scores.
pub struct Measure<'a> {
    pub plan: &'a RunPlan,
    pub settings: &'a ShiftSettings,
    pub levels: &'a Levels,
    pub drawing: Drawing<'a>,
    pub exhibits: &'a Exhibits,
}

/// Features by draw, then image.
type Draws = Vec<Vec<ImageFeatures>>;

/// What an image got.
#[derive(Clone, Default)]
pub struct Scored {
    /// Its scores.
    pub lines: Vec<Line>,
    /// What the report shows of it, if it shows it.
    pub exhibit: Option<Exhibit>,
}

/// What is made of the images of a batch once.
struct Prepared<'s> {
    images: Encodings<'s>,
    /// By the warp's number.
    warped: Vec<Encodings<'s>>,
    /// The reference's features by image.
    reference: Vec<ImageFeatures>,
    /// The reference's set at the timestep in hand: what the paper's score is anchored at.
    anchors: Option<(Timestep, Rc<Draws>)>,
    /// What each image got so far.
    scored: Vec<Scored>,
    /// Round trips of clean latents through the autoencoder, by model, seed and pass of the network.
    round_trips: HashMap<(usize, u64, usize), Vec<Rgb>>,
}

impl<'a> Measure<'a> {
    /// Reads an image, and behind it its warped ones.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self, sample: &Sample) -> features::Result<Vec<ReadImage>> {
        let mut images = vec![self.drawing.read(sample)?];
        for number in 0..self.settings.warps {
            let warp = Warp::new(sample.number, number);
            images.push(self.drawing.changed(&images[0], sample, &|image| warp.apply(image))?);
        }
        Ok(images)
    }

    /// What each image gets, in the order of the images.
    ///
    /// # Errors
    /// When a network fails, sets cannot be compared, or a file of the report cannot be written.
    pub fn batch(&mut self, samples: &[&Sample], images: Vec<Vec<ReadImage>>) -> Result<Vec<Scored>> {
        let mut prepared = self.prepare(samples, images)?;
        for pass in self.passes() {
            let mut draws = Vec::with_capacity(self.settings.draws);
            for draw in 0..self.settings.draws {
                draws.push(self.drawing.draw(pass, &mut prepared.images, draw, true)?);
            }
            let warped = prepared.warped.iter_mut().enumerate();
            let warped = warped.map(|(number, images)| self.drawing.draw(pass, images, self.settings.draws + number, false));
            let warped: Vec<Draw> = warped.collect::<features::Result<_>>()?;
            let levels: Vec<Level> = self.drawing.sets(pass).iter().filter_map(|set| self.levels.level(*set)).collect();
            for level in levels {
                self.imagination(&mut prepared, pass, level, &draws)?;
                self.layers(&mut prepared, level, &draws, &warped)?;
            }
        }
        Ok(prepared.scored)
    }

    /// Passes that some set asks for, in the order of the levels: the anchor of a timestep before what is compared with it.
    fn passes(&self) -> Vec<PassId> {
        let rank = |pass: &PassId| {
            let place = |set: &SetId| self.levels.all.iter().position(|level| level.id == *set);
            self.drawing.sets(*pass).iter().filter_map(place).min()
        };
        let mut passes: Vec<(usize, PassId)> =
            self.drawing.passes().into_iter().filter_map(|pass| Some((rank(&pass)?, pass))).collect();
        passes.sort_by_key(|(rank, _)| *rank);
        passes.into_iter().map(|(_, pass)| pass).collect()
    }

    fn prepare<'s>(&mut self, samples: &[&'s Sample], images: Vec<Vec<ReadImage>>) -> Result<Prepared<'s>> {
        let mut by_warp: Vec<Vec<ReadImage>> = (0..=self.settings.warps).map(|_| Vec::new()).collect();
        let mut scored = Vec::with_capacity(samples.len());
        for (sample, read) in samples.iter().zip(images) {
            let photo = read.first().filter(|_| self.exhibits.wants(sample)).map(|image| image.image.clone());
            scored.push(Scored { lines: Vec::new(), exhibit: photo.map(Exhibit::new) });
            by_warp.iter_mut().zip(read).for_each(|(images, image)| images.push(image));
        }
        let mut encoded =
            by_warp.iter().map(|images| self.drawing.encode(samples, images)).collect::<features::Result<Vec<_>>>()?;
        let warped = encoded.split_off(1);
        let mut images = encoded.remove(0);
        let id = self.levels.reference;
        let is_its = |pass: &PassId| self.drawing.sets(*pass).contains(&id);
        let mut reference = Vec::new();
        if let Some(pass) = self.drawing.passes().into_iter().find(is_its) {
            let draw = self.drawing.draw(pass, &mut images, 0, false)?;
            reference = self.of_set(id, &[draw], &images)?.remove(0);
        }
        Ok(Prepared { images, warped, reference, anchors: None, scored, round_trips: HashMap::new() })
    }

    fn of_set(&self, set: SetId, draws: &[Draw], images: &Encodings) -> Result<Draws> {
        let of = |draw| {
            let image = |image| self.drawing.features(draw, set, images, image);
            (0..images.samples().len()).map(image).collect::<features::Result<_>>()
        };
        Ok(draws.iter().map(of).collect::<features::Result<_>>()?)
    }

    /// The scores of every layer.
    fn layers(&self, prepared: &mut Prepared, level: Level, draws: &[Draw], warped: &[Draw]) -> Result<()> {
        let draws = Rc::new(self.of_set(level.id, draws, &prepared.images)?);
        let warped = prepared
            .warped
            .iter()
            .zip(warped)
            .map(|(images, draw)| Ok(self.of_set(level.id, std::slice::from_ref(draw), images)?.remove(0)));
        let warped: Draws = warped.collect::<Result<_>>()?;
        if level.set == self.levels.reference_set && !level.t.is_clean() {
            prepared.anchors = Some((level.t, draws.clone()));
        }
        let lines = self.lines(prepared, level, &draws, &warped)?;
        for ((scored, lines), features) in prepared.scored.iter_mut().zip(lines).zip(&draws[0]) {
            scored.lines.extend(lines);
            if let Some(exhibit) = scored.exhibit.as_mut().filter(|_| self.exhibits.shows(level)) {
                exhibit.features.push((level.set, features.clone()));
            }
        }
        Ok(())
    }

    /// The lines of every layer, by image.
    fn lines(&self, prepared: &Prepared, level: Level, draws: &Draws, warped: &Draws) -> Result<Vec<Vec<Line>>> {
        let anchors = prepared.anchors.as_ref().filter(|(t, _)| *t == level.t).map(|(_, anchors)| anchors);
        let samples = prepared.images.samples();
        let mut lines = Vec::with_capacity(samples.len());
        for (image, sample) in samples.iter().enumerate() {
            let compared = |layer: usize| Compared {
                draws: draws.iter().map(|draw| &draw[image][layer].1).collect(),
                reference: &prepared.reference[image][layer].1,
                anchors: anchors.map(|anchors| anchors.iter().map(|draw| &draw[image][layer].1).collect()),
                warped: warped.iter().map(|draw| &draw[image][layer].1).collect(),
                image: sample.number,
                side: self.plan.img_size,
            };
            let all: Vec<Compared> = (0..draws[0][image].len()).map(compared).collect();
            let scores: Vec<_> = all.par_iter().map(Compared::scores).collect();
            let mut own = Vec::new();
            for ((layer, _), scores) in draws[0][image].iter().zip(scores) {
                let fault = |fault| Unscored {
                    image: sample.name.clone(),
                    set: self.levels.names[level.set].clone(),
                    layer: layer.to_string(),
                    fault,
                };
                own.extend(
                    scores.map_err(fault)?.into_iter().map(|(score, value)| self.line(level, &layer.to_string(), score, value)),
                );
            }
            lines.push(own);
        }
        Ok(lines)
    }

    fn line(&self, level: Level, layer: &str, score: Kind, value: f64) -> Line {
        Line { set: self.levels.names[level.set].clone(), timestep: Some(level.t), layer: layer.to_owned(), score, value }
    }

    /// What is said of the predictions; nothing of clean latents, of which nothing is predicted.
    fn imagination(&self, prepared: &mut Prepared, pass: PassId, level: Level, draws: &[Draw]) -> Result<()> {
        let count = prepared.scored.len();
        let mut values: Vec<Predictions> = (0..count).map(|_| Predictions::default()).collect();
        for (number, imagined) in draws.iter().flat_map(|draw| &draw.imagined).enumerate() {
            for (image, values) in values.iter_mut().enumerate() {
                let flat = |tensor: &Tensor| tensor.get(image)?.flatten_all()?.to_vec1::<f32>();
                values.latents.extend(score::latent_agreement(&flat(&imagined.latents)?, &flat(&imagined.predicted)?));
            }
            let is_shown =
                number == 0 && self.exhibits.shows(level) && prepared.scored.iter().any(|scored| scored.exhibit.is_some());
            if !self.settings.decode && !is_shown {
                continue;
            }
            let decoded = self.drawing.decode(pass.model(), &imagined.predicted)?;
            if self.settings.decode {
                let clean = self.round_trip(prepared, pass.model(), level, number, imagined)?;
                for ((values, decoded), clean) in values.iter_mut().zip(&decoded).zip(clean) {
                    values.gradients.extend(score::gradient_correlation(clean, decoded));
                    values.edges.push(score::edge_agreement(clean, decoded));
                }
            }
            let shown = prepared.scored.iter_mut().zip(decoded).filter(|_| is_shown);
            shown
                .filter_map(|(scored, image)| Some((scored.exhibit.as_mut()?, image)))
                .for_each(|(exhibit, image)| exhibit.imagined.push((level.set, image)));
        }
        for (scored, values) in prepared.scored.iter_mut().zip(values) {
            let all = [
                (Kind::Imagination, values.latents),
                (Kind::ImaginationGradients, values.gradients),
                (Kind::ImaginationEdges, values.edges),
            ];
            let lines = all.into_iter().filter_map(|(score, values)| Some(self.line(level, "", score, mean(&values)?)));
            scored.lines.extend(lines);
        }
        Ok(())
    }

    fn round_trip<'p>(
        &self,
        prepared: &'p mut Prepared,
        model: ModelId,
        level: Level,
        number: usize,
        imagined: &Imagined,
    ) -> Result<&'p [Rgb]> {
        let model_place = self.plan.models.ids().position(|id| id == model).unwrap_or_default();
        let key = (model_place, self.plan.sets[level.id].pass.seed, number);
        Ok(match prepared.round_trips.entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => place.insert(self.drawing.decode(model, &imagined.latents)?),
        })
    }
}

/// What is said of the predictions of one image, by pass of the network.
#[derive(Default)]
struct Predictions {
    latents: Vec<f64>,
    gradients: Vec<f64>,
    edges: Vec<f64>,
}
