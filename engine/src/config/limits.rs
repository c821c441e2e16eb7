//! Every numeric limit of the engine: its name, unit, default and range, on one page.
//!
//! The unit is the last word of a name: `_ms` milliseconds, `_bytes` or `_bytes_max` bytes, other `_max` a count.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// What is known of one limit apart from its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Name in TOML; the environment and flags use its upper-case and hyphenated forms.
    pub key: &'static str,
    /// Value when nobody sets it.
    pub default: u64,
    /// Smallest accepted value.
    pub min: u64,
    /// Largest accepted value.
    pub max: u64,
    /// One line for `--help`, with the unit.
    pub help: &'static str,
}

macro_rules! limits {
    ($( #[doc = $help:literal] $key:ident = $default:expr, $min:expr => $max:expr; )+) => {
        /// The effective value of every limit.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $( #[doc = $help] pub $key: u64, )+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Limits {
            /// Returns the value of the limit called `key`, or `None` if there is no such limit.
            pub fn get(&self, key: &str) -> Option<u64> {
                match key { $( stringify!($key) => Some(self.$key), )+ _ => None }
            }

            /// Replaces one value; the caller has checked it against the limit's range.
            pub(super) fn put(&mut self, key: &str, value: u64) {
                match key { $( stringify!($key) => self.$key = value, )+ _ => {} }
            }
        }

        /// Every limit, in the order of `--help` and `--check-config`.
        pub const LIMITS: &[Limit] = &[
            $( Limit { key: stringify!($key), default: $default, min: $min, max: $max, help: $help.trim_ascii() }, )+
        ];
    };
}

