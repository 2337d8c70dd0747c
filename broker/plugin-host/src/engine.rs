//! The wasmtime engine: what it may do, and how many instances it has room for.

use crate::error::HostError;
use crate::spec::MAX_MEMORY_MIB;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

/// Core instances, tables and linear memories that one component may consist of. Rust and C need five, two and one;
/// Python's shared libraries some dozens.
pub(crate) const MAX_CORE_INSTANCES: u32 = 64;
pub(crate) const MAX_TABLES: u32 = 8;
pub(crate) const MAX_MEMORIES: u32 = 2;
/// Elements of one table.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 65_536;
/// Calls of asynchronous plugins at a time, of all of them: each has a stack.
const MAX_WAITING_CALLS: u32 = 4096;
/// Bytes of stack that guest code may use; threads that call plugins need that much beside their own.
const MAX_GUEST_STACK_BYTES: usize = 512 * 1024;
/// Address space per linear memory. With 4 GiB no access needs a bounds check: guard pages catch what is beyond.
const MEMORY_RESERVATION_BYTES: u64 = 1 << 32;
/// Fewest slots that are worth starting with.
const MIN_INSTANCES: u32 = 64;

/// An engine with room for `max_instances`, or for as many as the machine has address space for: it halves the number until
/// the pool can be mapped, and says so.
pub(crate) fn engine(max_instances: u32) -> Result<Engine, HostError> {
    let mut instances = max_instances.max(MIN_INSTANCES);
    loop {
        match Engine::new(&config(instances)) {
            Ok(engine) => return Ok(engine),
            Err(error) if instances / 2 < MIN_INSTANCES => return Err(HostError::Engine(format!("{error:#}"))),
            Err(error) => {
                tracing::warn!(
                    instances,
                    "no address space for that many plugin instances, trying half: {error:#}"
                );
                instances /= 2;
            }
        }
    }
}

fn config(instances: u32) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Calls are synchronous; leaving the machinery for concurrent ones out saves two thirds of a call.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_GUEST_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_init_cow(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    for feature in SWITCHED_OFF {
        config.wasm_features(feature, false);
    }
    config
}

/// Nothing that a plugin needs, and the least exercised parts of a runtime. What stays is what the compilers of Rust, C, JavaScript and
/// Python components emit: SIMD, bulk memory, reference types, several values, extended constants (Python's shared libraries).
const SWITCHED_OFF: [WasmFeatures; 13] = [
    WasmFeatures::THREADS,
    WasmFeatures::SHARED_EVERYTHING_THREADS,
    WasmFeatures::MEMORY64,
    WasmFeatures::MULTI_MEMORY,
    WasmFeatures::RELAXED_SIMD,
    WasmFeatures::TAIL_CALL,
    WasmFeatures::FUNCTION_REFERENCES,
    WasmFeatures::GC,
    WasmFeatures::EXCEPTIONS,
    WasmFeatures::LEGACY_EXCEPTIONS,
    WasmFeatures::STACK_SWITCHING,
    WasmFeatures::CUSTOM_PAGE_SIZES,
    WasmFeatures::WIDE_ARITHMETIC,
];

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .total_memories(instances)
        // Of calls that may wait; the others run on their thread's own.
        .total_stacks(instances.min(MAX_WAITING_CALLS))
        .max_memories_per_component(MAX_MEMORIES)
        .max_memory_size(MAX_MEMORY_MIB as usize * 1024 * 1024)
        .total_tables(instances.saturating_mul(3))
        .max_tables_per_component(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiles(module: &str) -> Result<(), String> {
        static ENGINE: std::sync::LazyLock<Engine> = std::sync::LazyLock::new(|| engine(1).unwrap());
        let binary = wat::parse_str(module).unwrap();
        let compiled = wasmtime::Module::from_binary(&ENGINE, &binary);
        compiled.map(|_| ()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn features_that_nobody_needs_are_off() {
        let rows = [
            ("threads", "(module (memory 1 1 shared))"),
            (
                "atomics",
                "(module (memory 1) (func (param i32) (result i32) local.get 0 i32.atomic.load))",
            ),
            ("memory64", "(module (memory i64 1))"),
            ("table64", "(module (table i64 1 funcref))"),
            ("multi-memory", "(module (memory 1) (memory 1))"),
            (
                "relaxed SIMD",
                "(module (func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.relaxed_swizzle))",
            ),
            ("tail calls", "(module (func $f return_call $f))"),
            (
                "function references",
                "(module (type $t (func)) (func (param (ref $t)) local.get 0 call_ref $t))",
            ),
            ("garbage collection", "(module (type (struct (field i32))))"),
            ("exceptions", "(module (tag $e) (func throw $e))"),
            ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
            (
                "wide arithmetic",
                "(module (func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_s))",
            ),
            ("stack switching", "(module (type $f (func)) (type $c (cont $f)))"),
        ];
        for (feature, module) in rows {
            assert!(compiles(module).is_err(), "{feature} is on");
        }
    }

    #[test]
    fn features_that_compilers_use_are_on() {
        let rows = [
            (
                "SIMD",
                "(module (func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.add))",
            ),
            (
                "bulk memory",
                "(module (memory 1) (func i32.const 0 i32.const 0 i32.const 8 memory.fill))",
            ),
            (
                "reference types",
                "(module (table 1 funcref) (func (result i32) ref.null func i32.const 1 table.grow))",
            ),
            (
                "several values",
                "(module (func (result i32 i32) i32.const 0 i32.const 0))",
            ),
            (
                "extended constants",
                "(module (import \"e\" \"b\" (global $b i32)) (memory 1) (data (offset (i32.add (global.get $b) (i32.const 4))) \"x\"))",
            ),
            (
                "sign extension",
                "(module (func (param i32) (result i32) local.get 0 i32.extend8_s))",
            ),
        ];
        for (feature, module) in rows {
            assert_eq!(compiles(module), Ok(()), "{feature}");
        }
    }
}
