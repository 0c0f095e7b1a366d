//! Instruction sets: what kernels need of one, and the choice between them.
//!
//! Kernels are written once, over [`Isa`], and compiled for every instruction set. An instruction set is one file of this room and one
//! line of the table in `dispatch.rs`:
//!
//! - One that multiplies float32 numbers in vectors implements [`Vector`]; the microkernel of `float32.rs` makes an [`Isa`] of it.
//! - One with matrix units of its own implements [`Isa`]: the element that operands are packed as, the shape `MR x NR` of its
//!   microkernel's tile, and how a vector of float32 numbers is packed. All else (activations, softmax, transforms) runs in the vectors
//!   of [`Isa::Simd`].

use std::fmt::Debug;

use pulp::Simd;
use pulp::bytemuck::{self, Pod};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
pub mod exp;
mod float32;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tile_model;
pub mod vector;

#[cfg(test)]
pub use dispatch::available;
pub(crate) use dispatch::vectorize;
pub use dispatch::{InstructionSet, Loops, Refused, check, current, dispatch};

/// The most lanes that a vector of any instruction set has.
pub const MAX_LANES: usize = 16;
/// The most rows of the tile of any instruction set's microkernel.
pub const MAX_MR: usize = 32;

/// A vector of float32 numbers of an instruction set.
pub type F32s<I> = <<I as Isa>::Simd as Simd>::f32s;

/// Vectors of float32 numbers: what an instruction set has beyond `pulp`'s operations.
pub trait Vector: Simd {
    /// Rows of the microkernel's tile, each two vectors wide: what the registers hold beside two vectors and a broadcast number.
    const TILE_ROWS: usize;

    /// The instructions, if this processor has them.
    fn detect() -> Option<Self>;

    /// `a * b + c`, rounded once where the processor can.
    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    /// Transposes a square of as many vectors as a vector has lanes.
    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        vector::transpose_elements::<Self>(square);
    }

    /// Asks for the line of the cache `distance` elements behind the start of `values`, which may lie outside, where there is an
    /// instruction for it.
    #[inline(always)]
    fn prefetch(self, _values: &[f32], _distance: usize) {}
}

/// An instruction set with its microkernel, which computes a tile of a matrix product.
///
/// The tile is `MR x NR` float32 sums in row-major order. The left operand (lhs) is packed in tiles of at most `MR` rows; in a tile
/// lie runs of `KR` columns, in a run the rows, `KR` elements each. The right operand (rhs) is packed in panels of `NR` columns, row
/// after row unless [`Isa::pack_rhs`] says otherwise. What a run, or a panel, lacks is filled up with zeros. `gemm/packing.rs` does all
/// of this with the functions below.
pub trait Isa: Copy + Debug + Send + Sync + 'static {
    /// The vectors that everything but the microkernel computes in.
    type Simd: Vector;

    /// An element of a packed operand.
    type Packed: Pod + Send + Sync;

    /// Lanes of a vector.
    const LANES: usize = <Self::Simd as Simd>::F32_LANES;
    /// Rows of a tile, at most.
    const MR: usize;
    /// Columns of a tile: whole vectors, and whole multiples of `KR`.
    const NR: usize;
    /// The depth in which the microkernel steps: whole vectors.
    const KR: usize;
    /// Whether float32 numbers in row-major order, `NR` to a row, are a packed panel as they lie.
    const ROWS_ARE_PANELS: bool;
    /// Whether products are of float32 numbers: an instruction set that rounds its operands is used only where it is asked for.
    const FLOAT32: bool;

    /// The instruction set, if this processor has it.
    fn detect() -> Option<Self>;

    /// The vectors.
    fn simd(self) -> Self::Simd;

    /// Packs a vector of the left operand: [`Isa::LANES`] neighboring columns of a row. `to` has as many elements.
    fn pack_lhs(self, values: F32s<Self>, to: &mut [Self::Packed]);

    /// Packs a vector of the right operand: columns `vector * LANES ..` of row `row` of a panel.
    fn pack_rhs(self, values: F32s<Self>, panel: &mut [Self::Packed], row: usize, vector: usize);

    /// `dst = lhs * rhs`, or that added to `dst` if `accumulate`: one tile, of `dst.len() / NR` rows, over the whole depth of the
    /// operands, which is a multiple of `KR`.
    fn microkernel(self, lhs: &[Self::Packed], rhs: &[Self::Packed], dst: &mut [f32], accumulate: bool);
}

/// A computation that is compiled for every instruction set.
pub trait Kernel {
    /// What it answers.
    type Output;

    /// Computes with an instruction set. Has to be inlined into its caller, with all that it calls.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// The shape of an instruction set's packed operands, for what is decided outside of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// See [`Isa::LANES`].
    pub lanes: usize,
    /// See [`Isa::MR`].
    pub mr: usize,
    /// See [`Isa::NR`].
    pub nr: usize,
    /// See [`Isa::KR`].
    pub kr: usize,
    /// Bytes of [`Isa::Packed`].
    packed_bytes: usize,
}

impl TileShape {
    /// That of an instruction set.
    pub fn of(set: InstructionSet) -> Self {
        struct Constants;
        impl Kernel for Constants {
            type Output = TileShape;
            #[inline(always)]
            fn run<I: Isa>(self, _: I) -> TileShape {
                const {
                    assert!(I::LANES <= MAX_LANES && I::MR <= MAX_MR);
                    assert!(I::KR.is_multiple_of(I::LANES) && I::NR.is_multiple_of(I::KR));
                }
                TileShape { lanes: I::LANES, mr: I::MR, nr: I::NR, kr: I::KR, packed_bytes: size_of::<I::Packed>() }
            }
        }
        dispatch(set, Constants)
    }

    /// How many float32 numbers take the memory of `elements` packed ones.
    pub fn storage(&self, elements: usize) -> usize {
        (elements * self.packed_bytes).div_ceil(size_of::<f32>())
    }
}

/// [`TileShape::storage`] where the instruction set is known.
#[inline(always)]
pub fn storage<I: Isa>(elements: usize) -> usize {
    (elements * size_of::<I::Packed>()).div_ceil(size_of::<f32>())
}

/// Memory of float32 numbers as packed elements.
#[inline(always)]
pub fn as_packed<I: Isa>(values: &[f32]) -> &[I::Packed] {
    bytemuck::cast_slice(values)
}

/// [`as_packed`] to write.
#[inline(always)]
pub fn as_packed_mut<I: Isa>(values: &mut [f32]) -> &mut [I::Packed] {
    bytemuck::cast_slice_mut(values)
}
