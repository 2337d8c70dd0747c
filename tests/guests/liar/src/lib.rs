//! A guest that breaks the canonical ABI itself, below what bindings would let it: answers that are no text, no value of their enum, or
//! not in its memory; an allocator that hands out what it does not have. Its configuration, all of it, is the name of its lie.
#![allow(clippy::missing_safety_doc)]

mod arena;

// For the description of the world only: what is exported is written out below.
wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:liar;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/authenticator@0.1.1;
            include nervewire:plugin/batch-authorizer@0.1.1;
            include nervewire:plugin/batch-transformer@0.1.1;
            include nervewire:plugin/detector@0.1.1;
        }
    ",
    generate_all,
});

use nervewire::plugin::log;
use std::alloc::Layout;
use std::sync::OnceLock;

static LIE: OnceLock<String> = OnceLock::new();

fn lie() -> &'static str {
    LIE.get().map_or("", String::as_str)
}

/// Room for an answer. Tests call too few times for it to matter that it is never given back.
struct Area(*mut u8);

impl Area {
    fn new() -> Self {
        Self(Box::leak(Box::new([0_u64; 32])).as_mut_ptr().cast())
    }

    fn byte(self, at: usize, value: u8) -> Self {
        // SAFETY: every offset in this file is within the room.
        unsafe { self.0.add(at).write(value) };
        self
    }

    fn word(self, at: usize, value: u32) -> Self {
        // SAFETY: as above, and aligned.
        unsafe { self.0.add(at).cast::<u32>().write(value) };
        self
    }

    /// A text or list: where it says it is, and how long.
    fn list(self, at: usize, (address, length): (u32, u32)) -> Self {
        self.word(at, address).word(at + 4, length)
    }
}

fn bytes(bytes: &[u8]) -> (u32, u32) {
    let copy: &'static [u8] = bytes.to_vec().leak();
    (copy.as_ptr() as u32, copy.len() as u32)
}

fn memory_bytes() -> u32 {
    (core::arch::wasm32::memory_size(0) * 65_536) as u32
}

/// The lies about a text; an honest one where it is about something else.
fn text(what: &str) -> (u32, u32) {
    match lie().strip_prefix(what).and_then(|lie| lie.strip_prefix(' ')) {
        Some("is not UTF-8") => bytes(b"a/\xff/b"),
        Some("is half a surrogate") => bytes(b"a/\xed\xa0\x80"),
        Some("is overlong") => bytes(b"a\xc0\xafb"),
        Some("is cut") => bytes("aü".as_bytes().split_last().map_or(&[], |(_, rest)| rest)),
        Some("is outside") => (0xffff_ff00, 16),
        Some("goes too far") => (memory_bytes() - 8, 16),
        Some("is as long as it gets") => (0, u32::MAX),
        _ => bytes(b"a/b"),
    }
}

/// The number of a value, or one that no value has.
fn value(what: &str, honest: u8) -> u8 {
    if lie() == what { 200 } else { honest }
}

#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if let Some(answer) = arena::answer(align, new_len) {
        return answer;
    }
    match lie() {
        "memory at 0" => return std::ptr::null_mut(),
        "memory outside" => return 0xffff_fff8_usize as *mut u8,
        "memory that ends" => return (memory_bytes() - 8) as *mut u8,
        "memory beside" => {
            return unsafe { std::alloc::alloc(Layout::from_size_align_unchecked(new_len + 16, 16)).add(1) };
        }
        "loops for memory" => loop {
            std::hint::spin_loop();
        },
        "traps for memory" => core::arch::wasm32::unreachable(),
        "calls for memory" => log::log(log::Level::Info, "from within"),
        _ => {}
    }
    // SAFETY: what the host asks for is a size and an alignment, and what it hands back is ours.
    unsafe {
        match (old_len, new_len) {
            (_, 0) => align as *mut u8,
            (0, _) => std::alloc::alloc(Layout::from_size_align_unchecked(new_len, align)),
            _ => std::alloc::realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len),
        }
    }
}

#[unsafe(export_name = "nervewire:plugin/lifecycle@0.1.1#init")]
unsafe extern "C" fn init(config: *const u8, length: usize, _: usize, _: usize) -> *mut u8 {
    // SAFETY: the host has written it there.
    let config = unsafe { std::slice::from_raw_parts(config, length) };
    LIE.get_or_init(|| String::from_utf8_lossy(config).trim_matches('"').to_owned());
    match lie() {
        "ready" => Area::new().byte(0, 200),
        lie if lie.starts_with("refusal in words") => Area::new().byte(0, 1).list(4, text("refusal in words")),
        _ => Area::new(),
    }
    .0
}

#[unsafe(export_name = "nervewire:plugin/lifecycle@0.1.1#tick")]
extern "C" fn tick(_now: u64) -> *mut u8 {
    Area::new().list(0, messages()).0
}

#[unsafe(export_name = "nervewire:plugin/authentication@0.1.1#authenticate")]
extern "C" fn authenticate(_: *mut u8) -> *mut u8 {
    arena::entered();
    const ALLOW: u8 = 0;
    const DENY: u8 = 1;
    if lie() == "refusal" {
        return Area::new().byte(0, DENY).byte(8, 200).0;
    }
    Area::new()
        .byte(0, value("outcome", ALLOW))
        .byte(8, 1)
        .list(12, text("user name"))
        .0
}

