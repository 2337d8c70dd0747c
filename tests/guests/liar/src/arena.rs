//! Lies about the call arena (`plugin-sdk/src/call_arena.rs`): the host asks once for a block of a size and alignment that nobody else
//! asks for, and what it gets for an answer is where it writes what calls bring.

use crate::nervewire::plugin::log;
use crate::{lie, memory_bytes};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

const CHUNK_BYTES: usize = 8192;
const CHUNKS: usize = 4;
const MARK: [u8; 4] = *b"NWCA";

#[repr(C, align(8192))]
struct Arena(UnsafeCell<[u8; CHUNK_BYTES * CHUNKS]>);

// SAFETY: there is one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; CHUNK_BYTES * CHUNKS]));
static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// The answer to a request for memory, where there is a lie about it.
pub(crate) fn answer(align: usize, bytes: usize) -> Option<*mut u8> {
    if align == CHUNK_BYTES && bytes == CHUNK_BYTES * CHUNKS - 1 {
        return handed_over();
    }
    match lie() {
        // What the host has just written counts for nothing while it goes on writing.
        "arena that changes" => change(),
        "arena that is handed out again" if REQUESTS.load(Ordering::Relaxed) > 0 => return Some(at(16)),
        _ => {}
    }
    None
}

fn handed_over() -> Option<*mut u8> {
    let requests = REQUESTS.fetch_add(1, Ordering::Relaxed);
    match lie() {
        "arena outside" => Some(0xffff_f000_usize as *mut u8),
        "arena that ends" => Some((memory_bytes() as usize - CHUNK_BYTES) as *mut u8),
        "arena beside" => Some(marked(at(1))),
        "arena at 0" => {
            // SAFETY: the stack begins there, and grows towards it from far away. It is volatile, because address 0 is nobody's.
            unsafe { (4 as *mut [u8; 4]).write_volatile(MARK) };
            Some(std::ptr::null_mut())
        }
        "arena without a mark" => Some(at(0)),
        "arena that is full" => {
            // SAFETY: every chunk begins within the arena.
            (0..CHUNKS).for_each(|chunk| unsafe { at(chunk * CHUNK_BYTES).cast::<u32>().write(u32::MAX) });
            Some(marked(at(0)))
        }
        "arena in the stack" => {
            let here = 0_u8;
            let page = (&raw const here).addr() & !(CHUNK_BYTES - 1);
            Some(marked((page - (CHUNKS - 1) * CHUNK_BYTES) as *mut u8))
        }
        "arena of new memory" => {
            let page = core::arch::wasm32::memory_grow(0, 1);
            Some(marked((page * 65_536) as *mut u8))
        }
        "arena after too much memory" => {
            core::arch::wasm32::memory_grow(0, 60_000);
            Some(marked(at(0)))
        }
        "arena for once" if requests > 0 => core::arch::wasm32::unreachable(),
        "loops for the arena" => loop {
            std::hint::spin_loop();
        },
        "traps for the arena" | "traps when asked" => core::arch::wasm32::unreachable(),
        "calls for the arena" => {
            log::log(log::Level::Info, "from within");
            None
        }
        _ if lie().contains("arena") => Some(marked(at(0))),
        _ => None,
    }
}

/// What a hook does first.
pub(crate) fn entered() {
    match lie() {
        "arena that changes" => change(),
        // As in a guest that put the arena where it keeps what it needs.
        // SAFETY: the first text that the host brings lies behind the first chunk's header.
        "arena over what it needs" if unsafe { at(16).read() } != 0 => core::arch::wasm32::unreachable(),
        _ => {}
    }
}

/// Neither mark nor counts are what they were.
fn change() {
    // SAFETY: every chunk begins within the arena.
    (0..CHUNKS).for_each(|chunk| unsafe { at(chunk * CHUNK_BYTES).cast::<u64>().write(u64::MAX << (chunk * 16)) });
}

fn at(offset: usize) -> *mut u8 {
    // SAFETY: every offset in this file is within the arena.
    unsafe { ARENA.0.get().cast::<u8>().add(offset) }
}

fn marked(arena: *mut u8) -> *mut u8 {
    // SAFETY: there is memory in every lie that comes here.
    unsafe { arena.add(4).cast::<[u8; 4]>().write_unaligned(MARK) };
    arena
}
