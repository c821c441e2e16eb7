//! Filters over sessions. What is not set restricts nothing.

use cellaflow_proto::v1;

use super::enums;
use super::session;
use crate::graph::session::Head;

/// True if a filter selects a session; the namespace and whether it is held are the caller's to compare.
#[must_use]
pub fn filter_fits(filter: &v1::SessionFilter, head: &Head) -> bool {
    let status: i32 = enums::status_to_wire(&head.status).into();
    let reason: i32 = session::pause_reason(&head.status).into();
    let text = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    (filter.statuses.is_empty() || filter.statuses.contains(&status))
        && text(&filter.workflow, &head.workflow)
        && text(&filter.version, &head.version)
        && filter
            .labels
            .iter()
            .all(|wanted| head.labels.iter().any(|(key, value)| (&**key, &**value) == (wanted.0, wanted.1)))
        && (filter.cost_min_nanos == 0 || head.counters.cost.0 >= filter.cost_min_nanos)
        && (filter.cost_max_nanos == 0 || head.counters.cost.0 <= filter.cost_max_nanos)
        && head.started.0 >= filter.started_after_ms
        && (filter.started_before_ms == 0 || head.started.0 < filter.started_before_ms)
        && (filter.pause_reason == 0 || filter.pause_reason == reason)
}
