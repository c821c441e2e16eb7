//! The archive: what has ended, as files that any reader of Parquet understands.
//!
//! Owns the files, their columns and manifests, and the order in which a lineage is moved:
//! `claim → stream → write → re-read and verify → commit → publish`. Never deletes from the ledger: the engine does, in the
//! commit, if the claim is still current. The engine's word decides; a file that no published manifest names means nothing.
//!
//! A1. Names carry claim and epoch, and every file is put where nothing was: two workers never write the same file.
//! A2. Nothing is committed that was not read back from the store and checked, chains included.
//! A3. A manifest is published only after the engine has committed it; readers look at published ones only. What a crash
//!     left between commit and publication the next run publishes.
//! A4. Memory is bounded, whatever a lineage's size: rows leave in batches, row groups and files of bounded size.
//! A5. `events.raw` is the stored record, byte for byte; every other column follows from it and can be made again.
//!
//! ```text
//! data/ns=N/dt=YYYY-MM-DD/workflow=W/TABLE-CLAIM-EPOCH-NNNN.parquet
//! pending/CLAIM-EPOCH.json                   written before the commit
//! incarnations/ns=N/INCARNATION              empty: the ledger's incarnation was compared with the manifests
//! manifests/ns=N/CLAIM-EPOCH.json            published: {"files": [{"table", "path", "rows", …}], "lineages": …}
//! ```
//!
//! `dt` is the day (UTC) on which the lineages' roots began. Tables and columns: `tables`.

pub mod beside;
mod decode;
pub mod gc;
mod incarnation;
mod job;
pub mod manifest;
pub mod restore;
pub mod rewrite;
mod rows;
mod spool;
pub mod store;
pub mod tables;
mod texts;
pub mod verify;
pub mod walk;

pub mod run;

pub use job::Worker;
pub use store::Store;
