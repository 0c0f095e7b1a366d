//! Images in the making: feature by feature, all sets of one together, and with them the rows of the sheet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use driftless::formats::remove_stale;
use driftless::vision::{Filter, Image, Rgb, resize};
use driftless_cli::Console;
use features::stores::Source;

use crate::args::PcaArgs;
use crate::terminal::counted;

use super::common::Bases;
use super::photos::Photos;
use super::pieces::{Cuts, Piece};
use super::sheet::{Page, Row, Sheet, cell_size, fitted};
use super::{NotDrawn, heat, image, names};

/// The sheet's column of the images themselves.
const IMAGE_COLUMN: &str = "image";

/// Draws features into the folder `output`.
///
/// # Errors
/// When one cannot be read or drawn, or an image cannot be written.
pub fn draw(args: &PcaArgs, output: &Path, sources: &[Source], console: &Console) -> Result<()> {
    let mut sets: Vec<&str> = Vec::new();
    for source in sources {
        if !sets.contains(&source.set.as_str()) {
            sets.push(&source.set);
        }
    }
    let photos = if args.images.is_empty() { None } else { Some(Photos::find(&args.images)?) };
    let cuts = Cuts { layers: args.channels.clone(), attention: args.attention.clone(), tokens: args.tokens };
    let wants_sheet = sets.len() > 1 || args.sheet.is_some() || photos.is_some();
    let bases = if args.common || wants_sheet { Some(Bases::fit(sources, &cuts)?) } else { None };
    let sheet = wants_sheet.then(|| {
        let place = args.sheet.clone().unwrap_or_else(|| output.join("sheet.png"));
        let columns = photos.iter().map(|_| IMAGE_COLUMN).chain(sets.iter().copied()).map(str::to_owned);
        Sheet::new(place, columns.collect(), args.sheet_rows)
    });
    let mut drawing = Drawing { args, bases, cuts, photos, sets, output, sheet, files: Files::default(), rows: 0, unmatched: 0 };
    let mut features: BTreeMap<_, Vec<&Source>> = BTreeMap::new();
    for source in sources {
        features.entry((names::order(&source.name), &source.name)).or_default().push(source);
    }
    for sources in features.values() {
        drawing.feature(sources, console)?;
    }
    drawing.finish(console)
}

struct Drawing<'a> {
    args: &'a PcaArgs,
    /// One basis a layer, where images are to be compared.
    bases: Option<Bases>,
    cuts: Cuts,
    photos: Option<Photos>,
    sets: Vec<&'a str>,
    output: &'a Path,
    sheet: Option<Sheet>,
    files: Files,
    /// Rows of the sheet so far, and those that no image was found for.
    rows: usize,
    unmatched: usize,
}

/// A row of the sheet in the making.
struct Begun {
    row: Row,
    /// Width and height of what is drawn there, as the network saw it.
    shape: (usize, usize),
}

