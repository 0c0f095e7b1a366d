//! Typed ids by which the parts of a plan refer to each other, and maps over them, so that the index of a set cannot be taken for that
//! of a fusion or a model.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// The id of one of a plan's values of kind `K`. Only an [`IdMap`] makes ids, one for each value that is added.
pub struct Id<K> {
    index: usize,
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    fn new(index: usize) -> Self {
        Self { index, kind: PhantomData }
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<K> Eq for Id<K> {}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.index)
    }
}

/// A value for each id of kind `K`, in order.
pub struct IdMap<K, T> {
    values: Vec<T>,
    kind: PhantomData<fn() -> K>,
}

impl<K, T> IdMap<K, T> {
    /// An empty map.
    pub fn new() -> Self {
        Self { values: Vec::new(), kind: PhantomData }
    }

    /// Adds a value and returns its id.
    pub fn push(&mut self, value: T) -> Id<K> {
        self.values.push(value);
        Id::new(self.values.len() - 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All ids in order.
    pub fn ids(&self) -> impl Iterator<Item = Id<K>> + use<K, T> {
        (0..self.values.len()).map(Id::new)
    }

    /// All values in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    /// All values with their ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Id<K>, &T)> {
        self.ids().zip(&self.values)
    }

    /// All values with their ids, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id<K>, &mut T)> {
        self.ids().zip(&mut self.values)
    }

    /// Another value for each of the same ids.
    pub fn map<U>(&self, mut of: impl FnMut(Id<K>, &T) -> U) -> IdMap<K, U> {
        let values = self.iter().map(|(id, value)| of(id, value)).collect();
        IdMap { values, kind: PhantomData }
    }

    /// Another value for each of the same ids, if all succeed.
    ///
    /// # Errors
    /// The first error.
    pub fn try_map<U, E>(&self, mut of: impl FnMut(Id<K>, &T) -> Result<U, E>) -> Result<IdMap<K, U>, E> {
        let values = self.iter().map(|(id, value)| of(id, value)).collect::<Result<_, _>>()?;
        Ok(IdMap { values, kind: PhantomData })
    }
}

impl<K, T> Default for IdMap<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T: Clone> Clone for IdMap<K, T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), kind: PhantomData }
    }
}

impl<K, T: fmt::Debug> fmt::Debug for IdMap<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.values).finish()
    }
}

impl<K, T> Index<Id<K>> for IdMap<K, T> {
    type Output = T;

    fn index(&self, id: Id<K>) -> &T {
        &self.values[id.index]
    }
}

impl<K, T> IndexMut<Id<K>> for IdMap<K, T> {
    fn index_mut(&mut self, id: Id<K>) -> &mut T {
        &mut self.values[id.index]
    }
}
