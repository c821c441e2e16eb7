//! `cellaflow ledger accept-loss`: the only way past a start that was refused because acknowledged frames are missing.
//!
//! Works on the folder itself, with its lock held from the first look to the new mark. No engine runs meanwhile.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::output::{self, Failure};
use crate::storage::{AcceptedLoss, Loss, OpenError};

pub(super) const EXAMPLES: &str = "Examples:
  cellaflow ledger accept-loss --data .cellaflow                  asks before it changes anything
  cellaflow ledger accept-loss --data /var/lib/cellaflow --yes

Prints the frame that the engine had marked as durable and the last one that is still there. What
lies between them was acknowledged to somebody and is given up: steps in it may run, and be paid
for, a second time. Restore a backup instead if there is one. With --json: {\"ledger_id\",
\"marked_frame\", \"recovered_frame\", \"accepted\"}; marked_frame is null if the mark cannot be read or
belongs to another ledger.";

/// Folder of the ledger inside the data folder.
const LEDGER: &str = "ledger";

#[derive(Args)]
pub(in crate::cli) struct AcceptLoss {
    /// Data folder of the engine that refuses to start
    #[arg(long, visible_alias = "data-dir", value_name = "PATH", default_value = crate::dev::FOLDER)]
    data: PathBuf,
    /// Accepts without asking
    #[arg(long)]
    yes: bool,
    /// Prints JSON; needs --yes
    #[arg(long, requires = "yes")]
    json: bool,
}

impl AcceptLoss {
    pub(super) fn run(self) -> Result<String, Failure> {
        let dir = ledger_dir(&self.data)?;
        let loss = Loss::find(&dir).map_err(refused)?;
        let found = loss.found();
        if !self.yes {
            output::complain(&describe(&dir, &found));
            confirm(&self.data)?;
        }
        loss.accept().map_err(refused)?;
        if self.json {
            return Ok(output::json(&shown(&found)));
        }
        Ok(format!("accepted: the engine starts again with frame {}", found.recovered))
    }
}

/// Takes the ledger's own folder, too: the refusal to start names that one.
fn ledger_dir(data: &Path) -> Result<PathBuf, Failure> {
    let inner = data.join(LEDGER);
    let dir = if inner.is_dir() { inner } else { data.to_owned() };
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(Failure::usage(format!(
        "there is no folder {}: name the engine's data folder with --data",
        data.display()
    )))
}

fn refused(error: OpenError) -> Failure {
    match error {
        OpenError::Locked { .. } => Failure::try_again(error),
        _ => Failure::other(error),
    }
}

fn describe(dir: &Path, found: &AcceptedLoss) -> String {
    let AcceptedLoss { marked, recovered, .. } = found;
    let ledger_id = id(found);
    let (marked, lost) = match marked {
        Some(marked) => {
            let frames = marked.0.saturating_sub(recovered.0);
            (format!("frame {marked}"), format!("{frames} acknowledged frames are missing"))
        }
        None => (
            "unknown, the mark cannot be read or names another ledger".to_owned(),
            "how much is missing is unknown".to_owned(),
        ),
    };
    format!(
        "ledger {ledger_id} in {}\n  marked as durable  {marked}\n  still there        frame {recovered}\n  {lost}",
        dir.display()
    )
}

/// The id as `status` spells it.
fn id(found: &AcceptedLoss) -> String {
    uuid::Uuid::from_bytes(found.ledger_id.0).to_string()
}

fn shown(found: &AcceptedLoss) -> serde_json::Value {
    json!({
        "ledger_id": id(found),
        "marked_frame": found.marked.map(|frame| frame.0),
        "recovered_frame": found.recovered.0,
        "accepted": true,
    })
}

/// Lets a person type the folder's name: a mere `y` is typed too easily.
fn confirm(data: &Path) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nothing was changed: without a terminal, say --yes to accept the loss"));
    }
    let whole = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let name = whole
        .file_name()
        .map_or_else(|| data.display().to_string(), |name| name.to_string_lossy().into_owned());
    let typed = output::ask(&format!("Type the folder's name ({name}) to give up what is missing: "));
    if typed.is_some_and(|typed| typed == name) {
        return Ok(());
    }
    Err(Failure::other("nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ids::FrameNumber;
    use crate::storage::LedgerId;

    fn found(marked: Option<u64>) -> AcceptedLoss {
        AcceptedLoss {
            ledger_id: LedgerId([7; 16]),
            marked: marked.map(FrameNumber),
            recovered: FrameNumber(25),
        }
    }

    #[test]
    fn both_frame_numbers_are_printed() {
        let text = describe(Path::new("data/ledger"), &found(Some(50)));
        for part in ["frame 50", "frame 25", "25 acknowledged frames are missing", "data/ledger"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(describe(Path::new("d"), &found(None)).contains("unknown"));
        assert_eq!(shown(&found(None))["marked_frame"], serde_json::Value::Null);
    }

    #[test]
    fn without_a_terminal_nothing_is_accepted_by_accident() {
        // The test's stdin is no terminal under cargo; on one, the name would have to be typed.
        if !std::io::stdin().is_terminal() {
            assert!(confirm(Path::new("data")).is_err());
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(ledger_dir(&missing).is_err());
        assert!(!missing.exists());
        std::fs::create_dir_all(dir.path().join("data").join(LEDGER)).unwrap();
        assert!(ledger_dir(&dir.path().join("data")).unwrap().ends_with(LEDGER));
    }
}
