//! `cellaflow approvals …`: what sessions ask before they make a call, and the answer.

mod decide;
mod list;

use cellaflow_proto::v1;
use clap::Subcommand;

use super::client::Engine;
use super::feed::{Feed, Item, Wanted};
use super::output::Failure;
use super::refusal;

#[derive(Subcommand)]
pub(super) enum Approvals {
    /// Lists the approvals that sessions wait for, with the call each is for
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Lets a session make the call it asks about
    #[command(after_help = decide::EXAMPLES)]
    Approve(decide::Decide),
    /// Forbids the call
    #[command(after_help = decide::EXAMPLES)]
    Reject(decide::Decide),
}

impl Approvals {
    pub(super) fn run(self) -> Result<String, Failure> {
        match self {
            Self::List(command) => command.run(),
            Self::Approve(command) => command.run(v1::ApprovalDecision::Approved),
            Self::Reject(command) => command.run(v1::ApprovalDecision::Rejected),
        }
    }
}

/// The open approvals of a session, oldest first.
fn open(session: &v1::Session) -> impl Iterator<Item = &v1::Wait> {
    session.waits.iter().filter(|wait| wait.kind() == v1::WaitKind::Approval)
}

/// The call that an approval is for.
async fn call(engine: &Engine, session_id: &str, wait: &v1::Wait) -> Result<Option<v1::Payload>, Failure> {
    let wanted = Wanted {
        session_id: session_id.to_owned(),
        from_seq: wait.seq,
        until_caught_up: true,
        headers_only: false,
        tokens: None,
    };
    let failed = |status: tonic::Status| refusal::failure(&status);
    let mut feed = Feed::open(engine, wanted).await.map_err(failed)?;
    match feed.next().await.map_err(failed)? {
        Item::Event(event) => Ok(match event.body {
            Some(v1::event::Body::ApprovalRequested(request)) => request.call,
            Some(_) | None => None,
        }),
        Item::Tokens(_) | Item::Reset(_) | Item::CaughtUp | Item::End(_) | Item::Cut => Ok(None),
    }
}
