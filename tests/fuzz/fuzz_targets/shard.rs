//! The connection state machine by a list of operations: clients that connect, take over, publish at every QoS, acknowledge what they like
//! in any order and vanish; plugins that answer late or not at all; a store that completes when it pleases and is in trouble at times;
//! batches between shards that are on their way. Nothing panics, what is written decodes, bounds hold, what QoS 2 promises to come once
//! does, and everything comes to rest.
#![no_main]

#[path = "shard/client.rs"]
mod client;
#[path = "shard/operations.rs"]
mod operations;
#[path = "shard/packets.rs"]
mod packets;
#[path = "shard/plugins.rs"]
mod plugins;
#[path = "shard/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use operations::Operations;
use world::World;

/// What comes behind so many operations finds nothing new, and takes long.
const MAX_OPERATIONS: usize = 400;

fuzz_target!(|data: &[u8]| {
    let mut operations = Operations::of(data);
    let mut world = World::new(&mut operations);
    for _ in 0..MAX_OPERATIONS {
        if operations.are_over() {
            break;
        }
        world.carry_out(&mut operations);
    }
    world.come_to_rest();
});
