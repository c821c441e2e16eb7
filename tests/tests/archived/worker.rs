//! The worker as a service: schedules, several at a time, a graceful end, metrics.

use std::io::{Read as _, Write as _};

use cellaflow_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::kills::stopped_at;
use super::scene::{RUN, Scene, published};

/// Asks a worker to stop and returns its exit code.
async fn stop(mut worker: Child) -> Option<i32> {
    let pid = worker.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    wait::within("the worker ends", worker.wait()).await.unwrap().code()
}

fn metrics(port: u16) -> Option<String> {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    socket.read_to_string(&mut page).ok()?;
    Some(page)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_on_a_schedule_archive_everything_once_and_end_when_asked() {
    let mut scene = Scene::start().await;
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    // Before the workers come: what is archived meanwhile could not be noted any more as it was.
    for _ in 0..4 {
        scene.add(10).await;
    }
    let start = |port: &u16| {
        let listen = format!("127.0.0.1:{port}");
        scene.engine.compactor_in_background(&["run", "--every", "1s", "--metrics-listen", &listen], &[])
    };
    let workers: Vec<Child> = ports.iter().map(start).collect();
    wait::until("all is archived", async || {
        (published(&scene.engine.archive()).len() == scene.before.len()).then_some(())
    })
    .await;
    // A worker counts a claim when it is through with it, which is after others can read it.
    let pages = wait::until("all workers have counted what they archived", async || {
        let pages = ports.iter().map(|port| metrics(*port)).collect::<Option<Vec<_>>>()?;
        (archived(&pages) >= scene.before.len() as u64).then_some(pages)
    })
    .await;
    assert_eq!(archived(&pages), scene.before.len() as u64, "what is counted is what was archived, once");
    assert!(pages.iter().any(|page| value(page, "cellaflow_compactor_rounds_total{job=\"archive\"") > 0));
    for worker in workers {
        assert_eq!(stop(worker).await, Some(0));
    }
    scene.check_every_event_once().await;
    scene.duckdb_counts_once().await;
}

fn archived(pages: &[String]) -> u64 {
    pages.iter().map(|page| value(page, "cellaflow_compactor_sessions_archived_total")).sum()
}

fn value(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_to_stop_gives_its_claim_up_and_a_commit_is_finished() {
    let mut scene = Scene::start().await;
    for arrow in ["claimed", "streamed", "written", "verified"] {
        let added = scene.add(4).await;
        // Claims of ten minutes: whoever comes next gets them only because they were given up.
        let (worker, _) = stopped_at(&scene.engine, arrow, &["run", "--every", "1h"]).await;
        assert_eq!(stop(worker).await, Some(0), "{arrow}");
        scene.check_once(&added).await;
        let done = scene.engine.compactor(&RUN).await.json();
        assert!(done["lineages"].as_u64() > Some(0), "{arrow}: {done}");
        scene.check_once(&added).await;
    }
    let added = scene.add(4).await;
    let (worker, go) = stopped_at(&scene.engine, "committed", &["run", "--every", "1h"]).await;
    std::fs::write(go, "").unwrap();
    assert_eq!(stop(worker).await, Some(0));
    scene.check_once(&added).await;
}
