//! The blocked driver of convolutions that are products of packed operands: how the work is cut for caches and threads, and in which
//! order parts are packed, multiplied and written. What is packed, and what becomes of the sums, is a [`Method`]'s.
//!
//! The rows of a product are parts of the output (positions, or tiles), its columns output channels, its depth is input channels with
//! whatever belongs to each. A *band* is some rows of one image's output; some bands make a *batch*, sized so that its left operands
//! stay in a last-level cache. For each batch:
//!
//! 1. The left operands are packed from the image, a group of input channels (as many as a vector has lanes) at a time.
//! 2. A task takes some *panels* of output channels over all bands of the batch. It packs the filters of a part of the depth as right
//!    operands, in cache, multiplies, and sums up; then it writes the sums to rows of the output.
//!
//! Few batches share all threads; of many, each thread takes its own. Either way each output is the same sum in the same order.
//!
//! The product of matrices (`gemm/driver.rs`) stands apart because there it is the right operand that stays in the last-level cache:
//! its epilogue then writes rows as they lie, a few panels at a time, where a convolution's sums are kept until they can be transposed.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::bands::{Rows, Share, cut, for_each, for_each_batch, shares};
use super::columns::{Geometry, lane_line};
use super::filters::Filters;
use crate::kernels::gemm::macrokernel::{PackedLhs, multiply_panels};
use crate::kernels::isa::{F32s, InstructionSet, Isa, Kernel, TileShape, as_packed, dispatch, storage};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::{SharedElements, SharedMatrices};
use crate::kernels::tuning::microkernel::CACHE_LINE;

/// A way to make products of a convolution: `POINTS` of them, of equal size.
pub trait Method<const POINTS: usize>: Sync {
    /// How work is cut.
    fn cut(&self, convolution: &Convolution, shape: TileShape) -> Cut;

    /// How many panels a task takes of a batch that has `rows` rows and so many `panels`; `shared` if all threads take tasks of it.
    fn panels_at_once(&self, rows: usize, panels: usize, shared: bool) -> usize;

    /// The depth whose filters are packed at once: whole runs of a packed operand.
    fn depth_at_once<I: Isa>(&self, convolution: &Convolution, part: &Part) -> usize;

    /// Packs a group of input channels of some bands as columns of the left operands.
    fn pack_lhs<I: Isa>(&self, isa: I, convolution: &Convolution, part: &Part, group: usize, to: &SharedMatrices<POINTS>);

    /// Packs the filters of a panel, for a range of the depth, as right operands.
    fn pack_rhs<I: Isa>(
        &self,
        isa: I,
        convolution: &Convolution,
        panel: usize,
        depth: Range<usize>,
        to: &mut SharedElements<I::Packed, POINTS>,
    );

    /// Writes a panel's sums of one band, which begin at `start` in their matrices, to rows of the output.
    fn write<I: Isa>(
        &self,
        isa: I,
        convolution: &Convolution,
        panel: usize,
        rows: &mut Rows,
        sums: &SharedMatrices<POINTS>,
        start: usize,
    );
}

/// How a method cuts the work of one convolution.
pub struct Cut {
    /// Rows of the output in a band.
    pub height: usize,
    /// A band's rows of the products.
    pub rows: usize,
    /// The products' depth.
    pub depth: usize,
    /// Rows of the products that a batch has at least, where there are as many.
    pub fewest_rows: usize,
    /// Elements of a batch's left operands, about.
    pub elements: usize,
    /// Tiles of a left operand that meet all panels of a task before the next ones do.
    pub tiles_in_cache: usize,
}

/// What a batch computes.
pub struct Part {
    /// Its bands, counted over all images.
    pub bands: Range<usize>,
    /// Rows of its products.
    pub rows: usize,
    /// The products' depth.
    pub depth: usize,
}

/// One convolution.
pub struct Convolution<'a> {
    /// `[batch, channels, height, width]`.
    pub x: &'a [f32],
    /// All filters.
    pub filters: Filters<'a>,
    /// One number per output channel.
    pub bias: Option<&'a [f32]>,
    /// Its sizes.
    pub sizes: Geometry,
}

impl Convolution<'_> {
    /// Row `y` of the padded input from column `x` on, a group of channels in the lanes.
    #[inline(always)]
    pub fn line<I: Isa>(&self, isa: I, group: usize, image: usize, (y, x): (usize, usize), line: &mut [F32s<I>]) {
        let sizes = &self.sizes;
        lane_line(isa.simd(), self.x, sizes, (image, group), (y as isize - sizes.top, x as isize - sizes.left), line);
    }
}

