//! The core on a disk: a step from submission to answer, a frame from hand-over to sync, a page of a replay.

use std::hint::black_box;
use std::sync::Arc;

use cellaflow_bench::STEP_BYTES;
use cellaflow_bench::ledger::{World, disk};
use cellaflow_bench::values::Values;
use cellaflow_engine::graph::ids::Seq;
use cellaflow_engine::storage::{Frame, LedgerId, Memory, Op, Store, Table};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Events of the session that is read.
const EVENTS: u32 = 1_000;
/// Bytes of a page, as the worker channel reads them.
const PAGE_BYTES: usize = 256 << 10;

fn commits(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let stores: [(&str, Arc<dyn Store>); 2] =
        [("memory", Arc::new(Memory::new(LedgerId([1; 16])))), ("disk", disk(&folder.path().join("ledger")))];
    for (name, store) in stores {
        let world = World::start(store);
        let mut session = runtime.block_on(world.session());
        let mut values = Values::of(STEP_BYTES);
        criterion.bench_function(&format!("commit a step of 1 KB ({name})"), |bencher| {
            bencher.iter(|| {
                let step = world.step(&mut session, values.cut());
                runtime.block_on(world.ledger.submit(step)).expect("committed")
            });
        });
        world.stop();
    }
}

fn frames(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = disk(&folder.path().join("ledger"));
    let mut values = Values::of(STEP_BYTES);
    let mut group = criterion.benchmark_group("commit a frame");
    let mut n = 0_u64;
    for rows in [1_u64, 64] {
        group.throughput(Throughput::Elements(rows));
        group.bench_function(format!("of {rows} rows of 1 KB"), |bencher| {
            bencher.iter_batched(
                || {
                    let ops = (0..rows).map(|_| {
                        n += 1;
                        Op::put(Table::Ledger, n.to_be_bytes().to_vec(), values.cut())
                    });
                    Frame::follow(&store.position(), 0, ops.collect()).expect("sealed")
                },
                |frame| store.commit(&frame).expect("committed"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn replays(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start(disk(&folder.path().join("ledger")));
    let mut values = Values::of(STEP_BYTES);
    let session = runtime.block_on(async {
        let mut session = world.session().await;
        for _ in 0..EVENTS {
            let step = world.step(&mut session, values.cut());
            world.ledger.submit(step).await.expect("committed");
        }
        session.id
    });
    let reader = world.ledger.reader();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS.into()));
    group.bench_function("all pages of 1,000 events of 1 KB", |bencher| {
        bencher.iter(|| {
            let mut from = Seq(1);
            loop {
                let page = reader.events(session, from, PAGE_BYTES).expect("readable");
                if black_box(&page).events.is_empty() {
                    break;
                }
                from = page.next;
            }
        });
    });
    group.finish();
    world.stop();
}

criterion_group!(benches, commits, frames, replays);
criterion_main!(benches);
