//! What README and ARCHITECTURE show is what runs: the first agent is the example, the configuration is accepted, the
//! reason codes are all there.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The first code block in `language`.
fn block(language: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_first_agent_is_the_example_that_the_sdks_tests_run() {
    let example = std::fs::read_to_string(root().join("sdk-ts/examples/quickstart/agent.ts")).unwrap();
    assert_eq!(block("ts"), example);
    assert!(example.lines().count() <= 20, "the README promises a first agent in 20 lines");
}

#[test]
fn architecture_lists_every_reason_code_and_whether_to_retry() {
    use cellaflow_engine::graph::command::Code;
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<(String, bool)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(code, _)| !code.contains(['/', ' ']))
        .map(|(code, rest)| (code.to_owned(), rest.starts_with("yes")))
        .collect();
    let known: Vec<(String, bool)> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.retryable())).collect();
    assert_eq!(rows, known);
}

#[test]
fn the_compactors_commands_take_what_is_shown() {
    let shown = block("console");
    let (mut commands, mut queries) = (0, 0);
    for line in shown.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("cellaflow-compactor") {
            continue;
        }
        let words: Vec<&str> = words.collect();
        let help =
            Command::new(cellaflow_tests::compactor_binary()).args([words[0], "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{line}: no {flag} in\n{help}");
        }
        commands += 1;
        queries +=
            words.iter().filter(|word| root().join(format!("archive/queries/{word}.sql")).is_file()).count();
    }
    assert_eq!((commands, queries), (4, 2));
    assert!(root().join("archive/cellaflow.sql").is_file(), "the views that DuckDB is started with");
}

#[test]
fn the_production_configuration_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    certificate(folder.path());
    let toml = block("toml").replace("/etc/cellaflow", at).replace("/var/lib/cellaflow", at);
    let file = folder.path().join("engine.toml");
    std::fs::write(&file, &toml).unwrap();
    let check = |file: &Path| {
        Command::new(cellaflow_tests::binary())
            .args(["serve", "--check-config", "--config"])
            .arg(file)
            .output()
            .unwrap()
    };
    let accepted = check(&file);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    std::fs::write(&file, toml.replace("listen = \"0", "listenn = \"0")).unwrap();
    assert_eq!(check(&file).status.code(), Some(64), "the check must be able to fail");
}

fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("server.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    documents.push(root().join("sdk-ts/examples/README.md"));
    let pages = std::fs::read_dir(root().join("sdk-ts/docs")).unwrap();
    documents.extend(pages.map(|page| page.unwrap().path()));
    let mut seen = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            let at = document.parent().unwrap().join(path);
            assert!(at.exists(), "{} links to {target}, which is not there", document.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "the documents have more links than {seen}");
}
