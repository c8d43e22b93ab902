//! Tokens, sign-in and revocation, over the wire and in the file.

use std::time::Duration;

use plugbay::base::error::Kind;
use plugbay::base::settings::Settings;
use plugbay::kernel::auth::{Auth, Scope, Scopes};
use plugbay::kernel::store::Store;
use serde_json::json;

use crate::support::Host;

fn open(home: &std::path::Path) -> Result<(Store, Auth), plugbay::base::error::Error> {
    let settings = Settings::defaults(home.to_owned());
    let store = Store::open(&settings)?;
    let auth = Auth::open(&settings, &store)?;
    Ok((store, auth))
}

#[test]
fn the_owners_token_is_made_once_and_stands_in_its_file() {
    let home = tempfile::tempdir().unwrap();
    let first = open(home.path()).unwrap().1.owner_token();
    assert_eq!(std::fs::read_to_string(home.path().join("token")).unwrap().trim(), &*first);
    assert_eq!(first.len(), "plugbay_".len() + 43);
    let (_store, auth) = open(home.path()).unwrap();
    assert_eq!(auth.owner_token(), first);
    assert_eq!(auth.token(first.as_bytes()).unwrap().name(), "owner");
}

#[test]
fn the_files_hold_no_added_token_and_the_next_start_knows_it() {
    let home = tempfile::tempdir().unwrap();
    let (store, auth) = open(home.path()).unwrap();
    let (token, _) = auth.add("bot", Scopes::of(&[Scope::Call]), Some(1)).unwrap();
    assert_eq!(auth.add("bot", Scopes::ALL, None).unwrap_err().kind(), Kind::Conflict);
    drop((store, auth));
    let kept = std::fs::read_to_string(home.path().join("tokens.json")).unwrap();
    assert!(!kept.contains(&token) && !kept.contains(&token["plugbay_".len()..]));
    let (_store, auth) = open(home.path()).unwrap();
    let principal = auth.token(token.as_bytes()).unwrap();
    assert_eq!(principal.name(), "bot");
    assert!(principal.has(Scope::Call) && !principal.has(Scope::Admin));
}

#[test]
fn tokens_json_cut_at_any_byte_is_an_error_and_lets_nobody_in() {
    let home = tempfile::tempdir().unwrap();
    let (store, auth) = open(home.path()).unwrap();
    auth.add("one", Scopes::of(&[Scope::Call]), None).unwrap();
    auth.add("two", Scopes::ALL, Some(30)).unwrap();
    drop((store, auth));
    let file = home.path().join("tokens.json");
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let error = open(home.path()).err().unwrap_or_else(|| panic!("cut at {length}: opened"));
        assert_eq!(error.kind(), Kind::Malformed, "cut at {length}");
        assert!(error.message().contains("tokens.json") && error.message().contains("remove"), "{error}");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(open(home.path()).unwrap().1.list().len(), 2);
}

#[test]
fn a_file_that_holds_no_token_is_an_error_that_says_the_cure() {
    for text in ["", "plugbay_", "plugbay_short", "\u{fffd}", "secret\n"] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), text).unwrap();
        let error = open(home.path()).err().unwrap();
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.message().contains("remove"), "{error}");
    }
}

