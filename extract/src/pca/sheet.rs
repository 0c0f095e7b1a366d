//! Images of several feature sets side by side: a column per set, a row per feature, with their names. Rows come one after the other and go
//! in pages, each drawn when it is full, so that memory does not grow with their number.

use std::path::{Path, PathBuf};

use driftless::vision::{Filter, Rgb, resize};

use super::label::{LINE, Letters};

/// Side of an image in the sheet.
pub const CELL: usize = 256;
/// White between images.
const GAP: usize = 8;

/// Images of one feature, one per column; a set that lacks the feature has none.
#[derive(Debug)]
pub struct Row {
    /// The feature's name.
    pub name: String,
    /// At most [`CELL`] wide and high.
    pub cells: Vec<Option<Rgb>>,
}

/// A page that is full.
pub struct Page {
    /// Its file.
    pub path: PathBuf,
    /// Its image.
    pub image: Rgb,
}

/// A sheet in the making.
pub struct Sheet {
    place: PathBuf,
    columns: Vec<String>,
    rows_per_page: usize,
    /// Those of the page in hand.
    rows: Vec<Row>,
    pages: usize,
    letters: Letters,
}

impl Sheet {
    /// A sheet with columns in this order, whose first page is the file `place`. A page has one row or more.
    pub fn new(place: PathBuf, columns: Vec<String>, rows_per_page: usize) -> Self {
        Self { place, columns, rows_per_page: rows_per_page.max(1), rows: Vec::new(), pages: 0, letters: Letters::new() }
    }

    /// Adds a row; the page, where that makes one full.
    pub fn push(&mut self, row: Row) -> Option<Page> {
        self.rows.push(row);
        if self.rows.len() < self.rows_per_page { None } else { Some(self.turn()) }
    }

    /// The last page, where rows are left, or there were none at all.
    pub fn finish(&mut self) -> Option<Page> {
        if self.rows.is_empty() && self.pages > 0 { None } else { Some(self.turn()) }
    }

    /// Pages that are full.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The file of a page, counted from 1: the first has the sheet's name, the others their number behind it.
    pub fn file(&self, page: usize) -> PathBuf {
        numbered(&self.place, page)
    }

    fn turn(&mut self) -> Page {
        self.pages += 1;
        let rows = std::mem::take(&mut self.rows);
        Page { path: self.file(self.pages), image: draw(&self.columns, &rows, &self.letters) }
    }
}

fn numbered(place: &Path, page: usize) -> PathBuf {
    if page == 1 {
        return place.to_owned();
    }
    let mut name = place.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{page:03}"));
    if let Some(extension) = place.extension() {
        name.push(".");
        name.push(extension);
    }
    place.with_file_name(name)
}

/// A name in as many lines as it takes.
struct Heading {
    lines: Vec<String>,
}

impl Heading {
    fn height(&self) -> usize {
        self.lines.len() * LINE
    }

    fn write(&self, page: &mut Rgb, left: usize, top: usize, letters: &Letters) {
        for (number, line) in self.lines.iter().enumerate() {
            letters.write(page, line, left, top + number * LINE);
        }
    }
}

fn draw(columns: &[String], rows: &[Row], letters: &Letters) -> Rgb {
    let width = GAP + columns.len() * (CELL + GAP);
    let heading = |text: &str, width: usize| Heading { lines: letters.lines(text, width) };
    let heads: Vec<Heading> = columns.iter().map(|column| heading(column, CELL)).collect();
    let names: Vec<Heading> = rows.iter().map(|row| heading(&row.name, width - 2 * GAP)).collect();
    let head = heads.iter().map(Heading::height).max().unwrap_or(0);
    let tallest = |row: &Row| row.cells.iter().flatten().map(|cell| cell.height).max().unwrap_or(0);
    let below = |(row, name): (&Row, &Heading)| GAP + name.height() + GAP / 2 + tallest(row);
    let height = GAP + head + rows.iter().zip(&names).map(below).sum::<usize>() + GAP;
    let mut page = Rgb::filled(width, height, [255; 3]);
    let mut top = GAP + head;
    for (number, head) in heads.iter().enumerate() {
        // Short ones stand at the bottom, over their images.
        head.write(&mut page, left_of(number), top - head.height(), letters);
    }
    for (row, name) in rows.iter().zip(&names) {
        name.write(&mut page, GAP, top + GAP, letters);
        let images = top + GAP + name.height() + GAP / 2;
        for (number, cell) in row.cells.iter().enumerate() {
            cell.iter().for_each(|cell| paste(&mut page, cell, left_of(number), images));
        }
        top = images + tallest(row);
    }
    page
}

