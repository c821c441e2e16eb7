//! The archive's measurement, small: it runs to its end, loses no event and prints its line. Figures are not judged here.

use std::path::PathBuf;
use std::process::Command;

const EVENTS: u64 = 2_000;

#[test]
fn a_small_measurement_prints_its_line() {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_cellaflow-bench"));
    let beside = |name: &str| bench.with_file_name(name);
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&bench)
        .arg("--folder")
        .arg(folder.path())
        .args(["archive", "--events", &EVENTS.to_string(), "--skip-reclaim", "--engine"])
        .arg(beside("cellaflow"))
        .arg("--compactor")
        .arg(beside("cellaflow-compactor"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let line: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let figures = &line["archive"];
    assert!(figures["events"].as_u64().unwrap() >= EVENTS, "{line}");
    for name in ["events_per_s", "parquet_bytes_per_event", "jsonl_zstd_bytes_per_event", "slowest_query_ms"]
    {
        assert!(figures[name].as_f64().unwrap() > 0.0, "{name} of {line}");
    }
    assert!(figures["disk_drop"].is_null(), "space is given back by the hour");
}
