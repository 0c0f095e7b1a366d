//! Known warps of square images: for each point of the warped image it is known exactly which point of the image it shows.
//!
//! A warp depends on its number and the image's alone, by arithmetic and a logarithm (the crate `libm`) that are the same on every
//! platform. Points are (row, column) in pixels, whole numbers at the middles of pixels.

use driftless::rng::Generator;
use driftless::vision::Rgb;
use nalgebra::DMatrix;

/// Control points along each side of a thin plate.
const PLATE: usize = 3;
/// What a control point is moved by at most, as a share of the side.
const BEND: f64 = 0.08;

/// A warp of images of any size. Its own coordinates are 0 to 1 along both sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Warp {
    /// Left and right exchanged.
    Flip,
    /// Turned, scaled and moved.
    Similarity {
        /// Cosine and sine, times the scale.
        turn: [f64; 2],
        /// Row and column.
        shift: [f64; 2],
    },
    /// Bent as a thin plate is that some points are moved of (F. Bookstein, "Principal Warps", IEEE PAMI 11(6), 1989).
    ThinPlate {
        /// The points that are moved, and the weights of what bends the plate there, rows and columns.
        bends: Vec<([f64; 2], [f64; 2])>,
        /// The even part: constant, by row, by column; each for rows and columns.
        even: [[f64; 2]; 3],
    },
}

impl Warp {
    /// Warp number `number` of image number `image`: a similarity, a thin plate and a flip in turn, other ones from image to image.
    pub fn new(image: usize, number: usize) -> Self {
        let seed = (number as u64).wrapping_mul(1_000_003).wrapping_add(image as u64);
        let mut generator = Generator::manual_seed(seed);
        let mut draw = |low: f64, high: f64| low + (high - low) * f64::from(generator.rand(&[1])[0]);
        match number % 3 {
            0 => {
                // Half the tangent of a turn of at most 23 degrees: sine and cosine without a function of the platform's.
                let half = draw(-0.2, 0.2);
                let scale = draw(0.8, 1.25) / (1.0 + half * half);
                Self::Similarity {
                    turn: [(1.0 - half * half) * scale, 2.0 * half * scale],
                    shift: [draw(-0.08, 0.08), draw(-0.08, 0.08)],
                }
            }
            1 => {
                let points = (0..PLATE * PLATE).map(|at| [at / PLATE, at % PLATE].map(|i| i as f64 / (PLATE - 1) as f64));
                let moved: Vec<([f64; 2], [f64; 2])> =
                    points.map(|point| (point, [point[0] + draw(-BEND, BEND), point[1] + draw(-BEND, BEND)])).collect();
                thin_plate(&moved)
            }
            _ => Self::Flip,
        }
    }

    /// The point of the image that a point of the warped image shows; both are `side` pixels a side.
    pub fn source(&self, [y, x]: [f64; 2], side: usize) -> [f64; 2] {
        let side = side as f64;
        let point = [(y + 0.5) / side, (x + 0.5) / side];
        self.source_of_unit(point).map(|value| value * side - 0.5)
    }

    fn source_of_unit(&self, [y, x]: [f64; 2]) -> [f64; 2] {
        match self {
            Self::Flip => [y, 1.0 - x],
            Self::Similarity { turn: [cosine, sine], shift } => {
                let (dy, dx) = (y - 0.5, x - 0.5);
                [0.5 + cosine * dy + sine * dx + shift[0], 0.5 - sine * dy + cosine * dx + shift[1]]
            }
            Self::ThinPlate { bends, even } => {
                let mut point = [0, 1].map(|axis| even[0][axis] + even[1][axis] * y + even[2][axis] * x);
                for (at, weights) in bends {
                    let bend = kernel([y - at[0], x - at[1]]);
                    (0..2).for_each(|axis| point[axis] += bend * weights[axis]);
                }
                point
            }
        }
    }

