//! Why a session does not go on, in words for a person.

use super::Dispatch;
use super::queue::Waiting;
use super::sessions::Why;
use crate::graph::session::Head;

impl Dispatch {
    /// Says why a session that may run does not; empty while it runs, and for states that say so themselves.
    #[must_use]
    pub fn waiting_for(&self, head: &Head) -> String {
        if !head.status.is_runnable() {
            return String::new();
        }
        let why = self.state.lock().sessions.waiting(head.session);
        match why {
            None => String::new(),
            Some(Why::Queued(waiting)) => phrase(head, &waiting),
            Some(Why::Silent { holder, next }) => {
                let left_ms = self.leases.left_ms(holder, self.clock.mono_ms());
                // A thin client has no channel and is as well as its last call is recent.
                if left_ms > self.leases.ttl_ms() / 2 {
                    return String::new();
                }
                if left_ms > 0 {
                    return format!("its worker, silent; another may take over in {left_ms} ms");
                }
                phrase(head, &next)
            }
        }
    }
}

fn phrase(head: &Head, waiting: &Waiting) -> String {
    let Head { workflow, version, .. } = head;
    match waiting {
        Waiting::NoWorker { served } if served.is_empty() => {
            format!(
                "a worker for {workflow} {version}; start one that serves this version, or code compatible with it"
            )
        }
        Waiting::NoWorker { served } => format!(
            "a worker for {workflow} {version}; connected ones serve {}: start one that serves this version, or code compatible with it",
            served.join(", ")
        ),
        Waiting::Busy { workers } => {
            format!(
                "a free slot of the {workers} connected worker(s) for {workflow} {version}; add workers or capacity"
            )
        }
        Waiting::Soon => format!("a worker for {workflow} {version}, about to take it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_version_and_remedy() {
        let head = crate::dispatch::sessions::test_head("audit", "3");
        let none = phrase(&head, &Waiting::NoWorker { served: vec![] });
        assert_eq!(
            none,
            "a worker for audit 3; start one that serves this version, or code compatible with it"
        );
        let others = phrase(&head, &Waiting::NoWorker { served: vec!["1".into(), "2".into()] });
        assert!(others.contains("serve 1, 2"), "{others}");
        assert!(phrase(&head, &Waiting::Busy { workers: 2 }).contains("capacity"));
    }
}
