//! kill -9 of the engine at any moment: between a spawn and the child's start, between a child's end and its report,
//! between a continuation and the successor's start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cellaflow_proto::v1::append::Op;
use cellaflow_proto::v1::event::Body;
use cellaflow_proto::v1::{ListSessionsRequest, SessionStatus};

use tokio::sync::Notify;

use cellaflow_tests::channel::Answered;

use super::super::*;

/// Children that the parent spawns.
const CHILDREN: usize = 32;
/// How often each child continues itself.
const CONTINUATIONS: u64 = 4;
/// Commits after which the engine is killed at the latest, a few more on their way included. Whatever the machine's
/// speed, the tree's 193 commits then take more kills than [`KILLS_MIN`].
const COMMITS_MAX: u64 = 12;
/// Kills without which the test has shown nothing.
const KILLS_MIN: u32 = 10;

/// What a worker does with whatever it is given, as far as it gets: every append is sent again after a loss.
struct Robot {
    worker: Worker,
    client: Client,
    /// Commits that it may still begin before [`Robot::spent`] says so.
    left: AtomicU64,
    spent: Notify,
}

impl Robot {
    async fn connect(client: &Client, instance: &str, commits: u64) -> Self {
        let serves = vec![("test", "1"), (CHILD, "1")];
        let instance = instance.to_owned();
        let introduction = Introduction { instance, serves, capacity: 64, ..Introduction::default() };
        let worker = Worker::introduce(client, introduction).await;
        Self { worker, client: client.clone(), left: AtomicU64::new(commits), spent: Notify::new() }
    }

