//! Rows of heads (H2).

use crate::graph::event::{GuardPolicy, PauseReason};
use crate::graph::ids::{
    DedupeId, Epoch, Hash, InstanceId, LineageId, NanoDollars, Seq, SessionId, StepKey, TimeMs,
};
use crate::graph::session::{
    Counters, DEDUPE_IDS_MAX, HEAD_BYTES_MAX, Head, IntentState, NAME_BYTES_MAX, OPEN_KEY_BYTES_MAX,
    OPEN_MAX, OpenIntent, STEP_KEY_BYTES_MAX, Status,
};
use crate::storage::heads::{Row as _, StoredHead};
use crate::storage::keys::Segment;

/// The largest head that the limits allow, every number at its largest encoding.
fn largest() -> Head {
    let name: StepKey = "n".repeat(NAME_BYTES_MAX).into();
    let key: StepKey = "k".repeat(OPEN_KEY_BYTES_MAX / OPEN_MAX).into();
    let intent = OpenIntent {
        step_key: key,
        attempt: u32::MAX,
        seq: Seq(u64::MAX),
        due: TimeMs(u64::MAX),
        policy: GuardPolicy::Reconcile,
        state: IntentState::MayRetry,
    };
    Head {
        session: SessionId([255; 16]),
        namespace: name.clone(),
        workflow: name.clone(),
        version: name,
        generation: u32::MAX,
        lineage: LineageId([255; 16]),
        root: SessionId([255; 16]),
        system: true,
        status: Status::Paused {
            reason: PauseReason::Budget,
            step_key: Some("k".repeat(STEP_KEY_BYTES_MAX).into()),
        },
        seq: Seq(u64::MAX),
        hash: Hash([255; 32]),
        time: TimeMs(u64::MAX),
        started: TimeMs(u64::MAX),
        epoch: Epoch(u64::MAX),
        holder: Some(InstanceId([255; 16])),
        intents: vec![intent; OPEN_MAX],
        zones: Vec::new(),
        counters: Counters {
            steps: u64::MAX,
            llm_calls: u64::MAX,
            input_tokens: u64::MAX,
            cached_read_tokens: u64::MAX,
            cache_write_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cost: NanoDollars(i64::MIN),
            wasted_tokens: u64::MAX,
            wasted_cost: NanoDollars(i64::MIN),
        },
        dedupe: vec![(DedupeId([255; 16]), Seq(u64::MAX)); DEDUPE_IDS_MAX],
    }
}

#[test]
fn h2_the_largest_head_that_the_limits_allow_fits_its_row() {
    let stored = StoredHead { head: largest(), segment: Segment(u32::MAX) };
    let bytes = stored.to_bytes();
    assert!(bytes.len() <= HEAD_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(StoredHead::from_bytes(&bytes).unwrap(), stored); // H1
}
