//! Text in images: names of any length, in lines.

use ab_glyph_rasterizer::{Point, Rasterizer, point};
use driftless::vision::Rgb;
use skrifa::instance::{LocationRef, Size};
use skrifa::metrics::GlyphMetrics;
use skrifa::outline::{DrawSettings, OutlineGlyphCollection, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider};

/// Latin, Greek and Cyrillic letters; `extract/fonts/README.md` says where it is from.
const FONT: &[u8] = include_bytes!("../../fonts/DejaVuSans-subset.ttf");
/// Pixels of an em.
const EM: usize = 16;
/// Pixels from one line to the next.
pub const LINE: usize = 20;
/// Pixels from a line's top to where its letters stand; what hangs below, and accents above, fit into the rest.
const BASELINE: usize = 15;
/// Around the letters: no glyph of the font reaches further beyond its place.
const MARGIN: usize = 2 * EM;
/// Shown in the place of a letter that the font lacks.
const REPLACEMENT: char = '\u{FFFD}';

/// Letters of the font.
pub struct Letters {
    font: FontRef<'static>,
    size: Size,
}

impl Letters {
    /// Reads the font.
    pub fn new() -> Self {
        // The font is a part of the program, and a test reads it.
        let font = FontRef::new(FONT).expect("the font of the program is one");
        Self { font, size: Size::new(EM as f32) }
    }

    fn glyphs(&self, text: &str) -> Vec<GlyphId> {
        let map = self.font.charmap();
        let replacement = map.map(REPLACEMENT).unwrap_or_default();
        text.chars().map(|letter| map.map(letter).unwrap_or(replacement)).collect()
    }

    fn metrics(&self) -> GlyphMetrics<'static> {
        self.font.glyph_metrics(self.size, LocationRef::default())
    }

    /// Pixels that a text takes in a line.
    fn width(&self, text: &str) -> f32 {
        let metrics = self.metrics();
        self.glyphs(text).into_iter().map(|glyph| metrics.advance_width(glyph).unwrap_or_default()).sum()
    }

    /// A text in lines of at most `width` pixels, at least one letter each: broken behind spaces and what stands between the words of
    /// names, and anywhere where a word does not fit into a line.
    pub fn lines(&self, text: &str, width: usize) -> Vec<String> {
        let fits = |line: &str| self.width(line.trim_end()) <= width as f32;
        let mut lines = vec![String::new()];
        for word in text.split_inclusive([' ', '/', '-', '_', '.', ',']) {
            // Never empty.
            let last = lines.len() - 1;
            let longer = format!("{}{word}", lines[last]);
            if fits(&longer) {
                lines[last] = longer;
                continue;
            }
            if !lines[last].is_empty() && fits(word) {
                lines.push(word.to_owned());
                continue;
            }
            for letter in word.chars() {
                let last = lines.len() - 1;
                let longer = format!("{}{letter}", lines[last]);
                match lines[last].is_empty() || fits(&longer) {
                    true => lines[last] = longer,
                    false => lines.push(letter.to_string()),
                }
            }
        }
        lines
    }

    /// Writes a line in black, its upper left corner at (`left`, `top`). What would lie outside of the image is left out.
    pub fn write(&self, image: &mut Rgb, line: &str, left: usize, top: usize) {
        let width = self.width(line).ceil() as usize;
        let mut pen = Pen::new(width + 2 * MARGIN, LINE + 2 * MARGIN);
        let (metrics, outlines) = (self.metrics(), self.font.outline_glyphs());
        let mut x = MARGIN as f32;
        for glyph in self.glyphs(line) {
            pen.origin = point(x, (MARGIN + BASELINE) as f32);
            self.outline(&outlines, glyph, &mut pen);
            x += metrics.advance_width(glyph).unwrap_or_default();
        }
        pen.raster.for_each_pixel_2d(|x, y, coverage| {
            let place = |at: u32, start: usize, side: usize| (at as usize + start).checked_sub(MARGIN).filter(|at| *at < side);
            if let (Some(x), Some(y)) = (place(x, left, image.width), place(y, top, image.height)) {
                let pixel = 3 * (y * image.width + x);
                let paper = 1.0 - coverage.clamp(0.0, 1.0);
                image.pixels[pixel..pixel + 3].iter_mut().for_each(|value| *value = (f32::from(*value) * paper).round() as u8);
            }
        });
    }

    fn outline(&self, outlines: &OutlineGlyphCollection, glyph: GlyphId, pen: &mut Pen) {
        let settings = DrawSettings::unhinted(self.size, LocationRef::default());
        // A space has no outline; that of every other glyph is read by a test.
        let _ = outlines.get(glyph).map(|outline| outline.draw(settings, pen));
    }
}

