//! The ledger's promises on a store that can be held, failed and crashed.

mod guards;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::Manual;
use crate::graph::command::{Append, LeaseRequest, Op, Start};
use crate::graph::event::{Body, Format, PayloadRef, StepCompleted};
use crate::graph::ids::{Epoch, InstanceId, NanoDollars, Seq};
use crate::graph::session::Status;
use crate::ids::Mint;
use crate::storage::faulty::{Gate, Point};
use crate::storage::{LedgerId, Memory, Store};

const WORKER: InstanceId = InstanceId([9; 16]);

struct World {
    store: Arc<Memory>,
    gate: Arc<Gate>,
    ledger: Handle,
    poisoned: Arc<AtomicBool>,
    clock: Arc<Manual>,
}

fn world() -> World {
    let gate = Gate::new();
    open_world(Memory::with_gate(LedgerId([1; 16]), Arc::clone(&gate)), gate)
}

fn open_world(store: Memory, gate: Arc<Gate>) -> World {
    world_with(store, gate, Settings::default())
}

/// A ledger whose frames are committed by the decider if they are small, or always by the committer.
fn world_of(committer: By) -> World {
    let gate = Gate::new();
    let store = Memory::with_gate(LedgerId([1; 16]), Arc::clone(&gate));
    let own_frame_commands_max = match committer {
        By::Decider => usize::MAX,
        By::Committer => 0,
    };
    world_with(store, gate, Settings { own_frame_commands_max, ..Settings::default() })
}

#[derive(Clone, Copy, Debug)]
enum By {
    Decider,
    Committer,
}

fn world_with(store: Memory, gate: Arc<Gate>, settings: Settings) -> World {
    let store = Arc::new(store);
    let clock = Arc::new(Manual::at(1_700_000_000_000));
    let poisoned = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&poisoned);
    let (ledger, _threads) = start(Parts {
        store: Arc::clone(&store) as Arc<dyn Store>,
        settings,
        clock: clock.clone(),
        mint: Mint::seeded(clock.clone(), 7),
        on_poison: Box::new(move |_| flag.store(true, Ordering::SeqCst)),
    })
    .unwrap();
    World { store, gate, ledger, poisoned, clock }
}

impl World {
    async fn session(&self) -> SessionId {
        let namespace = self.ledger.namespace("default").await.unwrap();
        let minted = self.ledger.mint_lineage();
        let mut blobs = self.ledger.blobs(&minted.salt);
        let input = blobs.add(bytes(b"{}")).unwrap();
        let incarnation = self.ledger.identity().incarnation;
        let start = Start {
            session: minted.session,
            lineage: minted.lineage,
            namespace: namespace.name.clone(),
            workflow: "audit".into(),
            version: "1.0.0".into(),
            input,
            key: None,
            if_ended_restart: false,
            system: false,
            lease: Some(LeaseRequest { instance: WORKER, incarnation, dead: None, evidence: Vec::new() }),
            dedupe: None,
            descent: None,
            budget: crate::graph::budget::BudgetStart::default(),
            labels: Vec::new(),
            incarnation: Incarnation::default(),
            timeout_ms: None,
        };
        let submission = Submission {
            command: Command::Start(start),
            blobs,
            evidence: None,
            new_lineage: Some(minted),
            origin: Origin(Some(WORKER)),
        };
        self.ledger.submit(submission).await.unwrap().head.unwrap().session
    }

    fn step(&self, session: SessionId, epoch: u64, key: &str, output: &[u8]) -> Submission {
        let place = self.ledger.lineage(session).unwrap().unwrap();
        let mut blobs = self.ledger.blobs(&place.salt);
        let output = blobs.add(bytes(output)).unwrap();
        Submission {
            command: Command::Append(Append {
                session,
                epoch: Epoch(epoch),
                after: None,
                state_delta: None,
                conversation_delta: None,
                op: Op::StepCompleted(step_completed(key, output)),
            }),
            blobs,
            evidence: None,
            new_lineage: None,
            origin: Origin(Some(WORKER)),
        }
    }

    fn events(&self, session: SessionId) -> Vec<Arc<StoredEvent>> {
        let mut events = Vec::new();
        let mut from = Seq(1);
        loop {
            let page = self.ledger.reader().events(session, from, 64).unwrap();
            if page.events.is_empty() {
                return events;
            }
            from = page.next;
            events.extend(page.events);
        }
    }
}

fn bytes(content: &[u8]) -> PayloadIn {
    PayloadIn { format: Format::Json, codec: "".into(), bytes: Bytes::copy_from_slice(content) }
}

fn step_completed(key: &str, output: PayloadRef) -> StepCompleted {
    StepCompleted {
        step_key: key.into(),
        name: "step".into(),
        attempt: 1,
        input_digest: None,
        input: None,
        output,
        llm: None,
        resources: Vec::new(),
        cost: NanoDollars(0),
        duration_us: 10,
        deduplicated_from: None,
        guarded: false,
    }
}

