//! Outputs that several tasks write at once, each its own elements.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::bytemuck::Pod;

use crate::kernels::isa::Vector;

/// Whether `count` elements from `start` on lie inside `length`.
#[inline(always)]
fn holds(length: usize, start: usize, count: usize) -> bool {
    start <= length && count <= length - start
}

/// `N` matrices of equal size in one slice of memory, of which tasks write parts, as elements of whatever type.
#[derive(Clone, Copy)]
pub struct SharedMatrices<'a, const N: usize> {
    start: *mut f32,
    size: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is an exclusive slice of numbers, which may go to another thread; that tasks keep apart what they write through copies of
// it is left to the callers of `at`.
unsafe impl<const N: usize> Sync for SharedMatrices<'_, N> {}

impl<'a, const N: usize> SharedMatrices<'a, N> {
    /// Matrices that take the memory of `size` float32 numbers each, one after the other.
    ///
    /// Panics where the slice is too short, which is a mistake in the calling kernel.
    pub fn new(slice: &'a mut [f32], size: usize) -> Self {
        let fits = N.checked_mul(size).is_some_and(|all| all <= slice.len());
        assert!(fits, "{N} matrices of {size} elements exceed a slice of {}", slice.len());
        Self { start: slice.as_mut_ptr(), size, slice: PhantomData }
    }

    /// `count` elements from element `start` on in every matrix.
    ///
    /// # Safety
    /// While they are in use no other task uses any of them.
    #[inline(always)]
    pub unsafe fn at<T: Pod>(&self, start: usize, count: usize) -> SharedElements<'a, T, N> {
        const { assert!(align_of::<T>() <= align_of::<f32>()) };
        let length = self.size * size_of::<f32>() / size_of::<T>();
        assert!(holds(length, start, count), "{count} elements from {start} on exceed a matrix of {length}");
        // SAFETY: the elements lie inside the first matrix.
        let first = unsafe { self.start.cast::<T>().add(start) };
        SharedElements { first, count, size: self.size, matrices: PhantomData }
    }
}

/// The same elements in all matrices.
pub struct SharedElements<'a, T, const N: usize> {
    first: *mut T,
    count: usize,
    size: usize,
    matrices: PhantomData<SharedMatrices<'a, N>>,
}

impl<T: Pod, const N: usize> SharedElements<'_, T, N> {
    /// Those of a matrix, to read.
    #[inline(always)]
    pub fn get(&self, matrix: usize) -> &[T] {
        assert!(matrix < N, "there are {N} matrices");
        // SAFETY: as in `of`; shared references of this task may be many.
        unsafe { std::slice::from_raw_parts(self.first.byte_add(matrix * self.size * size_of::<f32>()), self.count) }
    }

    /// Those of a matrix.
    #[inline(always)]
    pub fn of(&mut self, matrix: usize) -> &mut [T] {
        assert!(matrix < N, "there are {N} matrices");
        // SAFETY: `SharedMatrices` asserts that all matrices lie in its slice, and that these elements lie in each of them, aligned;
        // they take every pattern of bits; no other task uses them, by the promise to `at`, and no other reference of this task
        // exists while this one does.
        unsafe { std::slice::from_raw_parts_mut(self.first.byte_add(matrix * self.size * size_of::<f32>()), self.count) }
    }
}

/// A matrix in row-major order, its rows some distance apart, of which tasks fill rectangles.
#[derive(Clone, Copy)]
pub struct SharedMatrix<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: as for `SharedMatrices`.
unsafe impl Sync for SharedMatrix<'_> {}

impl<'a> SharedMatrix<'a> {
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
    pub unsafe fn row(&self, row: usize, columns: Range<usize>) -> RowPart<'a> {
        let inside = row < self.rows && columns.start <= columns.end && columns.end <= self.columns;
        assert!(inside, "row {row} or columns {columns:?} exceed the matrix");
        // SAFETY: the element belongs to the matrix, by the promise to `new`.
        let start = unsafe { self.start.add(row * self.row_stride + columns.start) };
        RowPart { start, length: columns.len(), matrix: PhantomData }
    }
}

/// Consecutive elements of a row.
pub struct RowPart<'a> {
    start: *mut f32,
    length: usize,
    matrix: PhantomData<&'a mut f32>,
}

impl<'a> RowPart<'a> {
    /// The elements, to be written.
    #[inline(always)]
    pub fn into_slice(self) -> &'a mut [MaybeUninit<f32>] {
        // SAFETY: the elements are consecutive, can be written, and are no other task's, by the promises to `new` and `row`; no value
        // is assumed.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }

    /// Where an element is, which `count` elements follow, itself included.
    #[inline(always)]
    fn pointer(&self, index: usize, count: usize) -> *mut f32 {
        assert!(holds(self.length, index, count), "{count} elements from {index} on exceed a row's {}", self.length);
        // SAFETY: the element lies in the part.
        unsafe { self.start.add(index) }
    }

    /// An element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> f32 {
        // SAFETY: the element lies in the part, has been written, and is no other task's, by the promises to `row`.
        unsafe { self.pointer(index, 1).read() }
    }

    /// Puts an element.
    #[inline(always)]
    pub fn put(&mut self, index: usize, value: f32) {
        // SAFETY: as in `get`.
        unsafe { self.pointer(index, 1).write(value) };
    }

    /// The vector from an element on.
    #[inline(always)]
    pub fn get_vector<S: Vector>(&self, index: usize) -> S::f32s {
        // SAFETY: as in `get`, for all elements of the vector; an unaligned read needs no more alignment than numbers have.
        unsafe { self.pointer(index, S::F32_LANES).cast::<S::f32s>().read_unaligned() }
    }

    /// Puts a vector from an element on.
    #[inline(always)]
    pub fn put_vector<S: Vector>(&mut self, index: usize, value: S::f32s) {
        // SAFETY: as in `get_vector`.
        unsafe { self.pointer(index, S::F32_LANES).cast::<S::f32s>().write_unaligned(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(work: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(work).is_err()
    }

    #[test]
    fn sizes_whose_product_wraps_are_refused() {
        assert!(refused(|| _ = SharedMatrices::<4>::new(&mut [0.0; 16], usize::MAX / 4 + 1)));
        assert!(refused(|| {
            let mut slice = [0.0; 16];
            let matrices = SharedMatrices::<2>::new(&mut slice, 8);
            // SAFETY: refused before anything is touched.
            unsafe { matrices.at::<f32>(usize::MAX - 3, 8) };
        }));
    }

    #[test]
    fn elements_are_those_of_each_matrix() {
        let mut slice = [0.0; 16];
        let matrices = SharedMatrices::<2>::new(&mut slice, 8);
        // SAFETY: there is one task.
        let mut elements = unsafe { matrices.at::<f32>(6, 2) };
        elements.of(0).fill(1.0);
        elements.of(1).fill(2.0);
        assert_eq!(slice, [0., 0., 0., 0., 0., 0., 1., 1., 0., 0., 0., 0., 0., 0., 2., 2.]);
    }

    #[test]
    fn a_reversed_range_of_columns_is_refused() {
        assert!(refused(|| {
            let mut slice = [0.0; 16];
            // SAFETY: a row of the slice, borrowed exclusively; refused before anything is touched.
            let matrix = unsafe { SharedMatrix::new(slice.as_mut_ptr(), 1, 16, 16) };
            #[expect(clippy::reversed_empty_ranges)]
            // SAFETY: as above.
            unsafe {
                matrix.row(0, 8..4)
            };
        }));
    }
}
