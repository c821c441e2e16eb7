//! The core beside raw RocksDB: the same puts, in frames of the same size, in turns.
//!
//! B1. Callers wait for each answer before they commit again: so many steps are under way as there are callers.
//! B2. Raw RocksDB gets, for each step, puts of the sizes that the core makes for one, as many steps in a batch as there
//!     are callers: the best that a group commit could come to.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellaflow_engine::storage::{Store, Table};
use serde::Serialize;

use crate::ledger::{World, disk};
use crate::raw::Raw;
use crate::shape::{Put, Watched};
use crate::values::Values;
use crate::{Mode, STEP_BYTES, median};

/// The core and raw RocksDB with so many callers; medians over rounds.
#[derive(Debug, Serialize)]
pub struct Beside {
    /// Callers at a time.
    pub callers: usize,
    /// Steps per second that the core commits.
    pub core_per_s: f64,
    /// Steps per second that raw RocksDB takes.
    pub raw_per_s: f64,
    /// The core's share, round by round.
    pub ratio: f64,
    /// Puts of a step, and the bytes of their keys and values.
    pub puts: (usize, usize),
}

/// Sessions that the callers of one round commit to; as many as ever call at once.
const CALLERS: [usize; 3] = [1, 8, 64];

/// Measures all numbers of callers.
///
/// # Panics
/// If a ledger or database fails.
#[must_use]
pub fn measure(folder: &Path, mode: Mode) -> Vec<Beside> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    CALLERS.iter().map(|&callers| runtime.block_on(beside(folder, callers, mode))).collect()
}

async fn beside(folder: &Path, callers: usize, mode: Mode) -> Beside {
    let (rounds, each) = mode.pick(
        (9, Duration::from_secs(1)),
        (3, Duration::from_millis(500)),
        (1, Duration::from_millis(50)),
    );
    let watched = Watched::new(disk(&folder.join(format!("core-{callers}"))));
    let world = Arc::new(World::start(Arc::clone(&watched) as Arc<dyn Store>));
    let puts = shape(&world, &watched).await;
    let mut raw = Raw::open(&folder.join(format!("raw-{callers}")), 2 * STEP_BYTES);
    let mut figures = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let core_per_s = core(&world, callers, each).await;
        let raw_per_s = tokio::task::block_in_place(|| raw_rate(&mut raw, &puts, callers, each));
        figures.0.push(core_per_s);
        figures.1.push(raw_per_s);
        figures.2.push(core_per_s / raw_per_s);
    }
    let world = Arc::into_inner(world).expect("all callers have ended");
    tokio::task::block_in_place(|| world.stop());
    let bytes = puts.iter().map(|put| put.key + put.value).sum();
    Beside {
        callers,
        core_per_s: median(&mut figures.0),
        raw_per_s: median(&mut figures.1),
        ratio: median(&mut figures.2),
        puts: (puts.len(), bytes),
    }
}

/// The puts of one step, as the core makes them when a single caller commits.
async fn shape(world: &World, watched: &Watched) -> Vec<Put> {
    let mut session = world.session().await;
    let mut values = Values::of(STEP_BYTES);
    for _ in 0..10 {
        let step = world.step(&mut session, values.cut());
        world.ledger.submit(step).await.expect("a step is committed");
    }
    watched.last()
}

async fn core(world: &Arc<World>, callers: usize, each: Duration) -> f64 {
    let mut sessions = Vec::new();
    for _ in 0..callers {
        sessions.push(world.session().await);
    }
    let started = Instant::now();
    let mut running = Vec::new();
    for mut session in sessions {
        let world = Arc::clone(world);
        running.push(tokio::spawn(async move {
            let mut values = Values::of(STEP_BYTES);
            let mut steps = 0_u32;
            while started.elapsed() < each {
                let step = world.step(&mut session, values.cut());
                world.ledger.submit(step).await.expect("a step is committed");
                steps += 1;
            }
            steps
        }));
    }
    let mut steps = 0;
    for caller in running {
        steps += caller.await.expect("a caller ends");
    }
    f64::from(steps) / started.elapsed().as_secs_f64()
}

fn raw_rate(raw: &mut Raw, puts: &[Put], callers: usize, each: Duration) -> f64 {
    let started = Instant::now();
    let mut steps = 0_u32;
    while started.elapsed() < each {
        raw.write(puts, callers);
        // The store's own row says where the ledger stands; raw RocksDB needs none.
        steps += u32::try_from(callers).expect("few");
    }
    f64::from(steps) / started.elapsed().as_secs_f64()
}

/// A single put of a step's output, for comparison with figures that are published elsewhere.
#[must_use]
pub fn one_put(bytes: usize) -> [Put; 1] {
    [Put { table: Table::Ledger, key: 16, value: bytes }]
}
