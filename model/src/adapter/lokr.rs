//! LoKr (Yeh et al., LyCORIS, arXiv 2309.14859; Edalati et al., KronA, arXiv 2212.10650): `dW = w1 (x) w2`, a Kronecker product of
//! which each factor may itself be a product.
//!
//! Mirrors LyCORIS 4.1 `LokrModule` in its forward pass.

use candle_core::Tensor;

use super::Part;
use super::core_product::{core_product, kronecker, matrix};
use crate::Result;

/// One of the two factors of a Kronecker product.
#[derive(Clone, Debug)]
pub enum KroneckerFactor {
    /// As it is: `[o, i]`, or `[o, i, k, k]` for the inner factor of a convolution.
    Whole(Tensor),
    /// `a b`: `[o, r]` and `[r, i * k * k]`. With a core `[r, r, k, k]`: `[r, o]` and `[r, i]`.
    Product {
        /// Left factor.
        a: Tensor,
        /// Right factor.
        b: Tensor,
        /// Core, for the inner factor of convolutions.
        core: Option<Tensor>,
    },
}

impl KroneckerFactor {
    /// The factor as a float32 matrix `[o, i * k * k]`.
    fn product(&self) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => matrix(whole),
            Self::Product { a, b, core: None } => Ok(matrix(a)?.matmul(&matrix(b)?)?),
            Self::Product { a, b, core: Some(core) } => core_product(a, core, b),
        }
    }

    /// Rows of `b`, where it is a product.
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product { b, .. } => Some(b.dims()[0]),
        }
    }

    /// `[o, i]` and the kernel where one is stored; without it a kernel is part of the second size.
    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Whole(whole) => whole.dims().to_vec(),
            Self::Product { a, b, core: None } => vec![a.dims()[0], b.dims()[1]],
            Self::Product { a, b, core: Some(core) } => [&[a.dims()[1], b.dims()[1]], &core.dims()[2..]].concat(),
        }
    }

    /// The factor as a product of two matrices of the least inner size that its form shows.
    fn as_product(&self) -> Result<(Tensor, Tensor)> {
        if let Self::Product { a, b, core: None } = self {
            return Ok((matrix(a)?, matrix(b)?));
        }
        if let Self::Product { a, b, core: Some(core) } = self {
            let identity = Tensor::eye(core.dims()[0], candle_core::DType::F32, core.device())?;
            return Ok((matrix(a)?.t()?.contiguous()?, core_product(&identity, core, b)?));
        }
        let whole = self.product()?;
        let (outputs, inputs) = whole.dims2()?;
        let identity = Tensor::eye(outputs.min(inputs), candle_core::DType::F32, whole.device())?;
        Ok(if outputs <= inputs { (identity, whole) } else { (whole, identity) })
    }

    /// The rank that the form shows.
    fn product_rank(&self) -> usize {
        let shape = self.shape();
        let smaller = shape[0].min(shape[1..].iter().fold(1, |size, next| size.saturating_mul(*next)));
        self.rank().unwrap_or(smaller)
    }

    fn parts(&self, names: [Part; 4]) -> Vec<(Part, &Tensor)> {
        let [whole_name, a_name, b_name, core_name] = names;
        match self {
            Self::Whole(whole) => vec![(whole_name, whole)],
            Self::Product { a, b, core } => {
                let mut parts = vec![(a_name, a), (b_name, b)];
                parts.extend(core.as_ref().map(|core| (core_name, core)));
                parts
            }
        }
    }

    fn map(&self, names: [Part; 4], change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let [whole_name, a_name, b_name, core_name] = names;
        Ok(match self {
            Self::Whole(whole) => Self::Whole(change(whole_name, whole)?),
            Self::Product { a, b, core } => Self::Product {
                a: change(a_name, a)?,
                b: change(b_name, b)?,
                core: core.as_ref().map(|core| change(core_name, core)).transpose()?,
            },
        })
    }
}

/// LoKr's factors.
#[derive(Clone, Debug)]
pub struct Lokr {
    /// The outer factor, `[o1, i1]`; it has no core.
    pub w1: KroneckerFactor,
    /// The inner factor, `[o2, i2]` or `[o2, i2, k, k]`.
    pub w2: KroneckerFactor,
}

