//! The weight of a convolution as its kernels read it: in place, of any float type, forwards or for the gradient of the input.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// Numbers that one task converts.
const CHUNK: usize = 1 << 16;

/// Numbers of a float type that a weight is kept in.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// float32.
    F32(&'a [f32]),
    /// float16.
    F16(&'a [f16]),
    /// bfloat16.
    BF16(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// `count` rows of `length` numbers as float32, the first from `start` on and the others `stride` apart, and how far apart they
    /// are there: in place, or converted into `space`.
    #[inline(always)]
    pub fn rows<'b>(
        &'b self,
        (start, stride): (usize, usize),
        (count, length): (usize, usize),
        space: &'b mut [f32],
    ) -> (&'b [f32], usize) {
        if let Self::F32(values) = self {
            return (&values[start..], stride);
        }
        for (row, to) in space.chunks_mut(length).take(count).enumerate() {
            self.copy(start + row * stride, to);
        }
        (&space[..count * length], length)
    }

    /// Copies numbers from `start` on as float32.
    pub fn copy(&self, start: usize, to: &mut [f32]) {
        match self {
            Self::F32(values) => to.copy_from_slice(&values[start..start + to.len()]),
            Self::F16(values) => values[start..start + to.len()].convert_to_f32_slice(to),
            Self::BF16(values) => values[start..start + to.len()].convert_to_f32_slice(to),
        }
    }

    /// All numbers as float32, in place where they are that.
    pub fn widened(&self) -> Cow<'a, [f32]> {
        if let Self::F32(values) = self {
            return Cow::Borrowed(values);
        }
        let mut all = vec![0.0; self.len()];
        all.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, to)| self.copy(chunk * CHUNK, to));
        Cow::Owned(all)
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::BF16(values) => values.len(),
        }
    }
}

/// Filters from every input channel to every output channel, each a run of `taps` numbers.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    /// All numbers.
    pub numbers: Numbers<'a>,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Numbers of one filter.
    pub taps: usize,
    /// Whether the numbers are ordered by input channel first, and filters are read backwards: the weight of the convolution whose
    /// input gradient this convolution is.
    pub reversed: bool,
}

impl<'a> Filters<'a> {
    /// Filters of `taps` numbers, ordered by output channel first.
    ///
    /// Panics where there are fewer or more numbers, which is a mistake in the calling kernel.
    pub fn new(numbers: Numbers<'a>, outputs: usize, inputs: usize, taps: usize) -> Self {
        assert_eq!(numbers.len(), outputs * inputs * taps, "the weight does not have its shape's size");
        Self { numbers, inputs, outputs, taps, reversed: false }
    }

    /// The filters of the convolution that turns the output's gradient into the input's, for stride 1.
    pub fn reversed(self) -> Self {
        Self { inputs: self.outputs, outputs: self.inputs, reversed: !self.reversed, ..self }
    }

    /// All numbers as float32, by output channel first and forwards.
    pub fn by_output(&self) -> Cow<'a, [f32]> {
        if let (Numbers::F32(values), false) = (self.numbers, self.reversed) {
            return Cow::Borrowed(values);
        }
        let mut all = vec![0.0; self.outputs * self.inputs * self.taps];
        if all.is_empty() {
            return Cow::Owned(all);
        }
        all.par_chunks_mut(self.inputs * self.taps).enumerate().for_each(|(output, all)| {
            if !self.reversed {
                self.numbers.copy(self.start(output, 0), all);
                return;
            }
            for (input, to) in all.chunks_mut(self.taps).enumerate() {
                self.numbers.copy(self.start(output, input), to);
                to.reverse();
            }
        });
        Cow::Owned(all)
    }

    /// Where the filter from `input` to `output` starts.
    #[inline(always)]
    pub fn start(&self, output: usize, input: usize) -> usize {
        let index = if self.reversed { input * self.outputs + output } else { output * self.inputs + input };
        index * self.taps
    }

    /// How far apart the filters of neighboring output channels are.
    pub fn output_stride(&self) -> usize {
        if self.reversed { self.taps } else { self.inputs * self.taps }
    }

    /// How many input channels' filters lie one after the other.
    pub fn inputs_together(&self) -> usize {
        if self.reversed { 1 } else { self.inputs }
    }
}
