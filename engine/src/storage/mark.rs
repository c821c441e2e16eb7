//! `durable.mark`: what was acknowledged, kept outside of the log that could lose it.
//!
//! Owns the mark file: two slots 4 KiB apart, each saying ledger id and frame number. Never reads the ledger.
//!
//! M1. A frame's number is written after its sync and before anyone is told of it.
//! M2. Writes go to one slot until it has itself been synced, every `SYNC_INTERVAL`, then to the other: while one is
//!     being written, the other holds a synced mark at most that old. So one bad slot is normal, two are not.
//! M3. The file comes into being whole: it is written and synced under another name and then renamed.
//!
//! ```text
//! slot     "CFM1" 4, ledger id 16, frame 8, CRC32C of all before 4     at 0 and at 4096
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::codec::take;
use super::{Fault, LedgerId, Position};
use crate::graph::ids::FrameNumber;

/// The file's name in the data folder.
pub(super) const FILE: &str = "durable.mark";
/// The name under which it is first written (M3).
pub(super) const NEW_FILE: &str = "durable.mark.new";

/// How often the slot in use is synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const MAGIC: [u8; 4] = *b"CFM1";
const SLOT_BYTES: usize = 4 + 16 + 8 + 4;
const SLOT_DISTANCE: u64 = 4096;

/// What a slot says: this frame of this ledger was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) ledger_id: LedgerId,
    pub(super) frame: FrameNumber,
}

impl Mark {
    /// Marks all that the ledger holds at `position`.
    pub(super) fn of(position: &Position) -> Mark {
        Mark { ledger_id: position.ledger_id, frame: position.frame }
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&self.ledger_id.0);
        slot.extend_from_slice(&self.frame.0.to_be_bytes());
        slot.extend_from_slice(&crc32c::crc32c(&slot).to_be_bytes());
        slot.try_into().expect("the parts add up to SLOT_BYTES")
    }

    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Mark> {
        let (body, crc) = slot.split_last_chunk::<4>()?;
        let mut rest = body;
        let intact = crc32c::crc32c(body) == u32::from_be_bytes(*crc) && take(&mut rest)? == MAGIC;
        let mark = Mark {
            ledger_id: LedgerId(take(&mut rest)?),
            frame: FrameNumber(u64::from_be_bytes(take(&mut rest)?)),
        };
        intact.then_some(mark)
    }
}

/// What the two slots say; `None` for one that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots([Option<Mark>; 2]);

impl Slots {
    /// Returns the later mark of those that can be read; none if they name two ledgers.
    pub(super) fn latest(&self) -> Option<Mark> {
        match self.0 {
            [Some(a), Some(b)] if a.ledger_id != b.ledger_id => None,
            [Some(a), Some(b)] => Some(if a.frame >= b.frame { a } else { b }),
            [a, b] => a.or(b),
        }
    }

    /// Tells whether both slots are as they were made: no frame was ever acknowledged.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.0, [Some(a), Some(b)] if a == b && a.frame == FrameNumber(0))
    }

    /// Returns the slot that may be overwritten: the other one holds the later mark.
    fn older(&self) -> Slot {
        match self.0 {
            [Some(a), Some(b)] if a.frame < b.frame => Slot::First,
            [None, _] => Slot::First,
            [Some(_), _] => Slot::Second,
        }
    }
}

/// Reads the mark of a data folder without touching it; `None` if there is no file.
pub(super) fn read(dir: &Path) -> Result<Option<Slots>, Fault> {
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io(format!("opening {}", path.display()), error)),
    };
    read_slots(&file).map(Some).map_err(|error| Fault::io(format!("reading {}", path.display()), error))
}

fn read_slots(file: &File) -> io::Result<Slots> {
    Ok(Slots([read_slot(file, Slot::First)?, read_slot(file, Slot::Second)?]))
}

