//! `cellaflow-compactor contexts`, and the same work within `run`.

use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use super::{Problem, own_namespace, stop_when_asked};
use crate::context::{Contexts, Summary};
use crate::{ccs, connection};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow-compactor contexts                 until SIGTERM: what suspends, grows or waits is compacted at once
  cellaflow-compactor contexts --once          what is behind, for cron

`run --every` and `run --cron` do this as well. Several may run at a time. With --once --json:
{\"sessions\", \"versions\", \"failed\"}.";

/// Pauses between two tries to reach an engine that is away; they double.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(15);

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ContextsOf {
    #[command(flatten)]
    engine: connection::Options,
    /// Folds what is behind and ends
    #[arg(long)]
    once: bool,
    /// With --once: prints the summary as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the summary is what the command is run for")]
pub(super) async fn run(asked: &ContextsOf) -> Result<(), String> {
    let stop = stop_when_asked();
    if !asked.once {
        keep(&asked.engine, stop).await;
        return Ok(());
    }
    let summary = once(&asked.engine, stop).await?;
    let Summary { sessions, versions, failed } = summary;
    if asked.json {
        let shown = serde_json::json!({ "sessions": sessions, "versions": versions, "failed": failed });
        println!("{shown}");
    } else {
        println!("folded {sessions} sessions and made {versions} versions of contexts");
    }
    checked(summary).map(drop)
}

/// Folds what is behind.
pub(super) async fn once(
    engine: &connection::Options,
    stop: watch::Receiver<bool>,
) -> Result<Summary, String> {
    let contexts = reach(engine, stop).await.map_err(|problem| problem.text)?;
    contexts.once().await.map_err(|error| error.to_string())
}

/// Says if sessions came to nothing.
pub(super) fn checked(summary: Summary) -> Result<Summary, String> {
    match summary.failed {
        0 => Ok(summary),
        failed => Err(format!("{failed} sessions were not folded; the next run tries again")),
    }
}

/// Folds what the engine hands out, until `stop`. It looks for the engine anew after each trouble: address and token may
/// have changed.
pub(super) async fn keep(engine: &connection::Options, mut stop: watch::Receiver<bool>) {
    let mut pause = PAUSE_FIRST;
    while !*stop.borrow() {
        let problem = match reach(engine, stop.clone()).await {
            Ok(contexts) => match contexts.follow(|| pause = PAUSE_FIRST).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
            Err(problem) => problem.text,
        };
        tracing::warn!(problem, "contexts are not compacted for now");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // An error means that nobody is left who could say stop: go on.
            _ = stop.changed() => {}
        }
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

async fn reach(engine: &connection::Options, stop: watch::Receiver<bool>) -> Result<Contexts, Problem> {
    let channel = connection::channel(engine)
        .await
        .map_err(|error| Problem { text: error.to_string(), may_pass: true })?;
    let namespace = match engine.namespace.as_str() {
        "" => own_namespace(&connection::archive(channel.clone())).await?,
        named => named.to_owned(),
    };
    Ok(Contexts::new(&channel, &namespace, ccs::Settings::default(), stop))
}
