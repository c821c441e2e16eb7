//! Which session a command means.
//!
//! People may write the id, its beginning or its end, or the workflow and the caller's key.

use cellaflow_proto::v1::session_ref::By;
use cellaflow_proto::v1::{self, GetSessionResponse};
use clap::Args;

use super::client::Engine;
use super::output::Failure;
use super::refusal;

/// How many sessions are looked through for a part of an id, newest first.
const SEARCHED_MAX: usize = 10_000;

/// Sessions asked for at a time.
const PAGE: u32 = 1_000;

/// A part shorter than this would fit too many.
const LETTERS_MIN: usize = 4;

/// Matches that are listed when a part fits several sessions.
const NAMED_MAX: usize = 5;

/// Names a session on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct Target {
    /// Session: its id, the beginning or end of the id if only one of the newest 10,000 sessions has it (4 letters or
    /// more), or WORKFLOW/KEY
    #[arg(value_name = "SESSION")]
    pub(super) session: String,
    /// Namespace to look in, for tokens that see all of them [default: the token's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) namespace: String,
}

/// What a name can be.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Id(String),
    Key { workflow: String, key: String },
    Part(String),
}

impl Target {
    /// Finds the session.
    ///
    /// # Errors
    /// The engine's refusal, or a failure that says why the name means no session.
    pub(super) async fn find(&self, engine: &Engine) -> Result<Found, Failure> {
        let by = match parse(&self.session)? {
            Named::Id(id) => By::SessionId(id),
            Named::Key { workflow, key } => {
                By::Key(v1::SessionKey { namespace: self.namespace.clone(), workflow, key })
            }
            Named::Part(part) => By::SessionId(self.search(engine, &part).await?),
        };
        let request = v1::GetSessionRequest { session: Some(v1::SessionRef { by: Some(by) }) };
        let answer =
            engine.sessions().get_session(request).await.map_err(|status| refusal::failure(&status))?;
        let whole = answer.into_inner();
        let session =
            whole.session.clone().ok_or_else(|| Failure::other("the engine's answer holds no session"))?;
        Ok(Found { session, whole })
    }

    async fn search(&self, engine: &Engine, part: &str) -> Result<String, Failure> {
        let mut matches = Vec::new();
        let mut searched = 0;
        let mut page_token = String::new();
        loop {
            let request = v1::ListSessionsRequest {
                namespace: self.namespace.clone(),
                page_size: PAGE,
                page_token,
                ..v1::ListSessionsRequest::default()
            };
            let answer =
                engine.sessions().list_sessions(request).await.map_err(|status| refusal::failure(&status))?;
            let page = answer.into_inner();
            searched += page.sessions.len();
            matches.extend(
                page.sessions.into_iter().map(|session| session.session_id).filter(|id| fits(id, part)),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() || searched >= SEARCHED_MAX {
                return judge(part, matches, searched);
            }
        }
    }
}

/// A session that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The session itself.
    pub(super) session: v1::Session,
    /// The engine's whole answer, with the session's result.
    pub(super) whole: GetSessionResponse,
}

fn parse(name: &str) -> Result<Named, Failure> {
    if let Some((workflow, key)) = name.split_once('/') {
        return Ok(Named::Key { workflow: workflow.to_owned(), key: key.to_owned() });
    }
    let letters = bare(name);
    let is_part = letters.bytes().all(|letter| letter.is_ascii_hexdigit());
    match (is_part, letters.len()) {
        (true, 32) => uuid::Uuid::try_parse(&letters)
            .map(|id| Named::Id(id.to_string()))
            .map_err(|_| Failure::usage(format!("{name:?} is no session id"))),
        (true, LETTERS_MIN..32) => Ok(Named::Part(letters)),
        _ => Err(Failure::usage(format!(
            "{name:?} names no session: give its id, {LETTERS_MIN} or more letters of the id's beginning or end, or \
             WORKFLOW/KEY; `cellaflow sessions list` shows them"
        ))),
    }
}

/// An id without hyphens, in small letters.
fn bare(id: &str) -> String {
    id.chars().filter(|letter| *letter != '-').map(|letter| letter.to_ascii_lowercase()).collect()
}

fn fits(id: &str, part: &str) -> bool {
    let id = bare(id);
    id.starts_with(part) || id.ends_with(part)
}

fn judge(part: &str, mut matches: Vec<String>, searched: usize) -> Result<String, Failure> {
    match (matches.pop(), matches.len()) {
        (Some(only), 0) => Ok(only),
        (Some(last), others) => {
            matches.push(last);
            let named: String = matches.iter().take(NAMED_MAX).map(|id| format!("\n  {id}")).collect();
            let more = if others >= NAMED_MAX { "\n  …" } else { "" };
            Err(Failure::other(format!(
                "{part} fits {} sessions: give more of the id\n{named}{more}",
                others + 1
            )))
        }
        (None, _) => Err(Failure::other(format!(
            "no session's id begins or ends with {part} (looked at {searched}, newest first): give the whole id, or \
             look for it with `cellaflow sessions list`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01935a2b-77f0-7abc-9def-001122334455";

    #[test]
    fn a_session_is_named_by_id_part_or_key() {
        assert_eq!(parse(ID).unwrap(), Named::Id(ID.into()));
        assert_eq!(parse(&ID.to_uppercase()).unwrap(), Named::Id(ID.into()));
        assert_eq!(parse("01935a2b-77").unwrap(), Named::Part("01935a2b77".into()));
        let key = Named::Key { workflow: "audit".into(), key: "a/b".into() };
        assert_eq!(parse("audit/a/b").unwrap(), key, "a key may hold slashes, a workflow may not");
        for wrong in ["", "abc", "session", &format!("{ID}0")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn beginning_and_end_fit_but_not_the_middle() {
        assert!(fits(ID, "01935a2b77"));
        assert!(fits(ID, "334455"));
        assert!(!fits(ID, "7abc"));
    }

    #[test]
    fn a_part_must_fit_one_session_only() {
        assert_eq!(judge("0193", vec!["a".into()], 9).unwrap(), "a");
        let several = judge("0193", vec!["a".into(), "b".into()], 9).unwrap_err();
        assert!(
            several.message.contains("2 sessions") && several.message.contains("\n  b"),
            "{}",
            several.message
        );
        let none = judge("0193", Vec::new(), 9).unwrap_err();
        assert!(none.message.contains("looked at 9"), "{}", none.message);
    }
}
