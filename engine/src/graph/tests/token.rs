//! Tokens (`graph::token`).

use super::story::*;
use crate::graph::command::{Code, Command};
use crate::graph::event::{Role, TokenCreated};
use crate::graph::ids::{TimeMs, TokenId};

fn create(n: u8) -> Command {
    Command::CreateToken {
        session: session(n),
        token: TokenCreated {
            token: TokenId([4; 16]),
            name: "ci".into(),
            role: Role::Worker,
            namespace: "default".into(),
            expires: Some(TimeMs(99)),
            secret_hash: digest(40),
        },
    }
}

#[test]
fn tokens_live_in_a_system_session() {
    let mut story = Story::new();
    story.ok(system(1));
    story.ok(start(2, None));
    assert_eq!(story.code(create(2)), Code::InvalidArgument); // T1
    story.ok(create(1));
    story.now = TimeMs(20_000);
    story.ok(Command::RevokeToken { session: session(1), token: TokenId([4; 16]) });
    let row = &story.model.rows.tokens[&digest(40)];
    assert_eq!((row.created, row.revoked), (TimeMs(10_000), Some(TimeMs(20_000))));
}

#[test]
fn a_system_session_is_neither_listed_nor_dispatched() {
    let mut story = Story::new();
    story.ok(system(1));
    assert!(story.model.rows.live.is_empty());
    assert!(story.model.rows.listed.is_empty());
}
