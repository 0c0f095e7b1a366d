//! OFT (Qiu et al., arXiv 2306.07280): the outputs of a weight are rotated in blocks, `W' = s * (R W)`, with an optional rescaling `s` of
//! rows. A block's rotation follows from a skew-symmetric matrix by Cayley's transform, `R = (1 + Q) (1 - Q)^-1`, `Q = B - B^T`, where
//! the norm of all `Q` together is held to a constraint.
//!
//! Mirrors LyCORIS 4.1 `DiagOFTModule` and kohya's `networks/oft.py` (sd-scripts 48d368f), which agree but for what `alpha` 0 means: no
//! constraint there, no rotation here. Both apply `R` transposed. `oft_diag` of LyCORIS' development files of December 2023 (5a108f3) holds
//! the rotations, with the scales of rows in them.
//!
//! BOFT (Liu et al., arXiv 2311.06243; LyCORIS `ButterflyOFTModule`) rotates in `m` stages, one after the other: in stage `i` a block's
//! outputs are taken from runs of `2^i * s / 2`, the two halves of a butterfly, and `R` is applied as it is.
//!
//! Deliberate differences: rotations are computed once, in float64; a strength moves the weight that share of the way, as with DoRA,
//! where LyCORIS leaves `s` whole. Rotations are constants, so that no gradient flows to the blocks.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};
use nalgebra::DMatrix;

use crate::adapter::LayerShape;
use crate::adapter::component::{ALPHA, Component};
use crate::adapter::family::{Change, Family, fits_axis};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::Training;
use crate::error::{AdapterCause, AdapterMisfit, ArgumentCause};
use crate::{Error, Result, ops};

/// OFT's blocks.
#[derive(Clone, Debug)]
pub struct Oft {
    /// `[n, s, s]` of `n` blocks of `s` outputs, for BOFT `[m, n, s, s]`.
    pub blocks: Blocks,
    /// As many numbers as the layer has outputs, in any shape.
    pub rescale: Option<Tensor>,
    /// `R - 1` of each block and stage, float32, made when it is first asked for and shared by copies.
    turned: Arc<OnceLock<Tensor>>,
}

/// What is stored of the rotations.
#[derive(Clone, Debug)]
pub enum Blocks {
    /// `B`, and over the number of outputs the most that the norm of all `Q` may be.
    Skew {
        /// `B`.
        blocks: Tensor,
        /// Without, the norm is free.
        constraint: Option<f64>,
    },
    /// `R` itself.
    Rotations(Tensor),
}

/// `B` of each block.
const BLOCKS: Component = Component::named("oft_blocks");
/// `R` of each block.
const ROTATIONS: Component = Component::named("oft_diag");
/// The scales of rows.
const RESCALE: Component = Component::named("rescale");

/// How far from each other's right angle the rows of a stored rotation may be: a half-precision rounding, over some sums.
const RIGHT_ANGLE: f64 = 0.02;

/// What all programs add to a norm that they divide by.
const NORM_EPSILON: f64 = 1e-8;

impl Blocks {
    fn stored(&self) -> (Component, &Tensor) {
        match self {
            Self::Skew { blocks, .. } => (BLOCKS, blocks),
            Self::Rotations(rotations) => (ROTATIONS, rotations),
        }
    }

    /// Outputs of a block.
    fn size(&self) -> usize {
        self.stored().1.dims().last().copied().unwrap_or(0)
    }

    /// Outputs of all blocks.
    fn outputs(&self) -> usize {
        let dims = self.stored().1.dims();
        dims[dims.len().saturating_sub(3)] * self.size()
    }
}

impl Family for Oft {
    const NAME: &'static str = "OFT";
    const COMPONENTS: &'static [Component] = &[BLOCKS, ROTATIONS, RESCALE];
    const SCALED: &'static [Component] = &[];
    const METADATA: &'static str = "diag-oft";
    const TAKES_MAGNITUDES: bool = false;
    const TRAINING: Option<&'static Training> = None;

