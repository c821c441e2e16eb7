//! Promise: accounted, as far as the head goes (`graph::account`).

use super::story::*;
use crate::graph::command::Op;
use crate::graph::event::{LlmCall, StepCompleted, StepFailed};
use crate::graph::ids::NanoDollars;

#[test]
fn every_paid_call_is_counted_and_what_is_not_kept_is_wasted() {
    let mut story = Story::running();
    story.run(Op::StepFailed(StepFailed { usage: Some(usage(7, Some(1000))), ..failure("a", 1, false) }));
    story.run(Op::StepCompleted(StepCompleted {
        llm: Some(LlmCall { request: None, response: None, usage: usage(20, None) }),
        cost: NanoDollars(50),
        ..step("a", 2, 5)
    }));
    let counters = story.head().counters.clone();
    assert_eq!((counters.steps, counters.llm_calls), (1, 2));
    assert_eq!((counters.input_tokens, counters.output_tokens), (200, 27));
    assert_eq!(counters.wasted_tokens, 107);
    assert_eq!(counters.wasted_cost, NanoDollars(1000));
    assert_eq!(counters.cost, NanoDollars(1050));
}
