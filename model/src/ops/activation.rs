//! Activations with one owner: who was the last to need their values is a matter of types.
//!
//! candle's graph keeps every recorded tensor with its values until it is dropped itself, though most backward passes read few of
//! them: a sum's none, a frozen convolution's none. An [`Activation`] knows whether its values will be read again. An operation
//! whose backward pass reads its input takes it as [`Activation::saved`] (torch's `save_for_backward`), one that reads it now and
//! never again as [`Activation::read`], and whoever else wants the values takes a handle by [`Activation::keep`]. When the owner lets
//! go of an activation and nothing marked it, its values are freed, though its position in the graph stays; and a sum takes over the
//! memory of a summand that it gets by value.
//!
//! Each operation's method stands in the file of the operation, beside the backward pass that it speaks for.

use std::cell::Cell;

use candle_core::Tensor;

use super::sum;
use crate::Result;

/// The values of an activation, which nobody else can reach but through a handle that marks them as needed.
#[derive(Debug)]
pub struct Activation {
    tensor: Tensor,
    /// Somebody else holds the values, or a backward pass will read them: they have to stay.
    needed: Cell<bool>,
}

impl Activation {
    /// What an operation just made and nobody else holds. The operation's backward pass must not read it.
    pub(crate) fn new(result: Tensor) -> Self {
        Self { tensor: result, needed: Cell::new(false) }
    }

    /// Values that others hold as well, or that the operation which made them reads in its backward pass: they stay whatever happens
    /// to the activation.
    pub fn shared(tensor: Tensor) -> Self {
        Self { tensor, needed: Cell::new(true) }
    }

    /// Values of its own, copied.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn copied(tensor: &Tensor) -> Result<Self> {
        Ok(Self::new(tensor.copy()?))
    }

    /// For an operation that reads the values now, and not in its backward pass.
    pub(crate) fn read(&self) -> &Tensor {
        &self.tensor
    }

    /// For an operation that reads the values in its backward pass as well.
    pub(crate) fn saved(&self) -> &Tensor {
        self.needed.set(true);
        &self.tensor
    }

    /// A handle to the values, which stay.
    pub fn keep(&self) -> Tensor {
        self.saved().clone()
    }

    /// Hands the values over.
    pub fn into_tensor(self) -> Tensor {
        self.keep()
    }

    /// The sum with another of the same shape, in the memory of this one where nothing needs its values.
    ///
    /// # Errors
    /// When the shapes differ.
    #[expect(clippy::should_implement_trait, reason = "a sum can fail, as candle's own method of this name")]
    pub fn add(self, other: &Self) -> Result<Self> {
        let sum = match self.needed.get() {
            true => (other.read() + self.read())?,
            false => sum::add(other.read(), &self.tensor)?,
        };
        Ok(Self::new(sum))
    }

    /// `[b, c, h, w]` plus `channels` `[b or 1, c]` at every pixel, in the memory of this one where nothing needs its values.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn add_channels(self, channels: &Self) -> Result<Self> {
        let sum = match self.needed.get() {
            true => sum::broadcast_channels(self.read(), channels.read())?,
            false => sum::add_channels(&self.tensor, channels.read())?,
        };
        Ok(Self::new(sum))
    }

    /// `[b, c, h, w]` with the channels of `[b, d, h, w]` behind its own.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub(crate) fn concat_channels(self, other: &Tensor) -> Result<Self> {
        Ok(Self::new(Tensor::cat(&[self.read(), other], 1)?))
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        if !self.needed.get() {
            sum::discard(&self.tensor);
        }
    }
}
