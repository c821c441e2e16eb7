//! Labels: what a session is found by besides its own facts.
//!
//! Owns their limits and changing them. Never: looks for a session (`reader` and the index rows do).
//!
//! B1. Keys are unique; a change names what is set and what is removed, and a key is not both.
//! B2. Labels are no part of what a run depends on: they may change whatever it does, and no replay sees them. An ended
//!     session accepts no event, so its labels stay.

use std::sync::Arc;

use super::command::{Rejection, Reply, SetLabels};
use super::decide::{Decision, invalid, nothing};
use super::draft::Draft;
use super::end;
use super::event::{Author, Body, Labels, LabelsSet};
use super::ids::TimeMs;
use super::session::{Head, LABEL_BYTES_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};

/// Somebody changes the labels.
pub(super) fn set(head: &Head, command: &SetLabels, now: TimeMs) -> Result<Decision, Rejection> {
    if let Some(seq) = end::seen(head, command.dedupe) {
        return Ok(end::seen_before(head, seq));
    }
    if head.system {
        return Err(invalid("a system session has no labels; name a session of a workflow"));
    }
    if head.status.is_terminal() {
        return Err(end::over(head)); // B2
    }
    let both = command.labels.set.iter().find(|(key, _)| command.labels.removed.contains(key));
    if let Some((key, _)) = both {
        return Err(invalid(format!("label {key} is both set and removed; do one of them"))); // B1
    }
    let after = applied(&head.labels, &command.labels);
    check(&after)?;
    if after == head.labels {
        return Ok(nothing(head.session, Reply::Done { entry: None }));
    }
    let mut draft = Draft::after(head, now);
    let seq = draft.push(Author::Client(command.dedupe), Body::LabelsSet(command.labels.clone()));
    Ok(draft.appended(seq))
}

/// Refuses labels beyond the limits.
pub(super) fn check(labels: &Labels) -> Result<(), Rejection> {
    if labels.len() > LABELS_MAX {
        let count = labels.len();
        return Err(invalid(format!(
            "a session has at most {LABELS_MAX} labels, and these are {count}; remove some"
        )));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > LABEL_BYTES_MAX {
        return Err(invalid(format!(
            "the labels have {bytes} bytes together; use at most {LABEL_BYTES_MAX}, and keep larger things in the input"
        )));
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX || value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(invalid(format!(
                "label {key:?}: keys have 1 to {LABEL_KEY_BYTES_MAX} bytes and values at most {LABEL_VALUE_BYTES_MAX}"
            )));
        }
    }
    Ok(())
}

/// The labels after a change, sorted by key (B1).
pub(super) fn applied(labels: &Labels, change: &LabelsSet) -> Labels {
    let gone =
        |key: &Arc<str>| change.removed.contains(key) || change.set.iter().any(|(changed, _)| changed == key);
    let kept = labels.iter().filter(|(key, _)| !gone(key)).cloned();
    let mut after: Labels = kept.chain(change.set.iter().cloned()).collect();
    after.sort();
    after
}
