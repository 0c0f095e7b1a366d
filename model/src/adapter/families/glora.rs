//! GLoRA (Chavan et al., arXiv 2306.07967) in the form of LyCORIS: `dW = b1 b2 + W a1 a2`, the base weight's inputs mixed by a product of
//! low rank, beside one that is added.
//!
//! Mirrors LyCORIS 4.1 `GLoRAModule` in its forward pass. Files of LyCORIS 1 have the two factors of each product under each other's
//! name, which their shapes tell: the rank is the smaller size.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::Component;
use crate::adapter::core_product::matrix;
use crate::adapter::family::{Change, Family, fits_flat};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::Training;
use crate::error::AdapterMisfit;

/// GLoRA's factors.
#[derive(Clone, Debug)]
pub struct Glora {
    /// `[c_in, r]`.
    pub a1: Tensor,
    /// `[r, c_in]`.
    pub a2: Tensor,
    /// `[c_out, r]`.
    pub b1: Tensor,
    /// `[r, c_in]`, for a convolution `[r, c_in, k, k]`.
    pub b2: Tensor,
}

/// Mixes the inputs, left.
const A1: Component = Component::named("a1.weight");
/// Mixes the inputs, right.
const A2: Component = Component::named("a2.weight");
/// Added, left.
const B1: Component = Component::named("b1.weight");
/// Added, right.
const B2: Component = Component::named("b2.weight");

impl Family for Glora {
    const NAME: &'static str = "GLoRA";
    const COMPONENTS: &'static [Component] = &[A1, A2, B1, B2];
    const SCALED: &'static [Component] = &[];
    const METADATA: &'static str = "glora";
    const TAKES_MAGNITUDES: bool = false;
    const TRAINING: Option<&'static Training> = None;

    fn read(layer: &StoredLayer) -> Result<Self> {
        let mut keys = [layer.needed(A1, A2)?, layer.needed(A2, A1)?, layer.needed(B1, B2)?, layer.needed(B2, B1)?];
        let first = layer.matrix(keys[0])?;
        if first.dims()[0] < first.dims()[1] {
            keys.swap(0, 1);
            keys.swap(2, 3);
        }
        let [a1_key, a2_key, b1_key, b2_key] = keys;
        let (a1, a2, b1) = (layer.matrix(a1_key)?, layer.matrix(a2_key)?, layer.matrix(b1_key)?);
        let b2 = layer.weight_like(b2_key)?;
        layer.agree((a2_key, &a2), 0, (a1_key, &a1), 1)?;
        layer.agree((a2_key, &a2), 1, (a1_key, &a1), 0)?;
        layer.agree((b2_key, &b2), 0, (b1_key, &b1), 1)?;
        layer.agree((b2_key, &b2), 1, (a1_key, &a1), 0)?;
        layer.agree((b1_key, &b1), 1, (a1_key, &a1), 1)?;
        Ok(Self { a1, a2, b1, b2 })
    }

    fn rank(&self) -> Option<usize> {
        Some(self.b1.dims()[1])
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn product(&self, base: &Tensor) -> Result<Tensor> {
        let mixed = along_inputs(&along_inputs(base, &matrix(&self.a1)?)?, &matrix(&self.a2)?)?;
        Ok((matrix(&self.b1)?.matmul(&matrix(&self.b2)?)? + mixed.flatten_from(1)?)?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        vec![(A1, &self.a1), (A2, &self.a2), (B1, &self.b1), (B2, &self.b2)]
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self { a1: change(A1, &self.a1)?, a2: change(A2, &self.a2)?, b1: change(B1, &self.b1)?, b2: change(B2, &self.b2)? })
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        Some([&[self.b1.dims()[0]], &self.b2.dims()[1..]].concat())
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits_flat(&self.weight_shape().unwrap_or_default(), weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    /// `[b1, W a1] [b2; a2]`, of twice the rank, where the weight is a matrix.
    fn as_product(&self, base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
        let area: usize = base.dims()[2..].iter().product();
        if area > 1 || 2 * self.b1.dims()[1] > most {
            return Ok(None);
        }
        let mixed = matrix(base)?.matmul(&matrix(&self.a1)?)?;
        let up = Tensor::cat(&[matrix(&self.b1)?, mixed], 1)?;
        Ok(Some((up, Tensor::cat(&[matrix(&self.b2)?, matrix(&self.a2)?], 0)?)))
    }
}

/// `sum over i of weight[o, i, ..] factor[i, j]`, float32.
///
/// # Shapes
/// `weight` `[o, i]` or `[o, i, k, k]`; returns it with `j` in place of `i`.
fn along_inputs(weight: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let weight = weight.to_dtype(DType::F32)?;
    let &[outputs, inputs, ref kernel @ ..] = weight.dims() else { return Ok(weight.matmul(factor)?) };
    let area: usize = kernel.iter().product();
    let rows = weight.reshape((outputs, inputs, area))?.transpose(1, 2)?.contiguous()?.reshape((outputs * area, inputs))?;
    let columns = factor.dims()[1];
    let product = rows.matmul(factor)?.reshape((outputs, area, columns))?.transpose(1, 2)?.contiguous()?;
    Ok(product.reshape([&[outputs, columns], kernel].concat())?)
}
