//! A ledger in a folder, and steps to commit to it: the core without the network.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cellaflow_engine::clock::{Clock, System};
use cellaflow_engine::graph::budget::BudgetStart;
use cellaflow_engine::graph::command::{Append, Command, LeaseRequest, Op, Start};
use cellaflow_engine::graph::event::{Format, PayloadRef, StepCompleted};
use cellaflow_engine::graph::ids::{Epoch, InstanceId, NanoDollars, SessionId};
use cellaflow_engine::ids::Mint;
use cellaflow_engine::ledger::{self, Handle, Origin, PayloadIn, Place, Submission, Threads};
use cellaflow_engine::storage::{self, LedgerId, Store};

/// The worker that holds every lease.
pub const WORKER: InstanceId = InstanceId([9; 16]);

/// A running ledger.
pub struct World {
    /// The way in.
    pub ledger: Handle,
    threads: Threads,
}

/// A session that takes steps.
pub struct Session {
    /// Its id.
    pub id: SessionId,
    place: Arc<Place>,
    steps: u64,
}

/// Opens a store on disk with the engine's defaults.
///
/// # Panics
/// If the folder cannot be used.
#[must_use]
pub fn disk(folder: &Path) -> Arc<dyn Store> {
    let settings = storage::Settings::default();
    Arc::new(storage::open(folder, &settings, LedgerId([7; 16])).expect("a new folder can be opened").store)
}

impl World {
    /// Starts the write path over a store.
    ///
    /// # Panics
    /// If the store cannot be read.
    #[must_use]
    pub fn start(store: Arc<dyn Store>) -> World {
        let clock: Arc<dyn Clock> = Arc::new(System);
        let parts = ledger::Parts {
            store,
            settings: ledger::Settings::default(),
            mint: Mint::new(Arc::clone(&clock)),
            clock,
            on_poison: Box::new(|fault| panic!("a commit failed: {fault}")),
        };
        let (ledger, threads) = ledger::start(parts).expect("a new ledger starts");
        World { ledger, threads }
    }

    /// Starts a session that this world's worker holds.
    ///
    /// # Panics
    /// If the ledger refuses.
    pub async fn session(&self) -> Session {
        let namespace = self.ledger.namespace("default").await.expect("a namespace");
        let minted = self.ledger.mint_lineage();
        let mut blobs = self.ledger.blobs(&minted.salt);
        let incarnation = self.ledger.identity().incarnation;
        let start = Start {
            session: minted.session,
            lineage: minted.lineage,
            namespace: Arc::clone(&namespace.name),
            workflow: "bench".into(),
            version: "1".into(),
            input: blobs.add(payload(Bytes::from_static(b"{}"))).expect("small"),
            key: None,
            if_ended_restart: false,
            system: false,
            lease: Some(LeaseRequest { instance: WORKER, incarnation, dead: None, evidence: Vec::new() }),
            dedupe: None,
            descent: None,
            budget: BudgetStart::default(),
            labels: Vec::new(),
            incarnation,
            timeout_ms: None,
        };
        let submission = Submission {
            command: Command::Start(start),
            blobs,
            evidence: None,
            new_lineage: Some(minted),
            origin: Origin(Some(WORKER)),
        };
        let committed = self.ledger.submit(submission).await.expect("a session starts");
        let id = committed.head.expect("it has a head").session;
        let place = self.ledger.lineage(id).expect("readable").expect("just made");
        Session { id, place, steps: 0 }
    }

    /// Makes the next step of a session as a worker's commit arrives: payload hashed, command ready for the queue.
    ///
    /// # Panics
    /// If the output is larger than a payload may be.
    pub fn step(&self, session: &mut Session, output: Bytes) -> Submission {
        session.steps += 1;
        let mut blobs = self.ledger.blobs(&session.place.salt);
        let output = blobs.add(payload(output)).expect("within limits");
        Submission {
            command: Command::Append(append(session.id, &format!("work#{}", session.steps), output)),
            blobs,
            evidence: None,
            new_lineage: None,
            origin: Origin(Some(WORKER)),
        }
    }

    /// Stops the write path; everything is at rest then.
    pub fn stop(self) {
        self.ledger.close();
        self.threads.join();
    }
}

/// A step's commit by the holder of the first lease.
#[must_use]
pub fn append(session: SessionId, key: &str, output: PayloadRef) -> Append {
    let step = StepCompleted {
        step_key: key.into(),
        name: "work".into(),
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
    };
    Append {
        session,
        epoch: Epoch(1),
        after: None,
        state_delta: None,
        conversation_delta: None,
        op: Op::StepCompleted(step),
    }
}

fn payload(bytes: Bytes) -> PayloadIn {
    PayloadIn { format: Format::Json, codec: "".into(), bytes }
}