    /// The warped image, bilinearly; what lies outside of the image shows its border.
    ///
    /// # Panics
    /// When the image is not square.
    pub fn apply(&self, image: &Rgb) -> Rgb {
        assert_eq!(image.width, image.height, "warps are of square images");
        let side = image.width;
        let mut pixels = Vec::with_capacity(image.pixels.len());
        for at in 0..side * side {
            let last = side as f64 - 1.0;
            let [y, x] = self.source([(at / side) as f64, (at % side) as f64], side).map(|value| value.clamp(0.0, last));
            let (row, column) = (y as usize, x as usize);
            let (below, right) = ((row + 1).min(side - 1), (column + 1).min(side - 1));
            let (dy, dx) = (y - row as f64, x - column as f64);
            for channel in 0..3 {
                let value = |y: usize, x: usize| f64::from(image.pixels[(y * side + x) * 3 + channel]);
                let line = |y: usize| value(y, column) * (1.0 - dx) + value(y, right) * dx;
                pixels.push((line(row) * (1.0 - dy) + line(below) * dy).round() as u8);
            }
        }
        Rgb { width: side, height: side, pixels }
    }
}

/// The plate that takes each first point to the second.
fn thin_plate(moved: &[([f64; 2], [f64; 2])]) -> Warp {
    let count = moved.len();
    let size = count + 3;
    // Bends that balance, and the even part; both axes as right sides.
    let even = |point: &[f64; 2], term: usize| [1.0, point[0], point[1]][term];
    let system = DMatrix::from_fn(size, size, |row, column| match (moved.get(row), moved.get(column)) {
        (Some((a, _)), Some((b, _))) => kernel([a[0] - b[0], a[1] - b[1]]),
        (Some((point, _)), None) => even(point, column - count),
        (None, Some((point, _))) => even(point, row - count),
        (None, None) => 0.0,
    });
    let goal = DMatrix::from_fn(size, 2, |row, axis| moved.get(row).map_or(0.0, |(_, to)| to[axis]));
    // Points that do not lie on one line have one such plate.
    let solved = system.lu().solve(&goal).unwrap_or_else(|| DMatrix::zeros(size, 2));
    let pair = |row: usize| [solved[(row, 0)], solved[(row, 1)]];
    let bends = moved.iter().enumerate().map(|(row, (point, _))| (*point, pair(row))).collect();
    Warp::ThinPlate { bends, even: [pair(count), pair(count + 1), pair(count + 2)] }
}

/// `r^2 ln r^2`.
fn kernel([dy, dx]: [f64; 2]) -> f64 {
    let square = dy * dy + dx * dx;
    if square > 0.0 { square * libm::log(square) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plate_takes_its_points_where_they_are_moved() {
        let moved = [
            ([0.0, 0.0], [0.1, 0.0]),
            ([0.0, 1.0], [0.0, 1.0]),
            ([1.0, 0.0], [1.0, -0.05]),
            ([1.0, 1.0], [0.9, 1.0]),
            ([0.5, 0.5], [0.55, 0.4]),
        ];
        let warp = thin_plate(&moved);
        for (point, to) in moved {
            let found = warp.source_of_unit(point);
            assert!((found[0] - to[0]).abs() < 1e-12 && (found[1] - to[1]).abs() < 1e-12, "{found:?} {to:?}");
        }
        let Warp::ThinPlate { even, .. } = thin_plate(&moved.map(|(point, _)| (point, point))) else { unreachable!() };
        assert!((even[1][0] - 1.0).abs() < 1e-12 && even[2][0].abs() < 1e-12);
    }

    /// An image whose colors say where they are, warped: each pixel says where it is from.
    #[test]
    fn pixels_show_what_the_map_says() {
        let side = 64;
        let pixels = (0..side * side).flat_map(|at| [(at / side * 4) as u8, (at % side * 4) as u8, 0]).collect();
        let image = Rgb { width: side, height: side, pixels };
        for number in 0..4 {
            let warp = Warp::new(5, number);
            let warped = warp.apply(&image);
            let mut inner = 0;
            for at in 0..side * side {
                let [y, x] = warp.source([(at / side) as f64, (at % side) as f64], side);
                if (0.0..=63.0).contains(&y) && (0.0..=63.0).contains(&x) {
                    inner += 1;
                    let found = [0, 1].map(|channel| f64::from(warped.pixels[at * 3 + channel]) / 4.0);
                    assert!((found[0] - y).abs() < 0.13 && (found[1] - x).abs() < 0.13, "{number}: {found:?} {y} {x}");
                }
            }
            assert!(inner > side * side / 2, "{number}: {inner}");
        }
        assert_eq!(Warp::new(5, 2).apply(&image), image.flipped_horizontally());
        assert_ne!(Warp::new(5, 0), Warp::new(6, 0));
    }
}
