//! Text in images: names of any length, in lines.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use driftless::vision::{Image, Rgb};

/// Latin, Greek and Cyrillic letters as they are drawn, and where each is among them; `extract/fonts/README.md` says how both are made.
const ATLAS: &[u8] = include_bytes!("../../fonts/letters.png");
const TABLE: &str = include_str!("../../fonts/letters.csv");
/// Columns of the atlas for one pixel: letters begin at any of these parts of a pixel, else the gaps between them would be uneven.
const FINE: usize = 4;
/// Pixels of an em in the atlas.
const EM: usize = 16;
/// What advances are counted in: parts of an em.
const UNITS: f32 = 2048.0;
/// Pixels from one line to the next.
pub const LINE: usize = 20;
/// Pixels from a line's top to where its letters stand; what hangs below, and accents above, fit into the rest.
const BASELINE: usize = 15;
/// Around the letters: none reaches further beyond its place, which is asked when the table is read.
const MARGIN: usize = 2 * EM;
/// Shown in the place of a letter that the atlas lacks.
const REPLACEMENT: char = '\u{FFFD}';

/// All letters that there are.
pub struct Letters {
    /// Coverage of each column of the atlas, 0..=255.
    atlas: Vec<u8>,
    stride: usize,
    glyphs: HashMap<char, Glyph>,
    replacement: Glyph,
}

/// A rectangle of the atlas, and how it lies to the place where a letter is written.
#[derive(Clone, Copy)]
struct Glyph {
    x: usize,
    y: usize,
    /// In columns of the atlas.
    width: usize,
    height: usize,
    /// Where its first column and row lie in a field of `MARGIN` around the place, in columns of the atlas and in rows.
    left: usize,
    top: usize,
    /// Pixels from here to the next letter.
    advance: f32,
}

impl Glyph {
    /// Reads a row of the table: the code point, then x, y, width, height, left, top, advance.
    fn read(row: &str) -> Result<(char, Self)> {
        let (code, numbers) = row.split_once(',').context("a row of one value")?;
        let code = char::from_u32(u32::from_str_radix(code, 16)?).context("no code point")?;
        let numbers = numbers.split(',').map(str::parse).collect::<Result<Vec<i16>, _>>()?;
        let [x, y, width, height, left, top, advance] = numbers[..] else { bail!("a row of {} numbers", numbers.len()) };
        let within = |start: i32, size: i16, side: usize| {
            let (start, size) = (usize::try_from(start)?, usize::try_from(size)?);
            if start + size > side {
                bail!("U+{:04X} reaches beyond the margin", u32::from(code));
            }
            Ok(start)
        };
        let left = within((FINE * MARGIN) as i32 + i32::from(left), width, 2 * FINE * MARGIN)?;
        let top = within((MARGIN + BASELINE) as i32 - i32::from(top), height, LINE + 2 * MARGIN)?;
        let (x, y, width, height) = (x.try_into()?, y.try_into()?, width.try_into()?, height.try_into()?);
        // Without a sign: no letter then lies outside of the width of its line and the margins.
        let advance = u16::try_from(advance)?;
        Ok((code, Self { x, y, width, height, left, top, advance: f32::from(advance) * EM as f32 / UNITS }))
    }
}

impl Letters {
    /// Reads the letters.
    pub fn new() -> Self {
        // They are a part of the program, and a test reads them.
        Self::read(ATLAS, TABLE).expect("the letters of the program are whole")
    }

    fn read(atlas: &[u8], table: &str) -> Result<Self> {
        let atlas = Image::from_bytes(atlas, "letters.png")?.to_rgb();
        let glyphs: HashMap<char, Glyph> = table.lines().skip(1).map(Glyph::read).collect::<Result<_>>()?;
        if let Some((code, _)) = glyphs.iter().find(|(_, at)| at.x + at.width > atlas.width || at.y + at.height > atlas.height) {
            bail!("U+{:04X} lies outside of the atlas", u32::from(*code));
        }
        let replacement = *glyphs.get(&REPLACEMENT).context("no replacement")?;
        // Gray: red, green and blue are the same.
        Ok(Self { stride: atlas.width, atlas: atlas.pixels.into_iter().step_by(3).collect(), glyphs, replacement })
    }

