//! Lists of sessions: filters, and page tokens that survive everything but being changed.
//!
//! 1. A page token names the last session looked at, bound by a checksum to the filters it was made for.
//! 2. One call looks at no more than `ROWS_LOOKED_AT_MAX` rows: a filter that nothing fits gives an empty page with a
//!    token, not a slow answer.

use cellaflow_proto::v1;

use super::auth::Principal;
use super::context::Context;
use super::convert;
use super::status;
use crate::graph::command::{Code, Rejection};
use crate::graph::ids::{Namespace, SessionId};
use crate::graph::session::Head;
use crate::ledger::ReadError;

/// Rows of one page when the caller does not say.
const PAGE_DEFAULT: usize = 100;
/// Rows of one page.
const PAGE_MAX: usize = 1_000;
/// Rows looked at in one call, whether they fit or not.
const ROWS_LOOKED_AT_MAX: usize = 10_000;
/// First byte of a page token; another one is a token of another version.
const TOKEN_VERSION: u8 = 1;

/// What is wanted, checked.
#[derive(Clone, Debug)]
pub struct Query {
    namespace: Namespace,
    statuses: Vec<i32>,
    workflow: String,
    rows_max: usize,
    before: Option<SessionId>,
}

/// Reads a list request.
///
/// # Errors
/// `permission_denied` for another namespace, `invalid_argument` for a page size, status or token that is none.
pub fn query(caller: &Principal, request: v1::ListSessionsRequest) -> Result<Query, Rejection> {
    let namespace = caller.namespace_for(&request.namespace).map_err(|refusal| status::denied(&refusal))?;
    let rows_max = match usize::try_from(request.page_size) {
        Ok(0) => PAGE_DEFAULT,
        Ok(rows) if rows <= PAGE_MAX => rows,
        Ok(_) | Err(_) => {
            return Err(invalid(format!("page_size must be 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}")));
        }
    };
    if request
        .statuses
        .iter()
        .any(|status| !matches!(v1::SessionStatus::try_from(*status), Ok(s) if s as i32 != 0))
    {
        return Err(invalid("statuses must name states of a session".to_owned()));
    }
    let mut query =
        Query { namespace, statuses: request.statuses, workflow: request.workflow, rows_max, before: None };
    if !request.page_token.is_empty() {
        query.before = Some(query.read_token(&request.page_token)?);
    }
    Ok(query)
}

/// Reads a page.
///
/// # Errors
/// As every read.
pub fn page(context: &Context, query: &Query) -> Result<v1::ListSessionsResponse, ReadError> {
    let reader = context.ledger.reader();
    let mut sessions = Vec::new();
    let mut before = query.before;
    let mut looked_at = 0;
    loop {
        let wanted = query.rows_max - sessions.len();
        let page = reader.list(&query.namespace, before, wanted)?;
        looked_at += wanted;
        for head in page.heads.iter().filter(|head| query.fits(head)) {
            sessions.push(context.session(head)?);
        }
        before = page.next;
        let Some(last) = before else {
            return Ok(v1::ListSessionsResponse { sessions, next_page_token: String::new() });
        };
        if sessions.len() >= query.rows_max || looked_at >= ROWS_LOOKED_AT_MAX {
            return Ok(v1::ListSessionsResponse { sessions, next_page_token: query.token(last) }); // 2
        }
    }
}

impl Query {
    fn fits(&self, head: &Head) -> bool {
        let status: i32 = convert::status_to_wire(&head.status).into();
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.workflow.is_empty() || *self.workflow == *head.workflow)
    }

    fn token(&self, last: SessionId) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend(last.0);
        bytes.extend(self.checksum(last).to_be_bytes());
        hex::encode(bytes)
    }

    fn read_token(&self, token: &str) -> Result<SessionId, Rejection> {
        let refused = || {
            invalid(
                "page_token must be the next_page_token of the page before, with the same filters: start again without"
                    .to_owned(),
            )
        };
        let bytes = hex::decode(token).map_err(|_| refused())?;
        let Some((&[TOKEN_VERSION], rest)) = bytes.split_first_chunk::<1>() else { return Err(refused()) };
        let (last, checksum) = rest.split_first_chunk::<16>().ok_or_else(refused)?;
        let last = SessionId(*last);
        if checksum == self.checksum(last).to_be_bytes() { Ok(last) } else { Err(refused()) }
    }

    // 1
    fn checksum(&self, last: SessionId) -> u32 {
        let statuses: Vec<u8> = self.statuses.iter().flat_map(|status| status.to_be_bytes()).collect();
        let parts: [&[u8]; 5] =
            [&last.0, self.namespace.as_bytes(), &[0], self.workflow.as_bytes(), &statuses];
        parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

fn invalid(message: String) -> Rejection {
    Rejection { code: Code::InvalidArgument, message, retry_after_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::event::Role;
    use crate::graph::ids::TokenId;

    fn caller() -> Principal {
        Principal {
            token_id: TokenId([1; 16]),
            name: "t".into(),
            role: Role::Viewer,
            namespace: "prod".into(),
            expires_ms: None,
        }
    }

    fn request() -> v1::ListSessionsRequest {
        v1::ListSessionsRequest {
            workflow: "audit".into(),
            statuses: vec![2],
            ..v1::ListSessionsRequest::default()
        }
    }

    #[test]
    fn a_page_token_goes_on_where_it_was_made() {
        let first = query(&caller(), request()).unwrap();
        let token = first.token(SessionId([7; 16]));
        let next = query(&caller(), v1::ListSessionsRequest { page_token: token, ..request() }).unwrap();
        assert_eq!((next.before, next.rows_max), (Some(SessionId([7; 16])), PAGE_DEFAULT));
    }

    #[test]
    fn a_changed_token_or_changed_filters_are_refused_with_a_way_out() {
        let token = query(&caller(), request()).unwrap().token(SessionId([7; 16]));
        let mut spoilt =
            vec![String::from("00"), token.replacen("07", "08", 1), token.clone() + "00", "zz".into()];
        spoilt.push(token.replacen("01", "02", 1));
        for page_token in spoilt {
            let refused = query(&caller(), v1::ListSessionsRequest { page_token, ..request() }).unwrap_err();
            assert!(refused.message.ends_with("start again without"), "{}", refused.message);
        }
        let other = v1::ListSessionsRequest { page_token: token, workflow: "other".into(), ..request() };
        assert_eq!(query(&caller(), other).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn foreign_namespaces_and_senseless_filters_are_refused() {
        let foreign = v1::ListSessionsRequest { namespace: "other".into(), ..request() };
        assert_eq!(query(&caller(), foreign).unwrap_err().code, Code::PermissionDenied);
        let large = v1::ListSessionsRequest { page_size: 1_001, ..request() };
        assert!(query(&caller(), large).unwrap_err().message.contains("page_size"));
        let unknown = v1::ListSessionsRequest { statuses: vec![0], ..request() };
        assert!(query(&caller(), unknown).unwrap_err().message.contains("statuses"));
    }
}