limits! {
    /// Milliseconds a worker may be silent before its sessions may be taken over.
    lease_ttl_ms = 15 * SECOND, 500 => HOUR;
    /// Milliseconds one attempt of a guarded step may take, unless the step says otherwise.
    guard_attempt_ms = 30 * SECOND, 100 => DAY;
    /// Milliseconds after a guarded attempt's end before its unknown outcome is resolved.
    guard_grace_ms = 5 * SECOND, 0 => HOUR;
    /// Milliseconds an idempotency key is kept after the end of the session that used it first.
    guard_retention_ms = 30 * DAY, SECOND => 3_650 * DAY;
    /// Attempts of a step that names no number, the first included.
    step_attempts_max = 3, 1 => 1_000_000;
    /// Milliseconds of the longest wait before a step's second attempt; it doubles from attempt to attempt.
    step_backoff_initial_ms = 200, 1 => HOUR;
    /// Milliseconds of the longest wait before any attempt of a step.
    step_backoff_ms_max = 30 * SECOND, 1 => DAY;
    /// Milliseconds one attempt of an unguarded step may take, unless the step says otherwise; 0: as long as it takes.
    step_attempt_ms = 0, 0 => 31 * DAY;
    /// Milliseconds a run may neither request nor receive anything on replay before it is paused.
    replay_stall_ms_max = 60 * SECOND, SECOND => DAY;

    /// Bytes up to which a payload is stored beside its event's header instead of in chunks.
    inline_bytes_max = 8 * KIB, 0 => 64 * KIB;
    /// Bytes of one stored payload chunk.
    chunk_bytes = 256 * KIB, 4 * KIB => 4 * MIB;
    /// Bytes of one payload: a step's input or output, a message, a result.
    payload_bytes_max = 64 * MIB, 64 * KIB => 128 * MIB;
    /// Bytes of evidence (streamed text of an attempt that was rolled back) kept per zone attempt.
    evidence_bytes_max = MIB, 0 => 64 * MIB;

    /// Bytes of commands the decider gathers into one synced frame; a single larger command still fits.
    frame_bytes_max = 8 * MIB, 64 * KIB => 64 * MIB;
    /// Commands the decider gathers into one synced frame.
    frame_commands_max = 1_024, 1 => 65_536;
    /// Bytes of commands waiting for the decider; when full, callers are told to back off.
    queue_bytes_max = 64 * MIB, MIB => 4 * GIB;
    /// Commands waiting for the decider; when full, callers are told to back off.
    queue_commands_max = 4_096, 16 => 1_048_576;
    /// Bytes of session heads kept in memory.
    head_cache_bytes = 4 * MIB, 64 * KIB => 4 * GIB;

    /// Bytes of memory for blocks read from the ledger, shared by all column families.
    cache_bytes = 4 * MIB, MIB => 64 * GIB;
    /// Bytes of memory for writes not yet in a table file, shared by all column families.
    write_buffer_bytes = 4 * MIB, MIB => 4 * GIB;
    /// Milliseconds of lineage starts that share one segment of the key space.
    segment_ms = DAY, HOUR => 31 * DAY;
    /// Bytes free on the disk below which new sessions are refused while running ones finish.
    disk_free_min_bytes = GIB, 0 => 1_024 * GIB;
    /// Milliseconds after its session's end for which a session key is remembered at least; none is forgotten so far.
    key_retention_ms = 30 * DAY, HOUR => 3_650 * DAY;
    /// Milliseconds after the end of a lineage's last session from which on the compactor may archive it.
    archive_after_ms = 7 * DAY, 0 => 3_650 * DAY;
    /// Milliseconds between two looks for space of archived sessions that can be given back.
    reclaim_every_ms = 60 * SECOND, 100 => DAY;
    /// Milliseconds for which the evidence of rolled-back attempts is kept.
    evidence_retention_ms = 7 * DAY, 0 => 3_650 * DAY;

    /// Bytes of what a compactor keeps of one session to go on with it.
    context_state_bytes_max = 8 * MIB, 64 * KIB => 48 * MIB;
    /// Bytes of the texts of one version of a session's compacted context.
    context_bytes_max = MIB, 16 * KIB => 16 * MIB;
    /// Versions of a session's context whose texts are kept; what agents used is in their ledgers besides.
    context_versions_max = 64, 1 => 65_536;
    /// Sessions that may wait in memory for a compactor.
    context_due_sessions_max = 16_384, 1 => 1_048_576;
    /// Bytes of payloads after which a session that waits, is paused or quiet is handed to a compactor.
    context_due_bytes = 8 * KIB, 0 => GIB;
    /// Bytes of payloads after which a running session is handed to a compactor.
    context_high_mark_bytes = 48 * KIB, KIB => GIB;
    /// Milliseconds without an event after which a session counts as quiet: less than providers keep their caches.
    context_gap_ms = 240 * SECOND, SECOND => DAY;
    /// Milliseconds an agent may wait for its context, and a compactor for a session, in one request.
    context_wait_ms_max = 30 * SECOND, 100 => HOUR;

    /// Sessions one worker may hold at a time.
    sessions_per_worker_max = 1_000, 1 => 100_000;
    /// Connections open at a time; further ones are closed at once.
    connections_max = 1_024, 8 => 65_536;
    /// Subscriptions to sessions open at a time; further ones are told to try again.
    subscribers_max = 4_096, 1 => 1_048_576;
    /// Milliseconds a subscriber may take nothing of what is there for it before it is cut off; it can go on later.
    subscriber_stall_ms_max = 60 * SECOND, 100 => DAY;
    /// TLS handshakes under way at a time; further connections are closed at once.
    handshakes_max = 64, 1 => 4_096;
    /// Milliseconds one TLS handshake may take.
    handshake_ms_max = 5 * SECOND, 100 => 60 * SECOND;
    /// Milliseconds that running requests get to finish after the daemon was asked to stop.
    drain_ms = 10 * SECOND, 0 => HOUR;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range_and_every_name_ends_with_its_unit() {
        let defaults = Limits::default();
        for limit in LIMITS {
            assert!(limit.min <= limit.default && limit.default <= limit.max, "{}", limit.key);
            assert_eq!(defaults.get(limit.key), Some(limit.default), "{}", limit.key);
            let unit =
                ["_ms", "_ms_max", "_bytes", "_bytes_max", "_max"].iter().any(|u| limit.key.ends_with(u));
            assert!(unit, "{} names no unit", limit.key);
            assert!(i64::try_from(limit.max).is_ok(), "{} must be writable in TOML", limit.key);
        }
    }
}
