//! The families of adapters: one file each, and one row of the registry below. Everything that is said of a particular family is said in
//! its file; the rest of the room asks [`Factors`] and `REGISTRY`.

mod full;
mod glora;
mod ia3;
mod loha;
mod lokr;
mod lora;
mod norm;
mod oft;

pub use full::Full;
pub use glora::Glora;
pub use ia3::Ia3;
pub use loha::Loha;
pub use lokr::{KroneckerFactor, Lokr, LokrOptions, factorization};
pub(super) use lora::TRAINING as LORA_TRAINING;
pub use lora::{DOWN, Lora, UP};
pub use norm::Norm;
pub use oft::Oft;

use candle_core::Tensor;

use super::LayerShape;
use super::component::Component;
use super::decorators;
use super::family::{Change, Family, ThinTerm};
use super::stored_layer::StoredLayer;
use super::training::Training;
use crate::Result;
use crate::error::AdapterMisfit;

/// What is said of a family apart from any one layer; see the constants of the same names.
pub(super) struct Row {
    pub name: &'static str,
    pub components: &'static [Component],
    pub training: Option<&'static Training>,
    pub metadata: &'static str,
    pub takes_magnitudes: bool,
    pub on_norms: bool,
    pub read: fn(&StoredLayer) -> Result<Factors>,
}

macro_rules! registry {
    ($($(#[$doc:meta])* $family:ident),+ $(,)?) => {
        /// The matrices that one layer's change is made of.
        #[derive(Clone, Debug)]
        pub enum Factors {
            $($(#[$doc])* $family($family)),+
        }

        /// Every family.
        pub(super) static REGISTRY: &[Row] = &[$(Row {
            name: <$family as Family>::NAME,
            components: <$family as Family>::COMPONENTS,
            training: <$family as Family>::TRAINING,
            metadata: <$family as Family>::METADATA,
            takes_magnitudes: <$family as Family>::TAKES_MAGNITUDES,
            on_norms: <$family as Family>::ON_NORMS,
            read: |layer| Ok(Factors::$family(Family::read(layer)?)),
        }),+];

        impl Factors {
            /// The family's name.
            pub fn family(&self) -> &'static str {
                match self { $(Self::$family(factors) => Family::name(factors)),+ }
            }

            /// The rank that alpha is divided by; `None` where alpha is no scale.
            pub fn rank(&self) -> Option<usize> {
                match self { $(Self::$family(factors) => Family::rank(factors)),+ }
            }

            /// Whether the change is one of a norm, which no LoRA can make.
            pub fn is_norm(&self) -> bool {
                match self { $(Self::$family(_) => <$family as Family>::ON_NORMS),+ }
            }

            /// Whether the change depends on the base weight.
            pub fn needs_base(&self) -> bool {
                match self { $(Self::$family(factors) => Family::needs_base(factors)),+ }
            }

            /// The change of a `base` weight before it is scaled, float32, `[c_out, c_in * k * k]`.
            ///
            /// # Errors
            /// When the shapes disagree.
            pub fn product(&self, base: &Tensor) -> Result<Tensor> {
                match self { $(Self::$family(factors) => Family::product(factors, base)),+ }
            }

            /// The stored tensors.
            pub fn components(&self) -> Vec<(Component, &Tensor)> {
                match self { $(Self::$family(factors) => Family::components(factors)),+ }
            }

            pub(super) fn map(&self, change: &mut Change) -> Result<Self> {
                Ok(match self { $(Self::$family(factors) => Self::$family(Family::map(factors, change)?)),+ })
            }

            pub(super) fn flags(&self) -> Vec<(Component, i64)> {
                match self { $(Self::$family(factors) => Family::flags(factors)),+ }
            }

            pub(super) fn has_core(&self) -> bool {
                match self { $(Self::$family(factors) => Family::has_core(factors)),+ }
            }

            pub(super) fn bias_change(&self) -> Option<&Tensor> {
                match self { $(Self::$family(factors) => Family::bias_change(factors)),+ }
            }

            fn changed_shape(&self) -> Option<Vec<usize>> {
                match self { $(Self::$family(factors) => Family::weight_shape(factors)),+ }
            }

            pub(super) fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
                match self { $(Self::$family(factors) => Family::check(factors, weight)),+ }
            }

            pub(super) fn fitted(&self, kind: LayerShape) -> Result<Self, AdapterMisfit> {
                Ok(match self { $(Self::$family(factors) => Self::$family(Family::fitted(factors, kind)?)),+ })
            }

            pub(super) fn as_product(&self, base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
                match self { $(Self::$family(factors) => Family::as_product(factors, base, most)),+ }
            }

            pub(super) fn thin_term(&self, term: &ThinTerm) -> Result<Option<Tensor>> {
                match self { $(Self::$family(factors) => Family::thin_term(factors, term)),+ }
            }

            pub(super) fn metadata(&self) -> &'static str {
                match self { $(Self::$family(factors) => Family::algorithm(factors)),+ }
            }

            /// Whether a change of scale is a change of this component; each adapter has one such component.
            pub fn is_scaled(&self, component: Component) -> bool {
                match self { $(Self::$family(_) => <$family as Family>::SCALED.contains(&component)),+ }
            }
        }
    };
}

registry! {
    /// LoRA; on convolutions also called LoCon.
    Lora,
    /// LoHa.
    Loha,
    /// LoKr.
    Lokr,
    /// The difference itself.
    Full,
    /// IA3.
    Ia3,
    /// GLoRA.
    Glora,
    /// OFT and BOFT.
    Oft,
    /// Trained norms.
    Norm,
}

impl Factors {
    /// The shape of the weight that is changed, as far as the factors tell: on convolutions (`kernel` set) four sizes, of which the
    /// kernel's are taken to be `kernel` where the factors hold it as a part of the inputs. `None` when that does not divide, and for
    /// families whose factors do not tell.
    pub fn weight_shape(&self, kernel: Option<usize>) -> Option<Vec<usize>> {
        let shape = self.changed_shape()?;
        match (kernel, shape.as_slice()) {
            (Some(kernel), [outputs, inputs]) => {
                let area = kernel.checked_mul(kernel).filter(|area| *area > 0 && inputs.is_multiple_of(*area))?;
                Some(vec![*outputs, inputs / area, kernel, kernel])
            }
            _ => Some(shape),
        }
    }
}

/// The names of all families.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|row| row.name)
}

/// Every component that an adapter file may hold.
pub(super) fn components() -> impl Iterator<Item = Component> {
    REGISTRY.iter().flat_map(|row| row.components.iter().copied()).chain(decorators::COMPONENTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_families_share_a_name_a_component_or_an_algorithm() {
        let unique = |names: Vec<&str>| {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
            assert!(names.iter().all(|name| !name.is_empty()));
        };
        unique(names().collect());
        unique(components().map(Component::name).collect());
        unique(REGISTRY.iter().filter_map(|row| row.training).flat_map(|training| training.algorithms).copied().collect());
    }
}
