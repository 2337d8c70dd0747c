//! Memory in which the host allocates for a call. To enter a guest costs the host more than what most calls do there, and a call brings a
//! dozen texts and lists: so the host enters it once, for the address of the arena, and from then on writes into it what a call
//! brings.
//!
//! What host and allocator have agreed on, and the custom section `nervewire:call-arena` tells the host (its content is the version):
//! the host asks for a block of [`REQUEST`]'s size and alignment, once. The answer is [`CHUNKS`] chunks of [`CHUNK_BYTES`]. A chunk
//! begins with a header of 16 bytes, of which the first four bytes are the number of allocations that are alive in it, as a
//! little-endian number; in the first chunk, [`MARK`] follows. Where it is 0 the host may fill the chunk between two calls: it puts its allocations behind the header and
//! writes their number. Whoever frees one counts down. A plugin that keeps what a call brought keeps its chunk from being used; where
//! all chunks are kept, the host allocates as it does for every other guest.

use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};

/// See the module.
#[derive(Debug)]
#[repr(C, align(8192))]
pub(crate) struct CallArena {
    memory: UnsafeCell<[u8; ARENA_BYTES]>,
    is_handed_over: Cell<bool>,
}

/// Room for a call with a message of 7 KiB; what has no room in it is allocated otherwise.
pub(crate) const CHUNK_BYTES: usize = 8192;
pub(crate) const CHUNKS: usize = 4;
const ARENA_BYTES: usize = CHUNK_BYTES * CHUNKS;
/// Tells that the answer is the arena.
const MARK: [u8; 4] = *b"NWCA";
/// No plugin has a type of this size and alignment, and if it did it would ask after the host.
pub(crate) const REQUEST: Layout = match Layout::from_size_align(ARENA_BYTES - 1, CHUNK_BYTES) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

impl CallArena {
    pub(crate) const fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; ARENA_BYTES]),
            is_handed_over: Cell::new(false),
        }
    }

    /// The arena, where it was not asked for before.
    pub(crate) fn hand_over(&self) -> Option<*mut u8> {
        if self.is_handed_over.replace(true) {
            return None;
        }
        let arena: *mut u8 = self.memory.get().cast();
        // SAFETY: a chunk is longer, and nobody has any of the arena yet.
        unsafe { arena.add(4).cast::<[u8; 4]>().write(MARK) };
        Some(arena)
    }

    /// Whether an allocation lies in it.
    #[inline]
    pub(crate) fn holds(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.memory.get().addr()) < ARENA_BYTES
    }

    /// One allocation less in the chunk of this one.
    #[inline]
    pub(crate) fn give_back(&self, block: *mut u8) {
        let chunk = (block.addr() - self.memory.get().addr()) / CHUNK_BYTES;
        // SAFETY: the chunk lies in the arena, is aligned, and nobody holds a reference to its header.
        unsafe {
            let alive = self.memory.get().cast::<u8>().add(chunk * CHUNK_BYTES).cast::<u32>();
            alive.write(alive.read().wrapping_sub(1));
        }
    }
}
