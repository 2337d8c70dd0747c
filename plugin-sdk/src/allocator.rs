//! The allocator of plugins. A call brings the client and its question as a dozen texts and lists, each an allocation of its own that
//! is freed before the call ends: here that takes a handful of instructions instead of the hundred that the system's takes.
//!
//! Where the host knows this allocator it does not even call it a dozen times: it puts all that a call brings into one chunk of the
//! call arena itself (`call_arena.rs`).

use crate::call_arena::{self, CallArena};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Blocks of equal size in lists, one list per size; what is larger is the system's. A freed block is the next of its size to
/// be handed out, and never becomes one of another size: a plugin needs the same sizes again and again.
///
/// It is this crate's global allocator on wasm, unless the feature `allocator`, a default one, is off.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The free blocks of each class: the first, in which the address of the next is written.
    free: [Cell<*mut u8>; CLASSES],
    /// What is left of the last chunk.
    rest: Cell<*mut u8>,
    rest_bytes: Cell<usize>,
    /// What the host allocates in.
    arena: CallArena,
}

/// Blocks are multiples of this, and aligned to it.
const UNIT_BYTES: usize = 16;
/// The largest block that is a multiple of the unit like any other; beyond, sizes double.
const MAX_FINE_BYTES: usize = 512;
const MAX_BLOCK_BYTES: usize = 4096;
const FINE_CLASSES: usize = MAX_FINE_BYTES / UNIT_BYTES;
const CLASSES: usize = FINE_CLASSES + (MAX_BLOCK_BYTES / MAX_FINE_BYTES).ilog2() as usize;
/// What is taken from the system at a time.
const CHUNK_BYTES: usize = 4096;
const CHUNK: Layout = match Layout::from_size_align(CHUNK_BYTES, UNIT_BYTES) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

// SAFETY: a component has one thread; elsewhere this is built for tests only, which keep theirs to themselves.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Without any memory yet.
    pub(crate) const fn new() -> Self {
        Self {
            free: [const { Cell::new(null_mut()) }; CLASSES],
            rest: Cell::new(null_mut()),
            rest_bytes: Cell::new(0),
            arena: CallArena::new(),
        }
    }

    /// What is too large for a block, or the call arena where this is the host asking for it.
    #[cold]
    #[inline(never)]
    fn large(&self, layout: Layout) -> *mut u8 {
        match layout == call_arena::REQUEST {
            true => self.arena.hand_over(),
            false => None,
        }
        // SAFETY: what has no class is larger than nothing.
        .unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    /// The class of what fits into a block.
    #[inline]
    fn class(layout: Layout) -> Option<usize> {
        let bytes = layout.size();
        if bytes > MAX_BLOCK_BYTES || layout.align() > UNIT_BYTES {
            return None;
        }
        Some(if bytes <= MAX_FINE_BYTES {
            bytes.saturating_sub(1) / UNIT_BYTES
        } else {
            FINE_CLASSES + ((bytes - 1) / MAX_FINE_BYTES).ilog2() as usize
        })
    }

    fn block_bytes(class: usize) -> usize {
        match class.checked_sub(FINE_CLASSES) {
            None => (class + 1) * UNIT_BYTES,
            Some(doubled) => (MAX_FINE_BYTES * 2) << doubled,
        }
    }

    /// The first block of a class that has no free one.
    #[cold]
    #[inline(never)]
    fn cut(&self, class: usize) -> *mut u8 {
        let bytes = Self::block_bytes(class);
        if self.rest_bytes.get() < bytes {
            self.keep_rest();
            // SAFETY: the size of a chunk is not zero.
            let chunk = unsafe { System.alloc(CHUNK) };
            if chunk.is_null() {
                return chunk;
            }
            self.rest.set(chunk);
            self.rest_bytes.set(CHUNK_BYTES);
        }
        let block = self.rest.get();
        // SAFETY: that many bytes are left of the chunk, as was just seen to.
        self.rest.set(unsafe { block.add(bytes) });
        self.rest_bytes.set(self.rest_bytes.get() - bytes);
        block
    }

    /// What is left of a chunk is a small block, or a few.
    fn keep_rest(&self) {
        while self.rest_bytes.get() > 0 {
            let bytes = self.rest_bytes.get().min(MAX_FINE_BYTES);
            let (block, class) = (self.rest.get(), bytes / UNIT_BYTES - 1);
            // SAFETY: `bytes` of the chunk are left, a multiple of the unit as all that was cut off it, and nobody has them.
            unsafe {
                self.push(class, block);
                self.rest.set(block.add(bytes));
            }
            self.rest_bytes.set(self.rest_bytes.get() - bytes);
        }
    }

    /// # Safety
    /// The block is of this class and nobody's.
    #[inline]
    unsafe fn push(&self, class: usize, block: *mut u8) {
        let free = &self.free[class];
        // SAFETY: a block is aligned for an address and has room for one, and nobody else reads or writes it.
        unsafe { block.cast::<*mut u8>().write(free.get()) };
        free.set(block);
    }
}

