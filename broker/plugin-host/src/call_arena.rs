//! Memory of a guest in which the host allocates for a call, where the guest's allocator is the SDK's: what they have agreed on is
//! said in `plugin-sdk/src/call_arena.rs`. To enter a guest costs more than what most calls do there; without the arena a call
//! enters it once per text and list.
//!
//! All that lies in the guest's memory is the guest's to say, and untrusted: whatever it says, the host writes within its memory.

use crate::lower::{InMemory, Placed, PlacedList};
use crate::sections;
use std::sync::atomic::{AtomicU32, Ordering};
use wasmtime::Result;
use wasmtime::component::__internal::LowerContext;

const SECTION: &str = "nervewire:call-arena";
/// What is written there by an SDK that agrees with this module.
const VERSION: &[u8] = b"2";

pub(crate) const CHUNK_BYTES: usize = 8192;
const CHUNKS: usize = 4;
const ARENA_BYTES: usize = CHUNK_BYTES * CHUNKS;
const HEADER_BYTES: usize = 16;
const MARK: &[u8] = b"NWCA";

/// Whether the component's code says that it has one.
pub(crate) fn is_in(component: &[u8]) -> bool {
    sections::custom(component, SECTION).contains(&VERSION)
}

/// What is known about an instance's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is none.
    Nowhere,
    /// There is one, and nobody has asked where.
    Unasked,
    /// Its address.
    At(u32),
}

/// The arena during one call. Its numbers are atomic only because what is lowered has to be `Sync`.
#[derive(Debug)]
pub(crate) struct CallArena {
    /// An address, or [`UNASKED`].
    arena: AtomicU32,
    /// Where the next allocation is to be, in the chunk of this call; a multiple of the chunk's size: there is no room.
    next: AtomicU32,
    /// Allocations in the chunk.
    alive: AtomicU32,
}

/// No address of an arena: it does not fit there.
const UNASKED: u32 = u32::MAX;
/// Neither is this.
const NOWHERE: u32 = 0;

impl CallArena {
    /// For the call of an instance that has its arena there.
    pub(crate) fn new(place: Place) -> Self {
        Self {
            arena: AtomicU32::new(match place {
                Place::Nowhere => NOWHERE,
                Place::Unasked => UNASKED,
                Place::At(address) => address,
            }),
            next: AtomicU32::new(0),
            alive: AtomicU32::new(0),
        }
    }

    /// The parameters of a call whose arena this is.
    pub(crate) fn passed<Params>(&self, params: Params) -> InMemory<'_, Params> {
        InMemory { params, arena: self }
    }

    /// A record of such a call.
    pub(crate) fn placed<R>(&self, record: R) -> Placed<'_, R> {
        Placed { record, arena: self }
    }

    /// A list of such records, and what they are made of.
    pub(crate) fn placed_all<'a, S>(&'a self, sources: &'a [S]) -> PlacedList<'a, S> {
        PlacedList { sources, arena: self }
    }

    /// What is known after the call, which succeeded.
    pub(crate) fn place(&self) -> Place {
        match get(&self.arena) {
            NOWHERE => Place::Nowhere,
            UNASKED => Place::Unasked,
            address => Place::At(address),
        }
    }

    /// Where as many bytes have room; `None`: the guest's allocator is to be asked.
    #[inline]
    pub(crate) fn room<T>(&self, cx: &mut LowerContext<'_, T>, bytes: usize) -> Result<Option<Chunk<'_>>> {
        self.find(cx)?;
        Ok(self.room_in(cx.as_slice_mut(), bytes))
    }

    /// Sees to it that the arena's address is known, if there is one.
    #[inline]
    pub(crate) fn find<T>(&self, cx: &mut LowerContext<'_, T>) -> Result<()> {
        match get(&self.arena) {
            UNASKED => self.ask(cx),
            _ => Ok(()),
        }
    }

    /// [`CallArena::room`] in the guest's memory, once the address is known.
    #[inline]
    pub(crate) fn room_in(&self, memory: &[u8], bytes: usize) -> Option<Chunk<'_>> {
        if matches!(get(&self.arena), NOWHERE | UNASKED) || bytes > CHUNK_BYTES - HEADER_BYTES {
            return None;
        }
        let mut next = get(&self.next) as usize;
        // At 0 there is no chunk yet, or the last one is full to its last byte.
        if next.is_multiple_of(CHUNK_BYTES) || next % CHUNK_BYTES + bytes > CHUNK_BYTES {
            next = self.free_chunk(memory)? + HEADER_BYTES;
            set(&self.alive, 0);
        }
        Some(Chunk { arena: self, next })
    }

    /// Asks for the address, once per instance. An answer that is no arena is some memory that nobody uses any more.
    #[cold]
    fn ask<T>(&self, cx: &mut LowerContext<'_, T>) -> Result<()> {
        let address = cx.realloc(0, 0, CHUNK_BYTES as u32, ARENA_BYTES - 1)?;
        let memory = cx.as_slice_mut();
        let is_arena = address.is_multiple_of(CHUNK_BYTES)
            && memory.get(address + 4..address + 8) == Some(MARK)
            && memory.len() - address >= ARENA_BYTES;
        let address = u32::try_from(address).ok().filter(|_| is_arena);
        set(&self.arena, address.unwrap_or(NOWHERE));
        Ok(())
    }

    /// The first chunk in which nothing is alive.
    fn free_chunk(&self, memory: &[u8]) -> Option<usize> {
        let arena = get(&self.arena) as usize;
        let mut chunks = (0..CHUNKS).map(|chunk| arena + chunk * CHUNK_BYTES);
        chunks.find(|chunk| memory.get(*chunk..).and_then(<[u8]>::first_chunk) == Some(&[0; 4]))
    }
}

/// Room in the chunk of a call.
pub(crate) struct Chunk<'a> {
    arena: &'a CallArena,
    next: usize,
}

impl Chunk<'_> {
    /// The address of the next allocation.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// So many more allocations were made, up to `next`.
    #[inline]
    pub(crate) fn fill(self, memory: &mut [u8], next: usize, allocations: u32) {
        set(&self.arena.next, next as u32);
        let alive = get(&self.arena.alive) + allocations;
        set(&self.arena.alive, alive);
        let header = memory.get_mut(self.next / CHUNK_BYTES * CHUNK_BYTES..);
        if let Some(header) = header.and_then(<[u8]>::first_chunk_mut) {
            *header = alive.to_le_bytes();
        }
    }
}

fn get(number: &AtomicU32) -> u32 {
    number.load(Ordering::Relaxed)
}

fn set(number: &AtomicU32, value: u32) {
    number.store(value, Ordering::Relaxed);
}
