//! Streams: what a zone streams reaches subscribers while it is streamed, each byte once and in order.
//!
//! Owns how far a subscriber has read each zone, and when what it read is void. Never sees the bytes: they are evidence,
//! kept beside the events (Z4), and the record of a committed zone has all of them.
//!
//! S1. Bytes of an attempt are sent in order, without gap or repetition, and only while the attempt is open.
//! S2. Bytes that become void (the attempt was rolled back or has failed) are followed by a reset before the event that
//!     says so and before anything else of the zone, also when the subscriber was away in between.
//! S3. After a zone's commit nothing is known of it any more: the rest is in the committed event's record.
//! S4. A subscriber costs one entry per zone that is open or that it named; both are bounded.

use std::collections::BTreeMap;

use super::event::Body;
use super::ids::StepKey;
use super::session::OpenZone;

/// How far an attempt of a zone was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Attempt, from 1.
    pub attempt: u32,
    /// Bytes of it that were read.
    pub byte: u64,
}

/// What was read of a zone is void.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reset {
    /// Zone.
    pub zone_key: StepKey,
    /// Attempt whose bytes come next, if any do.
    pub attempt: u32,
}

/// How far one subscriber has read.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    zones: BTreeMap<StepKey, Place>,
}

impl Cursor {
    /// Starts where the subscriber says it is.
    #[must_use]
    pub fn new(zones: impl IntoIterator<Item = (StepKey, Place)>) -> Self {
        Self { zones: zones.into_iter().collect() }
    }

    /// Passes an event that is about to be sent; the reset goes before it (S2).
    pub fn pass(&mut self, body: &Body) -> Option<Reset> {
        match body {
            Body::ZoneCommitted(zone) => {
                let read = self.zones.remove(&zone.zone_key)?; // S3
                void(&zone.zone_key, read, zone.attempt)
            }
            Body::ZoneFailed(zone) => self.ended(&zone.zone_key, zone.attempt),
            Body::ZoneRolledBack(zone) => self.ended(&zone.zone_key, zone.attempt),
            // What is entered is met as an open zone; what ended otherwise was never streamed.
            _ => None,
        }
    }

    /// Where an open zone is to be read from; the reset goes first.
    pub fn open(&mut self, zone: &OpenZone) -> (Option<Reset>, u64) {
        let fresh = Place { attempt: zone.attempt, byte: 0 };
        let read = *self.zones.entry(zone.zone_key.clone()).or_insert(fresh);
        if read.attempt == zone.attempt {
            return (None, read.byte);
        }
        self.zones.insert(zone.zone_key.clone(), fresh);
        (void(&zone.zone_key, read, zone.attempt), 0)
    }

    /// Notes that an open zone was read up to this byte (S1).
    pub fn read(&mut self, zone: &OpenZone, byte: u64) {
        self.zones.insert(zone.zone_key.clone(), Place { attempt: zone.attempt, byte });
    }

    /// What is known of each zone.
    #[must_use]
    pub fn places(&self) -> usize {
        self.zones.len()
    }

    fn ended(&mut self, zone_key: &StepKey, attempt: u32) -> Option<Reset> {
        let read = self.zones.remove(zone_key)?;
        if read.attempt > attempt {
            // The subscriber reads old events again and has bytes of a later attempt.
            self.zones.insert(zone_key.clone(), read);
            return None;
        }
        void(zone_key, read, attempt.saturating_add(1))
    }
}

/// The reset of what was read, if there was any of an earlier attempt.
fn void(zone_key: &StepKey, read: Place, attempt: u32) -> Option<Reset> {
    (read.attempt < attempt && read.byte > 0).then(|| Reset { zone_key: zone_key.clone(), attempt })
}
