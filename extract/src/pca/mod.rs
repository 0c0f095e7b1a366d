//! Features as images: `extract pca`, the original's `feature_visualization.py` with its settings as options.
//!
//! Differences: all components are exact and computed in float64; folders of features and safetensors files are drawn, too; several
//! inputs are put side by side in a sheet; cross-attention is laid over the images as well; features that are not square keep their shape.

mod common;
mod heat;
mod image;
mod pieces;
mod sheet;
mod sources;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use driftless::formats::remove_stale;
use driftless::vision::{Image, Rgb};
use driftless_cli::Console;
use features::fault::{Fault, RequestFault};
use features::inputs::find_images;
use features::stores::Source;

use crate::args::PcaArgs;

use common::Bases;
use pieces::{Cuts, Piece};
use sheet::Sheet;

/// The sheet's column of the images themselves.
const IMAGE_COLUMN: &str = "image";

/// A feature that cannot be drawn; its fault goes on behind its name.
#[derive(Debug, thiserror::Error)]
#[error("{name} {fault}")]
struct NotDrawn {
    name: String,
    fault: Box<dyn std::error::Error + Send + Sync>,
}

/// Draws all inputs.
///
/// # Errors
/// When an input is no feature, or an image cannot be written.
pub fn draw(args: &PcaArgs, console: &Console) -> Result<()> {
    if !(1..=8192).contains(&args.size) {
        return Err(Fault::usage(RequestFault::OutOfRange {
            option: "--size",
            found: args.size,
            least: 1,
            most: 8192,
            unit: "pixels",
        })
        .into());
    }
    let sources = sources::find(&args.inputs)?;
    let images = if args.images.is_empty() { None } else { Some(images_by_name(&args.images)?) };
    let mut sets: Vec<String> = Vec::new();
    for source in &sources {
        if !sets.contains(&source.set) {
            sets.push(source.set.clone());
        }
    }
    let several = sets.len() > 1;
    let wants_sheet = several || args.sheet.is_some() || images.is_some();
    let columns = images.iter().map(|_| IMAGE_COLUMN.to_owned()).chain(sets);
    let cuts = Cuts { layers: args.channels.clone(), attention: args.attention.clone(), tokens: args.tokens };
    let bases = if args.common || wants_sheet { Some(Bases::fit(&sources, &cuts)?) } else { None };
    let mut drawing = Drawing {
        args,
        bases,
        cuts,
        sheet: Sheet::new(columns),
        images: images.unwrap_or_default(),
        count: Cell::new(0),
        swept: RefCell::default(),
    };
    for source in &sources {
        let folder = if several { args.output.join(&source.set) } else { args.output.clone() };
        drawing.source(source, &folder).with_context(|| format!("{} of {}", source.name, source.set))?;
        console.detail(|| format!("{}: {}", source.set, source.name));
    }
    let mut beside = String::new();
    if wants_sheet {
        let place = args.sheet.clone().unwrap_or_else(|| args.output.join("sheet.png"));
        let found = drawing.add_images()?;
        if found == 0 && !args.images.is_empty() {
            console.warn("--images: no image has the name of a feature, so that none is drawn beside them; extract with --use_original_filename");
        }
        drawing.save(&drawing.sheet.draw(), &place)?;
        beside = format!(", side by side in {}", place.display());
    }
    let images = match drawing.count.get() {
        1 => "1 image".to_owned(),
        count => format!("{count} images"),
    };
    console.info(format!("{images} written to {}{beside}", args.output.display()));
    Ok(())
}

/// Images in the making.
struct Drawing<'a> {
    args: &'a PcaArgs,
    /// One basis a layer, where images are to be compared.
    bases: Option<Bases>,
    cuts: Cuts,
    sheet: Sheet,
    /// Image files by their name without extension.
    images: BTreeMap<String, PathBuf>,
    /// Images written so far.
    count: Cell<usize>,
    /// Folders that were looked through for what a killed run left.
    swept: RefCell<BTreeSet<PathBuf>>,
}

