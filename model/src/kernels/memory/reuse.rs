//! Large blocks of memory are kept for the next one of their size instead of going back to the operating system.
//!
//! A tensor of Stable Diffusion takes megabytes, and general allocators return such blocks at once: every result of every operation
//! then begins with a page fault per 4 KiB, which costs more than many operations do. Sizes repeat from layer to layer and from step
//! to step, so a list of free blocks per size serves nearly all of them.
//!
//! Sizes are rounded up to classes, eight per doubling. What lies in the lists never makes the process larger than its own tensors
//! did at their most: a block that has to be new first drives out as much of the lists as exceeds that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::sync::Once;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The smallest block that is kept, in bytes; smaller ones are the system allocator's affair.
const SMALLEST: usize = 1 << 18;
/// Classes per doubling.
const STEPS: usize = 8;
/// Doublings from the smallest block on: up to 256 TiB, more than a process has addresses for.
const DOUBLINGS: usize = 30;
/// Where large blocks start: at a cache line, so that vectors do not straddle two.
const ALIGNMENT: usize = 64;
/// The size of the pages that Linux can be asked for instead of those of 4 KiB.
const HUGE_PAGE: usize = 1 << 21;

/// A global allocator for programs that compute with this crate:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();
/// # let numbers = vec![1f32; 1 << 20];
/// # drop(numbers);
/// # assert!(vec![0f32; 1 << 20].iter().all(|number| *number == 0.0));
/// ```
pub struct ReusingAllocator {
    lists: Mutex<Lists>,
}

/// Free blocks. The first bytes of a free block hold the address of the next one of its class.
struct Lists {
    first: [*mut u8; STEPS * DOUBLINGS],
    /// Bytes in use (as asked for, since what lies behind is hardly ever touched), and the most that were ever in use.
    used: usize,
    most: usize,
    /// Bytes asked of the system, which may refuse them.
    asked: usize,
    /// Bytes in the lists.
    free: usize,
}

// SAFETY: the pointers are to blocks that nobody else knows of.
unsafe impl Send for Lists {}

/// The class of blocks that serve `size` bytes; `None` where another allocator does.
fn class(size: usize, alignment: usize) -> Option<usize> {
    if size < SMALLEST || alignment > ALIGNMENT {
        return None;
    }
    let doubling = (size / SMALLEST).ilog2() as usize;
    let step = (SMALLEST << doubling) / STEPS;
    // Rounded up, the last step of a doubling is the first class of the next.
    let number = doubling * STEPS + (size - (SMALLEST << doubling)).div_ceil(step);
    (number < STEPS * DOUBLINGS).then_some(number)
}

/// The size of the blocks of a class.
fn size_of(number: usize) -> usize {
    let smallest = SMALLEST << (number / STEPS);
    smallest + number % STEPS * (smallest / STEPS)
}

fn layout(size: usize) -> Layout {
    // A class's size is a multiple of every alignment used here and far below the greatest possible.
    Layout::from_size_align(size, if size >= HUGE_PAGE { HUGE_PAGE } else { ALIGNMENT }).unwrap_or(Layout::new::<u8>())
}

impl Lists {
    /// Takes a block off a list; null where there is none.
    fn pop(&mut self, number: usize) -> *mut u8 {
        let block = self.first[number];
        if !block.is_null() {
            // SAFETY: blocks in a list are free, at least `SMALLEST` bytes long, aligned for a pointer, and begin with the next
            // one's address, which `push` wrote.
            self.first[number] = unsafe { block.cast::<*mut u8>().read() };
            self.free -= size_of(number);
        }
        block
    }

    fn push(&mut self, number: usize, block: *mut u8) {
        // SAFETY: the block was just given back, so nobody else uses it; see `pop` for its size and alignment.
        unsafe { block.cast::<*mut u8>().write(self.first[number]) };
        self.first[number] = block;
        self.free += size_of(number);
    }

    /// Counts a block that is to come from the system, and first gives free ones back to it until the process will be no larger than
    /// it was or has to be, the largest first.
    fn ask(&mut self, wanted: usize) {
        self.asked += wanted;
        let needed = self.used + self.asked;
        for number in (0..self.first.len()).rev() {
            while needed + self.free > self.most.max(needed) && !self.first[number].is_null() {
                let block = self.pop(number);
                // SAFETY: the block came from the system allocator with this layout, and left the list.
                unsafe { System.dealloc(block, layout(size_of(number))) };
            }
        }
    }

    /// Counts what the system gave or refused.
    fn answered(&mut self, wanted: usize, given: bool) {
        self.asked -= wanted;
        if given {
            self.used += wanted;
            self.most = self.most.max(self.used);
        }
    }
}

impl ReusingAllocator {
    /// An allocator that keeps nothing yet.
    pub const fn new() -> Self {
        Self { lists: Mutex::new(Lists { first: [null_mut(); STEPS * DOUBLINGS], used: 0, most: 0, asked: 0, free: 0 }) }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of a class for `wanted` bytes.
    fn take(&self, number: usize, wanted: usize) -> *mut u8 {
        let mut lists = self.lists();
        let block = lists.pop(number);
        if !block.is_null() {
            lists.used += wanted;
            return block;
        }
        lists.ask(wanted);
        drop(lists);
        map_blocks();
        // SAFETY: the layout's size is not zero.
        let block = unsafe { System.alloc(layout(size_of(number))) };
        self.lists().answered(wanted, !block.is_null());
        if !block.is_null() {
            prefer_huge_pages(block, wanted);
        }
        block
    }
}

impl Default for ReusingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

/// Has glibc map every block by itself, and unmap it when it is given back. Left alone, it takes blocks smaller than the largest one
/// ever given back from its heap, which keeps the memory of those that lie between others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn map_blocks() {
    static ONCE: Once = Once::new();
    // SAFETY: it sets a number of the system allocator. An answer that it cannot be set is of no consequence.
    ONCE.call_once(|| _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, SMALLEST as libc::c_int) });
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn map_blocks() {}