/// A file that is too short has a bad slot there; it is not an error.
fn read_slot(file: &File, slot: Slot) -> io::Result<Option<Mark>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot.offset()) {
        Ok(()) => Ok(Mark::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a new mark file with `mark` in both slots and syncs it and its folder (M3).
pub(super) fn create(dir: &Path, mark: Mark) -> Result<(), Fault> {
    let (new, path) = (dir.join(NEW_FILE), dir.join(FILE));
    write_new(&new, mark)
        .and_then(|()| fs::rename(&new, &path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|error| Fault::io(format!("writing {}", path.display()), error))
}

fn write_new(path: &Path, mark: Mark) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for slot in [Slot::First, Slot::Second] {
        file.write_all_at(&mark.encode(), slot.offset())?;
    }
    file.sync_all()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    First,
    Second,
}

impl Slot {
    fn offset(self) -> u64 {
        match self {
            Slot::First => 0,
            Slot::Second => SLOT_DISTANCE,
        }
    }

    fn other(self) -> Slot {
        match self {
            Slot::First => Slot::Second,
            Slot::Second => Slot::First,
        }
    }
}

/// The mark file of a running ledger; a thread of its own syncs it.
pub(super) struct MarkFile {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

struct Shared {
    ledger_id: LedgerId,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Where writes go until it has been synced.
    slot: Slot,
    /// The slot has a write that is not synced.
    dirty: bool,
    /// The file is being closed: sync what there is and end.
    closing: bool,
    /// A sync failed: what the disk holds is unknown from here on.
    failed: Option<Fault>,
}

impl MarkFile {
    /// Goes on from a recovered ledger: `mark` says what it holds, and is itself durable when this returns.
    pub(super) fn resume(dir: &Path, mark: Mark) -> Result<MarkFile, Fault> {
        let path = dir.join(FILE);
        let (file, slot) =
            start(&path, mark).map_err(|error| Fault::io(format!("writing {}", path.display()), error))?;
        let shared = Arc::new(Shared {
            ledger_id: mark.ledger_id,
            file,
            state: Mutex::new(State { slot, dirty: false, closing: false, failed: None }),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let syncer = std::thread::Builder::new()
            .name("mark-sync".to_owned())
            .spawn(move || for_thread.sync_until_closed())
            .map_err(|error| Fault::io("starting the thread that syncs the mark", error))?;
        Ok(MarkFile { shared, syncer: Some(syncer) })
    }

    /// Does what the thread does every `SYNC_INTERVAL`, for tests that do not wait for it.
    #[cfg(test)]
    pub(super) fn sync_now(&self) {
        self.shared.sync(&mut self.shared.state.lock());
    }

    /// Says that `frame` is durable (M1). The write reaches the kernel here, the disk within `SYNC_INTERVAL`.
    pub(super) fn write(&self, frame: FrameNumber) -> Result<(), Fault> {
        let mut state = self.shared.state.lock();
        if let Some(fault) = &state.failed {
            return Err(fault.clone());
        }
        let mark = Mark { ledger_id: self.shared.ledger_id, frame };
        self.shared
            .file
            .write_all_at(&mark.encode(), state.slot.offset())
            .map_err(|error| Fault::io(format!("writing {FILE}"), error))?;
        if !state.dirty {
            state.dirty = true;
            self.shared.changed.notify_all();
        }
        Ok(())
    }
}

/// Makes `mark` durable in the older slot and returns the slot to write next.
fn start(path: &Path, mark: Mark) -> io::Result<(File, Slot)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // After a kill both slots may be in the page cache only: the later one is made safe before the other is touched.
    file.sync_all()?;
    let older = read_slots(&file)?.older();
    file.write_all_at(&mark.encode(), older.offset())?;
    file.sync_data()?;
    Ok((file, older.other()))
}

impl Shared {
    fn sync_until_closed(&self) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait_while(&mut state, |state| !state.dirty && !state.closing);
            if !state.closing {
                self.changed.wait_while_for(&mut state, |state| !state.closing, SYNC_INTERVAL);
            }
            if state.dirty {
                self.sync(&mut state);
            }
            if state.closing || state.failed.is_some() {
                return;
            }
        }
    }

    /// Syncs the slot in use and turns to the other. The lock stays held: a write beside the sync would leave this
    /// slot unsynced while the next one is already being written (M2).
    fn sync(&self, state: &mut State) {
        match self.file.sync_data() {
            Ok(()) => {
                state.dirty = false;
                state.slot = state.slot.other();
            }
            Err(error) => state.failed = Some(Fault::io(format!("syncing {FILE}"), error)),
        }
    }
}

impl Drop for MarkFile {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(syncer) = self.syncer.take() {
            // A panic there was reported by the panic hook; closing goes on.
            drop(syncer.join());
        }
    }
}
