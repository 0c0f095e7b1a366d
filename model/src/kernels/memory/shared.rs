//! Matrices that several tasks fill at once, each its own places in all of them.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::kernels::isa::lanes::Lanes;

/// `N` matrices of equal size in one slice, of which tasks read and write parts.
#[derive(Clone, Copy)]
pub struct Matrices<'a, const N: usize> {
    start: *mut f32,
    size: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is an exclusive slice of numbers, which may go to another thread; that tasks keep apart what they read and write
// through copies of it is left to the callers of `at`.
unsafe impl<const N: usize> Sync for Matrices<'_, N> {}

impl<'a, const N: usize> Matrices<'a, N> {
    /// Matrices of `size` elements, one after the other.
    ///
    /// Panics where the slice is too short, which is a mistake in the calling kernel.
    pub fn new(slice: &'a mut [f32], size: usize) -> Self {
        assert!(N * size <= slice.len(), "matrices of {size} elements exceed their slice");
        Self { start: slice.as_mut_ptr(), size, slice: PhantomData }
    }

    /// The vectors at one place in every matrix.
    ///
    /// # Safety
    /// While they are in use no other task uses any of them.
    #[inline(always)]
    pub unsafe fn at<S: Lanes>(&self, place: usize) -> Spot<'a, S, N> {
        assert!(place + S::F32_LANES <= self.size, "a vector exceeds its matrix");
        // SAFETY: the place lies inside the first matrix.
        let first = unsafe { self.start.add(place).cast() };
        Spot { first, size: self.size, matrices: PhantomData }
    }
}

/// The vectors at one place in all matrices.
pub struct Spot<'a, S: Lanes, const N: usize> {
    first: *mut S::f32s,
    size: usize,
    matrices: PhantomData<Matrices<'a, N>>,
}

impl<S: Lanes, const N: usize> Spot<'_, S, N> {
    #[inline(always)]
    fn pointer(&self, matrix: usize) -> *mut S::f32s {
        assert!(matrix < N, "there are {N} matrices");
        // SAFETY: `Matrices` asserts that all matrices lie in its slice, and that a vector at this place lies in each of them.
        unsafe { self.first.byte_add(matrix * self.size * size_of::<f32>()) }
    }

    /// The vector in a matrix.
    #[inline(always)]
    pub fn load(&self, matrix: usize) -> S::f32s {
        // SAFETY: the vector lies in the slice; no other task uses it, by the promise to `at`; numbers need no more alignment.
        unsafe { self.pointer(matrix).read_unaligned() }
    }

    /// Puts a vector into a matrix.
    #[inline(always)]
    pub fn store(&self, matrix: usize, value: S::f32s) {
        // SAFETY: as in `load`.
        unsafe { self.pointer(matrix).write_unaligned(value) }
    }
}

/// A matrix in row-major order, its rows some distance apart, of which tasks fill rectangles.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: as for `Matrices`.
unsafe impl Sync for Places<'_> {}

impl<'a> Places<'a> {
    /// The matrix that begins at `start`.
    ///
    /// # Safety
    /// All its elements can be written for as long as it is in use, by nobody else, and its rows do not overlap.
    pub unsafe fn new(start: *mut f32, rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { start, rows, columns, row_stride, slice: PhantomData }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Some columns of a row.
    ///
    /// # Safety
    /// While they are in use no other task uses any of them, and what is read of them has been written.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize, columns: Range<usize>) -> Run<'a> {
        assert!(row < self.rows && columns.end <= self.columns, "row {row} or columns {columns:?} exceed the matrix");
        // SAFETY: the element belongs to the matrix, by the promise to `new`.
        let start = unsafe { self.start.add(row * self.row_stride + columns.start) };
        Run { start, length: columns.len(), matrix: PhantomData }
    }
}

/// Consecutive elements of a row.
pub struct Run<'a> {
    start: *mut f32,
    length: usize,
    matrix: PhantomData<&'a mut f32>,
}

impl<'a> Run<'a> {
    /// The elements, to be written.
    #[inline(always)]
    pub fn into_slice(self) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the elements are consecutive, can be written, and are no other task's, by the promises to `new` and `row`; no value
        // is assumed.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }

    /// Where an element is, which `count` elements follow, itself included.
    #[inline(always)]
    fn pointer(&self, place: usize, count: usize) -> *mut f32 {
        assert!(place + count <= self.length, "{count} elements from {place} on exceed a run of {}", self.length);
        // SAFETY: the element lies in the run.
        unsafe { self.start.add(place) }
    }

    /// An element.
    #[inline(always)]
    pub fn get(&self, place: usize) -> f32 {
        // SAFETY: the element lies in the run, has been written, and is no other task's, by the promises to `row`.
        unsafe { self.pointer(place, 1).read() }
    }

    /// Puts an element.
    #[inline(always)]
    pub fn put(&mut self, place: usize, value: f32) {
        // SAFETY: as in `get`.
        unsafe { self.pointer(place, 1).write(value) };
    }

    /// The vector from an element on.
    #[inline(always)]
    pub fn get_vector<S: Lanes>(&self, place: usize) -> S::f32s {
        // SAFETY: as in `get`, for all elements of the vector; an unaligned read needs no more alignment than numbers have.
        unsafe { self.pointer(place, S::F32_LANES).cast::<S::f32s>().read_unaligned() }
    }

    /// Puts a vector from an element on.
    #[inline(always)]
    pub fn put_vector<S: Lanes>(&mut self, place: usize, value: S::f32s) {
        // SAFETY: as in `get_vector`.
        unsafe { self.pointer(place, S::F32_LANES).cast::<S::f32s>().write_unaligned(value) };
    }
}
