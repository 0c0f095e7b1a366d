//! Canny's edges of a color image, byte for byte those of `cv2.Canny(rgb, low, high)`.
//!
//! Reference: OpenCV 5.0 `modules/imgproc/src/canny.cpp`, aperture 3, L1 gradient, 8-bit 3-channel input, which is *not* turned
//! gray: per pixel the channel with the strongest gradient decides. The ControlNet conditions of the reference code are made
//! this way with thresholds 100 and 200.
//!
//! J. Canny, "A Computational Approach to Edge Detection", IEEE PAMI 8(6), 1986.

use super::{Gray, Rgb};
use rayon::prelude::*;

const CHANNELS: usize = 3;

/// Edges as 255 on 0. `low` and `high` are thresholds of |dx| + |dy|, a Sobel sum in 0..=2040; they are swapped when `low` is the
/// larger, as in OpenCV.
pub fn canny(image: &Rgb, low: u32, high: u32) -> Gray {
    assert_eq!(image.pixels.len(), image.width * image.height * CHANNELS, "raster holds width * height * 3 bytes");
    let (low, high) = (low.min(high), low.max(high));
    let mut marks = vec![Mark::Nothing; image.width * image.height];
    if !marks.is_empty() {
        let gradients = gradients(image);
        marks.par_chunks_exact_mut(image.width).enumerate().for_each(|(row, line)| {
            let around = Around::new(&gradients, image.width, image.height, row);
            for (column, mark) in line.iter_mut().enumerate() {
                *mark = around.mark(column, low, high);
            }
        });
        follow(&mut marks, image.width, image.height);
    }
    let pixels = marks.into_iter().map(|mark| if mark == Mark::Edge { 255 } else { 0 }).collect();
    Gray { width: image.width, height: image.height, pixels }
}

/// The gradient of one pixel's deciding channel.
#[derive(Clone, Copy, Default)]
struct Gradient {
    dx: i16,
    dy: i16,
    /// |dx| + |dy|
    magnitude: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Nothing,
    /// A crest above the low threshold: an edge if it hangs together with one.
    Maybe,
    Edge,
}

/// 3 x 3 Sobel of every channel, border pixels replicated; the strongest channel wins, the first one on ties.
fn gradients(image: &Rgb) -> Vec<Gradient> {
    let (width, height) = (image.width, image.height);
    let stride = width * CHANNELS;
    let mut gradients = vec![Gradient::default(); width * height];
    gradients.par_chunks_exact_mut(width).enumerate().for_each(|(row, line)| {
        let rows = [row.saturating_sub(1), row, (row + 1).min(height - 1)].map(|row| &image.pixels[row * stride..][..stride]);
        for (column, gradient) in line.iter_mut().enumerate() {
            let columns = [column.saturating_sub(1), column, (column + 1).min(width - 1)];
            for channel in 0..CHANNELS {
                let at = |row: usize, column: usize| i16::from(rows[row][columns[column] * CHANNELS + channel]);
                let dx = at(0, 2) - at(0, 0) + 2 * (at(1, 2) - at(1, 0)) + at(2, 2) - at(2, 0);
                let dy = at(2, 0) - at(0, 0) + 2 * (at(2, 1) - at(0, 1)) + at(2, 2) - at(0, 2);
                let magnitude = dx.unsigned_abs() + dy.unsigned_abs();
                if channel == 0 || magnitude > gradient.magnitude {
                    *gradient = Gradient { dx, dy, magnitude };
                }
            }
        }
    });
    gradients
}

/// A row of gradients with its neighbors; outside the image magnitudes are 0.
struct Around<'a> {
    above: Option<&'a [Gradient]>,
    here: &'a [Gradient],
    below: Option<&'a [Gradient]>,
}

impl<'a> Around<'a> {
    fn new(gradients: &'a [Gradient], width: usize, height: usize, row: usize) -> Self {
        let line = |row: usize| &gradients[row * width..][..width];
        Self { above: (row > 0).then(|| line(row - 1)), here: line(row), below: (row + 1 < height).then(|| line(row + 1)) }
    }

    /// Non-maximum suppression along the gradient, in the three sectors that tan(22.5 degrees) in 15-bit fixed point parts.
    fn mark(&self, column: usize, low: u32, high: u32) -> Mark {
        const TANGENT: i32 = 13573; // tan(22.5 degrees) * 2^15
        let Gradient { dx, dy, magnitude } = self.here[column];
        if u32::from(magnitude) <= low {
            return Mark::Nothing;
        }
        let at = |line: Option<&[Gradient]>, offset: isize| {
            let column = column.checked_add_signed(offset)?;
            Some(line?.get(column)?.magnitude)
        };
        let at = |line, offset| at(line, offset).unwrap_or(0);
        let (x, y) = (i32::from(dx.unsigned_abs()), i32::from(dy.unsigned_abs()) << 15);
        let flat = x * TANGENT;
        // On a plateau exactly one of two neighbors may win, hence > on one side and >= on the other.
        let crest = if y < flat {
            magnitude > at(Some(self.here), -1) && magnitude >= at(Some(self.here), 1)
        } else if y > flat + (x << 16) {
            magnitude > at(self.above, 0) && magnitude >= at(self.below, 0)
        } else {
            let side = if (dx ^ dy) < 0 { -1 } else { 1 };
            magnitude > at(self.above, -side) && magnitude > at(self.below, side)
        };
        match crest {
            false => Mark::Nothing,
            true if u32::from(magnitude) > high => Mark::Edge,
            true => Mark::Maybe,
        }
    }
}

/// Hysteresis: crests that touch an edge (8 neighbors) become edges, and so on.
fn follow(marks: &mut [Mark], width: usize, height: usize) {
    let mut open: Vec<usize> = (0..marks.len()).filter(|&at| marks[at] == Mark::Edge).collect();
    while let Some(at) = open.pop() {
        let (row, column) = (at / width, at % width);
        for near_row in row.saturating_sub(1)..=(row + 1).min(height - 1) {
            for near_column in column.saturating_sub(1)..=(column + 1).min(width - 1) {
                let near = near_row * width + near_column;
                if marks[near] == Mark::Maybe {
                    marks[near] = Mark::Edge;
                    open.push(near);
                }
            }
        }
    }
}
