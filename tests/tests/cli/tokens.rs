//! `tokens create|list|revoke`: private.

use cellaflow_tests::Engine;

#[tokio::test]
async fn a_token_is_shown_once_does_what_its_role_may_and_nothing_after_its_revocation() {
    let engine = Engine::start().await;
    let created =
        engine.cli(&["tokens", "create", "board", "--role", "viewer", "--ttl", "1h", "--json"]).await.json();
    let secret = created["secret"].as_str().unwrap();
    let id = created["token"]["token_id"].as_str().unwrap();
    assert_eq!(created["token"]["role"], "viewer");

    assert_eq!(engine.cli(&["sessions", "list", "--token", secret]).await.code, Some(0));
    let denied = engine.cli(&["tokens", "list", "--token", secret]).await;
    assert_eq!(denied.code, Some(77), "a viewer lists no tokens: {denied:?}");

    let listed = engine.cli(&["tokens", "list", "--json"]).await;
    assert!(!listed.stdout.contains(secret), "the secret is not stored");
    let listed = listed.json();
    let found = listed["tokens"].as_array().unwrap().iter().find(|token| token["token_id"] == id).unwrap();
    assert_eq!((&found["name"], found["revoked_ms"].as_u64()), (&"board".into(), Some(0)));

    engine.cli(&["tokens", "revoke", "board"]).await.ok();
    let revoked = engine.cli(&["sessions", "list", "--token", secret]).await;
    assert_eq!(revoked.code, Some(77), "{revoked:?}");
    let all = engine.cli(&["tokens", "list", "--all"]).await.ok();
    assert!(all.contains("revoked"), "{all}");
    let none = engine.cli(&["tokens", "revoke", "board"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
}

#[tokio::test]
async fn a_secret_is_alone_on_stdout() {
    let engine = Engine::start().await;
    let created = engine.cli(&["tokens", "create", "ci", "--role", "client"]).await;
    let secret = created.stdout.trim();
    assert!(secret.starts_with("cf_") && !secret.contains(char::is_whitespace), "{created:?}");
    assert!(
        created.stderr.contains("until it is revoked") && !created.stderr.contains(secret),
        "{created:?}"
    );
}
