//! The archive in a bucket: a real server that speaks S3, over http and TLS, with and without conditional writes.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use cellaflow_tests::{Ran, python};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::scene::{RUN, Scene, files, replay};

/// An S3 server with one bucket; it ends when dropped.
struct Bucket {
    folder: tempfile::TempDir,
    server: Child,
    endpoint: String,
}

impl Bucket {
    fn start(tls: bool, conditions: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let mut command = python::program("python/s3_server.py");
        if tls {
            let names = vec!["127.0.0.1".to_owned()];
            let CertifiedKey { cert: made, signing_key } = generate_simple_self_signed(names).unwrap();
            std::fs::write(&cert, made.pem()).unwrap();
            std::fs::write(&key, signing_key.serialize_pem()).unwrap();
            command.arg("--tls").arg(&cert).arg(&key);
        }
        if !conditions {
            command.arg("--no-conditions");
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut port = String::new();
        std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let scheme = if tls { "https" } else { "http" };
        assert!(!port.is_empty(), "{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        let endpoint = format!("{scheme}://127.0.0.1:{}", port.trim());
        Self { folder, server, endpoint }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Runs the compactor with the bucket as its archive.
    async fn compactor(&self, scene: &Scene, arguments: &[&str]) -> Ran {
        let tls = self.endpoint.starts_with("https");
        let authority = self.authority();
        let bundle = if tls { authority.to_str().unwrap() } else { "" };
        let env = [
            ("CELLAFLOW_ARCHIVE", "s3://archive/below/a prefix"),
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", if tls { "false" } else { "true" }),
            ("AWS_CA_BUNDLE", bundle),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ];
        scene.engine.compactor_with(arguments, &env).await
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It has ended by itself: nothing to kill.
        let _ended = self.server.kill().is_err();
        let _reaped = self.server.wait().is_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_over_http_or_tls_holds_everything_that_a_folder_does() {
    for tls in [false, true] {
        let bucket = Bucket::start(tls, true);
        let mut scene = Scene::start().await;
        let sessions = scene.add(6).await;
        let done = bucket.compactor(&scene, &RUN).await.json();
        assert_eq!(done["sessions"].as_u64(), Some(sessions.len() as u64), "{done}");
        assert!(files(&scene.engine.archive()).is_empty(), "nothing lies in a folder");
        let verified = bucket.compactor(&scene, &["verify", "--json"]).await.json();
        assert_eq!(verified["archive"]["sessions"].as_u64(), Some(sessions.len() as u64), "{verified}");
        scene.engine.cli(&["sessions", "erase", &sessions[0], "--reason", "asked", "--yes"]).await.ok();
        let done = bucket.compactor(&scene, &RUN).await.json();
        assert_eq!((done["erased"].as_u64(), done["failed"].as_u64()), (Some(1), Some(0)), "{done}");
        bucket.compactor(&scene, &["verify"]).await.ok();
        bucket.compactor(&scene, &["archive", "gc", "--json"]).await.ok();
        let client = scene.engine.client().await;
        for session in &sessions[1..] {
            bucket.compactor(&scene, &["restore", session]).await.ok();
            assert_eq!(replay(&client, session).await.unwrap(), scene.before[session], "byte-equal");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditional_writes_is_refused_before_anything_is_written() {
    let bucket = Bucket::start(false, false);
    let mut scene = Scene::start().await;
    let sessions = scene.add(1).await;
    for arguments in [&RUN[..], &["run", "--every", "1h"]] {
        let ran = bucket.compactor(&scene, arguments).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("conditional writes"), "{ran:?}");
    }
    scene.check_once(&sessions).await;
}
