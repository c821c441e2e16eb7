//! Lists of sessions: filters, and page tokens that survive everything but being changed.
//!
//! 1. A page token names the last session looked at, bound by a checksum to the filters it was made for.
//! 2. One call looks at no more than `ROWS_LOOKED_AT_MAX` rows: a filter that nothing fits gives an empty page with a
//!    token, not a slow answer.

use std::collections::BTreeMap;

use cellaflow_proto::v1;
use prost::Message as _;

use super::auth::Principal;
use super::context::Context;
use super::convert;
use super::status;
use crate::graph::command::{Code, Rejection};
use crate::graph::ids::{Namespace, SessionId};
use crate::graph::session::Head;
use crate::ledger::{Among, ReadError};

/// Rows of one page when the caller does not say.
const PAGE_DEFAULT: usize = 100;
/// Rows of one page.
const PAGE_MAX: usize = 1_000;
/// Rows looked at in one call, whether they fit or not.
const ROWS_LOOKED_AT_MAX: usize = 10_000;
/// Longest time between the minting of a session's id and its start in ms, a full queue included.
const MINTED_BEFORE_MS_MAX: u64 = 60_000;
/// First byte of a page token; another one is a token of another version.
const TOKEN_VERSION: u8 = 1;

/// What is wanted, checked.
#[derive(Clone, Debug)]
pub struct Query {
    namespace: Namespace,
    statuses: Vec<i32>,
    workflow: String,
    filter: v1::SessionFilter,
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
    let filter = v1::SessionFilter { namespace: String::new(), ..request.filter.unwrap_or_default() };
    let mut query = Query {
        namespace,
        statuses: request.statuses,
        workflow: request.workflow,
        filter,
        rows_max,
        before: None,
    };
    query.before = match request.page_token.as_str() {
        "" => query.newest(),
        token => Some(query.read_token(token)?),
    };
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
        let page = reader.list(&query.among(), before, wanted)?;
        looked_at += wanted;
        for head in page.heads.iter().filter(|head| query.fits(head, context)) {
            sessions.push(context.session(head)?);
        }
        // Newest first: what follows is older still.
        let over = page.heads.last().is_some_and(|last| query.is_before_all(last));
        before = page.next.filter(|_| !over);
        let Some(last) = before else {
            return Ok(v1::ListSessionsResponse { sessions, next_page_token: String::new() });
        };
        if sessions.len() >= query.rows_max || looked_at >= ROWS_LOOKED_AT_MAX {
            return Ok(v1::ListSessionsResponse { sessions, next_page_token: query.token(last) }); // 2
        }
    }
}

impl Query {
    fn fits(&self, head: &Head, context: &Context) -> bool {
        let status: i32 = convert::status_to_wire(&head.status).into();
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.workflow.is_empty() || *self.workflow == *head.workflow)
            && (!self.filter.held || head.is_held(context.ledger.identity().incarnation))
            && convert::filter_fits(&self.filter, head)
    }

    /// What an index tells: of several labels the first is looked up, the others are compared.
    fn among(&self) -> Among<'_> {
        let label = self.filter.labels.iter().min().map(|(key, value)| (key.as_str(), value.as_str()));
        Among { namespace: &self.namespace, label }
    }

    /// Where to begin so that nothing newer than the filter allows is looked at: ids sort by time.
    fn newest(&self) -> Option<SessionId> {
        let before_ms = self.filter.started_before_ms;
        let [_, _, time @ ..] = before_ms.to_be_bytes();
        let mut id = [0; 16];
        id.iter_mut().zip(time).for_each(|(to, byte)| *to = byte);
        (before_ms > 0).then_some(SessionId(id))
    }

    /// True if a session began so long before the filter's time that no older one can fit. Ids are minted before sessions
    /// start, so their times may differ a little.
    fn is_before_all(&self, head: &Head) -> bool {
        head.started.0.saturating_add(MINTED_BEFORE_MS_MAX) < self.filter.started_after_ms
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
        // A map's order in a message is no order: labels are written sorted.
        let mut filter = self.filter.clone();
        let labels: BTreeMap<String, String> = filter.labels.drain().collect();
        let filter = [filter.encode_to_vec(), format!("{labels:?}").into_bytes()].concat();
        let parts: [&[u8]; 6] =
            [&last.0, self.namespace.as_bytes(), &[0], self.workflow.as_bytes(), &statuses, &filter];
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
