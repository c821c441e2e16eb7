pub mod graph;
pub mod storage;