fn incompressible(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    content
}

fn submit(
    world: &World,
    submission: Submission,
) -> tokio::sync::oneshot::Receiver<Result<Committed, Refused>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    world.ledger.submit_with(submission, Box::new(move |result| drop(sender.send(result))));
    receiver
}

#[tokio::test]
async fn a_session_starts_steps_and_reads_back_byte_equal() {
    let world = world();
    let session = world.session().await;
    let large = vec![b'x'; 700_000];
    for (key, output) in [("a#1", &b"1"[..]), ("b#1", &large)] {
        world.ledger.submit(world.step(session, 1, key, output)).await.unwrap();
    }
    let events = world.events(session);
    assert_eq!(events.iter().map(|stored| stored.event.seq.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let Body::StepCompleted(step) = &events[3].event.body else { panic!("{:?}", events[3]) };
    assert_eq!(world.ledger.reader().bytes_of(&events[3], &step.output).unwrap(), large);
    let head = world.ledger.reader().head(session).unwrap().unwrap();
    assert_eq!((head.seq, head.hash, &head.status), (Seq(4), events[3].hash, &Status::Running));
    assert_eq!(world.ledger.reader().live().unwrap(), [session]);
    assert_eq!(
        world.ledger.reader().list(&Among { namespace: "default", label: None }, None, 10).unwrap().heads[0]
            .session,
        session
    );
}

#[tokio::test]
async fn no_reply_leaves_while_the_sync_is_held_not_even_a_duplicates() {
    // L3
    for committer in [By::Decider, By::Committer] {
        no_reply_leaves(&world_of(committer)).await;
    }
}

async fn no_reply_leaves(world: &World) {
    let session = world.session().await;
    world.gate.hold(Point::Sync);
    let mut first = submit(world, world.step(session, 1, "a#1", b"1"));
    assert!(world.gate.wait_until_held());
    let mut duplicate = submit(world, world.step(session, 1, "a#1", b"1"));
    let mut rejected = submit(world, world.step(session, 7, "b#1", b"1"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(first.try_recv().is_err() && duplicate.try_recv().is_err() && rejected.try_recv().is_err());
    let reader = world.ledger.reader().clone();
    let read = tokio::task::spawn_blocking(move || reader.head(session).unwrap().unwrap().seq);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!read.is_finished(), "a reader waits for the frame in flight instead of showing it"); // L5
    world.gate.release();
    assert_eq!(read.await.unwrap(), Seq(3));
    let seq = |committed: Committed| match committed.reply {
        Reply::Appended { seq, duplicate, .. } => (seq, duplicate),
        other => panic!("{other:?}"),
    };
    assert_eq!(seq(first.await.unwrap().unwrap()), (Seq(3), false));
    assert_eq!(seq(duplicate.await.unwrap().unwrap()), (Seq(3), true));
    let Err(Refused::Rejected(rejection)) = rejected.await.unwrap() else {
        panic!("a stale epoch was let in")
    };
    assert_eq!(rejection.code, crate::graph::command::Code::Fenced);
}

#[tokio::test]
async fn a_failed_sync_answers_nobody_and_what_was_acknowledged_is_there() {
    // L4, and the store's crash: every acknowledged event, none half there.
    let committers = [By::Decider, By::Committer];
    for (point, committer) in
        [Point::Write, Point::Sync].into_iter().flat_map(|point| committers.map(|by| (point, by)))
    {
        for fail_at in 1..6 {
            let world = world_of(committer);
            let session = world.session().await;
            world.gate.fail_at(point, fail_at);
            let mut acknowledged = Vec::new();
            for n in 0..8 {
                let key = format!("s#{n}");
                match world.ledger.submit(world.step(session, 1, &key, b"1")).await {
                    Ok(_) => acknowledged.push(key),
                    Err(Refused::Closed) => break,
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(acknowledged.len() as u64, fail_at - 1, "{point:?}");
            assert!(world.poisoned.load(Ordering::SeqCst) && world.ledger.is_poisoned());
            assert!(matches!(
                world.ledger.submit(world.step(session, 1, "late", b"1")).await,
                Err(Refused::Closed)
            ));
            let gate = Gate::new();
            let after = open_world(world.store.crash().unwrap(), gate);
            let keys: Vec<String> = after
                .events(session)
                .iter()
                .filter_map(|stored| match &stored.event.body {
                    Body::StepCompleted(step) => Some(step.step_key.to_string()),
                    _ => None,
                })
                .collect();
            assert!(keys.starts_with(&acknowledged), "{point:?} {fail_at}: {keys:?} lacks {acknowledged:?}");
            assert!(keys.len() <= acknowledged.len() + 1);
            let head = after.ledger.reader().head(session).unwrap().unwrap();
            assert_eq!(head.seq.0, 2 + keys.len() as u64, "the head fits its events");
        }
    }
}

#[tokio::test]
async fn commands_queued_behind_a_held_frame_see_what_it_decided() {
    // The overlay: all of these are decided before the first of them is durable.
    let world = world_of(By::Committer);
    let session = world.session().await;
    world.gate.hold(Point::Sync);
    let blocker = submit(&world, world.step(session, 1, "first", b"0"));
    assert!(world.gate.wait_until_held());
    let waiting: Vec<_> =
        (0..50).map(|n| submit(&world, world.step(session, 1, &format!("s#{}", n / 2), b"1"))).collect();
    world.gate.release();
    blocker.await.unwrap().unwrap();
    let mut duplicates = 0;
    for answer in waiting {
        let Reply::Appended { duplicate, .. } = answer.await.unwrap().unwrap().reply else {
            panic!("not appended")
        };
        duplicates += usize::from(duplicate);
    }
    assert_eq!(duplicates, 25);
    assert_eq!(world.events(session).len(), 2 + 1 + 25);
}

/// Once a payload near the limit made a frame too large to seal: its commands were refused, but heads and overlay kept
/// what they had decided, and the next event of the session left a gap.
#[tokio::test]
async fn the_largest_payload_is_committed_with_what_was_queued_beside_it() {
    let world = world_of(By::Committer);
    let session = world.session().await;
    world.gate.hold(Point::Sync);
    let blocker = submit(&world, world.step(session, 1, "first", b"0"));
    assert!(world.gate.wait_until_held());
    let beside = submit(&world, world.step(session, 1, "beside", &incompressible(3 << 20)));
    let largest = incompressible(payload::Limits::default().payload_bytes_max);
    let largest = world.step(session, 1, "largest", &largest);
    // The decider takes what is queued into the frame it gathers; only then has the queue room for all of it.
    while world.ledger.shared.queued_bytes.load(Ordering::Acquire) > 0 {
        tokio::task::yield_now().await;
    }
    let largest = submit(&world, largest);
    world.gate.release();
    for answer in [blocker, beside, largest] {
        answer.await.unwrap().unwrap();
    }
    world.ledger.submit(world.step(session, 1, "after", b"1")).await.unwrap();
    assert_eq!(world.events(session).len(), 2 + 4); // L1
}

#[tokio::test]
async fn a_full_queue_is_refused_and_the_rest_is_answered() {
    let world = world_of(By::Committer);
    let session = world.session().await;
    world.gate.hold(Point::Sync);
    let blocker = submit(&world, world.step(session, 1, "first", b"0"));
    assert!(world.gate.wait_until_held());
    let big = incompressible(9 * 1024 * 1024);
    let answers: Vec<_> =
        (0..8).map(|n| submit(&world, world.step(session, 1, &format!("b#{n}"), &big))).collect();
    world.gate.release();
    blocker.await.unwrap().unwrap();
    let mut refused = 0;
    for answer in answers {
        match answer.await.unwrap() {
            Ok(_) => {}
            Err(Refused::Overloaded { retry_after_ms }) => refused += usize::from(retry_after_ms > 0),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..8).contains(&refused), "{refused} refused");
}

#[tokio::test]
async fn waiters_wake_when_a_session_changes() {
    let world = world();
    let session = world.session().await;
    let reader = world.ledger.reader().clone();
    let waiter = tokio::spawn(async move { reader.changed(session, Seq(2)).await });
    tokio::task::yield_now().await;
    world.ledger.submit(world.step(session, 1, "a#1", b"1")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), waiter).await.unwrap().unwrap();
}

#[derive(Default)]
struct Figures(parking_lot::Mutex<(usize, usize, Vec<&'static str>)>);

impl Observer for Figures {
    fn committed(&self, committed: &CommittedEvents) {
        self.0.lock().1 += committed.events.len();
    }

    fn frame(&self, figures: &FrameFigures) {
        assert!(figures.commands > 0 && figures.bytes > 0);
        self.0.lock().0 += 1;
    }

    fn rejected(&self, code: Code) {
        self.0.lock().2.push(code.as_str());
    }
}

#[tokio::test]
async fn observers_learn_of_frames_events_and_rejections() {
    let world = world();
    let session = world.session().await;
    let figures = Arc::new(Figures::default());
    world.ledger.observe(figures.clone());
    world.ledger.submit(world.step(session, 1, "a#1", b"1")).await.unwrap();
    world.ledger.submit(world.step(session, 1, "a#1", b"1")).await.unwrap(); // a duplicate makes no frame
    world.ledger.submit(world.step(session, 9, "b#1", b"1")).await.unwrap_err();
    let seen = figures.0.lock();
    assert_eq!((seen.0, seen.1, seen.2.as_slice()), (1, 1, &["fenced"][..]));
}
