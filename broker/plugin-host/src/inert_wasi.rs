//! WASI 0.2 for components whose language runtime wants it, with nothing behind it: no file, no environment, no argument, no
//! network, and no way to wait. What is printed goes to the plugin's log.
//!
//! Why not `wasmtime-wasi`: its synchronous functions enter a tokio runtime, which panics on a thread that is already in one, as
//! every shard is; and its pollables really wait, which no epoch deadline interrupts, so that a sleeping guest would stop its
//! shard. Here every function returns at once, and the host keeps no table that a guest could fill.
//!
//! What a component imports decides what is defined: the functions below do their work, any other function of an allowed
//! interface exists but ends the call when it is called.

use crate::guest::{Guest, HostRefusal};
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType, Val};
use wasmtime::{Engine, Result, StoreContextMut};

// The resource types; the number behind a handle says all there is to know about it.
struct InputStream;
struct OutputStream;
struct IoError;
/// Its number is 1 when it is ready.
struct Pollable;
struct TerminalInput;
struct TerminalOutput;
struct Descriptor;
struct DirectoryEntryStream;

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code)] // Part of the type; writing into memory does not fail.
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Cx<'a> = StoreContextMut<'a, Guest>;
type Written = (Result<(), StreamError>,);
type StdResult<T> = std::result::Result<T, StreamError>;

/// Bytes that a guest may write at a time.
const WRITE_BYTES: u64 = 4096;
/// Bytes of random numbers per call.
pub(crate) const MAX_RANDOM_BYTES: u64 = 64 * 1024;

const CANNOT_WAIT: HostRefusal = HostRefusal("it wants to wait, which plugins cannot do");
const NOT_THERE: HostRefusal = HostRefusal("it calls a WASI function that is not there for plugins");

const NO_ORIGIN: HostRefusal = HostRefusal("it makes an HTTP request, and no origin is granted to it");

/// Defines what `imported`, the type of the interface `path` (such as `io/streams`), asks for.
pub(crate) fn define(
    linker: &mut LinkerInstance<'_, Guest>,
    path: &str,
    imported: &ComponentInstance,
    engine: &Engine,
) -> Result<()> {
    for (name, item) in imported.exports(engine) {
        match item.ty {
            ComponentItem::Resource(_) => linker.resource(name, resource(name), give_handle_back)?,
            ComponentItem::ComponentFunc(_) => function(linker, path, name)?,
            _ => {}
        }
    }
    Ok(())
}

fn resource(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" | "io-error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        "directory-entry-stream" => ResourceType::host::<DirectoryEntryStream>(),
        _ => ResourceType::host::<Descriptor>(),
    }
}

fn give_handle_back(mut cx: Cx<'_>, _: u32) -> Result<()> {
    cx.data_mut().give_handle_back();
    Ok(())
}

fn own<T: 'static>(cx: &mut Cx<'_>, number: u32) -> Result<Resource<T>> {
    cx.data_mut().take_handle()?;
    Ok(Resource::new_own(number))
}

fn function(linker: &mut LinkerInstance<'_, Guest>, path: &str, name: &str) -> Result<()> {
    match path.split_once('/').unwrap_or_default() {
        ("cli", _) | ("filesystem", _) => process(linker, path, name),
        ("io", "streams") => stream(linker, name),
        ("io", _) => poll(linker, name),
        ("clocks", _) => clock(linker, path, name),
        ("random", _) => random(linker, path, name),
        ("http", _) => http(linker, name),
        _ => absent(linker, name),
    }
}

/// There, but not to be called. No file can be opened, so this is all there is to `filesystem/types`.
fn absent(linker: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    linker.func_new(name, |_, _, _, _| Err(NOT_THERE.into()))
}

