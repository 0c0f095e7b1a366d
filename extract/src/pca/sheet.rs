//! Images of several feature sets side by side: a column per set, a row per feature, with their names.

use std::collections::BTreeMap;

use driftless::vision::{Filter, Rgb, resize};
use font8x8::legacy::BASIC_LEGACY;

/// Side of an image in the sheet.
const CELL: usize = 256;
/// White between images.
const GAP: usize = 8;
/// Side of a letter: the font's 8 pixels, doubled.
const LETTER: usize = 16;

/// A sheet in the making.
#[derive(Debug, Default)]
pub struct Sheet {
    columns: Vec<String>,
    /// By the row's name, then the column's.
    rows: BTreeMap<String, BTreeMap<String, Rgb>>,
}

impl Sheet {
    /// A sheet with columns in this order.
    pub fn new(columns: impl IntoIterator<Item = String>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: BTreeMap::new() }
    }

    /// Puts an image in its place.
    pub fn put(&mut self, row: &str, column: &str, image: &Rgb) {
        let cell = fitted(image);
        self.rows.entry(row.to_owned()).or_default().insert(column.to_owned(), cell);
    }

    /// Rows there are.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The image of the sheet.
    pub fn draw(&self) -> Rgb {
        let width = GAP + self.columns.len() * (CELL + GAP);
        let height = GAP + LETTER + self.rows.len() * (GAP + LETTER + GAP + CELL) + GAP;
        let mut sheet = Rgb::filled(width, height, [255; 3]);
        for (number, column) in self.columns.iter().enumerate() {
            write(&mut sheet, column, column_left(number), GAP, CELL);
        }
        for (number, (name, cells)) in self.rows.iter().enumerate() {
            let top = GAP + LETTER + number * (GAP + LETTER + GAP + CELL) + GAP;
            write(&mut sheet, name, GAP, top, width - 2 * GAP);
            for (number, column) in self.columns.iter().enumerate() {
                if let Some(cell) = cells.get(column) {
                    paste(&mut sheet, cell, column_left(number), top + LETTER + GAP);
                }
            }
        }
        sheet
    }
}

fn column_left(number: usize) -> usize {
    GAP + number * (CELL + GAP)
}

/// An image whose long side is the cell's: enlarged by nearest neighbor, so that feature pixels stay visible, reduced bicubic.
fn fitted(image: &Rgb) -> Rgb {
    let long = image.width.max(image.height).max(1);
    let (width, height) = ((image.width * CELL / long).max(1), (image.height * CELL / long).max(1));
    resize(image, width, height, if long <= CELL { Filter::Nearest } else { Filter::Bicubic })
}

fn paste(sheet: &mut Rgb, image: &Rgb, left: usize, top: usize) {
    for (y, line) in image.pixels.chunks_exact(3 * image.width).enumerate() {
        let start = 3 * ((top + y) * sheet.width + left);
        sheet.pixels[start..start + line.len()].copy_from_slice(line);
    }
}

/// Writes as much of a text as fits; a letter that the font lacks becomes a question mark.
fn write(sheet: &mut Rgb, text: &str, left: usize, top: usize, width: usize) {
    for (number, letter) in text.chars().take(width / LETTER).enumerate() {
        let glyph = BASIC_LEGACY.get(letter as usize).unwrap_or(&BASIC_LEGACY['?' as usize]);
        for y in 0..LETTER {
            for x in 0..LETTER {
                if glyph[y / 2] >> (x / 2) & 1 == 1 {
                    let pixel = 3 * ((top + y) * sheet.width + left + number * LETTER + x);
                    sheet.pixels[pixel..pixel + 3].fill(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_where_they_belong() {
        let mut sheet = Sheet::new(["plain".to_owned(), "lora".to_owned()]);
        sheet.put("a", "lora", &Rgb::filled(8, 8, [255, 0, 0]));
        sheet.put("b", "plain", &Rgb::filled(512, 256, [0, 0, 255]));
        let image = sheet.draw();
        assert_eq!(image.width, 8 + 2 * 264);
        let pixel = |x: usize, y: usize| &image.pixels[3 * (y * image.width + x)..][..3];
        let first = GAP + LETTER + GAP + LETTER + GAP;
        let second = first + CELL + GAP + LETTER + GAP;
        assert_eq!(pixel(column_left(0), first), [255, 255, 255]);
        assert_eq!(pixel(column_left(1), first), [255, 0, 0]);
        assert_eq!(pixel(column_left(1) + 255, first + 255), [255, 0, 0]);
        assert_eq!(pixel(column_left(0), second), [0, 0, 255]);
        assert_eq!(pixel(column_left(0), second + 128), [255, 255, 255]);
        // Some black of the names.
        assert!(image.pixels[..3 * image.width * (GAP + LETTER)].contains(&0));
    }

    #[test]
    fn long_and_foreign_names_stay_inside() {
        let mut sheet = Sheet::new(["ein sehr langer Name mit Umlauten äöü und mehr".to_owned()]);
        sheet.put(&"名前".repeat(50), "x", &Rgb::filled(1, 1, [0; 3]));
        assert_eq!(sheet.draw().width, 8 + 264);
    }
}
