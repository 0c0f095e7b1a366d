//! LoKr (Yeh et al., LyCORIS, arXiv 2309.14859; Edalati et al., KronA, arXiv 2212.10650): `dW = w1 (x) w2`, a Kronecker product of
//! which each factor may itself be a product.
//!
//! Mirrors LyCORIS 4.1 `LokrModule` in its forward pass.

use candle_core::Tensor;

use super::Factors;
use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::Component;
use crate::adapter::core_product::{core_product, kronecker, matrix};
use crate::adapter::family::{Change, Family, fits_flat};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::{Algorithm, Argument, FirstValues, Training, Value};
use crate::error::{AdapterCause, AdapterMisfit};

/// The outer factor.
const W1: Component = Component::named("lokr_w1");
/// Left factor of the outer factor.
const W1_A: Component = Component::named("lokr_w1_a");
/// Right factor of the outer factor.
const W1_B: Component = Component::named("lokr_w1_b");
/// The inner factor.
const W2: Component = Component::named("lokr_w2");
/// Left factor of the inner factor.
const W2_A: Component = Component::named("lokr_w2_a");
/// Right factor of the inner factor.
const W2_B: Component = Component::named("lokr_w2_b");
/// Core of the inner factor.
const T2: Component = Component::named("lokr_t2");

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

    fn components(&self, names: [Component; 4]) -> Vec<(Component, &Tensor)> {
        let [whole_name, a_name, b_name, core_name] = names;
        match self {
            Self::Whole(whole) => vec![(whole_name, whole)],
            Self::Product { a, b, core } => {
                let mut components = vec![(a_name, a), (b_name, b)];
                components.extend(core.as_ref().map(|core| (core_name, core)));
                components
            }
        }
    }

    fn map(&self, names: [Component; 4], change: &mut Change) -> Result<Self> {
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

    fn read(layer: &StoredLayer, [whole, a, b]: [Component; 3], core: Option<Component>) -> Result<Self> {
        let core = core.and_then(|core| layer.key(core));
        if let Some(key) = layer.key(whole) {
            if let Some(other) = layer.key(a).or(layer.key(b)).or(core) {
                return Err(layer.wrong(other, AdapterCause::TwoForms { other: key.to_owned(), component: "factor" }));
            }
            let factor = if whole == W1 { layer.matrix(key)? } else { layer.weight_like(key)? };
            return Ok(Self::Whole(factor));
        }
        let (a_key, b_key) = (layer.needed(a, b)?, layer.needed(b, a)?);
        let (a, b) = (layer.matrix(a_key)?, layer.matrix(b_key)?);
        let core = match core {
            None => None,
            Some(key) => {
                let tensor = layer.core(key)?;
                layer.square(key, &tensor, b.dims()[0])?;
                Some(tensor)
            }
        };
        layer.agree((a_key, &a), usize::from(core.is_none()), (b_key, &b), 0)?;
        Ok(Self::Product { a, b, core })
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

/// Names of the outer factor's components; a core there does not exist.
const OUTER: [Component; 4] = [W1, W1_A, W1_B, T2];
/// Names of the inner factor's components.
const INNER: [Component; 4] = [W2, W2_A, W2_B, T2];

/// How LoKr's factors are chosen in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LokrOptions {
    /// See [`factorization`]; -1 splits sizes nearest to their root.
    pub factor: i64,
    /// Whether the outer factor is a product too where the rank is below half its size.
    pub decompose_both: bool,
    /// Whether no factor is a product.
    pub full_matrix: bool,
}

/// LyCORIS' arguments for these.
const FACTOR: Argument = Argument {
    name: "factor",
    default: Value::Number(-1),
    accepts: |value| matches!(value, Value::Number(factor) if factor == -1 || factor > 0),
    range: "-1 or above 0",
};
const DECOMPOSE_BOTH: Argument = switch("decompose_both");
const FULL_MATRIX: Argument = switch("full_matrix");

const fn switch(name: &'static str) -> Argument {
    Argument { name, default: Value::Flag(false), accepts: |value| matches!(value, Value::Flag(_)), range: "True or False" }
}

impl LokrOptions {
    fn of(algorithm: &Algorithm) -> Self {
        Self {
            factor: algorithm.number(FACTOR.name),
            decompose_both: algorithm.flag(DECOMPOSE_BOTH.name),
            full_matrix: algorithm.flag(FULL_MATRIX.name),
        }
    }
}

impl Lokr {
    /// The rank of the change that the factors' forms show.
    pub fn product_rank(&self) -> usize {
        self.w1.product_rank().saturating_mul(self.w2.product_rank())
    }

    /// `w2`, or its right factor, is zero.
    fn first_values(draw: &mut FirstValues) -> Result<Self> {
        let lokr = LokrOptions::of(&draw.options.algorithm);
        let (kind, rank) = (draw.kind, draw.rank);
        let ((inputs, outputs), kernel) = (kind.features(), kind.kernel());
        let ((i1, i2), (o1, o2)) = (factorization(inputs, lokr.factor), factorization(outputs, lokr.factor));
        let is_product = |size: usize| 2 * rank < size && !lokr.full_matrix;
        let w1 = if lokr.decompose_both && is_product(o1.max(i1)) {
            KroneckerFactor::Product { a: draw.kaiming(&[o1, rank])?, b: draw.kaiming(&[rank, i1])?, core: None }
        } else {
            KroneckerFactor::Whole(draw.kaiming(&[o1, i1])?)
        };
        let w2 = if !is_product(o2.max(i2)) {
            let mut shape = kind.weight_shape();
            (shape[0], shape[1]) = (o2, i2);
            KroneckerFactor::Whole(draw.zeros(&shape)?)
        } else if draw.has_core() {
            let (a, core) = (draw.kaiming(&[rank, o2])?, draw.kaiming(&[rank, rank, kernel, kernel])?);
            KroneckerFactor::Product { a, b: draw.zeros(&[rank, i2])?, core: Some(core) }
        } else {
            let b = draw.zeros(&[rank, i2 * kernel * kernel])?;
            KroneckerFactor::Product { a: draw.kaiming(&[o2, rank])?, b, core: None }
        };
        Ok(Self { w1, w2 })
    }
}

impl Family for Lokr {
    const NAME: &'static str = "LoKr";
    const COMPONENTS: &'static [Component] = &[W1, W1_A, W1_B, W2, W2_A, W2_B, T2];
    const SCALED: &'static [Component] = &[W1, W1_A];
    const METADATA: &'static str = "lokr";
    const TAKES_MAGNITUDES: bool = true;
    const TRAINING: Option<&'static Training> = Some(&Training {
        algorithms: &["lokr"],
        arguments: &[FACTOR, DECOMPOSE_BOTH, FULL_MATRIX],
        has_scale: true,
        with_bias: false,
        takes_magnitudes: Self::TAKES_MAGNITUDES,
        first_values: |draw| Ok(Factors::Lokr(Self::first_values(draw)?)),
    });

    fn read(layer: &StoredLayer) -> Result<Self> {
        let w1 = KroneckerFactor::read(layer, [W1, W1_A, W1_B], None)?;
        let w2 = KroneckerFactor::read(layer, [W2, W2_A, W2_B], Some(T2))?;
        Ok(Self { w1, w2 })
    }

    /// `None` when neither factor is a product, and the scale is 1 whatever alpha says.
    fn rank(&self) -> Option<usize> {
        self.w1.rank().or(self.w2.rank())
    }

    fn product(&self, _base: &Tensor) -> Result<Tensor> {
        kronecker(&self.w1.product()?, &self.w2.product()?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        [self.w1.components(OUTER), self.w2.components(INNER)].concat()
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self { w1: self.w1.map(OUTER, change)?, w2: self.w2.map(INNER, change)? })
    }

    fn has_core(&self) -> bool {
        matches!(self.w2, KroneckerFactor::Product { core: Some(_), .. })
    }

    /// A kernel is known where one is stored, else it is part of the second size.
    fn weight_shape(&self) -> Option<Vec<usize>> {
        let (outer, mut inner) = (self.w1.shape(), self.w2.shape());
        inner[0] = inner[0].saturating_mul(outer[0]);
        inner[1] = inner[1].saturating_mul(outer[1]);
        Some(inner)
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits_flat(&self.weight_shape().unwrap_or_default(), weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    /// The rank is the product of the factors' ranks.
    fn as_product(&self, _base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
        if self.product_rank() > most {
            return Ok(None);
        }
        let ((a1, b1), (a2, b2)) = (self.w1.as_product()?, self.w2.as_product()?);
        Ok(Some((kronecker(&a1, &a2)?, kronecker(&b1, &b2)?)))
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
