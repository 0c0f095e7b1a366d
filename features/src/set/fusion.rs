//! Feature sets made of other sets: the suppressed feature of the paper is such a one.

use super::SetId;

/// How features of several sets become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FusionMode {
    /// Their mean.
    #[default]
    Mean,
    /// Their channels behind each other, in the order of the names.
    Concat,
}

impl FusionMode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Concat => "concat",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "mean" => Some(Self::Mean),
            "concat" => Some(Self::Concat),
            _ => None,
        }
    }
}

/// A set made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// Its folder in the output.
    pub name: String,
    /// The first of the sets that it is made of. All have its model, layers, pooling and attention.
    pub first: SetId,
    /// The others, at least one.
    pub others: Vec<SetId>,
    /// How.
    pub mode: FusionMode,
}

impl Fusion {
    /// The sets that it is made of, in order.
    pub fn sources(&self) -> impl Iterator<Item = SetId> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}