/// Takes outlines, whose y goes up, into a raster, whose y goes down.
struct Pen {
    raster: Rasterizer,
    /// Where the glyph stands.
    origin: Point,
    start: Point,
    last: Point,
}

impl Pen {
    fn new(width: usize, height: usize) -> Self {
        let origin = point(0.0, 0.0);
        Self { raster: Rasterizer::new(width, height), origin, start: origin, last: origin }
    }

    fn at(&self, x: f32, y: f32) -> Point {
        point(self.origin.x + x, self.origin.y - y)
    }
}

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.start = self.at(x, y);
        self.last = self.start;
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let to = self.at(x, y);
        self.raster.draw_line(self.last, to);
        self.last = to;
    }

    fn quad_to(&mut self, cx0: f32, cy0: f32, x: f32, y: f32) {
        let (control, to) = (self.at(cx0, cy0), self.at(x, y));
        self.raster.draw_quad(self.last, control, to);
        self.last = to;
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        let (first, second, to) = (self.at(cx0, cy0), self.at(cx1, cy1), self.at(x, y));
        self.raster.draw_cubic(self.last, first, second, to);
        self.last = to;
    }

    fn close(&mut self) {
        self.raster.draw_line(self.last, self.start);
        self.last = self.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Black pixels of a text in one line, by column.
    fn ink(text: &str) -> Vec<usize> {
        let letters = Letters::new();
        let mut image = Rgb::filled(letters.width(text).ceil() as usize + 8, LINE, [255; 3]);
        letters.write(&mut image, text, 4, 0);
        let dark = |x: usize| (0..LINE).filter(|y| image.pixels[3 * (y * image.width + x)] < 128).count();
        (0..image.width).map(dark).collect()
    }

    #[test]
    fn every_glyph_of_the_font_is_drawn_inside_its_margin() {
        let letters = Letters::new();
        let (map, outlines) = (letters.font.charmap(), letters.font.outline_glyphs());
        for (code, glyph) in map.mappings() {
            let settings = DrawSettings::unhinted(letters.size, LocationRef::default());
            let mut pen = Pen::new(2 * MARGIN, 2 * MARGIN);
            pen.origin = point(MARGIN as f32, MARGIN as f32);
            outlines.get(glyph).unwrap().draw(settings, &mut pen).unwrap_or_else(|error| panic!("U+{code:04X}: {error}"));
        }
        assert!(map.mappings().count() > 500);
    }

    #[test]
    fn letters_have_ink_and_foreign_ones_a_replacement() {
        assert!(ink("Häuser Ωλ Пётр")[4..].iter().filter(|dark| **dark > 0).count() > 60);
        assert_eq!(ink("     ").iter().sum::<usize>(), 0);
        // Each foreign letter is one replacement, which is no empty place.
        let dark = |text: &str| ink(text).iter().sum::<usize>();
        assert!(dark("名") > 20 && 2 * dark("名前") > 3 * dark("名"), "{} {}", dark("名"), dark("名前"));
        assert_eq!(ink("名"), ink("\u{FFFD}"));
    }

    #[test]
    fn lines_are_whole_and_fit() {
        let letters = Letters::new();
        let texts = [
            "up-level1-repeat0-vit-block0-cross-map/a_photo_of_a_horse_that_stands_on_a_meadow.2024",
            "words of a prompt, as names of sets may have them",
            "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen",
            "名前名前名前名前名前名前名前名前名前名前名前名前名前名前名前名前",
            "",
        ];
        for text in texts {
            for width in [1, 60, 256] {
                let lines = letters.lines(text, width);
                assert_eq!(lines.concat(), text);
                let is_narrow = |line: &String| letters.width(line.trim_end()) <= width as f32 || line.chars().count() == 1;
                assert!(lines.iter().all(is_narrow), "{width}: {lines:?}");
            }
        }
        assert_eq!(letters.lines("mid-vit-out/train0", 120), ["mid-vit-out/", "train0"]);
        assert_eq!(letters.lines("short", 256), ["short"]);
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut image = Rgb::filled(10, 10, [255; 3]);
        Letters::new().write(&mut image, "WWWW", 5, 0);
        assert!(image.pixels.contains(&0));
        Letters::new().write(&mut image, "WWWW", 50, 50);
    }
}