    fn glyphs<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Glyph> {
        text.chars().map(|letter| self.glyphs.get(&letter).unwrap_or(&self.replacement))
    }

    /// Pixels that a text takes in a line.
    fn width(&self, text: &str) -> f32 {
        self.glyphs(text).map(|glyph| glyph.advance).sum()
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
        // Columns of ink, 0..=255 each, summed up by the pixel: letters that touch each other leave no seam.
        let (width, height) = (self.width(line).ceil() as usize + 2 * MARGIN, LINE + 2 * MARGIN);
        let mut ink = vec![0_u32; width * height];
        let mut x = 0.0;
        for glyph in self.glyphs(line) {
            let start = glyph.left + (x * FINE as f32).round() as usize;
            for row in 0..glyph.height {
                let from = (glyph.y + row) * self.stride + glyph.x;
                for (column, value) in self.atlas[from..from + glyph.width].iter().enumerate() {
                    ink[(glyph.top + row) * width + (start + column) / FINE] += u32::from(*value);
                }
            }
            x += glyph.advance;
        }
        for (at, ink) in ink.into_iter().enumerate().filter(|(_, ink)| *ink > 0) {
            let place = |at: usize, start: usize, side: usize| (at + start).checked_sub(MARGIN).filter(|at| *at < side);
            if let (Some(x), Some(y)) = (place(at % width, left, image.width), place(at / width, top, image.height)) {
                let pixel = 3 * (y * image.width + x);
                let paper = 1.0 - (ink as f32 / (255 * FINE) as f32).min(1.0);
                image.pixels[pixel..pixel + 3].iter_mut().for_each(|value| *value = (f32::from(*value) * paper).round() as u8);
            }
        }
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
        let letters = Letters::read(ATLAS, TABLE).unwrap();
        assert_eq!(letters.glyphs.len(), TABLE.lines().count() - 1);
        assert!(letters.glyphs.len() > 500);
        for (letter, glyph) in &letters.glyphs {
            let inked = (0..glyph.height).flat_map(|row| {
                let from = (glyph.y + row) * letters.stride + glyph.x;
                &letters.atlas[from..from + glyph.width]
            });
            let has_ink = inked.copied().max() > Some(127);
            assert_eq!(has_ink, !letter.is_whitespace(), "U+{:04X}", u32::from(*letter));
            letters.write(&mut Rgb::filled(MARGIN, LINE, [255; 3]), &letter.to_string(), 0, 0);
        }
    }

    #[test]
    fn letters_that_are_not_whole_are_refused() {
        let header = "code,x,y,width,height,left,top,advance\n";
        let refused = |rows: &str| Letters::read(ATLAS, &format!("{header}{rows}")).err().unwrap().to_string();
        assert_eq!(refused(""), "no replacement");
        assert_eq!(refused("FFFD,1020,0,5,4,0,4,2048"), "U+FFFD lies outside of the atlas");
        assert_eq!(refused("FFFD,0,0,300,4,0,4,2048"), "U+FFFD reaches beyond the margin");
        assert_eq!(refused("FFFD,0,0,4"), "a row of 3 numbers");
        for rows in [
            "FFFD",
            "FFFD,0,0,4,4,0,x,2048",
            "D800,0,0,4,4,0,4,2048",
            "FFFD,-1,0,4,4,0,4,2048",
            "FFFD,0,0,4,4,-999,4,2048",
            "FFFD,0,0,4,4,0,4,-1",
        ] {
            refused(rows);
        }
        assert!(Letters::read(&ATLAS[..64], TABLE).is_err());
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
