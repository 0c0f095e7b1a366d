//! Matrices that several tasks fill at once, each its own places in all of them.

use std::marker::PhantomData;

use super::lanes::Lanes;

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
