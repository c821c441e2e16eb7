//! `BackupLedger`: where a backup goes and who may ask for one.
//!
//! 1. A backup holds every namespace: only admins of all of them ask for one.
//! 2. The caller names a folder inside `backup_dir`, never a path: it is the engine's machine, not the caller's.

use std::path::PathBuf;

use cellaflow_proto::v1;

use super::auth::{EVERY_NAMESPACE, Principal};
use super::context::Context;
use super::journal;
use crate::graph::command::{Code, Rejection};
use crate::ledger::{ReadError, Refused};

/// Longest name of a backup in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Writes a backup.
///
/// # Errors
/// `permission_denied` (1), `invalid_argument` for a name that is none or is taken; as every read.
pub async fn write(
    context: &Context,
    caller: &Principal,
    request: v1::BackupLedgerRequest,
) -> Result<v1::BackupLedgerResponse, Refused> {
    let (now_ms, began_ms) = (context.clock.wall_ms(), context.clock.mono_ms());
    let folder = folder(context, caller, &request.name, now_ms).map_err(Refused::Rejected)?;
    let reader = context.ledger.reader().clone();
    let directory = folder.display().to_string();
    let written = journal::blocking(move || -> Result<_, ReadError> {
        let parent = folder.parent().map_or(Ok(()), std::fs::create_dir_all);
        parent.map_err(|error| ReadError::Fault(format!("cannot make {}: {error}", folder.display())))?;
        reader.backup(&folder, now_ms)
    });
    let (manifest, size_bytes) = written.await.map_err(Refused::Failed)?;
    let took_ms = context.clock.mono_ms().saturating_sub(began_ms);
    tracing::info!(directory, frame = manifest.frame, size_bytes, took_ms, "backup written");
    Ok(v1::BackupLedgerResponse { directory, frame: manifest.frame, size_bytes, took_ms })
}

fn folder(context: &Context, caller: &Principal, name: &str, now_ms: u64) -> Result<PathBuf, Rejection> {
    if !caller.sees(EVERY_NAMESPACE) {
        return Err(Rejection::new(
            Code::PermissionDenied,
            "a backup holds every namespace: use a token of an admin of all (\"*\")",
        ));
    }
    let name = match name {
        "" => format!("{}-{}", stamp(now_ms), context.ledger.reader().watermark().0),
        name if is_name(name) => name.to_owned(),
        _ => {
            return Err(invalid(format!(
                "name must be 1 to {NAME_BYTES_MAX} letters, digits, dots, hyphens and underscores, not beginning with a dot"
            )));
        }
    };
    let folder = context.backup_dir.join(name);
    if folder.exists() {
        return Err(invalid(format!(
            "there is something at {} already; choose another name",
            folder.display()
        )));
    }
    Ok(folder)
}

/// Time as a file's name may have it: 2026-01-31T12-00-00Z.
fn stamp(now_ms: u64) -> String {
    crate::clock::rfc3339(now_ms / 1_000 * 1_000).replace(':', "-")
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(plain)
}

fn invalid(message: String) -> Rejection {
    Rejection::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        assert!(is_name("nightly-2026.1"));
        for name in ["..", "a/b", "/etc", ".hidden", "a b", "\u{e4}", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