    async fn commit(&self, given: &Assigned, op: Op) -> Answered<v1::Ack> {
        let answered = self.worker.commit(given, op).await;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.spent.notify_one();
        }
        answered
    }

    /// Returns when its commits are used up, and a moment more: the engine is then at some errand of its own.
    async fn spent(&self, more: Duration) {
        self.spent.notified().await;
        tokio::time::sleep(more).await;
    }

    /// Goes on with what it held before the engine was killed, then runs what is dispatched until the stream ends.
    async fn run(&self) {
        for session in self.held().await {
            if let Ok(given) = self.worker.attach(&session.session_id, session.epoch).await {
                self.go_on(&given).await;
            }
        }
        while let Some(given) = self.worker.dispatched_later().await {
            self.go_on(&given).await;
        }
    }

    async fn held(&self) -> Vec<v1::Session> {
        let statuses = vec![SessionStatus::Running.into()];
        let request = ListSessionsRequest { statuses, page_size: 1_000, ..ListSessionsRequest::default() };
        let listed = self.client.sessions().list_sessions(request).await;
        let sessions = listed.map(|answer| answer.into_inner().sessions).unwrap_or_default();
        sessions.into_iter().filter(|session| session.instance == self.worker.instance).collect()
    }

    async fn go_on(&self, given: &Assigned) {
        let session = given.session.as_ref().unwrap();
        match &*session.workflow {
            _ if given.epoch == 0 => {}
            CHILD => self.child(given).await,
            _ => self.parent(given).await,
        }
    }

    /// A child continues itself a few times, then completes. It has no key, so it counts by its input.
    async fn child(&self, given: &Assigned) {
        self.worker.events_to(id(given), given.replay_to_seq).await;
        let round = match &self.worker.events(id(given))[0].body {
            Some(Body::SessionStarted(started)) => {
                String::from_utf8(payload::data(started.input.as_ref().unwrap()).to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        };
        let round: u64 = round.parse().unwrap();
        let op = match round < CONTINUATIONS {
            true => continue_as(&(round + 1).to_string()),
            false => session_completed(payload::literal("\"done\"")),
        };
        // Lost: the engine was killed.
        let _lost = self.commit(given, op).await.is_err();
    }

    /// The parent spawns what it has not spawned yet and waits, or completes once all have ended.
    async fn parent(&self, given: &Assigned) {
        let seen = self.worker.events_to(id(given), given.replay_to_seq).await;
        let count = |kind: &str| seen.iter().filter(|event| events::kind(event) == kind).count();
        let mut last = given.replay_to_seq;
        for n in count("child_spawned")..CHILDREN {
            match self.commit(given, spawn(&format!("c{n}"), "0", false)).await {
                Ok(ack) => last = last.max(ack.seq),
                Err(_) => return,
            }
        }
        if count("child_ended") == CHILDREN {
            let _lost = self.commit(given, session_completed(payload::literal("1"))).await.is_err();
            return;
        }
        // More may have come: then it is refused, and what came is looked at.
        while self.worker.release_waiting(id(given), given.epoch, last).await.is_err() {
            let seen = self.worker.events(id(given));
            let newest = seen.last().map_or(0, |event| event.seq);
            let ended = seen.iter().filter(|event| events::kind(event) == "child_ended").count();
            if ended == CHILDREN {
                let _lost = self.commit(given, session_completed(payload::literal("1"))).await.is_err();
                return;
            }
            if self.worker.has_ended().is_some() {
                return;
            }
            last = last.max(newest);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_done(&self, parent: &str) -> bool {
        let request = v1::GetSessionRequest { session: by_id(parent) };
        let answer = self.client.sessions().get_session(request).await;
        answer.is_ok_and(|answer| answer.into_inner().session.unwrap().status() == SessionStatus::Completed)
    }
}

// T1, T2, H1, H2, N2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_spawn_has_one_child_and_one_end_wherever_the_engine_is_killed() {
    let mut engine = Engine::quick().await;
    let client = engine.client().await;
    let parent = client.engine().start_session(start("tree")).await.unwrap().into_inner().session.unwrap();
    let parent = parent.session_id;
    let mut kills = 0_u32;
    let instance = cellaflow_tests::channel::instance();
    for round in 0_u64.. {
        assert!(round < 300, "the tree does not come to its end");
        let client = engine.client().await;
        let robot = Robot::connect(&client, &instance, 1 + (round * 7) % COMMITS_MAX).await;
        // From a few milliseconds after the start, where errands are looked for, to well into the work.
        let alive_ms = 2 + (round * 7_919) % 61;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(alive_ms)) => {}
            () = robot.spent(Duration::from_micros((round * 317) % 2_000)) => {}
            () = robot.run() => {}
        }
        if robot.is_done(&parent).await {
            break;
        }
        engine.kill_and_restart().await;
        kills += 1;
    }
    assert!(kills >= KILLS_MIN, "it was over before the engine was killed often enough");
    let client = engine.client().await;
    let all = events::all(&client, &parent).await;
    let spawned: Vec<String> = all
        .iter()
        .filter_map(|event| match &event.body {
            Some(Body::ChildSpawned(child)) => Some(child.child_id.clone()),
            _ => None,
        })
        .collect();
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for event in &all {
        if let Some(Body::ChildEnded(end)) = &event.body {
            assert_eq!(end.status(), SessionStatus::Completed);
            let again = ends.insert(end.child_id.clone(), end.ended_id.clone());
            assert_eq!(again, None, "one end per child");
        }
    }
    assert_eq!((spawned.len(), ends.len()), (CHILDREN, CHILDREN));
    assert_eq!(sessions_of_the_tree(&client).await, CHILDREN * usize::try_from(1 + CONTINUATIONS).unwrap());
    for child in spawned {
        let last = chain(&client, &child).await;
        assert_eq!(Some(&last), ends.get(&child));
    }
    client.verify().await;
}

/// Follows a child to its last successor: each has one predecessor and the same parent.
async fn chain(client: &Client, child: &str) -> String {
    let mut session = client.session(child).await;
    let mut length = 0;
    while !session.continued_to.is_empty() {
        let next = client.session(&session.continued_to).await;
        assert_eq!((&next.continued_from, &next.parent_id), (&session.session_id, &session.parent_id));
        session = next;
        length += 1;
    }
    assert_eq!(length, CONTINUATIONS);
    session.session_id
}

async fn sessions_of_the_tree(client: &Client) -> usize {
    let request =
        ListSessionsRequest { workflow: CHILD.into(), page_size: 1_000, ..ListSessionsRequest::default() };
    let sessions = client.sessions().list_sessions(request).await.unwrap().into_inner().sessions;
    sessions.len()
}
