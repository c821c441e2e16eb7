//! Where a fork was cut, as its head stores it.

use cellaflow_proto::disk;

use super::{counters_from, counters_to};
use crate::graph::event::ForkedFrom;
use crate::graph::ids::SessionId;
use crate::graph::session::Forked;
use crate::storage::fields::{Malformed, bytes_of, exact, present, seq};

pub(super) fn to(forked: &Forked) -> disk::ForkPoint {
    disk::ForkPoint {
        parent_id: bytes_of(&forked.from.parent.0),
        seq: forked.from.seq.0,
        effects_live: forked.from.live,
        inherited: Some(counters_to(&forked.inherited)),
    }
}

pub(super) fn from(stored: disk::ForkPoint) -> Result<Forked, Malformed> {
    Ok(Forked {
        from: ForkedFrom {
            parent: SessionId(exact(&stored.parent_id, "fork_point.parent_id")?),
            seq: seq(stored.seq, "fork_point.seq")?,
            live: stored.effects_live,
        },
        inherited: counters_from(&present(stored.inherited, "fork_point.inherited")?),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::graph::ids::{NanoDollars, Seq};
    use crate::graph::session::Counters;

    #[test]
    fn the_bytes_of_a_cut_are_pinned() {
        let forked = Forked {
            from: ForkedFrom { parent: SessionId([2; 16]), seq: Seq(9), live: true },
            inherited: Counters { steps: 3, cost: NanoDollars(7), ..Counters::default() },
        };
        let stored = to(&forked);
        assert_eq!(
            hex::encode(stored.encode_to_vec()),
            format!("0a10{}10091801220408033807", "02".repeat(16)),
            "a stored head could not be read any more" // H1
        );
        assert_eq!(from(stored.clone()).unwrap(), forked);
        let unknown = disk::ForkPoint { seq: 0, ..stored.clone() };
        assert_eq!(from(unknown).unwrap_err().field, "fork_point.seq");
        let bare = disk::ForkPoint { inherited: None, ..stored };
        assert_eq!(from(bare).unwrap_err().field, "fork_point.inherited");
    }
}
