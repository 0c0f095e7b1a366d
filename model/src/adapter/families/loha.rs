//! LoHa (Hyeon-Woo et al., FedPara, arXiv 2108.06098): `dW = (w1_a w1_b) * (w2_a w2_b)`, element by element.
//!
//! Mirrors LyCORIS 4.1 `LohaModule` in its forward pass; its merging scales twice, which is an error there and not followed.

use candle_core::Tensor;

use super::Factors;
use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::Component;
use crate::adapter::core_product::{core_product, matrix};
use crate::adapter::family::{Change, Family, fits_flat};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::{FirstValues, Training};
use crate::error::{AdapterCause, AdapterMisfit};

/// Left factor of the first product.
const W1_A: Component = Component::named("hada_w1_a");
/// Right factor of the first product.
const W1_B: Component = Component::named("hada_w1_b");
/// Left factor of the second product.
const W2_A: Component = Component::named("hada_w2_a");
/// Right factor of the second product.
const W2_B: Component = Component::named("hada_w2_b");
/// Core of the first product.
const T1: Component = Component::named("hada_t1");
/// Core of the second product.
const T2: Component = Component::named("hada_t2");

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
    fn kronecker_factors(&self) -> Result<(Tensor, Tensor)> {
        let (a, b) = match &self.cores {
            None => ([matrix(&self.w1_a)?, matrix(&self.w2_a)?], [matrix(&self.w1_b)?, matrix(&self.w2_b)?]),
            Some((t1, t2)) => {
                let right = |core: &Tensor, b: &Tensor| -> Result<Tensor> {
                    // An identity in place of `a` leaves the core's product with `b`.
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

    /// `w2_a` is zero.
    fn first_values(draw: &mut FirstValues) -> Result<Self> {
        let ((inputs, outputs), kernel, rank) = (draw.kind.features(), draw.kind.kernel(), draw.rank);
        let core = [rank, rank, kernel, kernel];
        let (a, b, cores) = match draw.has_core() {
            true => ([rank, outputs], [rank, inputs], Some((draw.normal(&core, 0.1)?, draw.normal(&core, 0.1)?))),
            false => ([outputs, rank], [rank, inputs * kernel * kernel], None),
        };
        let (w1_a, w1_b) = (draw.normal(&a, 0.1)?, draw.normal(&b, 1.0)?);
        Ok(Self { w1_a, w1_b, w2_a: draw.zeros(&a)?, w2_b: draw.normal(&b, 1.0)?, cores })
    }
}

impl Family for Loha {
    const NAME: &'static str = "LoHa";
    const COMPONENTS: &'static [Component] = &[W1_A, W1_B, W2_A, W2_B, T1, T2];
    const SCALED: &'static [Component] = &[W1_A];
    const METADATA: &'static str = "loha";
    const TAKES_MAGNITUDES: bool = true;
    const TRAINING: Option<&'static Training> = Some(&Training {
        algorithms: &["loha"],
        arguments: &[],
        has_scale: true,
        with_bias: false,
        takes_magnitudes: Self::TAKES_MAGNITUDES,
        first_values: |draw| Ok(Factors::Loha(Self::first_values(draw)?)),
    });

    fn read(layer: &StoredLayer) -> Result<Self> {
        let matrix = |component, other| -> Result<(&str, Tensor)> {
            let key = layer.needed(component, other)?;
            Ok((key, layer.matrix(key)?))
        };
        let (a1, w1_a) = matrix(W1_A, W1_B)?;
        let (b1, w1_b) = matrix(W1_B, W1_A)?;
        let (a2, w2_a) = matrix(W2_A, W2_B)?;
        let (b2, w2_b) = matrix(W2_B, W2_A)?;
        let cores = if layer.has(T1) || layer.has(T2) {
            let (t1, t2) = (layer.needed(T1, T2)?, layer.needed(T2, T1)?);
            let cores = (layer.core(t1)?, layer.core(t2)?);
            layer.square(t1, &cores.0, w1_b.dims()[0])?;
            layer.square(t2, &cores.1, w2_b.dims()[0])?;
            if cores.0.dims()[2..] != cores.1.dims()[2..] {
                let (found, other_shape) = (cores.1.dims().to_vec(), cores.0.dims().to_vec());
                return Err(layer.wrong(t2, AdapterCause::UnequalCores { found, other: t1.to_owned(), other_shape }));
            }
            Some(cores)
        } else {
            None
        };
        // With cores the ranks of `a` stand first.
        let (rank_axis, size_axis) = if cores.is_some() { (0, 1) } else { (1, 0) };
        for (a, b) in [((a1, &w1_a), (b1, &w1_b)), ((a2, &w2_a), (b2, &w2_b))] {
            layer.agree(a, rank_axis, b, 0)?;
        }
        layer.agree((a2, &w2_a), size_axis, (a1, &w1_a), size_axis)?;
        layer.agree((b2, &w2_b), 1, (b1, &w1_b), 1)?;
        Ok(Self { w1_a, w1_b, w2_a, w2_b, cores })
    }

    fn rank(&self) -> Option<usize> {
        Some(Self::rank(self))
    }

    fn product(&self, _base: &Tensor) -> Result<Tensor> {
        let [first, second] = self.halves()?;
        Ok((first * second)?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        let mut components = vec![(W1_A, &self.w1_a), (W1_B, &self.w1_b), (W2_A, &self.w2_a), (W2_B, &self.w2_b)];
        if let Some((t1, t2)) = &self.cores {
            components.extend([(T1, t1), (T2, t2)]);
        }
        components
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self {
            w1_a: change(W1_A, &self.w1_a)?,
            w1_b: change(W1_B, &self.w1_b)?,
            w2_a: change(W2_A, &self.w2_a)?,
            w2_b: change(W2_B, &self.w2_b)?,
            cores: match &self.cores {
                Some((t1, t2)) => Some((change(T1, t1)?, change(T2, t2)?)),
                None => None,
            },
        })
    }

    fn has_core(&self) -> bool {
        self.cores.is_some()
    }

    /// A kernel is known with cores alone, else it is part of the second size.
    fn weight_shape(&self) -> Option<Vec<usize>> {
        Some(match &self.cores {
            None => vec![self.w1_a.dims()[0], self.w1_b.dims()[1]],
            Some((t1, _)) => [&[self.w1_a.dims()[1], self.w1_b.dims()[1]], &t1.dims()[2..]].concat(),
        })
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits_flat(&self.weight_shape().unwrap_or_default(), weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    fn as_product(&self, _base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
        let rank = Self::rank(self);
        (rank.saturating_mul(rank) <= most).then(|| self.kronecker_factors()).transpose()
    }
}