// SAFETY: a block is aligned to 16 bytes and at least as large as what is asked for, it is in a free list or in use but never
// both, and which list it belongs to follows from its layout, which whoever frees it knows. What lies in the arena was allocated
// by the host and goes back there. All else is the system's.
unsafe impl GlobalAlloc for Blocks {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Self::class(layout) else {
            return self.large(layout);
        };
        let free = &self.free[class];
        let block = free.get();
        if block.is_null() {
            return self.cut(class);
        }
        // SAFETY: in a free block stands the address of the next.
        free.set(unsafe { block.cast::<*mut u8>().read() });
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.arena.holds(block) {
            return self.arena.give_back(block);
        }
        match Self::class(layout) {
            // SAFETY: it was handed out for this layout, and its owner gives it back.
            Some(class) => unsafe { self.push(class, block) },
            // SAFETY: the caller's promise.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::class(layout).is_none() {
            // SAFETY: the caller's promise. The system knows which memory is zero already.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise, and so many bytes were handed out unless none was.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a valid one for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let in_arena = self.arena.holds(block);
        match (Self::class(layout), Self::class(wanted)) {
            (Some(old), Some(new)) if old == new && !in_arena => block,
            // SAFETY: the caller's promise.
            (None, None) if !in_arena => unsafe { System.realloc(block, layout, new_size) },
            // SAFETY: what both have room for is copied to a place that is nobody else's.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    block.copy_to_nonoverlapping(moved, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 1).expect("a layout")
    }

    #[test]
    fn a_block_is_as_large_as_what_it_is_for_and_no_smaller_one_would_do() {
        for bytes in 1..=MAX_BLOCK_BYTES {
            let class = Blocks::class(layout(bytes)).expect("a class");
            assert!(class < CLASSES, "{bytes}");
            assert!(Blocks::block_bytes(class) >= bytes, "{bytes}");
            assert!(class == 0 || Blocks::block_bytes(class - 1) < bytes, "{bytes}");
        }
        assert_eq!(Blocks::block_bytes(CLASSES - 1), MAX_BLOCK_BYTES);
        assert_eq!(Blocks::class(layout(MAX_BLOCK_BYTES + 1)), None);
        assert_eq!(Blocks::class(Layout::from_size_align(8, 64).expect("a layout")), None);
    }

    #[test]
    fn what_was_freed_last_is_handed_out_next() {
        let blocks = Blocks::new();
        // SAFETY: blocks are given back with the layout they were asked for with.
        unsafe {
            let (first, second) = (blocks.alloc(layout(20)), blocks.alloc(layout(20)));
            blocks.dealloc(first, layout(20));
            blocks.dealloc(second, layout(20));
            assert_eq!(blocks.alloc(layout(32)), second, "of the same class");
            assert_eq!(blocks.alloc(layout(17)), first);
        }
    }

    /// Random steps beside a list of what is alive: aligned, disjoint, and what was written is still there.
    #[test]
    fn blocks_are_aligned_and_disjoint_and_keep_what_is_written() {
        let blocks = Blocks::new();
        let mut alive: Vec<(*mut u8, usize, u8)> = Vec::new();
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).expect("small")
        };
        let check = |(block, bytes, mark): (*mut u8, usize, u8)| {
            // SAFETY: so many bytes of it are ours.
            let found = unsafe { std::slice::from_raw_parts(block, bytes) };
            assert!(found.iter().all(|byte| *byte == mark), "{bytes} bytes at {block:?}");
        };
        let steps = if cfg!(miri) { 300 } else { 20_000 }; // An interpreter takes its time.
        for step in 0..steps {
            let mark = u8::try_from(step % 251_usize).expect("small");
            let bytes = 1 + random(if step % 3 == 0 { 6_000 } else { 200 });
            // SAFETY: blocks are written within their bounds, and given back with the layout they were asked for with.
            unsafe {
                match random(3) {
                    0 if !alive.is_empty() => {
                        let (block, bytes, mark) = alive.swap_remove(random(alive.len()));
                        check((block, bytes, mark));
                        blocks.dealloc(block, layout(bytes));
                    }
                    1 if !alive.is_empty() => {
                        let (block, old, old_mark) = alive.swap_remove(random(alive.len()));
                        let moved = blocks.realloc(block, layout(old), bytes);
                        check((moved, old.min(bytes), old_mark));
                        moved.write_bytes(mark, bytes);
                        alive.push((moved, bytes, mark));
                    }
                    _ => {
                        let block = blocks.alloc(layout(bytes));
                        assert!(bytes > MAX_BLOCK_BYTES || block.addr().is_multiple_of(UNIT_BYTES));
                        block.write_bytes(mark, bytes);
                        alive.push((block, bytes, mark));
                    }
                }
            }
        }
        alive.iter().copied().for_each(check);
        // SAFETY: a dirty block of this class was freed above.
        let zeroed = unsafe { std::slice::from_raw_parts(blocks.alloc_zeroed(layout(100)), 100) };
        assert!(zeroed.iter().all(|byte| *byte == 0));
    }

    /// What the host does with a chunk: three allocations in it.
    unsafe fn fill(chunk: *mut u8) -> [*mut u8; 3] {
        // SAFETY: as the caller says, it is a chunk, and free.
        unsafe {
            chunk.cast::<u32>().write(3);
            [16, 26, 400].map(|at| {
                let text = chunk.add(at);
                text.write_bytes(u8::try_from(at % 251).expect("small"), 10);
                text
            })
        }
    }

    #[test]
    fn what_the_host_put_into_the_arena_is_freed_and_grows_like_any_block() {
        let blocks = Blocks::new();
        // SAFETY: blocks are given back with the layout they have.
        unsafe {
            let arena = blocks.alloc(call_arena::REQUEST);
            assert!(blocks.arena.holds(arena) && arena.addr().is_multiple_of(call_arena::CHUNK_BYTES));
            let chunk = arena.add(call_arena::CHUNK_BYTES);
            let [first, second, third] = fill(chunk);
            blocks.dealloc(first, layout(10));
            let grown = blocks.realloc(second, layout(10), 12);
            assert!(!blocks.arena.holds(grown), "it would be in the way of its neighbours");
            assert_eq!(std::slice::from_raw_parts(grown, 10), [26; 10]);
            assert_eq!(chunk.cast::<u32>().read(), 1, "allocations that are left in the chunk");
            let large = blocks.realloc(third, layout(10), MAX_BLOCK_BYTES + 1);
            assert_eq!(std::slice::from_raw_parts(large, 10), [149; 10]);
            assert_eq!(chunk.cast::<u32>().read(), 0, "the host may use it again");
            blocks.dealloc(grown, layout(12));
            blocks.dealloc(large, layout(MAX_BLOCK_BYTES + 1));
        }
    }

    #[test]
    fn the_arena_is_handed_over_once() {
        let blocks = Blocks::new();
        // SAFETY: the second block is given back with its layout; the first is the arena, which nobody gives back.
        unsafe {
            assert!(blocks.arena.holds(blocks.alloc(call_arena::REQUEST)));
            let other = blocks.alloc(call_arena::REQUEST);
            assert!(!blocks.arena.holds(other), "a plugin's own allocation, as odd as it is");
            blocks.dealloc(other, call_arena::REQUEST);
        }
    }
}
