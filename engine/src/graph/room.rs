//! Room in the head: what a session may have open at once.
//!
//! Owns the count and the bytes of open intents, zones, waits and reservations. Never opens anything.
//!
//! R1. At most `OPEN_MAX` keys are open at once, and what they take in the head together stays under `OPEN_BYTES_MAX`.
//! R2. What may be reserved for has its room from the start: under a budget every intent and zone counts as if it were,
//!     so that a session full of zones can still pay for the calls inside them.

use super::command::{Code, Rejection};
use super::session::{Head, OPEN_BYTES_MAX, OPEN_MAX};

/// When to ask again, in milliseconds.
const RETRY_MS: u64 = 250;

/// Bytes of an entry in the stored head besides its key and name, at most.
const INTENT_BYTES: usize = 44;
const ZONE_BYTES: usize = 28;
const WAIT_BYTES: usize = 72;
const RESERVATION_BYTES: usize = 68;

/// Refuses a further key if there is no room for it (R1). What the key has open already makes room for itself.
pub(super) fn check_room(head: &Head, key: &str, name_bytes: usize) -> Result<(), Rejection> {
    let reserving = if head.budget.owners.is_empty() { 0 } else { RESERVATION_BYTES }; // R2
    let intents =
        head.intents.iter().map(|open| (&*open.step_key, open.step_key.len() + INTENT_BYTES + reserving));
    let zones = head.zones.iter().map(|open| (&*open.zone_key, open.zone_key.len() + ZONE_BYTES + reserving));
    let waits =
        head.waits.iter().map(|wait| (&*wait.step_key, wait.step_key.len() + wait.name.len() + WAIT_BYTES));
    let own = |key: &str| head.intent(key).is_none() && head.zone(key).is_none();
    let reservations = head.budget.reservations.iter().filter(|open| own(&open.step_key));
    let reservations = reservations.map(|open| (&*open.step_key, open.step_key.len() + RESERVATION_BYTES));
    let mine = key.len() + name_bytes + WAIT_BYTES + reserving;
    let open = intents.chain(zones).chain(waits).chain(reservations).filter(|(open, _)| *open != key);
    let (count, bytes) = open.fold((0, mine), |(count, sum), (_, bytes)| (count + 1, sum + bytes));
    if count < OPEN_MAX && bytes <= OPEN_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "{count} guarded steps, zones, waits and reservations are open and take {bytes} bytes with this one; at most {OPEN_MAX} and {OPEN_BYTES_MAX} may be: wait until one ends, or shorten the keys"
    );
    Err(Rejection::new(Code::TooManyOpen, message).retry_after(RETRY_MS))
}
