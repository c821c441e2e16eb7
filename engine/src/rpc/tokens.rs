//! Tokens made at run time: created, listed and revoked as events of their namespace's system session.

use cellaflow_proto::v1;

use super::auth::{EVERY_NAMESPACE, Principal, Refusal};
use super::context::{Context, not_found};
use super::convert;
use super::status;
use crate::graph::command::{Code, Command, Rejection};
use crate::graph::event::{Role, TokenCreated};
use crate::graph::ids::{Digest, Namespace, TimeMs, TokenId};
use crate::graph::session::TokenRow;
use crate::ids::token_hash;
use crate::ledger::{Origin, ReadError, Refused, Submission};

/// Creates a token and answers its secret, which nobody can read again.
///
/// # Errors
/// `permission_denied` for a namespace or role that the caller may not give, `invalid_argument`.
pub async fn create(
    context: &Context,
    caller: &Principal,
    request: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenResponse, Refused> {
    let role = convert::role_from_wire(request.role)
        .ok_or_else(|| invalid("role must be worker, client, compactor, viewer or admin"))?;
    let namespace = grantable(caller, &request.namespace, role).map_err(Refused::Rejected)?;
    let now = TimeMs(context.clock.wall_ms());
    let secret = context.mint.token();
    let token = TokenCreated {
        token: context.mint.token_id(),
        name: convert::token_name(request.name).map_err(Refused::Rejected)?,
        role,
        namespace,
        expires: (request.ttl_ms != 0).then(|| now.plus(request.ttl_ms)),
        secret_hash: Digest(token_hash(&secret)),
    };
    let created = row(&token, now);
    let session = context.ledger.namespace(&token.namespace).await?.system;
    submit(context, session, Command::CreateToken { session, token }).await?;
    Ok(v1::CreateTokenResponse { token: Some(shown(&created)), secret })
}

/// The namespace a caller may give a token of this role; only an admin of all may give all, and only to admins.
fn grantable(caller: &Principal, requested: &str, role: Role) -> Result<Namespace, Rejection> {
    if requested != EVERY_NAMESPACE {
        return caller.namespace_for(requested).map_err(|refusal| status::denied(&refusal));
    }
    if !caller.sees(EVERY_NAMESPACE) {
        return Err(status::denied(&Refusal::Namespace { own: Namespace::clone(&caller.namespace) }));
    }
    if role != Role::Admin {
        let message = "namespace must be one namespace: only an admin token may see all of them";
        return Err(Rejection {
            code: Code::InvalidArgument,
            message: message.to_owned(),
            retry_after_ms: None,
        });
    }
    Ok(requested.into())
}

/// Lists the tokens that the caller may manage; without `all` those that still work.
///
/// # Errors
/// As every read.
pub fn list(context: &Context, caller: &Principal, all: bool) -> Result<Vec<v1::Token>, ReadError> {
    let now = TimeMs(context.clock.wall_ms());
    let works = |row: &TokenRow| row.revoked.is_none() && row.expires.is_none_or(|at| at > now);
    let rows = context.ledger.reader().tokens()?;
    let rows = rows.iter().map(|(_, row)| row);
    let created = rows.filter(|row| caller.sees(&row.namespace) && (all || works(row))).map(shown);
    let configured = context.configured.iter().filter(|token| caller.sees(&token.namespace)).map(configured);
    Ok(configured.chain(created).collect())
}

/// Revokes a token and answers what is known of it now.
///
/// # Errors
/// `not_found` for a token that is none of the caller's, `invalid_argument` for one of the configuration.
pub async fn revoke(context: &Context, caller: &Principal, token_id: &str) -> Result<v1::Token, Refused> {
    let token = convert::token_id(token_id).map_err(Refused::Rejected)?;
    if context.configured.iter().any(|known| known.token_id == token && caller.sees(&known.namespace)) {
        return Err(invalid(
            "token_id must be a token made at run time: remove this one from the configuration",
        ));
    }
    let row = find(context, caller, token)?;
    if row.revoked.is_none() {
        let session = context.ledger.namespace(&row.namespace).await?.system;
        submit(context, session, Command::RevokeToken { session, token }).await?;
    }
    find(context, caller, token).map(|row| shown(&row))
}

fn find(context: &Context, caller: &Principal, token: TokenId) -> Result<TokenRow, Refused> {
    let rows = context.ledger.reader().tokens().map_err(Refused::Failed)?;
    let row =
        rows.into_iter().map(|(_, row)| row).find(|row| row.token == token && caller.sees(&row.namespace));
    row.ok_or_else(|| {
        let message = "no such token in this namespace: see `cellaflow tokens list --all`".to_owned();
        Refused::Rejected(Rejection { code: Code::NotFound, message, retry_after_ms: None })
    })
}

async fn submit(
    context: &Context,
    session: crate::graph::ids::SessionId,
    command: Command,
) -> Result<(), Refused> {
    let place = context.ledger.lineage(session).map_err(Refused::Failed)?.ok_or_else(not_found)?;
    let blobs = context.ledger.blobs(&place.salt);
    let submission =
        Submission { command, blobs, evidence: None, new_lineage: None, origin: Origin::default() };
    context.ledger.submit(submission).await.map(drop)
}

fn row(token: &TokenCreated, created: TimeMs) -> TokenRow {
    TokenRow {
        token: token.token,
        name: token.name.clone(),
        role: token.role,
        namespace: token.namespace.clone(),
        created,
        expires: token.expires,
        revoked: None,
    }
}

fn shown(row: &TokenRow) -> v1::Token {
    v1::Token {
        token_id: row.token.to_string(),
        name: row.name.to_string(),
        role: convert::role_to_wire(row.role).into(),
        namespace: row.namespace.to_string(),
        created_ms: row.created.0,
        expires_ms: row.expires.map_or(0, |at| at.0),
        revoked_ms: row.revoked.map_or(0, |at| at.0),
        configured: false,
    }
}

fn configured(token: &Principal) -> v1::Token {
    v1::Token {
        token_id: token.token_id.to_string(),
        name: token.name.to_string(),
        role: convert::role_to_wire(token.role).into(),
        namespace: token.namespace.to_string(),
        created_ms: 0,
        expires_ms: token.expires_ms.unwrap_or(0),
        revoked_ms: 0,
        configured: true,
    }
}

fn invalid(message: &str) -> Refused {
    Refused::Rejected(Rejection {
        code: Code::InvalidArgument,
        message: message.to_owned(),
        retry_after_ms: None,
    })
}
