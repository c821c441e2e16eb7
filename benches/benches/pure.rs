//! What the core does for one step without a disk: decide, evolve, encode, hash, keys.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use cellaflow_bench::STEP_BYTES;
use cellaflow_bench::ledger::{World, append};
use cellaflow_bench::values::Values;
use cellaflow_engine::graph::archive::ArchiveRow;
use cellaflow_engine::graph::budget::BudgetRow;
use cellaflow_engine::graph::command::{Command, Op as Asked};
use cellaflow_engine::graph::context::ContextRow;
use cellaflow_engine::graph::decide::{View, decide};
use cellaflow_engine::graph::event::Event;
use cellaflow_engine::graph::evolve::evolve;
use cellaflow_engine::graph::ids::{Digest, FrameNumber, Hash, LineageId, SessionId, TimeMs};
use cellaflow_engine::graph::session::{GuardOutcome, GuardRow, Head, KeyRow, SignalRow, StepRow};
use cellaflow_engine::graph::version::WorkflowRow;
use cellaflow_engine::ledger::Committed;
use cellaflow_engine::storage::heads::{Row as _, StoredHead};
use cellaflow_engine::storage::keys::{Item, LedgerKey, RowKey, Segment};
use cellaflow_engine::storage::{Frame, LedgerId, Memory, Op, Table, codec, events};
use criterion::{Criterion, criterion_group, criterion_main};

/// A session's head and nothing else: a step that nobody has recorded.
struct Fresh(Arc<Head>);

impl View for Fresh {
    fn head(&self, _: SessionId) -> Option<Arc<Head>> {
        Some(Arc::clone(&self.0))
    }
    fn step(&self, _: SessionId, _: &str) -> Option<StepRow> {
        None
    }
    fn guard(&self, _: &Digest) -> Option<GuardRow> {
        None
    }
    fn guard_outcome(&self, _: &GuardRow) -> Option<GuardOutcome> {
        None
    }
    fn signal(&self, _: SessionId, _: &str) -> Option<SignalRow> {
        None
    }
    fn session_key(&self, _: &Digest) -> Option<KeyRow> {
        None
    }
    fn budget(&self, _: SessionId) -> Option<BudgetRow> {
        None
    }
    fn workflow(&self, _: &str, _: &str, _: &str) -> Option<WorkflowRow> {
        None
    }
    fn archive(&self, _: LineageId) -> Option<ArchiveRow> {
        None
    }
    fn context(&self, _: SessionId) -> Option<ContextRow> {
        None
    }
}

/// A session after one step of 1 KB: its head, the step's event and its output's bytes.
struct Given {
    head: Arc<Head>,
    event: Event,
    inline: Vec<Bytes>,
    hash: Hash,
}

fn given() -> Given {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::start(Arc::new(Memory::new(LedgerId([1; 16]))));
        let mut session = world.session().await;
        let step = world.step(&mut session, Values::of(STEP_BYTES).cut());
        let Committed { head, events, .. } = world.ledger.submit(step).await.expect("committed");
        let stored = &events[0];
        let given = Given {
            head: head.expect("it has a head"),
            event: stored.event.clone(),
            inline: stored.inline.clone(),
            hash: stored.hash,
        };
        world.stop();
        given
    })
}

fn decisions(criterion: &mut Criterion) {
    let given = given();
    let view = Fresh(Arc::clone(&given.head));
    let output = given.event.payloads()[0].clone();
    let command = Command::Append(append(given.head.session, "work#2", output));
    assert!(matches!(&command, Command::Append(sent) if matches!(sent.op, Asked::StepCompleted(_))));
    let now = TimeMs(given.head.time.0 + 1);
    criterion.bench_function("decide a step", |bencher| {
        bencher.iter(|| decide(black_box(&view), black_box(&command), now).expect("accepted"));
    });
    let next = decide(&view, &command, now).expect("accepted").events.remove(0);
    criterion.bench_function("evolve by a step", |bencher| {
        bencher.iter(|| evolve(Some(black_box(&given.head)), black_box(&next), given.hash).expect("it fits"));
    });
}

fn encodings(criterion: &mut Criterion) {
    let given = given();
    let record = events::encode(&given.event, &given.inline).expect("encoded");
    let mut group = criterion.benchmark_group("codec");
    group.bench_function("encode an event of 1 KB", |bencher| {
        bencher.iter(|| events::encode(black_box(&given.event), black_box(&given.inline)).expect("encoded"));
    });
    group.bench_function("decode it", |bencher| {
        bencher.iter(|| events::decode(black_box(&record.bytes)).expect("decoded"));
    });
    group.bench_function("chain it", |bencher| {
        let header = record.header_bytes();
        bencher.iter(|| events::chain(given.hash, black_box(&header)));
    });
    group.bench_function("seal its row (CRC32C)", |bencher| {
        bencher.iter(|| codec::seal(codec::Format::Event, black_box(&record.bytes)));
    });
    let stored = StoredHead { head: Head::clone(&given.head), segment: Segment(20_000) };
    let row = stored.to_bytes();
    group.bench_function("encode a head", |bencher| bencher.iter(|| black_box(&stored).to_bytes()));
    group.bench_function("decode a head", |bencher| {
        bencher.iter(|| StoredHead::from_bytes(black_box(&row)).expect("decoded"));
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let given = given();
    let (session, lineage) = (given.head.session, given.head.lineage);
    let mut group = criterion.benchmark_group("keys");
    group.bench_function("of an event", |bencher| {
        let item = || Item::Event { session, seq: given.event.seq };
        bencher.iter(|| LedgerKey::new(Segment(20_000), black_box(lineage), item()).bytes());
    });
    group.bench_function("of a head", |bencher| bencher.iter(|| RowKey::Head(black_box(session)).bytes()));
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut values = Values::of(STEP_BYTES);
    let mut group = criterion.benchmark_group("seal a frame");
    for rows in [3_u64, 3 * 64] {
        let ops: Vec<Op> =
            (0..rows).map(|n| Op::put(Table::Ledger, n.to_be_bytes().to_vec(), values.cut())).collect();
        group.bench_function(format!("of {rows} rows of 1 KB"), |bencher| {
            bencher.iter(|| {
                Frame::seal(FrameNumber(1), Hash([0; 32]), 0, black_box(ops.clone())).expect("sealed")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, encodings, keys, frames);
criterion_main!(benches);
