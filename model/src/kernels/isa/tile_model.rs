//! A model in software of matrix units that multiply bfloat16 numbers into float32 sums, for tests: the kernels' packing, edges and
//! gradients are tried with a packed type, a tile and an order of elements that are nobody else's.
//!
//! As in Intel's AMX tiles, the right operand lies in pairs of rows: elements `2 k` and `2 k + 1` of a column beside each other.

use half::bf16;
use pulp::{Scalar128b, bytemuck};

use super::{F32s, Isa};

/// Tiles of 5 x 16 sums, 8 deep.
#[derive(Clone, Copy, Debug)]
pub struct TileModel;

impl Isa for TileModel {
    type Simd = Scalar128b;
    /// The bits of a bfloat16 number.
    type Packed = u16;

    const MR: usize = 5;
    const NR: usize = 16;
    const KR: usize = 8;
    const ROWS_ARE_PANELS: bool = false;
    const FLOAT32: bool = false;

    fn detect() -> Option<Self> {
        Some(Self)
    }

    fn simd(self) -> Scalar128b {
        Scalar128b
    }

    fn pack_lhs(self, values: F32s<Self>, to: &mut [u16]) {
        let values: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&values));
        to.iter_mut().zip(values).for_each(|(to, value)| *to = bf16::from_f32(*value).to_bits());
    }

    fn pack_rhs(self, values: F32s<Self>, panel: &mut [u16], row: usize, vector: usize) {
        let values: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&values));
        for (lane, value) in values.iter().enumerate() {
            panel[(row / 2 * Self::NR + vector * Self::LANES + lane) * 2 + row % 2] = bf16::from_f32(*value).to_bits();
        }
    }

    fn microkernel(self, lhs: &[u16], rhs: &[u16], dst: &mut [f32], accumulate: bool) {
        let rows = dst.len() / Self::NR;
        assert!(rows <= Self::MR && lhs.len() / rows == rhs.len() / Self::NR && (lhs.len() / rows).is_multiple_of(Self::KR));
        let float = |bits: u16| bf16::from_bits(bits).to_f32();
        for (index, sum) in dst.iter_mut().enumerate() {
            let (row, column) = (index / Self::NR, index % Self::NR);
            let mut total = if accumulate { *sum } else { 0.0 };
            for k in 0..lhs.len() / rows {
                let left = lhs[(k / Self::KR * rows + row) * Self::KR + k % Self::KR];
                total += float(left) * float(rhs[(k / 2 * Self::NR + column) * 2 + k % 2]);
            }
            *sum = total;
        }
    }
}
