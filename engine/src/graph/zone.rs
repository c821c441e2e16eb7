//! Atomic zone: a Non-Persistable Zone commits as a whole or leaves nothing in the agent's state.
//!
//! Owns entering, leaving and rolling back. Never sees what a zone streams; its bytes are evidence, kept beside.
//!
//! Z1. Entering is an event; an attempt is entered at most once, and attempts count from 1 without gaps.
//! Z2. Leaving commits everything in one event, and only an open attempt can be left.
//! Z3. Only a takeover, an abort or an end rolls back, and the roll-back is journaled before anything else follows.
//! Z4. Evidence is kept for the open attempt only, and goes in the frame of its commit.
//! Z5. A pause lets an entered zone commit; it lets none be entered.

use std::sync::Arc;

use super::command::{Code, Evidence, EvidenceTotal, Rejection, Reply};
use super::decide::{Decision, EvidencePlace, Run, invalid, nothing};
use super::draft::Draft;
use super::event::{Author, Body, RollbackReason, ZoneCommitted, ZoneFailed, ZoneRolledBack};
use super::ids::{Digest, StepKey};
use super::room;
use super::session::{Head, OpenZone};

/// A zone is entered.
pub(super) fn entered(
    run: &Run<'_>,
    key: &StepKey,
    name: &Arc<str>,
    attempt: u32,
    input_digest: Option<Digest>,
) -> Result<Decision, Rejection> {
    run.next_attempt(key, attempt, input_digest)?; // Z1
    if run.head.intent(key).is_some() {
        return Err(invalid(format!("{key} is a guarded step; enter the zone under its own key")));
    }
    run.unless_paused()?; // Z5
    room::check_room(run.head, key, 0)?;
    let mut draft = run.draft();
    let body = Body::ZoneEntered { zone_key: key.clone(), name: name.clone(), attempt, input_digest };
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// A zone commits.
pub(super) fn committed(run: &Run<'_>, zone: &ZoneCommitted) -> Result<Decision, Rejection> {
    open_zone(run.head, &zone.zone_key, zone.attempt)?; // Z2
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::ZoneCommitted(zone.clone()));
    Ok(draft.appended(seq))
}

/// A zone's callback failed.
pub(super) fn failed(run: &Run<'_>, zone: &ZoneFailed) -> Result<Decision, Rejection> {
    open_zone(run.head, &zone.zone_key, zone.attempt)?; // Z2
    let mut draft = run.draft();
    let seq = draft.push_append(run.append, Body::ZoneFailed(zone.clone()));
    Ok(draft.appended(seq))
}

/// The run aborted a zone (Z3).
pub(super) fn aborted(
    run: &Run<'_>,
    key: &StepKey,
    attempt: u32,
    evidence_bytes: u64,
    wasted_tokens: u64,
) -> Result<Decision, Rejection> {
    let open = open_zone(run.head, key, attempt)?;
    let total = EvidenceTotal { zone_key: key.clone(), bytes: evidence_bytes, tokens: wasted_tokens };
    let mut draft = run.draft();
    let body = rolled_back(open, RollbackReason::Abort, Some(&total));
    let seq = draft.push_append(run.append, body);
    Ok(draft.appended(seq))
}

/// Says where a zone's evidence is kept (Z4).
pub(super) fn evidence(head: &Head, evidence: &Evidence) -> Result<Decision, Rejection> {
    let open = open_zone(head, &evidence.zone_key, evidence.attempt)?;
    let reply = Reply::Done { entry: Some(open.seq) };
    Ok(Decision {
        evidence: Some(EvidencePlace { entry: open.seq, attempt: open.attempt, offset: evidence.offset }),
        ..nothing(head.session, reply)
    })
}

/// Rolls back every open zone of a run that gives up or ends (Z3). A run that counted what it wastes aborts its zones
/// itself before.
pub(super) fn roll_back_all(head: &Head, author: Author, draft: &mut Draft) {
    for open in &head.zones {
        draft.push(author, rolled_back(open, RollbackReason::Abort, None));
    }
}

pub(super) fn rolled_back(open: &OpenZone, reason: RollbackReason, evidence: Option<&EvidenceTotal>) -> Body {
    Body::ZoneRolledBack(ZoneRolledBack {
        zone_key: open.zone_key.clone(),
        attempt: open.attempt,
        reason,
        evidence_bytes: evidence.map_or(0, |total| total.bytes),
        wasted_tokens: evidence.map_or(0, |total| total.tokens),
    })
}

fn open_zone<'a>(head: &'a Head, key: &str, attempt: u32) -> Result<&'a OpenZone, Rejection> {
    head.zone(key)
        .filter(|zone| zone.attempt == attempt)
        .ok_or_else(|| {
            let message = format!(
                "attempt {attempt} of zone {key} is not open; it was rolled back or has ended, enter the next attempt"
            );
            Rejection::new(Code::ZoneNotOpen, message)
        })
}
