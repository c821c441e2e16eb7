//! Allocations on the hot path: how many, and how many bytes, one committed step makes from its command to its answer.
//!
//! In memory, one caller: what RocksDB allocates is C++ and not seen here. Prints one line of JSON.

use std::sync::Arc;

use cellaflow_bench::STEP_BYTES;
use cellaflow_bench::ledger::World;
use cellaflow_bench::values::Values;
use cellaflow_engine::storage::{LedgerId, Memory};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

const STEPS: u32 = 1_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let world = World::start(Arc::new(Memory::new(LedgerId([1; 16]))));
    let mut session = runtime.block_on(world.session());
    let mut values = Values::of(STEP_BYTES);
    let mut commit = || {
        let step = world.step(&mut session, values.cut());
        runtime.block_on(world.ledger.submit(step)).expect("committed");
    };
    commit(); // what is made once is made here
    let profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get();
    (0..STEPS).for_each(|_| commit());
    let after = dhat::HeapStats::get();
    let each = |total: u64| total as f64 / f64::from(STEPS);
    println!(
        r#"{{"allocations_per_step":{:.1},"allocated_bytes_per_step":{:.0}}}"#,
        each(after.total_blocks - before.total_blocks),
        each(after.total_bytes - before.total_bytes),
    );
    drop(profiler);
    world.stop();
}
