//! What a family of adapters is to the rest of the room. Each is one file in [`families`](super::families) and one row of the registry
//! there.

use candle_core::Tensor;

use super::LayerShape;
use super::component::Component;
use super::rebuilt::Application;
use super::stored_layer::StoredLayer;
use super::training::Training;
use crate::Result;
use crate::error::AdapterMisfit;

/// Gives a tensor in place of one.
pub(super) type Change<'a> = dyn FnMut(Component, &Tensor) -> Result<Tensor> + 'a;

/// One layer's factors; the constants say what their family is.
pub(super) trait Family: Sized {
    /// The family's name.
    const NAME: &'static str;
    /// What only this family stores: a layer that has one of these is of this family.
    const COMPONENTS: &'static [Component];
    /// The components that carry a change of scale, of which each adapter has one.
    const SCALED: &'static [Component];
    /// LyCORIS' `algo` in the metadata of its files; a change of norms goes beside another there, by a switch.
    const METADATA: &'static str;
    /// Whether it stands on norms, and on nothing else; such a change has no LoRA form.
    const ON_NORMS: bool = false;
    /// Whether DoRA's magnitudes go with it.
    const TAKES_MAGNITUDES: bool;
    /// How it is trained, where it is.
    const TRAINING: Option<&'static Training>;

    /// Reads a layer that has one of the components.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] with the key, for a component that is missing, of another shape, or that disagrees with another.
    fn read(layer: &StoredLayer) -> Result<Self>;

    /// LyCORIS' `algo` of this very adapter, where a family has several.
    fn algorithm(&self) -> &'static str {
        Self::METADATA
    }

    /// The name of this very adapter, where a family has several.
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// The rank that alpha is divided by; `None` where alpha is no scale.
    fn rank(&self) -> Option<usize>;

    /// Whether the change depends on the base weight.
    fn needs_base(&self) -> bool {
        false
    }

    /// The change of a `base` weight before it is scaled, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    fn product(&self, base: &Tensor) -> Result<Tensor>;

    /// The stored tensors.
    fn components(&self) -> Vec<(Component, &Tensor)>;

    /// The same with every tensor replaced, in the order of [`Family::components`].
    ///
    /// # Errors
    /// Those of `change`.
    fn map(&self, change: &mut Change) -> Result<Self>;

    /// Stored numbers that are no factors.
    fn flags(&self) -> Vec<(Component, i64)> {
        Vec::new()
    }

    /// Whether a Tucker core is among the factors.
    fn has_core(&self) -> bool {
        false
    }

    /// A change of the bias among the factors, which is not scaled.
    fn bias_change(&self) -> Option<&Tensor> {
        None
    }

    /// The shape of the weight that is changed; a kernel may be a part of the second size. `None` where the factors do not tell.
    fn weight_shape(&self) -> Option<Vec<usize>>;

    /// Whether the change fits a weight of this shape.
    ///
    /// # Errors
    /// What it would fit.
    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit>;

    /// The factors in the shapes that a layer of `kind` computes with.
    ///
    /// # Errors
    /// A factor that has no such shape.
    fn fitted(&self, kind: LayerShape) -> Result<Self, AdapterMisfit>;

    /// The change as one product, without scale, where the family's form shows one of at most this rank.
    ///
    /// # Shapes
    /// `base` the layer's weight; returns `[c_out, p]` and `[p, c_in * k * k]`, float32.
    /// # Errors
    /// When the shapes disagree.
    fn as_product(&self, base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>>;

    /// What the change adds to a layer's output, where there is a thinner way than through the rebuilt weight.
    ///
    /// # Errors
    /// When the shapes disagree.
    fn thin_term(&self, _term: &ThinTerm) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// What a thin term is made of, besides the factors.
pub(super) struct ThinTerm<'a> {
    /// The layer's input.
    pub x: &'a Tensor,
    /// How the layer's weight meets it.
    pub application: Application,
    /// A mask over the rows of the change, `[c_out, 1]`.
    pub rows: Option<&'a Tensor>,
    /// Scales and drops; to be applied to the thin inner product.
    pub inner: &'a dyn Fn(Tensor) -> Result<Tensor>,
}

/// Whether a change of one shape fits a weight of another, for changes that hold the kernel.
///
/// # Errors
/// [`AdapterMisfit::Weight`].
pub(super) fn fits(change: &[usize], weight: &[usize]) -> Result<(), AdapterMisfit> {
    let (change, weight) = (without_unit_kernel(change), without_unit_kernel(weight));
    if change == weight { Ok(()) } else { Err(AdapterMisfit::Weight { expected: change, found: weight }) }
}

/// The same for changes in which the kernel may be a part of the second size.
///
/// # Errors
/// [`AdapterMisfit::Weight`].
pub(super) fn fits_flat(change: &[usize], weight: &[usize]) -> Result<(), AdapterMisfit> {
    let flat: usize = weight.iter().skip(1).product();
    match change {
        [outputs, inputs] if weight.len() == 4 && *inputs == flat => fits(&[&[*outputs], &weight[1..]].concat(), weight),
        change => fits(change, weight),
    }
}

/// Whether `count` is one of a weight's numbers of outputs (`axis` 0) or inputs.
///
/// # Errors
/// [`AdapterMisfit::Axis`]; [`AdapterMisfit::Kind`] for weights without inputs.
pub(super) fn fits_axis(
    family: &'static str,
    verb: &'static str,
    count: usize,
    axis: usize,
    weight: &[usize],
) -> Result<(), AdapterMisfit> {
    match weight {
        [_, _, ..] if weight[axis] == count => Ok(()),
        [_, _, ..] => {
            let axis = if axis == 0 { "outputs" } else { "inputs" };
            Err(AdapterMisfit::Axis { verb, expected: count, axis, found: weight.to_vec() })
        }
        _ => Err(AdapterMisfit::Kind { family, found: weight.to_vec() }),
    }
}

/// A shape without a kernel of 1x1.
fn without_unit_kernel(shape: &[usize]) -> Vec<usize> {
    shape.strip_suffix(&[1, 1]).filter(|rest| rest.len() == 2).unwrap_or(shape).to_vec()
}