/// Names of the outer factor's parts; a core there does not exist.
const OUTER: [Part; 4] = [Part::KroneckerW1, Part::KroneckerW1A, Part::KroneckerW1B, Part::KroneckerT2];
/// Names of the inner factor's parts.
const INNER: [Part; 4] = [Part::KroneckerW2, Part::KroneckerW2A, Part::KroneckerW2B, Part::KroneckerT2];

impl Lokr {
    /// The rank that alpha is divided by; `None` when neither factor is a product, and the scale is 1 whatever alpha says.
    pub fn rank(&self) -> Option<usize> {
        self.w1.rank().or(self.w2.rank())
    }

    /// The change without scale, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn product(&self) -> Result<Tensor> {
        kronecker(&self.w1.product()?, &self.w2.product()?)
    }

    /// The rank of the change that the factors' forms show.
    pub fn product_rank(&self) -> usize {
        self.w1.product_rank().saturating_mul(self.w2.product_rank())
    }

    /// The same change as one product, whose rank is the product of the factors' ranks, float32.
    ///
    /// # Shapes
    /// `[c_out, p]` and `[p, c_in * k * k]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn as_product(&self) -> Result<(Tensor, Tensor)> {
        let ((a1, b1), (a2, b2)) = (self.w1.as_product()?, self.w2.as_product()?);
        Ok((kronecker(&a1, &a2)?, kronecker(&b1, &b2)?))
    }

    pub(super) fn parts(&self) -> Vec<(Part, &Tensor)> {
        [self.w1.parts(OUTER), self.w2.parts(INNER)].concat()
    }

    pub(super) fn map(&self, change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { w1: self.w1.map(OUTER, change)?, w2: self.w2.map(INNER, change)? })
    }

    /// The shape of the weight that is changed; a kernel is known where one is stored, else it is part of the second size.
    pub(super) fn change_shape(&self) -> Vec<usize> {
        let (outer, mut inner) = (self.w1.shape(), self.w2.shape());
        inner[0] = inner[0].saturating_mul(outer[0]);
        inner[1] = inner[1].saturating_mul(outer[1]);
        inner
    }
}

/// Splits a size into two factors, the first at most the second: nearest to each other with `factor` -1, else by `factor` where it
/// divides, else the largest split whose first factor is at most `factor` (LyCORIS 4.1 `functional/general.py` `factorization`).
pub fn factorization(dimension: usize, factor: i64) -> (usize, usize) {
    if let Ok(factor) = usize::try_from(factor)
        && factor > 0
        && dimension.is_multiple_of(factor)
    {
        let other = dimension / factor;
        return (factor.min(other), factor.max(other));
    }
    let most = usize::try_from(factor).unwrap_or(dimension);
    let (mut m, mut n) = (1, dimension);
    let length = m + n;
    while m < n {
        let Some(next) = (m + 1..=dimension).find(|m| dimension.is_multiple_of(*m)) else { break };
        let other = dimension / next;
        if next + other > length || next > most {
            break;
        }
        (m, n) = (next, other);
    }
    (m.min(n), m.max(n))
}

#[cfg(test)]
mod tests {
    use super::factorization;

    // Answers of LyCORIS 4.1.3's `factorization` (its documentation has others in two places).
    #[test]
    fn sizes_split_as_in_lycoris() {
        for (dimension, expected) in [
            (127, [(1, 127); 5]),
            (128, [(8, 16), (2, 64), (4, 32), (8, 16), (8, 16)]),
            (250, [(10, 25), (2, 125), (2, 125), (5, 50), (10, 25)]),
            (360, [(18, 20), (2, 180), (4, 90), (8, 45), (15, 24)]),
            (512, [(16, 32), (2, 256), (4, 128), (8, 64), (16, 32)]),
            (1024, [(32, 32), (2, 512), (4, 256), (8, 128), (16, 64)]),
        ] {
            for (factor, expected) in [-1, 2, 4, 8, 16].into_iter().zip(expected) {
                assert_eq!(factorization(dimension, factor), expected, "{dimension} by {factor}");
            }
        }
        for dimension in [1, 2, 3, 4, 77, 320, 768, 1280] {
            for factor in [-1, 0, 1, 3, 7, 5000] {
                let (m, n) = factorization(dimension, factor);
                assert!(m * n == dimension && m <= n, "{dimension} by {factor}");
            }
        }
    }
}
