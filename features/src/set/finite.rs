//! A finite number, so that settings with strengths in them can be compared and hashed.

use std::hash::{Hash, Hasher};

/// A finite float64; zero has one sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finite(f64);

impl Finite {
    /// Zero.
    pub const ZERO: Self = Self(0.0);
    /// One.
    pub const ONE: Self = Self(1.0);

    /// `None` for infinities and what is no number.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero takes a negative zero's sign away.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl From<i32> for Finite {
    fn from(value: i32) -> Self {
        Self(value.into())
    }
}

// Equal to itself, since it is a number.
impl Eq for Finite {}

impl Hash for Finite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_numbers_are_one_key() {
        let numbers: HashSet<Finite> = [0.0, -0.0, 0.5, 0.5].into_iter().filter_map(Finite::new).collect();
        assert_eq!(numbers.len(), 2);
        assert!(Finite::new(f64::NAN).is_none() && Finite::new(f64::INFINITY).is_none());
    }
}