impl Drawing<'_> {
    /// Draws one feature.
    fn source(&mut self, source: &Source, folder: &Path) -> Result<()> {
        let array = source.read()?;
        for piece in self.cuts.cut(&array.feature)? {
            let name = if piece.name.is_empty() { source.name.clone() } else { format!("{}/{}", source.name, piece.name) };
            let not_drawn = |fault| NotDrawn { name: name.clone(), fault: Box::new(fault) };
            let common = self.bases.as_ref().and_then(|bases| bases.draw(source, &piece)).transpose().map_err(not_drawn)?;
            let image = match &common {
                Some(common) if self.args.common => common.clone(),
                Some(_) | None => image::components(&piece.feature).map_err(not_drawn)?,
            };
            self.put(&name, &source.set, common.as_ref().unwrap_or(&image));
            self.save(&image::enlarged(&image, self.args.size), &folder.join(format!("{name}.png")))?;
            if piece.is_attention {
                let [_, height, width] = piece.feature.shape;
                for (token, values) in piece.feature.values.chunks_exact((height * width).max(1)).enumerate() {
                    let image = image::token(values, height, width, array.is_half);
                    self.save(&image, &folder.join(&name).join(format!("{token}.png")))?;
                }
            }
            self.attention(source, &piece, &name, folder)?;
        }
        Ok(())
    }

    /// Lays the attention of a piece over its image, if there are both.
    fn attention(&mut self, source: &Source, piece: &Piece, name: &str, folder: &Path) -> Result<()> {
        let Some(path) = self.image_of(name) else { return Ok(()) };
        let maps = heat::maps(piece, name, self.args.tokens);
        if maps.is_empty() {
            return Ok(());
        }
        let image = Image::open(path)?.to_rgb();
        for (number, map) in maps.iter().enumerate() {
            let over = heat::over(&image, map, &self.args.token, self.args.size)
                .map_err(|fault| NotDrawn { name: name.to_string(), fault: Box::new(fault) })?;
            let name = if maps.len() == 1 { format!("{name}-over") } else { format!("{name}-over-{number}") };
            self.put(&name, &source.set, &over);
            self.save(&over, &folder.join(format!("{name}.png")))?;
        }
        Ok(())
    }

    /// Puts an image into the sheet, if there is room for its row.
    fn put(&mut self, row: &str, set: &str, image: &Rgb) {
        if self.sheet.rows().count() < self.args.sheet_rows || self.sheet.rows().any(|there| there == row) {
            self.sheet.put(row, set, image);
        }
    }

    /// The image of a row: the file's name in any part of the row's path, the last first.
    fn image_of(&self, row: &str) -> Option<&PathBuf> {
        row.rsplit('/').find_map(|part| self.images.get(part).or_else(|| self.images.get(part.split_once("-over")?.0)))
    }

    /// Puts beside each row its image; how many were found.
    fn add_images(&mut self) -> Result<usize> {
        let mut found = 0;
        let rows: Vec<String> = self.sheet.rows().map(str::to_owned).collect();
        for row in rows {
            if let Some(path) = self.image_of(&row) {
                let image = Image::open(path)?.to_rgb();
                self.sheet.put(&row, IMAGE_COLUMN, &image);
                found += 1;
            }
        }
        Ok(found)
    }

    fn save(&self, image: &Rgb, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
            if self.swept.borrow_mut().insert(folder.to_owned()) {
                // What a run that was killed left here.
                remove_stale([folder]);
            }
        }
        image.save_png(path)?;
        self.count.set(self.count.get() + 1);
        Ok(())
    }
}

/// Image files by their name without extension.
fn images_by_name(patterns: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let found = find_images(patterns, true)?;
    Ok(found.paths.into_iter().filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path.clone()))).collect())
}
