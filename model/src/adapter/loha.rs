//! LoHa (Hyeon-Woo et al., FedPara, arXiv 2108.06098): `dW = (w1_a w1_b) * (w2_a w2_b)`, element by element.
//!
//! Mirrors LyCORIS 4.1 `LohaModule` in its forward pass; its merging scales twice, which is an error there and not followed.

use candle_core::Tensor;

use super::Part;
use super::core_product::{core_product, matrix};
use crate::Result;

/// LoHa's factors.
#[derive(Clone, Debug)]
pub struct Loha {
    /// `[c_out, r]`, with cores `[r, c_out]`.
    pub w1_a: Tensor,
    /// `[r, c_in * k * k]`, with cores `[r, c_in]`.
    pub w1_b: Tensor,
    /// As `w1_a`.
    pub w2_a: Tensor,
    /// As `w1_b`.
    pub w2_b: Tensor,
    /// Cores of both products, `[r, r, k, k]`.
    pub cores: Option<(Tensor, Tensor)>,
}

impl Loha {
    /// Rows of the `b` factors.
    pub fn rank(&self) -> usize {
        self.w1_b.dims()[0]
    }

    /// The change without scale, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn product(&self) -> Result<Tensor> {
        let [first, second] = self.halves()?;
        Ok((first * second)?)
    }

    /// Both products, float32, `[c_out, c_in * k * k]`.
    fn halves(&self) -> Result<[Tensor; 2]> {
        Ok(match &self.cores {
            None => [matrix(&self.w1_a)?.matmul(&matrix(&self.w1_b)?)?, matrix(&self.w2_a)?.matmul(&matrix(&self.w2_b)?)?],
            Some((t1, t2)) => [core_product(&self.w1_a, t1, &self.w1_b)?, core_product(&self.w2_a, t2, &self.w2_b)?],
        })
    }

    /// The same change as one product of rank `r * r`: `[c_out, r * r]` and `[r * r, c_in * k * k]`, float32. The rank of a
    /// product by elements is at most the product of the ranks: rows of `a` and columns of `b` are Kronecker products.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn as_product(&self) -> Result<(Tensor, Tensor)> {
        let (a, b) = match &self.cores {
            None => ([matrix(&self.w1_a)?, matrix(&self.w2_a)?], [matrix(&self.w1_b)?, matrix(&self.w2_b)?]),
            Some((t1, t2)) => {
                let right = |core: &Tensor, b: &Tensor| -> Result<Tensor> {
                    // An identity in the place of `a` leaves the core's product with `b`.
                    let rank = core.dims()[0];
                    core_product(&Tensor::eye(rank, candle_core::DType::F32, core.device())?, core, b)
                };
                let left = |a: &Tensor| -> Result<Tensor> { Ok(matrix(a)?.t()?.contiguous()?) };
                ([left(&self.w1_a)?, left(&self.w2_a)?], [right(t1, &self.w1_b)?, right(t2, &self.w2_b)?])
            }
        };
        let ((outputs, r1), (_, r2), (_, inputs)) = (a[0].dims2()?, a[1].dims2()?, b[0].dims2()?);
        let up = a[0].unsqueeze(2)?.broadcast_mul(&a[1].unsqueeze(1)?)?.reshape((outputs, r1 * r2))?;
        let down = b[0].unsqueeze(1)?.broadcast_mul(&b[1].unsqueeze(0)?)?.reshape((r1 * r2, inputs))?;
        Ok((up, down))
    }

    pub(super) fn parts(&self) -> Vec<(Part, &Tensor)> {
        let mut parts = vec![
            (Part::HadamardW1A, &self.w1_a),
            (Part::HadamardW1B, &self.w1_b),
            (Part::HadamardW2A, &self.w2_a),
            (Part::HadamardW2B, &self.w2_b),
        ];
        if let Some((t1, t2)) = &self.cores {
            parts.extend([(Part::HadamardT1, t1), (Part::HadamardT2, t2)]);
        }
        parts
    }

    pub(super) fn map(&self, change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            w1_a: change(Part::HadamardW1A, &self.w1_a)?,
            w1_b: change(Part::HadamardW1B, &self.w1_b)?,
            w2_a: change(Part::HadamardW2A, &self.w2_a)?,
            w2_b: change(Part::HadamardW2B, &self.w2_b)?,
            cores: match &self.cores {
                Some((t1, t2)) => Some((change(Part::HadamardT1, t1)?, change(Part::HadamardT2, t2)?)),
                None => None,
            },
        })
    }

    /// The shape of the weight that is changed; a kernel is known with cores alone, else it is part of the second size.
    pub(super) fn change_shape(&self) -> Vec<usize> {
        match &self.cores {
            None => vec![self.w1_a.dims()[0], self.w1_b.dims()[1]],
            Some((t1, _)) => [&[self.w1_a.dims()[1], self.w1_b.dims()[1]], &t1.dims()[2..]].concat(),
        }
    }
}