fn process(linker: &mut LinkerInstance<'_, Guest>, path: &str, name: &str) -> Result<()> {
    match (path, name) {
        ("cli/environment", "get-environment") => linker.func_wrap(name, |_, ()| Ok((Vec::<(String, String)>::new(),))),
        ("cli/environment", "get-arguments") => linker.func_wrap(name, |_, ()| Ok((Vec::<String>::new(),))),
        ("cli/environment", "initial-cwd") => linker.func_wrap(name, |_, ()| Ok((None::<String>,))),
        ("cli/exit", "exit") => linker.func_wrap(name, |_, (_,): (std::result::Result<(), ()>,)| {
            Err::<(), _>(HostRefusal("it called exit").into())
        }),
        ("cli/stdin", "get-stdin") => {
            linker.func_wrap(name, |mut cx: Cx<'_>, ()| Ok((own::<InputStream>(&mut cx, 0)?,)))
        }
        ("cli/stdout" | "cli/stderr", "get-stdout" | "get-stderr") => {
            linker.func_wrap(name, |mut cx: Cx<'_>, ()| Ok((own::<OutputStream>(&mut cx, 0)?,)))
        }
        ("cli/terminal-stdin", "get-terminal-stdin") => {
            linker.func_wrap(name, |_, ()| Ok((None::<Resource<TerminalInput>>,)))
        }
        ("cli/terminal-stdout" | "cli/terminal-stderr", "get-terminal-stdout" | "get-terminal-stderr") => {
            linker.func_wrap(name, |_, ()| Ok((None::<Resource<TerminalOutput>>,)))
        }
        ("filesystem/preopens", "get-directories") => {
            linker.func_wrap(name, |_, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
        }
        _ => absent(linker, name),
    }
}

fn stream(linker: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    type Out = (Resource<OutputStream>,);
    type Write = (Resource<OutputStream>, Vec<u8>);
    type Read = (Resource<InputStream>, u64);
    match name {
        "[method]output-stream.check-write" => linker.func_wrap(name, |_, (_,): Out| Ok((StdResult::Ok(WRITE_BYTES),))),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            linker.func_wrap(name, |mut cx: Cx<'_>, (_, bytes): Write| {
                cx.data_mut().print(&bytes);
                Ok::<Written, _>((StdResult::Ok(()),))
            })
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            linker.func_wrap(name, |_, (_,): Out| Ok((StdResult::Ok(()),)))
        }
        "[method]output-stream.subscribe" => {
            linker.func_wrap(name, |mut cx: Cx<'_>, (_,): Out| Ok((own::<Pollable>(&mut cx, 1)?,)))
        }
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            linker.func_wrap(name, |_, _: Read| Ok((StdResult::<Vec<u8>>::Err(StreamError::Closed),)))
        }
        "[method]input-stream.subscribe" => linker.func_wrap(name, |mut cx: Cx<'_>, (_,): (Resource<InputStream>,)| {
            Ok((own::<Pollable>(&mut cx, 1)?,))
        }),
        _ => absent(linker, name),
    }
}

/// What is ready says so; waiting for anything else ends the call.
fn poll(linker: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    let is_ready = |pollable: &Resource<Pollable>| pollable.rep() == 1;
    match name {
        "[method]pollable.ready" => linker.func_wrap(name, move |_, (pollable,): (Resource<Pollable>,)| {
            Ok((is_ready(&pollable),))
        }),
        "[method]pollable.block" => linker.func_wrap(name, move |_, (pollable,): (Resource<Pollable>,)| {
            if is_ready(&pollable) {
                Ok(())
            } else {
                Err(CANNOT_WAIT.into())
            }
        }),
        "poll" => linker.func_wrap(name, move |_, (list,): (Vec<Resource<Pollable>>,)| {
            let ready: Vec<u32> = (0..)
                .zip(&list)
                .filter(|(_, pollable)| is_ready(pollable))
                .map(|(at, _)| at)
                .collect();
            if ready.is_empty() {
                Err(CANNOT_WAIT.into())
            } else {
                Ok((ready,))
            }
        }),
        _ => absent(linker, name),
    }
}

