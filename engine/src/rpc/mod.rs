//! The network edge: convert, submit or read, convert back.

pub mod archive_service;
pub mod auth;
mod backup;
pub mod binding;
pub mod channel;
pub mod context;
pub mod context_service;
mod control;
pub mod convert;
pub mod engine_service;
pub mod fleet;
pub mod fork;
mod journal;
mod labels;
pub mod listen;
mod listing;
pub mod operator_service;
pub mod session_service;
pub mod signals;
pub mod status;
mod stub;
pub mod subscription;
mod taken;
pub mod tls;
mod tokens;
mod verify;
pub mod vitals;
mod waits;
mod workflows;

#[cfg(test)]
mod tests;