    fn algorithm(&self) -> &'static str {
        if self.stages().is_some() { "boft" } else { Self::METADATA }
    }

    fn read(layer: &StoredLayer) -> Result<Self> {
        let rescale = layer.key(RESCALE).map(|key| layer.numbers(key)).transpose()?;
        let blocks = match layer.key(ROTATIONS) {
            Some(key) => {
                if let Some(other) = layer.key(BLOCKS) {
                    return Err(layer.wrong(key, AdapterCause::TwoForms { other: other.to_owned(), component: "rotation" }));
                }
                Blocks::Rotations(read_rotations(layer, key)?)
            }
            None => {
                let blocks = read_blocks(layer, layer.needed(BLOCKS, RESCALE)?)?;
                Blocks::Skew { blocks, constraint: read_constraint(layer)? }
            }
        };
        let expected = blocks.outputs();
        if let (Some(scales), Some(key)) = (&rescale, layer.key(RESCALE))
            && scales.elem_count() != expected
        {
            let found = scales.dims().to_vec();
            return Err(layer.wrong(key, AdapterCause::Rescale { found, expected }));
        }
        Ok(Self { blocks, rescale, turned: Arc::default() })
    }

    fn name(&self) -> &'static str {
        if self.stages().is_some() { "BOFT" } else { Self::NAME }
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn product(&self, base: &Tensor) -> Result<Tensor> {
        let turned = self.turned()?;
        let base = base.to_dtype(DType::F32)?.flatten_from(1)?;
        let (outputs, columns) = base.dims2()?;
        let change = match self.stages() {
            Some(stages) => butterfly(&turned, stages, &base)?,
            None => {
                let (count, size, _) = turned.dims3()?;
                let change = turned.transpose(1, 2)?.contiguous()?.matmul(&base.reshape((count, size, columns))?)?;
                change.reshape((outputs, columns))?
            }
        };
        Ok(match &self.rescale {
            None => change,
            Some(scales) => {
                let scales = scales.to_dtype(DType::F32)?.reshape((outputs, 1))?;
                ((&base + change)?.broadcast_mul(&scales)? - base)?
            }
        })
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        let mut components = vec![self.blocks.stored()];
        components.extend(self.rescale.as_ref().map(|scales| (RESCALE, scales)));
        components
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        let (component, tensor) = self.blocks.stored();
        let tensor = change(component, tensor)?;
        let blocks = match &self.blocks {
            Blocks::Skew { constraint, .. } => Blocks::Skew { blocks: tensor, constraint: *constraint },
            Blocks::Rotations(_) => Blocks::Rotations(tensor),
        };
        let rescale = self.rescale.as_ref().map(|scales| change(RESCALE, scales)).transpose()?;
        Ok(Self { blocks, rescale, turned: Arc::default() })
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        None
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits_axis(Self::NAME, "turns", self.blocks.outputs(), 0, weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    fn as_product(&self, _base: &Tensor, _most: usize) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }
}

impl Oft {
    /// BOFT's number of stages.
    fn stages(&self) -> Option<usize> {
        match self.blocks.stored().1.dims() {
            &[stages, _, _, _] => Some(stages),
            _ => None,
        }
    }

    /// `R - 1` of each block, `[n, s, s]`, for BOFT `[m * n, s, s]`.
    fn turned(&self) -> Result<Tensor> {
        if let Some(turned) = self.turned.get() {
            return Ok(turned.clone());
        }
        let tensor = self.blocks.stored().1;
        if ops::is_tracked(tensor) {
            return Err(Error::argument("OFT", ArgumentCause::OftTraining));
        }
        let (outputs, size) = (self.blocks.outputs(), self.blocks.size());
        let count = tensor.elem_count() / (size * size).max(1);
        let numbers: Vec<f64> = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let blocks = numbers.chunks_exact((size * size).max(1)).map(|block| DMatrix::from_row_slice(size, size, block));
        let identity = DMatrix::<f64>::identity(size, size);
        let turned: Vec<DMatrix<f64>> = match &self.blocks {
            Blocks::Rotations(_) => blocks.map(|rotation| rotation - &identity).collect(),
            Blocks::Skew { constraint, .. } => {
                let skew: Vec<DMatrix<f64>> = blocks.map(|block| &block - block.transpose()).collect();
                let norm = skew.iter().map(DMatrix::norm_squared).sum::<f64>().sqrt() + NORM_EPSILON;
                let most = constraint.map_or(f64::INFINITY, |constraint| constraint * outputs as f64);
                let factor = (most / norm).min(1.0);
                skew.into_iter().map(|skew| turn(skew * factor, &identity)).collect::<Result<_>>()?
            }
        };
        // Matrices are stored by columns.
        let rows: Vec<f32> =
            turned.iter().flat_map(|turned| turned.transpose().iter().map(|v| *v as f32).collect::<Vec<_>>()).collect();
        let turned = Tensor::from_vec(rows, (count, size, size), &candle_core::Device::Cpu)?.to_device(tensor.device())?;
        Ok(self.turned.get_or_init(|| turned).clone())
    }
}

