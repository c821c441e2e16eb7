//! When jobs run: once, every so often, or as cron says. Pure but for `run`, which waits and calls.
//!
//! T1. Jobs of a round run one after the other, in order; a round that takes longer than the schedule's step makes the
//!     next one late, never two at a time. Rounds that were missed are not made up for.
//! T2. A job that fails is said, and tried again in the next round; it keeps no other job from running.
//! T3. Once asked to stop, nothing begins any more; what is running is told by the same channel.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use futures::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::clock;

/// Shortest time between two rounds.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest sleep: the wall clock may be set meanwhile.
const NAP_MAX_MS: u64 = 30_000;

/// Work that is done in every round.
pub struct Job {
    /// Name in logs and metrics.
    pub name: &'static str,
    /// Does it; an error says what the operator must do.
    pub run: Box<dyn Fn() -> LocalBoxFuture<'static, Result<(), String>>>,
}

/// When a round begins.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Now, and never again.
    Once,
    /// Now, and this long after the last round began.
    Every(Duration),
    /// As a crontab says, in UTC.
    Cron(Box<Cron>),
}

impl Schedule {
    /// Start of the next round in ms since the Unix epoch, after one that began at `last_ms`; `None`: there is none.
    #[must_use]
    pub fn next_ms(&self, last_ms: Option<u64>, now_ms: u64) -> Option<u64> {
        match self {
            Schedule::Once => last_ms.is_none().then_some(now_ms),
            Schedule::Every(every) => {
                let step_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
                let next = last_ms.map_or(now_ms, |last| last.saturating_add(step_ms));
                // T1; and a clock that was set back makes nobody wait for longer than one step.
                Some(next.clamp(now_ms, now_ms.saturating_add(step_ms)))
            }
            Schedule::Cron(cron) => {
                let now = chrono::DateTime::from_timestamp_millis(i64::try_from(now_ms).ok()?)?;
                let next = cron.find_next_occurrence(&now, false).ok()?;
                u64::try_from(next.timestamp_millis()).ok()
            }
        }
    }
}

/// Reads "30s", "1m", "2h" or "1d".
///
/// # Errors
/// If it is none of these, or shorter than a second.
pub fn every(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 30s, 1m, 2h or 1d");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(split).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let every = Duration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
    if every < EVERY_MIN { Err(format!("{text:?} is too short: one second is the least")) } else { Ok(every) }
}

/// Reads five fields of a crontab: minute, hour, day of month, month, day of week.
///
/// # Errors
/// If they are none.
pub fn cron(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let explained = |error: croner::errors::CronError| {
        format!(
            "{text:?} is no schedule: {error}; write five fields as in a crontab, for example \"15 3 * * *\""
        )
    };
    parser.parse(text).map_err(explained)
}

impl FromStr for Schedule {
    type Err = String;

    /// A duration, or a crontab's five fields.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(' ') {
            cron(text).map(|cron| Self::Cron(Box::new(cron)))
        } else {
            every(text).map(Self::Every)
        }
    }
}

/// Runs rounds until the schedule ends or `stop` becomes true.
///
/// # Errors
/// With `Once`, what went wrong in its round; a schedule that goes on says it in the log (T2).
pub async fn run(schedule: &Schedule, jobs: &[Job], mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let mut last_ms = None;
    while let Some(next_ms) = schedule.next_ms(last_ms, clock::now_ms()) {
        if !wait_until(next_ms, &mut stop).await {
            return Ok(()); // T3
        }
        last_ms = Some(clock::now_ms());
        let mut problems = Vec::new();
        for job in jobs {
            if *stop.borrow() {
                return Ok(()); // T3
            }
            if let Err(problem) = (job.run)().await {
                tracing::error!(job = job.name, problem, "a job failed");
                problems.push(problem); // T2
            }
        }
        if matches!(schedule, Schedule::Once) && !problems.is_empty() {
            return Err(problems.join("; "));
        }
    }
    Ok(())
}

/// True: it is time. False: stop.
async fn wait_until(at_ms: u64, stop: &mut watch::Receiver<bool>) -> bool {
    loop {
        let left_ms = at_ms.saturating_sub(clock::now_ms());
        if *stop.borrow() {
            return false;
        }
        if left_ms == 0 {
            return true;
        }
        let nap = tokio::time::sleep(Duration::from_millis(left_ms.min(NAP_MAX_MS)));
        tokio::select! {
            () = nap => {}
            // Nobody is left who could ask to stop: go on.
            changed = stop.changed() => if changed.is_err() {
                tokio::time::sleep(Duration::from_millis(left_ms.min(NAP_MAX_MS))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn rounds_begin_a_step_after_the_last_one_began_and_missed_ones_are_dropped() {
        let schedule: Schedule = "1m".parse().unwrap();
        assert_eq!(schedule.next_ms(None, 5_000), Some(5_000), "the first at once");
        assert_eq!(schedule.next_ms(Some(5_000), 6_000), Some(65_000));
        assert_eq!(schedule.next_ms(Some(5_000), 500_000), Some(500_000), "T1: late, once");
        assert_eq!(schedule.next_ms(Some(900_000), 6_000), Some(66_000), "the clock was set back");
        assert_eq!(Schedule::Once.next_ms(Some(1), 2), None);
    }

    #[test]
    fn a_crontab_is_read_in_utc() {
        let schedule: Schedule = "15 3 * * *".parse().unwrap();
        let day_ms = 86_400_000;
        let quarter_past_three = (3 * 60 + 15) * 60_000;
        assert_eq!(schedule.next_ms(None, 0), Some(quarter_past_three));
        assert_eq!(schedule.next_ms(Some(0), quarter_past_three), Some(day_ms + quarter_past_three));
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for text in ["", "m", "1", "0s", "1w", "-1m", "99999999999999999999d", "1,5m"] {
            assert!(every(text).is_err(), "{text}");
        }
        for text in ["* * *", "61 * * * *", "* * * * * *", "a b c d e"] {
            assert!(cron(text).unwrap_err().contains("15 3 * * *"), "{text}");
        }
    }

    fn job(runs: &Arc<AtomicU32>, outcome: Result<(), &'static str>) -> Job {
        let runs = Arc::clone(runs);
        let run = move || {
            runs.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { outcome.map_err(str::to_owned) }) as LocalBoxFuture<'static, _>
        };
        Job { name: "job", run: Box::new(run) }
    }

    #[tokio::test]
    async fn a_job_that_fails_keeps_no_other_from_running() {
        let runs = Arc::new(AtomicU32::new(0));
        let jobs = [job(&runs, Err("no")), job(&runs, Ok(()))];
        let (_stop, stopping) = watch::channel(false);
        assert_eq!(run(&Schedule::Once, &jobs, stopping).await, Err("no".to_owned())); // T2
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_schedule_ends_when_it_is_told_to() {
        let runs = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = watch::channel(false);
        let counted = Arc::clone(&runs);
        let jobs = [job(&counted, Err("always"))];
        let schedule = Schedule::Every(Duration::from_secs(3_600));
        let stopping = async {
            while runs.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            stop.send(true).unwrap();
        };
        let (ended, ()) = tokio::join!(run(&schedule, &jobs, stopped), stopping);
        assert_eq!(ended, Ok(()), "T3: no error of a round ends a schedule");
    }
}