#[tokio::test]
async fn a_token_lives_from_post_to_delete() {
    let host = Host::start().await;
    let made = host.owned("POST /api/host/tokens", r#"{"name": "bot", "scopes": ["call"], "days": 2}"#).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(host.get("/api/demo", &[&bearer]).await.json()["principal"], "bot");

    let list = host.owned("GET /api/host/tokens", "").await;
    assert!(!list.text().contains(&token));
    let names: Vec<_> = list.json()["tokens"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [json!("owner"), json!("bot")]);

    assert_eq!(host.get("/api/host/tokens", &[&bearer]).await.status, 403);
    assert_eq!(host.owned("DELETE /api/host/tokens/bot", "").await.status, 204);
    assert_eq!(host.owned("DELETE /api/host/tokens/bot", "").await.status, 404);
    let refused = host.get("/api/demo", &[&bearer]).await;
    assert_eq!((refused.status, refused.json()["code"].clone()), (401, json!("unauthenticated")));
    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"));
}

#[tokio::test]
async fn a_wish_for_a_token_that_is_not_right_is_refused_with_a_reason() {
    let host = Host::start().await;
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        (r#"{"name": "a"}"#, 422),
        (r#"{"name": "a", "scopes": []}"#, 422),
        (r#"{"name": "a", "scopes": ["all"]}"#, 422),
        (r#"{"name": "a b", "scopes": ["call"]}"#, 422),
        (r#"{"name": "", "scopes": ["call"]}"#, 422),
        (r#"{"name": "a", "scopes": ["call"], "days": 0}"#, 422),
        (r#"{"name": "a", "scopes": ["call"], "extra": 1}"#, 422),
        (r#"{"name": "owner", "scopes": ["call"]}"#, 409),
        (r#"{"name": "local", "scopes": ["call"]}"#, 409),
    ] {
        let reply = host.owned("POST /api/host/tokens", body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn nobody_gives_away_a_scope_that_they_do_not_have() {
    let host = Host::start_with(|settings| settings.auth = plugbay::base::settings::AuthMode::None).await;
    let wish = |scope: &str| format!(r#"{{"name": "{scope}er", "scopes": ["{scope}"]}}"#);
    assert_eq!(host.ask("POST /api/host/tokens", &[], &wish("call")).await.status, 201);
    assert_eq!(host.ask("POST /api/host/tokens", &[], &wish("approve")).await.status, 403);
    assert_eq!(host.owned("POST /api/host/tokens", &wish("approve")).await.status, 201);
}

#[tokio::test]
async fn revoking_wakes_who_waits_for_it_and_rotating_the_owner_ends_its_sessions() {
    let host = Host::start().await;
    let auth = &host.parts.auth;
    let (token, _) = auth.add("bot", Scopes::of(&[Scope::Call]), None).unwrap();
    let bot = auth.token(token.as_bytes()).unwrap();
    let owner = auth.owner();
    let cookie = sign_in(&host).await;
    let own = ["Sec-Fetch-Site: same-origin", cookie.as_str()];
    assert_eq!(host.get("/", &own).await.status, 200);

    auth.revoke("bot").unwrap();
    tokio::time::timeout(Duration::from_secs(1), bot.revoked()).await.unwrap();
    assert!(!owner.is_revoked());

    let old = host.owner();
    assert_eq!(host.owned("DELETE /api/host/tokens/owner", "").await.status, 204);
    tokio::time::timeout(Duration::from_secs(1), owner.revoked()).await.unwrap();
    assert_eq!(host.get("/", &own).await.status, 401);
    assert_eq!(host.get("/", &[&old]).await.status, 401);
    assert_eq!(host.get("/", &[&host.owner()]).await.status, 200);
    let kept = std::fs::read_to_string(host.parts.store.home().join("token")).unwrap();
    assert_eq!(kept.trim(), &*auth.owner_token());
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused_and_wakes_who_waits_for_it() {
    let home = tempfile::tempdir().unwrap();
    let (store, auth) = open(home.path()).unwrap();
    let (token, _) = auth.add("bot", Scopes::ALL, Some(1)).unwrap();
    drop((store, auth));
    let file = home.path().join("tokens.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let soon = time::OffsetDateTime::now_utc() + Duration::from_millis(700);
    kept["tokens"][0]["expires"] = soon.format(&time::format_description::well_known::Rfc3339).unwrap().into();
    std::fs::write(&file, kept.to_string()).unwrap();
    let (_store, auth) = open(home.path()).unwrap();
    let principal = auth.token(token.as_bytes()).expect("it has not expired yet");
    tokio::time::timeout(Duration::from_secs(5), principal.revoked()).await.unwrap();
    assert!(auth.token(token.as_bytes()).is_none());
}

#[tokio::test]
async fn a_sign_in_link_works_once_and_a_look_at_it_does_not_use_it_up() {
    let host = Host::start().await;
    let code = host.parts.auth.offer_sign_in(host.parts.auth.owner()).unwrap();
    let link = format!("/sign-in/{code}");
    assert_eq!(host.ask(&format!("HEAD {link}"), &[], "").await.status, 204);
    let reply = host.get(&link, &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/")));
    let cookie = reply.header("set-cookie").unwrap();
    assert!(cookie.starts_with("plugbay_") && cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("Secure"));
    for path in [link.as_str(), "/sign-in/unknown", "/sign-in/%ff"] {
        let again = host.get(path, &[]).await;
        assert!(again.text().contains("Not signed in"), "{path}: {}", again.text());
        assert!(matches!(again.status, 401 | 404));
        assert_eq!(again.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn nobodys_links_and_sessions_push_out_anothers() {
    let host = Host::start().await;
    let auth = &host.parts.auth;
    let (token, _) = auth.add("agent", Scopes::of(&[Scope::Call]), None).unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let unused = auth.offer_sign_in(auth.owner()).unwrap();
    let mut own = Vec::new();
    for _ in 0..100 {
        let reply = host.ask("POST /api/host/sign-in", &[&bearer], "").await;
        own.push(reply.json()["path"].as_str().unwrap().trim_start_matches("/sign-in/").to_owned());
    }
    let session = auth.sign_in(&unused).unwrap();
    assert!(auth.sign_in(&own[89]).is_err(), "its own older links made room");
    let first = auth.sign_in(&own[90]).unwrap();
    let agent = auth.token(token.as_bytes()).unwrap();
    for _ in 0..100 {
        auth.sign_in(&auth.offer_sign_in(agent.clone()).unwrap()).unwrap();
    }
    assert!(auth.session(first.as_bytes()).is_none(), "and its own oldest session");
    assert_eq!(auth.session(session.as_bytes()).unwrap().name(), "owner");
}

#[tokio::test]
async fn a_cookie_counts_only_for_the_hosts_own_pages() {
    let host = Host::start_with(|settings| {
        settings.allow_origins = vec!["https://app.example.com".parse().unwrap()];
    })
    .await;
    let cookie = sign_in(&host).await;
    let own = format!("Origin: http://{}", host.address);
    let local = format!("Origin: http://localhost:{}", host.address.port());
    for (lines, status) in [
        (vec!["Sec-Fetch-Site: same-origin"], 200),
        (vec!["Sec-Fetch-Site: none"], 200),
        (vec![own.as_str()], 200),
        (vec![local.as_str()], 200),
        (vec![own.as_str(), "Sec-Fetch-Site: same-origin"], 200),
        (vec![], 403),
        (vec!["Sec-Fetch-Site: cross-site"], 403),
        (vec!["Sec-Fetch-Site: same-site"], 403),
        (vec!["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], 403),
        (vec!["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate"], 403),
        (vec!["Sec-Fetch-Site: anything"], 403),
        (vec!["Origin: https://app.example.com"], 403),
        (vec!["Origin: https://app.example.com", "Sec-Fetch-Site: same-origin"], 403),
        (vec!["Origin: null"], 403),
    ] {
        let lines: Vec<&str> = lines.into_iter().chain([cookie.as_str()]).collect();
        for start in ["GET /api/demo", "POST /api/demo"] {
            let reply = host.ask(start, &lines, "").await;
            assert_eq!(reply.status, status, "{start} {lines:?}: {}", reply.text());
        }
    }
    let other = cookie.replace('=', "x=");
    assert_eq!(host.get("/api/demo", &["Sec-Fetch-Site: none", &other]).await.status, 401);
}

#[tokio::test]
async fn over_plain_http_a_browser_that_says_nothing_of_itself_is_shown_the_pages_and_no_more() {
    let host = Host::start().await;
    let cookie = sign_in(&host).await;
    for (start, more, status) in [
        // What browsers send to an address that is not loopback: no Sec-Fetch, and an origin with forms alone.
        ("GET /", "Accept: text/html", 200),
        ("HEAD /approvals", "Accept: text/html", 200),
        ("GET /approvals/none", "Accept: text/html", 404),
        ("GET /docs", "Accept: text/html", 200),
        ("GET /docs/start.js", "Accept: */*", 200),
        ("GET /openapi.json", "Accept: */*", 200),
        ("GET /api/host/status", "Accept: */*", 403),
        ("GET /api/demo", "Accept: */*", 403),
        ("POST /", "Accept: text/html", 403),
        ("POST /approvals/none", "Accept: text/html", 403),
        ("POST /sign-out", "Accept: text/html", 403),
        ("GET /", "Sec-Fetch-Site: cross-site", 403),
        ("GET /", "Origin: http://evil.example", 403),
        ("GET /", "Sec-Fetch-Site: same-site", 403),
    ] {
        assert_eq!(host.ask(start, &[&cookie, more], "").await.status, status, "{start} {more}");
    }
}

#[tokio::test]
async fn a_sign_in_link_is_used_up_by_nothing_that_a_person_does_not_see() {
    let host = Host::start().await;
    let auth = &host.parts.auth;
    let code = auth.offer_sign_in(auth.owner()).unwrap();
    let link = format!("/sign-in/{code}?to=/approvals");
    for (lines, status) in [
        (vec!["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: image"], 403),
        (vec!["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: iframe"], 403),
        (vec!["Sec-Fetch-Site: none", "Sec-Fetch-Dest: empty"], 403),
        (vec!["Sec-Fetch-Site: none", "Sec-Fetch-Dest: document", "Sec-Fetch-Dest: image"], 403),
        (vec!["Sec-Fetch-Site: none", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch;prerender"], 403),
        (vec!["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: document"], 200),
        (vec!["Sec-Fetch-Site: same-site", "Sec-Fetch-Dest: document"], 200),
    ] {
        let reply = host.get(&link, &lines).await;
        assert_eq!((reply.status, reply.header("set-cookie")), (status, None), "{lines:?}: {}", reply.text());
        let asks = format!("href=\"{link}\">Sign this browser in as owner</a>");
        assert_eq!(reply.text().contains(&asks), status == 200, "{lines:?}: {}", reply.text());
    }
    let strange = host.get("/sign-in/unknown", &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: document"]).await;
    assert_eq!(strange.status, 401);
    let reply = host.get(&link, &["Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: document"]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/approvals")));
}

#[tokio::test]
async fn signing_out_ends_that_session_and_no_other() {
    let host = Host::start().await;
    let (cookie, other) = (sign_in(&host).await, sign_in(&host).await);
    let own = format!("Origin: http://{}", host.address);
    for refused in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Accept: text/html"] {
        assert_eq!(host.ask("POST /sign-out", &[&cookie, refused], "").await.status, 403, "{refused}");
    }
    let reply = host.ask("POST /sign-out", &[&cookie, &own], "").await;
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("<h1>Signed out</h1>"), "{}", reply.text());
    let gone = reply.header("set-cookie").unwrap();
    assert!(gone.contains("=; Path=/;") && gone.ends_with("; Max-Age=0"), "{gone}");
    assert_eq!(host.get("/", &[&cookie, &own]).await.status, 401);
    assert_eq!(host.ask("POST /sign-out", &[&cookie, &own], "").await.status, 401);
    assert_eq!(host.get("/", &[&other, &own]).await.status, 200);
    // A program has no session to end.
    let reply = host.owned("POST /sign-out", "").await;
    assert_eq!((reply.status, reply.text().contains("<h1>Not signed in</h1>")), (200, true));
}

/// Signs in as the owner; the header line of the cookie.
async fn sign_in(host: &Host) -> String {
    let code = host.parts.auth.offer_sign_in(host.parts.auth.owner()).unwrap();
    let reply = host.get(&format!("/sign-in/{code}"), &[]).await;
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    format!("Cookie: other=1; {cookie}; more=2")
}