/// Asks Linux for large pages under their whole multiples in `size` bytes: fewer faults, and fewer misses of the address cache. What
/// the class adds behind is left out, for the first byte of a large page takes all of it.
#[cfg(target_os = "linux")]
fn prefer_huge_pages(block: *mut u8, size: usize) {
    if size >= HUGE_PAGE {
        // SAFETY: the range is part of a block just allocated, and the advice does not change its contents. An answer that it
        // cannot be followed is of no consequence.
        unsafe { libc::madvise(block.cast(), size / HUGE_PAGE * HUGE_PAGE, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages(_: *mut u8, _: usize) {}

// SAFETY: a block is at least as long and as strictly aligned as asked for; it is in use or in a list, never both, since `dealloc`
// finds the class from the same layout as `alloc` did; nothing here unwinds.
unsafe impl GlobalAlloc for ReusingAllocator {
    unsafe fn alloc(&self, wanted: Layout) -> *mut u8 {
        match class(wanted.size(), wanted.align()) {
            Some(number) => self.take(number, wanted.size()),
            // SAFETY: the caller's promise, passed on.
            None => unsafe { System.alloc(wanted) },
        }
    }

    unsafe fn alloc_zeroed(&self, wanted: Layout) -> *mut u8 {
        let Some(number) = class(wanted.size(), wanted.align()) else {
            // SAFETY: the caller's promise, passed on.
            return unsafe { System.alloc_zeroed(wanted) };
        };
        let block = self.take(number, wanted.size());
        if !block.is_null() {
            // SAFETY: the block is at least as long as wanted, and the caller's alone.
            unsafe { block.write_bytes(0, wanted.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, wanted: Layout) {
        match class(wanted.size(), wanted.align()) {
            Some(number) => {
                let mut lists = self.lists();
                lists.used -= wanted.size();
                lists.push(number, block);
            }
            // SAFETY: the caller's promise, passed on.
            None => unsafe { System.dealloc(block, wanted) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_for_and_little_more() {
        assert_eq!(class(SMALLEST - 1, 4), None);
        assert_eq!(class(SMALLEST, 2 * ALIGNMENT), None);
        let mut before = 0;
        for size in (SMALLEST..SMALLEST * 70).step_by(999) {
            let number = class(size, 4).unwrap();
            let rounded = size_of(number);
            assert!(rounded >= size && (rounded - size) * STEPS < size, "{size} becomes {rounded}");
            assert!(number >= before && rounded.is_multiple_of(ALIGNMENT));
            before = number;
        }
    }

    #[test]
    fn blocks_come_back_and_the_lists_never_hold_more_than_was_used() {
        let allocator = ReusingAllocator::new();
        let of = |size: usize| Layout::from_size_align(size, 4).unwrap();
        // SAFETY: sizes are not zero; a block is given back once, with its layout, and written and read inside it.
        let take = |size: usize| unsafe { allocator.alloc(of(size)) };
        // SAFETY: as above.
        let give = |block: *mut u8, size: usize| unsafe { allocator.dealloc(block, of(size)) };
        let first = take(5_000_000);
        // SAFETY: as above.
        unsafe { first.write_bytes(1, 5_000_000) };
        give(first, 5_000_000);
        // SAFETY: as above.
        let again = unsafe { allocator.alloc_zeroed(of(4_999_999)) };
        assert_eq!(again, first);
        // SAFETY: as above; zeros are initialized.
        assert!(unsafe { std::slice::from_raw_parts(again, 4_999_999) }.iter().all(|byte| *byte == 0));
        give(again, 4_999_999);
        // A greater block replaces the free one; a smaller one beside it fits below the most that was used.
        let greater = take(20_000_000);
        let most = |allocator: &ReusingAllocator| {
            let lists = allocator.lists();
            assert!(lists.used + lists.free <= lists.most);
            (lists.used, lists.free)
        };
        assert_eq!(most(&allocator).1, 0);
        give(greater, 20_000_000);
        let small: Vec<_> = (0..7).map(|_| take(1 << 20)).collect();
        assert_eq!(most(&allocator), (7 << 20, 0));
        small.into_iter().for_each(|block| give(block, 1 << 20));
        assert_eq!(most(&allocator), (0, 7 << 20));
        assert!(!take(3 << 20).is_null());
        assert!(most(&allocator).1 <= 7 << 20);
    }

    #[test]
    fn a_refused_request_leaves_no_trace() {
        let allocator = ReusingAllocator::new();
        let of = |size: usize| Layout::from_size_align(size, 4).unwrap();
        let counts = || {
            let lists = allocator.lists();
            (lists.used, lists.most)
        };
        // SAFETY: sizes are not zero; the block is given back once, with its layout.
        unsafe {
            let block = allocator.alloc(of(1 << 20));
            allocator.dealloc(block, of(1 << 20));
            let before = counts();
            // More than a process has addresses for.
            assert!(allocator.alloc(of(1 << 47)).is_null());
            assert_eq!(counts(), before);
        }
    }
    #[test]
    fn what_is_refused_beside_another_request_leaves_no_trace() {
        let allocator = ReusingAllocator::new();
        let mut lists = allocator.lists();
        lists.ask(1 << 47);
        lists.ask(1 << 20);
        lists.answered(1 << 20, true);
        lists.answered(1 << 47, false);
        assert_eq!((lists.used, lists.most, lists.asked), (1 << 20, 1 << 20, 0));
    }
}