fn left_of(column: usize) -> usize {
    GAP + column * (CELL + GAP)
}

/// Width and height of a cell for what is `width` wide and `height` high: the long side is the cell's.
pub fn cell_size((width, height): (usize, usize)) -> (usize, usize) {
    let long = width.max(height).max(1);
    ((width * CELL / long).max(1), (height * CELL / long).max(1))
}

/// An image as large as a cell of its own shape: enlarged by nearest neighbor, so that feature pixels stay visible, reduced bicubic.
pub fn fitted(image: &Rgb) -> Rgb {
    let (width, height) = cell_size((image.width, image.height));
    let is_enlarged = image.width.max(image.height) <= CELL;
    resize(image, width, height, if is_enlarged { Filter::Nearest } else { Filter::Bicubic })
}

fn paste(page: &mut Rgb, image: &Rgb, left: usize, top: usize) {
    for (y, line) in image.pixels.chunks_exact(3 * image.width).enumerate() {
        let start = 3 * ((top + y) * page.width + left);
        page.pixels[start..start + line.len()].copy_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(columns: &[&str], rows_per_page: usize) -> Sheet {
        Sheet::new("out/sheet.png".into(), columns.iter().map(|&column| column.to_owned()).collect(), rows_per_page)
    }

    fn row(name: &str, cells: Vec<Option<Rgb>>) -> Row {
        Row { name: name.to_owned(), cells }
    }

    #[test]
    fn images_stand_where_they_belong() {
        let mut sheet = sheet(&["plain", "lora"], 2);
        let red = fitted(&Rgb::filled(8, 8, [255, 0, 0]));
        let blue = fitted(&Rgb::filled(512, 256, [0, 0, 255]));
        assert_eq!((blue.width, blue.height), (256, 128));
        assert!(sheet.push(row("a", vec![None, Some(red)])).is_none());
        let page = sheet.push(row("b", vec![Some(blue), None])).unwrap();
        let image = page.image;
        let first = GAP + LINE + GAP + LINE + GAP / 2;
        let second = first + CELL + GAP + LINE + GAP / 2;
        assert_eq!((image.width, image.height), (8 + 2 * 264, second + 128 + GAP));
        let pixel = |x: usize, y: usize| &image.pixels[3 * (y * image.width + x)..][..3];
        assert_eq!(pixel(left_of(0), first), [255, 255, 255]);
        assert_eq!(pixel(left_of(1), first), [255, 0, 0]);
        assert_eq!(pixel(left_of(1) + 255, first + 255), [255, 0, 0]);
        assert_eq!(pixel(left_of(0), second), [0, 0, 255]);
        assert_eq!(pixel(left_of(0), second + 127), [0, 0, 255]);
        assert_eq!(pixel(left_of(0), second + 128), [255, 255, 255]);
        // Some black of the names.
        assert!(image.pixels[..3 * image.width * (GAP + LINE)].iter().any(|value| *value < 64));
    }

    #[test]
    fn rows_go_on_on_further_pages() {
        let mut sheet = sheet(&["plain"], 3);
        let full: Vec<Page> =
            (0..7).filter_map(|number| sheet.push(row(&number.to_string(), vec![Some(Rgb::filled(9, 9, [0; 3]))]))).collect();
        let last = sheet.finish().unwrap();
        let paths: Vec<_> = full.iter().chain([&last]).map(|page| page.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["out/sheet.png", "out/sheet-002.png", "out/sheet-003.png"]);
        assert!(full[0].image.height == full[1].image.height && last.image.height < full[0].image.height);
        assert!(sheet.finish().is_none() && sheet.pages() == 3);
        assert_eq!(numbered(Path::new("x/a.b"), 12), Path::new("x/a-012.b"));
        assert_eq!(numbered(Path::new("all"), 1000), Path::new("all-1000"));
    }

    #[test]
    fn long_names_make_room_for_themselves() {
        let black = || vec![Some(Rgb::filled(1, 1, [0; 3]))];
        let height = |column: &str, name: &str| {
            let mut sheet = sheet(&[column], 1);
            let page = sheet.push(row(name, black())).unwrap().image;
            assert_eq!(page.width, 8 + 264);
            page.height
        };
        let short = height("x", "x");
        assert!(height("the name of a set that says everything about how its features were made", "x") > short + LINE);
        assert!(height("x", &"名前".repeat(50)) > short + 2 * LINE);
    }
}
