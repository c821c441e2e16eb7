//! RocksDB's options: durability first, then a small bounded footprint. Invariants RO1 to RO4 of `rocks` live here.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, LruCacheOptions, Options,
    WriteBufferManager,
};

/// What the store may take; the defaults fit a daemon that idles under 20 MB and works under 48 MB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of the block cache, in bytes (4 MiB); index and filter blocks live in it too.
    pub block_cache_bytes: usize,
    /// Memory of all write buffers together, in bytes (6 MiB).
    pub write_buffers_bytes: usize,
    /// How long the log gets before the tables are flushed, in bytes (8 MiB); a start reads all of it into memory.
    pub log_bytes_max: u64,
    /// Table files kept open (256).
    pub open_files_max: i32,
    /// Threads that flush and compact (2).
    pub background_jobs_max: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            block_cache_bytes: 4 << 20,
            write_buffers_bytes: 6 << 20,
            log_bytes_max: 8 << 20,
            open_files_max: 256,
            background_jobs_max: 2,
        }
    }
}

/// Level 3 gives about 4 % more on transcripts of agents, for half as much time again.
const ZSTD_LEVEL: i32 = 1;
/// As the level has it.
const ZSTD_WINDOW_BITS: i32 = -14;
/// As the level has it.
const ZSTD_STRATEGY: i32 = 0;

pub(super) fn cache(settings: &Settings) -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(settings.block_cache_bytes);
    // Few readers: two shards, because a shard of a small cache must still hold an index block or two.
    options.set_num_shard_bits(1);
    Cache::new_lru_cache_opts(&options)
}

/// Options of the database and of `Table::Rows`.
pub(super) fn database(settings: &Settings, cache: &Cache) -> Options {
    let mut options = Options::default();
    set_durability(&mut options, settings);
    set_footprint(&mut options, settings);
    // Heads are rewritten all the time and read one by one: small blocks.
    set_table(&mut options, cache, 4 << 10, 2 << 20);
    options
}

/// Options of `Table::Ledger`: written once, read in order, deleted by range.
pub(super) fn ledger(cache: &Cache) -> Options {
    let mut options = Options::default();
    set_table(&mut options, cache, 16 << 10, 4 << 20);
    options
}

/// RO1, RO2.
fn set_durability(options: &mut Options, settings: &Settings) {
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(0);
    options.set_manual_wal_flush(false);
    options.set_max_total_wal_size(settings.log_bytes_max);
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
}

/// RO4.
fn set_footprint(options: &mut Options, settings: &Settings) {
    let budget = WriteBufferManager::new_write_buffer_manager(settings.write_buffers_bytes, false);
    options.set_write_buffer_manager(&budget);
    options.set_max_background_jobs(settings.background_jobs_max);
    options.set_max_open_files(settings.open_files_max);
    options.set_max_file_opening_threads(1);
    options.set_table_cache_num_shard_bits(2);
    options.set_compaction_readahead_size(256 << 10);
    options.set_writable_file_max_buffer_size(256 << 10);
    options.set_max_manifest_file_size(4 << 20);
    options.set_manifest_preallocation_size(64 << 10);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
}

fn set_table(options: &mut Options, cache: &Cache, block_bytes: usize, write_buffer_bytes: usize) {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(block_bytes);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(256 << 10);
    options.set_target_file_size_base(16 << 20);
    options.set_max_bytes_for_level_base(64 << 20);
    // Upper levels are rewritten soon; where data comes to rest it is worth the work.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_bottommost_compression_options(ZSTD_WINDOW_BITS, ZSTD_LEVEL, ZSTD_STRATEGY, 0, true);
}