/// `(1 + Q) (1 - Q)^-1 - 1`, which is `2 Q (1 - Q)^-1`.
fn turn(skew: DMatrix<f64>, identity: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    // The eigenvalues of a skew-symmetric matrix are imaginary, so that the inverse exists unless numbers overflow.
    let inverse = (identity - &skew).try_inverse();
    let inverse = inverse.ok_or_else(|| Error::argument("oft_blocks", ArgumentCause::RotationOverflow))?;
    Ok(skew * 2.0 * inverse)
}

fn read_blocks(layer: &StoredLayer, key: &str) -> Result<Tensor> {
    let tensor = layer.numbers(key)?;
    match *tensor.dims() {
        [_, rows, columns] if rows == columns => Ok(tensor),
        [stages, count, rows, columns] if rows == columns && is_butterfly(stages, count, rows) => Ok(tensor),
        ref shape => {
            Err(layer.wrong_shape(key, shape, "[blocks, size, size], or [stages, blocks, size, size] of BOFT's powers of two"))
        }
    }
}

/// Whether so many stages can halve and pair so many blocks of an even size: the last one's runs must divide the outputs.
fn is_butterfly(stages: usize, count: usize, size: usize) -> bool {
    let widest = u32::try_from(stages).ok().and_then(|stages| 2usize.checked_pow(stages)?.checked_mul(size / 2));
    let outputs = count.checked_mul(size);
    size > 0 && size.is_multiple_of(2) && widest.zip(outputs).is_some_and(|(widest, outputs)| outputs.is_multiple_of(widest))
}

/// The change of a `base` weight by BOFT's stages.
///
/// # Shapes
/// `turned` `[m * n, s, s]`, `base` `[n * s, columns]`; returns the latter.
fn butterfly(turned: &Tensor, stages: usize, base: &Tensor) -> Result<Tensor> {
    let ((all, size, _), (outputs, columns)) = (turned.dims3()?, base.dims2()?);
    let count = all / stages.max(1);
    // What has been added so far; to add to it keeps the digits that are lost in a difference of weights.
    let mut change = base.zeros_like()?;
    for stage in 0..stages {
        let (run, turned) = ((size / 2) << stage, turned.narrow(0, stage * count, count)?);
        let paired = (base + &change)?.reshape((outputs / (2 * run), 2, run, columns))?.transpose(1, 2)?.contiguous()?;
        let added = turned.matmul(&paired.reshape((count, size, columns))?)?;
        let added = added.reshape((outputs / (2 * run), run, 2, columns))?.transpose(1, 2)?.contiguous()?;
        change = (change + added.reshape((outputs, columns))?)?;
    }
    Ok(change)
}

fn read_constraint(layer: &StoredLayer) -> Result<Option<f64>> {
    let Some(key) = layer.key(ALPHA) else { return Ok(None) };
    let constraint = layer.scalar(key)?;
    if !constraint.is_finite() || constraint < 0.0 {
        return Err(layer.wrong(key, AdapterCause::Constraint { found: constraint }));
    }
    if constraint == 0.0 && key.starts_with("oft_") {
        return Err(layer.wrong(key, AdapterCause::ZeroConstraint));
    }
    Ok((constraint > 0.0).then_some(constraint))
}

fn read_rotations(layer: &StoredLayer, key: &str) -> Result<Tensor> {
    let tensor = read_blocks(layer, key)?;
    let size = match *tensor.dims() {
        [_, size, _] => size,
        ref shape => return Err(layer.wrong_shape(key, shape, "[blocks, size, size]")),
    };
    let numbers: Vec<f64> = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    for block in numbers.chunks_exact(size * size) {
        let rows: Vec<&[f64]> = block.chunks_exact(size).collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let squares: Vec<f64> = rows.iter().map(|row| product(row, row)).collect();
        let is_rotation = (0..size).all(|i| {
            squares[i] > 0.0 && (0..i).all(|j| product(rows[i], rows[j]).abs() <= RIGHT_ANGLE * (squares[i] * squares[j]).sqrt())
        });
        if !is_rotation {
            return Err(layer.wrong(key, AdapterCause::NotRotations));
        }
    }
    Ok(tensor)
}
