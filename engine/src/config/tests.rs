//! All faults at once, each with its key, its origin and the repair (DESIGN 7; S1 to S4).

use std::io::Write as _;

use super::*;

fn toml_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn sources(
    file: Option<&tempfile::NamedTempFile>,
    env: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Sources {
    Sources {
        file: file.map(|file| file.path().to_owned()),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
    }
}

fn dev(file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Settings, Faults> {
    let file = toml_file(file);
    Settings::load(Mode::Dev, &sources(Some(&file), env, flags))
}

#[test]
fn s1_later_layers_win_and_say_so() {
    let file = "lease_ttl_ms = 1000\nchunk_bytes = 65536\nguard_grace_ms = 1";
    let env = [("CELLAFLOW_ENGINE_LEASE_TTL_MS", "2000"), ("CELLAFLOW_ENGINE_CHUNK_BYTES", "131_072")];
    let settings = dev(file, &env, &[("lease_ttl_ms", "3000")]).unwrap();
    assert_eq!(settings.limits.lease_ttl_ms, 3000);
    assert_eq!(settings.limits.chunk_bytes, 131_072);
    assert_eq!(settings.limits.guard_grace_ms, 1);
    assert_eq!(settings.limits.guard_attempt_ms, 30_000);
    assert_eq!(settings.origin("lease_ttl_ms").to_string(), "--lease-ttl-ms");
    assert_eq!(settings.origin("chunk_bytes").to_string(), "CELLAFLOW_ENGINE_CHUNK_BYTES");
    assert!(matches!(settings.origin("guard_grace_ms"), Origin::File(_)));
    assert_eq!(settings.origin("guard_attempt_ms"), Origin::Default);
}

#[test]
fn s2_every_fault_of_every_layer_comes_at_once() {
    let file = "leese_ttl_ms = 5\nguard_grace_ms = \"soon\"\nlog_format = \"xml\"\nlisten = 50051\ntls_cert = \"a.pem\"";
    let env = [
        ("CELLAFLOW_ENGINE_FRAME_COMMANDS_MAX", "0"),
        ("CELLAFLOW_ENGINE_LOG_FILTER", "info,,=x=y"),
        ("CELLAFLOW_ENGINE_NOPE", "1"),
        ("CELLAFLOW_URL", "https://not.ours"),
    ];
    let faults = dev(file, &env, &[("metrics_listen", "0.0.0.0:9100"), ("drain_ms", "-1")]).unwrap_err();
    let mut found: Vec<&str> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
    found.sort_unstable();
    let expected = [
        "drain_ms",
        "frame_commands_max",
        "guard_grace_ms",
        "leese_ttl_ms",
        "listen",
        "log_filter",
        "log_format",
        "metrics_listen",
        "nope",
        "tls_cert",
    ];
    assert_eq!(found, expected, "{faults}");
    let text = faults.to_string();
    assert!(text.contains("did you mean lease_ttl_ms?"), "{text}");
    assert!(text.contains("CELLAFLOW_ENGINE_FRAME_COMMANDS_MAX"), "{text}");
    assert!(text.contains("from 1 to 65536, for example 1024"), "{text}");
    assert!(faults.0.iter().all(|fault| !fault.instead.is_empty()), "each says what to write instead");
}

#[test]
fn a_fault_in_an_overridden_layer_is_still_a_fault() {
    let faults = dev("drain_ms = true", &[], &[("drain_ms", "5")]).unwrap_err();
    assert_eq!(faults.0.len(), 1, "S2: {faults}");
}

#[test]
fn a_missing_file_and_broken_toml_name_the_file_and_the_line() {
    let missing = Sources { file: Some("/nonexistent/engine.toml".into()), ..Sources::default() };
    let text = Settings::load(Mode::Dev, &missing).unwrap_err().to_string();
    assert!(text.contains("/nonexistent/engine.toml") && text.contains("--config"), "{text}");
    let text = dev("drain_ms = 1\nsecret = cf_abc\n", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("line 2"), "{text}");
    assert!(!text.contains("cf_abc"), "S3: {text}");
}

#[test]
fn serve_needs_certificate_and_key() {
    let keys = |faults: &Faults| faults.0.iter().map(|fault| fault.key.clone()).collect::<Vec<_>>();
    let none = Settings::load(Mode::Serve, &Sources::default()).unwrap_err();
    assert_eq!(keys(&none), ["tls_cert", "tls_key"]);
    let file = toml_file("not a certificate");
    let path = file.path().to_str().unwrap();
    let one = Settings::load(Mode::Serve, &sources(None, &[], &[("tls_cert", path)])).unwrap_err();
    assert_eq!(keys(&one), ["tls_key"]);
    let both = [("tls_cert", path), ("tls_key", "/nonexistent/key.pem")];
    let both = Settings::load(Mode::Serve, &sources(None, &[], &both)).unwrap_err();
    assert_eq!(keys(&both), ["tls_cert", "tls_key"], "both files are looked at: {both}");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let faults = dev("payload_bytes_max = 134217728\nframe_commands_max = 5000", &[], &[]).unwrap_err();
    let keys: Vec<&str> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["payload_bytes_max", "frame_commands_max"], "{faults}");
}

const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn tokens_are_read_by_hash_and_every_bad_one_is_told() {
    let file = format!(
        "[[tokens]]\nhash = \"{HASH}\"\nrole = \"worker\"\nnamespace = \"prod\"\nexpires = 2030-01-01T00:00:00Z\n\
         [[tokens]]\nhash = \"cf_clear\"\nrole = \"root\"\nnamespace = \"Prod\"\n\
         [[tokens]]\nhash = \"{HASH}\"\nrole = \"viewer\"\nnamespace = \"prod\"\nscope = 1\n"
    );
    let file = toml_file(&file);
    let faults = Settings::load(Mode::Serve, &sources(Some(&file), &[], &[])).unwrap_err();
    let tokens: Vec<_> = faults.0.iter().filter(|fault| fault.key == "tokens").collect();
    assert_eq!(tokens.len(), 5, "{faults}");
    assert!(!faults.to_string().contains("cf_clear"), "S3: {faults}");
    assert!(tokens.iter().any(|fault| fault.problem.contains("token 3: its hash was given before")));
}

#[test]
fn check_config_output_is_the_configuration_again_without_secrets() {
    let settings =
        dev("lease_ttl_ms = 2000\nsan = [\"a.b\"]", &[], &[("san", "c.d"), ("san", "e.f")]).unwrap();
    assert_eq!(settings.sans, ["c.d", "e.f"], "repeated flags add up and replace the file's");
    let printed = settings.to_toml();
    let again = dev(&printed, &[], &[]).unwrap();
    assert_eq!(again.limits, settings.limits);
    assert_eq!((again.listen, again.sans), (settings.listen, settings.sans.clone()));
    assert_eq!(settings.to_json()["lease_ttl_ms"]["value"], 2000);

    let inline = format!("[{{hash = \"{HASH}\", role = \"admin\", namespace = \"default\"}}]");
    let env = [("CELLAFLOW_ENGINE_TOKENS", inline.as_str())];
    let faults = Settings::load(Mode::Serve, &sources(None, &env, &[])).unwrap_err();
    assert!(faults.0.iter().all(|fault| fault.key != "tokens"), "{faults}");
    let mut serve = Settings::defaults(Mode::Serve);
    serve.tokens = vec![tokens::Entry {
        hash: [0xab; 32],
        role: crate::rpc::auth::Role::Admin,
        namespace: "default".to_owned(),
        name: "ops".to_owned(),
        expires_ms: Some(0),
    }];
    let printed = serve.to_toml() + &serve.to_json().to_string();
    assert!(printed.contains("abababab…") && !printed.contains(&"ab".repeat(32)), "S3: {printed}");
}
