//! What `evolve` refuses as a contradiction (`graph::evolve`).

use super::story::*;
use crate::graph::event::{Author, Body, Event, GuardPolicy, GuardResolved, LeaseGranted, Resolution};
use crate::graph::evolve::evolve;
use crate::graph::ids::{Epoch, Hash, Incarnation, Seq, TimeMs, TokenId};

/// Folds `body` after everything that happened in the story.
fn after(story: &Story, author: Author, body: Body) -> Result<(), String> {
    let head = story.head();
    let event = Event {
        seq: head.seq.next(),
        time: head.time,
        author,
        after: None,
        state_delta: None,
        conversation_delta: None,
        body,
    };
    let folded = evolve(Some(&head), &event, Hash::default());
    folded.map(|_| ()).map_err(|corrupt| corrupt.problem)
}

#[track_caller]
fn contradicts(story: &Story, author: Author, body: Body, word: &str) {
    let problem = after(story, author, body).unwrap_err();
    assert!(problem.contains(word), "{problem}");
}

fn ended() -> Body {
    Body::SessionCompleted { output: payload(1) }
}

fn grant(epoch: u64, takeover: bool) -> Body {
    Body::LeaseGranted(LeaseGranted {
        epoch: Epoch(epoch),
        instance: B,
        takeover,
        incarnation: Incarnation([9; 16]),
    })
}

#[test]
fn seqs_have_no_gap_and_time_never_goes_back() {
    let story = Story::running();
    let head = story.head();
    let good = story.model.log(story.session).pop().unwrap();
    let next = |seq, time| Event {
        seq: Seq(seq),
        time: TimeMs(time),
        author: Author::Driver,
        body: grant(2, true),
        ..good.clone()
    };
    let fold = |event| evolve(Some(&head), &event, Hash::default());
    assert!(fold(next(3, head.time.0)).is_ok());
    assert_eq!(fold(next(4, head.time.0)).unwrap_err().seq, Seq(4)); // V2
    assert!(fold(next(2, head.time.0)).is_err());
    assert!(fold(next(3, head.time.0 - 1)).is_err());
    assert!(evolve(None, &next(1, 1), Hash::default()).is_err());
}

#[test]
fn the_hash_given_is_the_heads() {
    let mut story = Story::new();
    let event = story.ok(start(1, None)).events.remove(0);
    let hash = Hash([5; 32]);
    assert_eq!(evolve(None, &event, hash).unwrap().hash, hash);
}

#[test]
fn nothing_follows_an_end() {
    let mut story = Story::running();
    story.run(complete(9));
    contradicts(&story, Author::Driver, ended(), "ended"); // V2
}

#[test]
fn epochs_follow_each_other_and_workers_hold_theirs() {
    let mut story = Story::running();
    contradicts(&story, Author::Driver, grant(3, true), "epoch 3"); // V3
    contradicts(&story, Author::Driver, grant(2, false), "takeover");
    contradicts(&story, Author::Worker(Epoch(2)), ended(), "epoch 2");
    story.ok(release(story.session, 1));
    contradicts(&story, Author::Worker(Epoch(1)), ended(), "free"); // V3
    contradicts(&story, Author::Driver, grant(2, true), "takeover");
    assert_eq!(after(&story, Author::Driver, grant(2, false)), Ok(()));
}

#[test]
fn outcomes_close_what_is_open() {
    let mut story = Story::running();
    let resolved = |attempt| {
        Body::GuardResolved(GuardResolved {
            step_key: "m".into(),
            attempt,
            resolution: Resolution::Retry,
            by: "policy".into(),
        })
    };
    contradicts(&story, Author::Driver, resolved(1), "no intent"); // V4
    story.run(intent("m", 1, GuardPolicy::Pause));
    contradicts(&story, Author::Driver, resolved(2), "no intent");
    contradicts(&story, Author::Driver, ended(), "unknown");
    assert_eq!(after(&story, Author::Driver, resolved(1)), Ok(()));
    story.run(entered("z", 1));
    story.run(not_applied("m", 1));
    contradicts(&story, Author::Driver, resolved(1), "in flight");
    contradicts(&story, Author::Driver, ended(), "zone");
}

#[test]
fn a_token_needs_a_system_session() {
    let story = Story::running();
    let token = TokenId([1; 16]);
    contradicts(&story, Author::Driver, Body::TokenRevoked { token }, "system");
}