impl Drawing<'_> {
    /// Draws one feature of all sets that have it.
    fn feature(&mut self, sources: &[&Source], console: &Console) -> Result<()> {
        let Some(name) = sources.first().map(|source| source.name.as_str()) else { return Ok(()) };
        let photo = self.photos.as_ref().map(|photos| photos.of(name)).transpose()?.flatten();
        let mut rows = Vec::new();
        for source in sources {
            let drawn = self.source(source, photo.as_ref(), &mut rows);
            drawn.with_context(|| format!("{} of {}", source.name, source.set))?;
            console.detail(|| format!("{}: {}", source.set, source.name));
        }
        for Begun { mut row, shape } in rows {
            if let (Some(photo), Some(cell)) = (&photo, row.cells.first_mut()) {
                let (width, height) = cell_size(shape);
                *cell = Some(photo.resized_rgb(width, height));
            }
            self.rows += 1;
            self.unmatched += usize::from(photo.is_none());
            if let Some(page) = self.sheet.as_mut().and_then(|sheet| sheet.push(row)) {
                self.files.page(&page)?;
            }
        }
        Ok(())
    }

    /// Draws one feature of one set.
    fn source(&mut self, source: &Source, photo: Option<&Image>, rows: &mut Vec<Begun>) -> Result<()> {
        let folder = if self.sets.len() > 1 { self.output.join(&source.set) } else { self.output.to_owned() };
        let array = source.read()?;
        for piece in self.cuts.cut(&array.feature)? {
            let name = if piece.name.is_empty() { source.name.clone() } else { format!("{}/{}", source.name, piece.name) };
            let not_drawn = |fault| NotDrawn { name: name.clone(), fault: Box::new(fault) };
            let common = self.bases.as_ref().and_then(|bases| bases.draw(source, &piece)).transpose().map_err(not_drawn)?;
            let image = match &common {
                Some(common) if self.args.common => common.clone(),
                Some(_) | None => image::components(&piece.feature).map_err(not_drawn)?,
            };
            self.put(rows, &name, &source.set, shape_seen(&name, &image), || fitted(common.as_ref().unwrap_or(&image)));
            self.files.save(&image::enlarged(&image, self.args.size), &folder.join(format!("{name}.png")))?;
            if piece.is_attention {
                let [_, height, width] = piece.feature.shape;
                for (token, values) in piece.feature.values.chunks_exact((height * width).max(1)).enumerate() {
                    let image = image::token(values, height, width, array.is_half);
                    self.files.save(&image, &folder.join(&name).join(format!("{token}.png")))?;
                }
            }
            if let Some(photo) = photo {
                self.attention(&source.set, &piece, &name, photo, &folder, rows)?;
            }
        }
        Ok(())
    }

    /// Lays the attention of a piece over its image, if it is attention.
    fn attention(
        &mut self,
        set: &str,
        piece: &Piece,
        name: &str,
        photo: &Image,
        folder: &Path,
        rows: &mut Vec<Begun>,
    ) -> Result<()> {
        let maps = heat::maps(piece, name, self.args.tokens);
        if maps.is_empty() {
            return Ok(());
        }
        let photo = photo.to_rgb();
        for (number, map) in maps.iter().enumerate() {
            let over = heat::over(&photo, map, &self.args.token, self.args.size)
                .map_err(|fault| NotDrawn { name: name.to_owned(), fault: Box::new(fault) })?;
            let name = if maps.len() == 1 { format!("{name}-over") } else { format!("{name}-over-{number}") };
            let shape = (map.shape[2], map.shape[1]);
            let (width, height) = cell_size(shape);
            self.put(rows, &name, set, shape, || resize(&over, width, height, Filter::Bicubic));
            self.files.save(&over, &folder.join(format!("{name}.png")))?;
        }
        Ok(())
    }

    /// Puts an image into its row of the sheet, if there is a sheet.
    fn put(&self, rows: &mut Vec<Begun>, name: &str, set: &str, shape: (usize, usize), cell: impl FnOnce() -> Rgb) {
        if self.sheet.is_none() {
            return;
        }
        let first = usize::from(self.photos.is_some());
        let Some(column) = self.sets.iter().position(|there| *there == set) else { return };
        let place = rows.iter().position(|begun| begun.row.name == name).unwrap_or_else(|| {
            let row = Row { name: name.to_owned(), cells: vec![None; first + self.sets.len()] };
            rows.push(Begun { row, shape });
            rows.len() - 1
        });
        rows[place].row.cells[first + column] = Some(cell());
    }

    /// Writes the last page, and says what was done.
    fn finish(mut self, console: &Console) -> Result<()> {
        if let Some(page) = self.sheet.as_mut().and_then(Sheet::finish) {
            self.files.page(&page)?;
        }
        if self.photos.is_some() && self.unmatched > 0 {
            let how_many = match self.rows - self.unmatched {
                0 => "no image has the name of a feature, so that none is drawn beside them".to_owned(),
                _ => format!("{} of {} rows of the sheet have no image of their name", self.unmatched, self.rows),
            };
            console.warn(format!("--images: {how_many}; extract with --use_original_filename"));
        }
        let beside = self.sheet.as_ref().map_or_else(String::new, |sheet| match sheet.pages() {
            1 => format!(", side by side on 1 page, {}", sheet.file(1).display()),
            pages => format!(", side by side on {pages} pages, {} to {}", sheet.file(1).display(), sheet.file(pages).display()),
        });
        if let Some(stale) = self.sheet.as_ref().map(|sheet| sheet.file(sheet.pages() + 1)).filter(|next| next.exists()) {
            console.warn(format!("{} was there before and is no page of this sheet", stale.display()));
        }
        let images = counted(self.files.count);
        console.info(format!("{images} written to {}{beside}", self.output.display()));
        Ok(())
    }
}

/// Width and height of what the network saw, as far as a drawn feature tells: the sides of attention maps (`-map` layers) are queries and
/// keys, and the network sees squares.
fn shape_seen(name: &str, image: &Rgb) -> (usize, usize) {
    match name.split('/').any(|part| part.ends_with("-map")) {
        true => (1, 1),
        false => (image.width, image.height),
    }
}

/// Images on the disk.
#[derive(Default)]
struct Files {
    /// Written so far.
    count: usize,
    /// Folders that were looked through for what a killed run left.
    swept: BTreeSet<PathBuf>,
}

impl Files {
    fn page(&mut self, page: &Page) -> Result<()> {
        self.save(&page.image, &page.path)
    }

    fn save(&mut self, image: &Rgb, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
            if self.swept.insert(folder.to_owned()) {
                // What a run that was killed left here.
                remove_stale([folder]);
            }
        }
        image.save_png(path)?;
        self.count += 1;
        Ok(())
    }
}