#[unsafe(export_name = "nervewire:plugin/authorization@0.1.1#rules")]
extern "C" fn rules(_: *mut u8) -> *mut u8 {
    arena::entered();
    let rule = Area::new()
        .byte(0, value("effect", 0))
        .byte(1, if lie() == "actions" { 0xff } else { 1 })
        .list(4, text("topic filter"))
        .byte(12, value("rule's QoS", 2))
        .byte(13, value("rule's retain", 0));
    let list = match lie() {
        "rules outside" => (memory_bytes() - 16, 4),
        "rules beside" => (rule.0 as u32 + 1, 1),
        "rules without end" => (rule.0 as u32, u32::MAX),
        "rules that wrap" => (rule.0 as u32, 0x1000_0001),
        _ => (rule.0 as u32, 1),
    };
    Area::new().byte(0, value("option", 1)).list(4, list).0
}

#[unsafe(export_name = "nervewire:plugin/authorization@0.1.1#authorize")]
extern "C" fn authorize(_: *mut u8) -> *mut u8 {
    arena::entered();
    match lie() {
        "answer outside" => return (memory_bytes() - 4) as *mut u8,
        "answer beside" => return Area::new().0.wrapping_add(1),
        _ => {}
    }
    let depends_on = if lie() == "dependencies" { 0xff } else { 0 };
    Area::new()
        .byte(0, value("decision", 0))
        .word(4, 1)
        .byte(8, depends_on)
        .0
}

#[unsafe(export_name = "cabi_post_nervewire:plugin/authorization@0.1.1#authorize")]
extern "C" fn authorized(_: *mut u8) {
    match lie() {
        "loops afterwards" => loop {
            std::hint::spin_loop();
        },
        "traps afterwards" => core::arch::wasm32::unreachable(),
        "calls afterwards" => log::log(log::Level::Info, "from behind"),
        _ => {}
    }
}

#[unsafe(export_name = "nervewire:plugin/transformation@0.1.1#transform")]
extern "C" fn transform(_: *mut u8) -> *mut u8 {
    arena::entered();
    const REPLACE: u8 = 1;
    const EMIT: u8 = 2;
    const REJECT: u8 = 4;
    match lie() {
        "rejection" => Area::new().byte(0, REJECT).byte(4, 200).0,
        "messages in one" => Area::new().byte(0, EMIT).list(4, messages()).0,
        _ => message(4).byte(0, value("transformation", REPLACE)).0,
    }
}

/// How many questions there are: the client is followed by the list of them.
unsafe fn questions(params: *mut u8) -> u32 {
    const CLIENT_BYTES: usize = 152;
    // SAFETY: the host has written it there.
    unsafe { params.add(CLIENT_BYTES + 4).cast::<u32>().read() }
}

/// A list of as many answers as there are questions, or a lie about it.
fn answers(list: Area, questions: u32) -> *mut u8 {
    let address = list.0 as u32;
    let list = match lie() {
        "answers outside" => (memory_bytes() - 16, questions),
        "answers far outside" => (0xffff_fff0, questions),
        "answers beside" => (address + 1, questions),
        "answers without end" => (address, u32::MAX),
        "answers that wrap" => (address, 0x2000_0000),
        "one answer more than is ever asked" => (0, 33),
        "one answer less" => (address, questions - 1),
        _ => (address, questions),
    };
    Area::new().list(0, list).0
}

#[unsafe(export_name = "nervewire:plugin/authorization-batch@0.1.1#authorize-all")]
unsafe extern "C" fn authorize_all(params: *mut u8) -> *mut u8 {
    const VERDICT_BYTES: usize = 12;
    // SAFETY: as the host calls it.
    let questions = unsafe { questions(params) };
    let last = (questions as usize - 1) * VERDICT_BYTES;
    let depends_on = if lie() == "dependencies" { 0xff } else { 0 };
    let list = Area::new().byte(last, value("decision", 1)).byte(last + 8, depends_on);
    answers(list, questions)
}

#[unsafe(export_name = "nervewire:plugin/transformation-batch@0.1.1#transform-all")]
unsafe extern "C" fn transform_all(params: *mut u8) -> *mut u8 {
    const OUTCOME_BYTES: usize = 76;
    const REPLACE: u8 = 1;
    // SAFETY: as the host calls it.
    let questions = unsafe { questions(params) };
    let last = (questions as usize - 1) * OUTCOME_BYTES;
    let list = message(last + 4).byte(last, value("transformation", REPLACE));
    answers(list, questions)
}

/// One message, or ten thousand that share a payload of a mebibyte.
fn messages() -> (u32, u32) {
    if lie() != "messages in one" {
        return (message(0).0 as u32, 1);
    }
    const MESSAGE_WORDS: usize = 18;
    const COUNT: usize = 10_000;
    let payload = bytes(&[0; 1 << 20]);
    let (topic, mut list) = (bytes(b"t"), vec![0_u32; MESSAGE_WORDS * COUNT]);
    for one in list.chunks_mut(MESSAGE_WORDS) {
        one[..4].copy_from_slice(&[topic.0, topic.1, payload.0, payload.1]);
    }
    (list.leak().as_ptr() as u32, COUNT as u32)
}

/// A message that begins there.
fn message(at: usize) -> Area {
    let payload = match lie() {
        "payload without end" => (0, u32::MAX),
        "payload outside" => (0xffff_fff0, 15),
        _ => bytes(b"payload"),
    };
    Area::new()
        .list(at, text("topic"))
        .list(at + 8, payload)
        .byte(at + 16, value("QoS", 0))
        .byte(at + 17, value("retain", 0))
        .byte(at + 20, value("content type", 0))
        .byte(at + 56, value("expiry", 0))
}

#[unsafe(export_name = "nervewire:plugin/detection@0.1.1#detect")]
extern "C" fn detect(_: usize, _: usize) -> *mut u8 {
    let finding = Area::new()
        .list(0, text("client"))
        .byte(8, value("response", 0))
        .list(16, text("evidence"));
    Area::new().list(0, (finding.0 as u32, 1)).0
}