/// Computes a convolution to `out` `[batch, out_channels, positions]`, all of which is written.
pub fn compute<M: Method<POINTS>, const POINTS: usize>(
    set: InstructionSet,
    method: &M,
    convolution: &Convolution,
    out: &mut [MaybeUninit<f32>],
) {
    let (shape, Filters { inputs, outputs, .. }) = (TileShape::of(set), convolution.filters);
    let cuts = method.cut(convolution, shape);
    let (panels, groups) = (outputs.div_ceil(shape.nr), inputs.next_multiple_of(shape.kr) / shape.lanes);
    let smallest = cuts.fewest_rows.div_ceil(cuts.rows).max(1);
    let largest = (cuts.elements / (POINTS * cuts.depth * cuts.rows)).max(smallest);
    let driver = Driver { set, shape, method, convolution, groups, cuts };
    let mut rows = cut(out, outputs, &convolution.sizes, driver.cuts.height, shape.nr);
    for_each_batch(&mut rows, panels, (smallest, largest), |bands, rows, shared| driver.batch(bands, rows, shared));
}

/// A convolution by a method with an instruction set.
struct Driver<'a, M, const POINTS: usize> {
    set: InstructionSet,
    shape: TileShape,
    method: &'a M,
    convolution: &'a Convolution<'a>,
    /// Groups of input channels: whole runs of a packed operand.
    groups: usize,
    cuts: Cut,
}

impl<M: Method<POINTS>, const POINTS: usize> Driver<'_, M, POINTS> {
    /// Computes some bands' rows, on all threads if `shared`.
    fn batch(&self, bands: Range<usize>, rows: &mut [Rows], shared: bool) {
        let panels = rows.len() / bands.len();
        let part = Part { rows: bands.len() * self.cuts.rows, depth: self.cuts.depth, bands };
        let size = stride(self.shape.storage(part.depth * part.rows));
        let mut lhs = Scratch::take(POINTS * size);
        let to = SharedMatrices::new(&mut lhs, size);
        let pack = |group| dispatch(self.set, PackGroup { driver: self, part: &part, group, to: &to });
        match shared {
            true => (0..self.groups).into_par_iter().for_each(pack),
            false => (0..self.groups).for_each(pack),
        }
        let jobs = shares(rows, panels, self.method.panels_at_once(part.rows, panels, shared));
        let multiply = |share| dispatch(self.set, Multiply { driver: self, part: &part, lhs: &lhs, size, share });
        for_each(jobs, shared, multiply);
    }
}

/// `elements`, rounded up to an odd number of lines. Rows of equal length that are read together start an odd number of lines of a
/// cache apart: at even distances they would compete for the same places in it.
fn stride(elements: usize) -> usize {
    (elements.div_ceil(CACHE_LINE) | 1) * CACHE_LINE
}

/// Packs the left operands' columns of a group of input channels.
struct PackGroup<'a, M, const POINTS: usize> {
    driver: &'a Driver<'a, M, POINTS>,
    part: &'a Part,
    group: usize,
    to: &'a SharedMatrices<'a, POINTS>,
}

impl<M: Method<POINTS>, const POINTS: usize> Kernel for PackGroup<'_, M, POINTS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        self.driver.method.pack_lhs(isa, self.driver.convolution, self.part, self.group, self.to);
    }
}

/// Computes some panels of output channels over all rows of a batch.
struct Multiply<'a, 'b, 'c, M, const POINTS: usize> {
    driver: &'a Driver<'a, M, POINTS>,
    part: &'a Part,
    lhs: &'a [f32],
    /// The memory of a left operand.
    size: usize,
    share: Share<'c, 'b>,
}

impl<M: Method<POINTS>, const POINTS: usize> Kernel for Multiply<'_, '_, '_, M, POINTS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let Driver { method, convolution, ref cuts, .. } = *self.driver;
        let (&Part { rows, depth, .. }, panels) = (self.part, self.share.panels);
        let kc = method.depth_at_once::<I>(convolution, self.part);
        let (panel, sums_size) = (kc * I::NR, stride(panels * rows * I::NR));
        let filters_size = stride(storage::<I>(panels * panel));
        let mut filters = Scratch::take(POINTS * filters_size);
        let mut sums = Scratch::take(POINTS * sums_size);
        for start in (0..depth).step_by(kc) {
            let k = start..depth.min(start + kc);
            let to = SharedMatrices::new(&mut filters, filters_size);
            for index in 0..panels {
                // SAFETY: all operands are this task's own.
                let mut to = unsafe { to.at::<I::Packed>(index * panel, panel) };
                method.pack_rhs(isa, convolution, self.share.first + index, k.clone(), &mut to);
            }
            for point in 0..POINTS {
                let lhs = PackedLhs::<I>::new(as_packed::<I>(&self.lhs[point * self.size..][..self.size]), rows, depth);
                let filters = &as_packed::<I>(&filters[point * filters_size..][..filters_size])[..panels * panel];
                let sums = &mut sums[point * sums_size..][..panels * rows * I::NR];
                multiply_panels(isa, &lhs, k.clone(), (filters, panel), sums, cuts.tiles_in_cache, start > 0);
            }
        }
        let sums = SharedMatrices::new(&mut sums, sums_size);
        for (band, all) in self.share.rows.iter_mut().enumerate() {
            for (index, to) in all.iter_mut().enumerate() {
                let start = (index * rows + band * cuts.rows) * I::NR;
                method.write(isa, convolution, self.share.first + index, to, &sums, start);
            }
        }
    }
}
