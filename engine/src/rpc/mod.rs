//! The network edge: convert, submit or read, convert back.

pub mod auth;
pub mod listen;
pub mod signals;
pub mod tls;
