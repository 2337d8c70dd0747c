//! The functions of `wit/host.wit`, and the linker that gives a component what it imports and is granted, and nothing else.

use crate::contract::{self, Import};
use crate::error::LoadError;
use crate::guest::Guest;
use crate::inert_wasi;
use crate::kv;
use crate::wire::{KvError, Level};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance};
use wasmtime::{Engine, Result, StoreContextMut};

/// A linker for this component. Its imports must have passed [`contract::check_grants`].
/// `asynchronous`: WASI comes from `wasmtime-wasi`, whose functions may wait.
pub(crate) fn linker(component: &Component, engine: &Engine, asynchronous: bool) -> Result<Linker<Guest>, LoadError> {
    let mut linker = Linker::new(engine);
    if asynchronous {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| crate::sending::add_to_linker(&mut linker))
            .map_err(|error| LoadError::Contract(format!("{error:#}")))?;
    }
    for (name, item) in component.component_type().imports(engine) {
        let (import, _) = contract::import(name)?;
        if asynchronous && matches!(import, Import::Wasi(_) | Import::Http(_)) {
            continue;
        }
        let ComponentItem::ComponentInstance(imported) = item.ty else {
            return Err(LoadError::Contract(format!("`{name}` is not an interface")));
        };
        define(&mut linker, name, &import, |instance, path| {
            inert_wasi::define(instance, path, &imported, engine)
        })
        .map_err(|error| LoadError::Contract(format!("`{name}`: {error:#}")))?;
    }
    Ok(linker)
}

fn define(
    linker: &mut Linker<Guest>,
    name: &str,
    import: &Import<'_>,
    wasi: impl FnOnce(&mut LinkerInstance<'_, Guest>, &str) -> Result<()>,
) -> Result<()> {
    match import {
        Import::Types => Ok(()),
        Import::Wasi(path) | Import::Http(path) => wasi(&mut linker.instance(name)?, path),
        Import::Host("log") => log(&mut linker.instance(name)?),
        Import::Host("clock") => clock(&mut linker.instance(name)?),
        Import::Host("counters") => counters(&mut linker.instance(name)?),
        Import::Host("kv") => kv(&mut linker.instance(name)?),
        Import::Host(_) => random(&mut linker.instance(name)?),
    }
}

type Cx<'a> = StoreContextMut<'a, Guest>;

fn log(linker: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    linker.func_wrap("log", |cx: Cx<'_>, (level, message): (Level, String)| {
        cx.data().shared.log.line(tracing_level(level), &message);
        Ok(())
    })
}

fn tracing_level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}

fn clock(linker: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    linker.func_wrap("now", |cx: Cx<'_>, ()| Ok((cx.data().shared.world.unix_ms(),)))
}

fn counters(linker: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    linker.func_wrap("add", |cx: Cx<'_>, (name, delta): (String, u64)| {
        cx.data().shared.stats.add_to_counter(&name, delta);
        Ok(())
    })
}

fn random(linker: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    linker.func_wrap("bytes", |cx: Cx<'_>, (length,): (u32,)| {
        Ok((inert_wasi::random_bytes(&cx, u64::from(length))?,))
    })
}

type Answer<T> = std::result::Result<T, KvError>;

fn kv(linker: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    type Set = (String, Vec<u8>, Option<u64>);
    type Swap = (String, Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>);
    linker.func_wrap("get", |cx: Cx<'_>, (key,): (String,)| {
        let shared = &cx.data().shared;
        Ok((shared
            .stats
            .kv
            .lock()
            .get(&key, shared.clock.now_ms())
            .map(<[u8]>::to_vec),))
    })?;
    linker.func_wrap("set", |cx: Cx<'_>, (key, value, expires): Set| {
        let shared = &cx.data().shared;
        Ok((kv_answer(shared.stats.kv.lock().set(
            &key,
            value,
            expires,
            shared.clock.now_ms(),
        )),))
    })?;
    linker.func_wrap("delete", |cx: Cx<'_>, (key,): (String,)| {
        cx.data().shared.stats.kv.lock().delete(&key);
        Ok(())
    })?;
    linker.func_wrap(
        "compare-and-swap",
        |cx: Cx<'_>, (key, expected, value, expires): Swap| {
            let shared = &cx.data().shared;
            let now_ms = shared.clock.now_ms();
            let swapped = shared
                .stats
                .kv
                .lock()
                .compare_and_swap(&key, expected.as_deref(), value, expires, now_ms);
            Ok((kv_answer(swapped),))
        },
    )?;
    linker.func_wrap(
        "increment",
        |cx: Cx<'_>, (key, delta, expires): (String, i64, Option<u64>)| {
            let shared = &cx.data().shared;
            Ok((kv_answer(shared.stats.kv.lock().increment(
                &key,
                delta,
                expires,
                shared.clock.now_ms(),
            )),))
        },
    )
}

fn kv_answer<T>(result: std::result::Result<T, kv::KvError>) -> Answer<T> {
    result.map_err(|error| match error {
        kv::KvError::Full => KvError::Full,
        kv::KvError::TooLarge => KvError::TooLarge,
        kv::KvError::NotANumber => KvError::NotANumber,
    })
}
