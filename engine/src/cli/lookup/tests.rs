//! The order of places, and errors that list them (issue: "SDK and CLI look in this order").

use super::*;

fn connection(url: &str) -> Connection {
    Connection {
        url: url.to_owned(),
        token: format!("token of {url}"),
        ca: "pem".to_owned(),
        ..Connection::default()
    }
}

fn around(folder: &Path, env: &[(&str, &str)]) -> Surroundings {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Surroundings { env, folder: folder.to_owned() }
}

/// A project with a dev folder two levels above, and a user's configuration folder.
fn project() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("project/src/deep");
    std::fs::create_dir_all(&inner).unwrap();
    for (folder, url) in [("project/.cellaflow", "https://near:1"), ("config/cellaflow", "https://user:1")] {
        let folder = root.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        connection(url).write(&folder.join(CONNECTION_FILE)).unwrap();
    }
    (root, inner)
}

#[test]
fn options_then_environment_then_nearest_file_then_the_user_s() {
    let (root, inner) = project();
    let config = root.path().join("config");
    let config = ("XDG_CONFIG_HOME", config.to_str().unwrap());
    let from_env = [config, ("CELLAFLOW_URL", "https://env:1"), ("CELLAFLOW_TOKEN", "env token")];

    let options = Options { url: Some("https://opt:1".into()), ..Options::default() };
    let found = find(&options, &around(&inner, &from_env)).unwrap();
    assert_eq!(
        (found.connection.url.as_str(), found.connection.token.as_str()),
        ("https://opt:1", "env token")
    );

    let found = find(&Options::default(), &around(&inner, &from_env)).unwrap();
    assert_eq!((found.connection.url.as_str(), found.source.as_str()), ("https://env:1", "CELLAFLOW_URL"));

    let found = find(&Options::default(), &around(&inner, &[config])).unwrap();
    assert_eq!(found.connection, connection("https://near:1"));

    let found = find(&Options::default(), &around(&root.path().join("config"), &[config])).unwrap();
    assert_eq!(found.connection, connection("https://user:1"));

    let options = Options { data: Some("project/.cellaflow".into()), ..Options::default() };
    let found = find(&options, &around(root.path(), &from_env)).unwrap();
    assert_eq!(found.connection, connection("https://near:1"), "--data wins over the environment");
}

#[test]
fn l1_a_file_s_address_keeps_its_own_token() {
    let (_root, inner) = project();
    let found =
        find(&Options::default(), &around(&inner, &[("CELLAFLOW_TOKEN", "of another engine")])).unwrap();
    assert_eq!(found.connection, connection("https://near:1"));
    let options = Options { token: Some("typed".into()), ..Options::default() };
    let found = find(&options, &around(&inner, &[])).unwrap();
    assert_eq!((&*found.connection.url, &*found.connection.token), ("https://near:1", "typed"));
    let options = Options { url: Some("https://opt:1".into()), ..Options::default() };
    let error = find(&options, &around(&inner, &[])).unwrap_err();
    assert!(error.to_string().contains("--token"), "{error}");
}

#[test]
fn l2_a_broken_file_is_an_error_and_is_not_quoted() {
    let (root, inner) = project();
    let path = root.path().join("project/.cellaflow/connection.json");
    std::fs::write(&path, "{\"token\": cf_secret").unwrap();
    let error = find(&Options::default(), &around(&inner, &[])).unwrap_err().to_string();
    assert!(error.contains("connection.json") && error.contains("cellaflow dev"), "{error}");
    assert!(!error.contains("cf_secret"), "{error}");
}

#[test]
fn l3_nothing_found_lists_every_place() {
    let root = tempfile::tempdir().unwrap();
    let error =
        find(&Options::default(), &around(root.path(), &[("HOME", "/home/x")])).unwrap_err().to_string();
    assert!(error.contains("CELLAFLOW_URL"), "{error}");
    assert!(error.contains(&root.path().join(".cellaflow/connection.json").display().to_string()), "{error}");
    assert!(error.contains("/home/x/.config/cellaflow/connection.json"), "{error}");
    assert!(error.contains("cellaflow dev"), "{error}");
}

#[test]
fn a_certificate_authority_is_a_path_or_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nx\n";
    std::fs::write(&path, pem).unwrap();
    let base = [("CELLAFLOW_URL", "https://env:1"), ("CELLAFLOW_TOKEN", "t")];
    let with = |ca: &str| {
        let env = [base[0], base[1], ("CELLAFLOW_CA", ca)];
        find(&Options::default(), &around(folder.path(), &env))
    };
    assert_eq!(with(path.to_str().unwrap()).unwrap().connection.ca, pem);
    assert_eq!(with(pem).unwrap().connection.ca, pem);
    let error = with("/nonexistent/ca.pem").unwrap_err().to_string();
    assert!(error.contains("CELLAFLOW_CA") && error.contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn plain_http_is_refused_before_a_token_is_sent() {
    let env = [("CELLAFLOW_URL", "http://env:1"), ("CELLAFLOW_TOKEN", "t")];
    let error = find(&Options::default(), &around(Path::new("/"), &env)).unwrap_err().to_string();
    assert!(error.contains("https"), "{error}");
}

#[test]
fn a_file_of_a_gone_process_is_said_to_be_stale() {
    let (root, inner) = project();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = Some(child.id());
    child.wait().unwrap();
    let file = root.path().join("project/.cellaflow/connection.json");
    Connection { pid, ..connection("https://near:1") }.write(&file).unwrap();
    let stale = find(&Options::default(), &around(&inner, &[])).unwrap().stale.unwrap();
    assert!(stale.contains("connection.json") && stale.contains("cellaflow dev"), "{stale}");
    Connection { pid: Some(std::process::id()), ..connection("https://near:1") }.write(&file).unwrap();
    assert!(find(&Options::default(), &around(&inner, &[])).unwrap().stale.is_none());
}
