//! Generated code of Cellaflow's protos: the wire contract, documents inside payloads, and stored bytes.

/// The public wire contract.
pub mod v1 {
    #![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs)]
    tonic::include_proto!("cellaflow.v1");
}

/// Documents inside payloads.
pub mod content {
    #![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs)]
    tonic::include_proto!("cellaflow.content.v1");
}

/// What the engine stores.
pub mod disk {
    #![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs)]
    tonic::include_proto!("cellaflow.disk.v1");
}

/// All descriptors as an encoded `FileDescriptorSet`, comments left out.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