fn clock(linker: &mut LinkerInstance<'_, Guest>, path: &str, name: &str) -> Result<()> {
    match (path, name) {
        ("clocks/monotonic-clock", "now") => linker.func_wrap(name, |cx: Cx<'_>, ()| Ok((monotonic_ns(&cx),))),
        ("clocks/monotonic-clock", "resolution") => linker.func_wrap(name, |_, ()| Ok((1_u64,))),
        ("clocks/monotonic-clock", "subscribe-instant") => linker.func_wrap(name, |mut cx: Cx<'_>, (at,): (u64,)| {
            let ready = u32::from(at <= monotonic_ns(&cx));
            Ok((own::<Pollable>(&mut cx, ready)?,))
        }),
        ("clocks/monotonic-clock", "subscribe-duration") => linker.func_wrap(name, |mut cx: Cx<'_>, (ns,): (u64,)| {
            Ok((own::<Pollable>(&mut cx, u32::from(ns == 0))?,))
        }),
        ("clocks/wall-clock", "now") => linker.func_wrap(name, |cx: Cx<'_>, ()| Ok((wall_clock(&cx),))),
        ("clocks/wall-clock", "resolution") => linker.func_wrap(name, |_, ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds: 1,
            },))
        }),
        _ => absent(linker, name),
    }
}

fn random(linker: &mut LinkerInstance<'_, Guest>, path: &str, name: &str) -> Result<()> {
    match (path, name) {
        ("random/insecure-seed", "insecure-seed") => linker.func_wrap(name, |mut cx: Cx<'_>, ()| {
            Ok(((cx.data_mut().noise.next(), cx.data_mut().noise.next()),))
        }),
        ("random/insecure", "get-insecure-random-u64") => {
            linker.func_wrap(name, |mut cx: Cx<'_>, ()| Ok((cx.data_mut().noise.next(),)))
        }
        ("random/insecure", "get-insecure-random-bytes") => {
            linker.func_wrap(name, |mut cx: Cx<'_>, (length,): (u64,)| {
                let words =
                    (0..check_random_bytes(length)?.div_ceil(8)).flat_map(|_| cx.data_mut().noise.next().to_le_bytes());
                let mut bytes: Vec<u8> = words.collect();
                bytes.truncate(usize::try_from(length)?);
                Ok((bytes,))
            })
        }
        // Linked only with the grant `random`.
        ("random/random", "get-random-bytes") => {
            linker.func_wrap(name, |cx: Cx<'_>, (length,): (u64,)| Ok((random_bytes(&cx, length)?,)))
        }
        ("random/random", "get-random-u64") => linker.func_wrap(name, |cx: Cx<'_>, ()| {
            let mut word = [0; 8];
            cx.data().shared.world.random(&mut word)?;
            Ok((u64::from_le_bytes(word),))
        }),
        _ => absent(linker, name),
    }
}

/// Nobody to reach. A request begins with its headers, and there it ends, with an error that the SDK understands.
fn http(linker: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    match name {
        "[static]fields.from-list" => linker.func_new(name, |mut cx, _, _, results| {
            cx.data_mut().shared.stats.refuse_grants(1);
            let forbidden = Val::Variant("forbidden".to_owned(), None);
            if let Some(result) = results.first_mut() {
                *result = Val::Result(Err(Some(Box::new(forbidden))));
            }
            Ok(())
        }),
        _ => linker.func_new(name, |_, _, _, _| Err(NO_ORIGIN.into())),
    }
}

/// Random numbers that nobody can guess, in the machine's world.
pub(crate) fn random_bytes(cx: &Cx<'_>, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(check_random_bytes(length)?)?];
    cx.data().shared.world.random(&mut bytes)?;
    Ok(bytes)
}

fn check_random_bytes(length: u64) -> Result<u64> {
    if length > MAX_RANDOM_BYTES {
        return Err(HostRefusal("it asks for more than 64 KiB of random numbers at once").into());
    }
    Ok(length)
}

fn monotonic_ns(cx: &Cx<'_>) -> u64 {
    cx.data().shared.world.monotonic_ns()
}

fn wall_clock(cx: &Cx<'_>) -> Datetime {
    let since = cx.data().shared.world.unix_time();
    Datetime {
        seconds: since.as_secs(),
        nanoseconds: since.subsec_nanos(),
    }
}
