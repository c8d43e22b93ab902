//! A token that is taken back while a request of it is still coming does nothing any more.

use axum::body::Body;
use http_body_util::BodyExt;
use plugbay::edge::admin;
use plugbay::kernel::auth::{Principal, Scope, Scopes};
use plugbay::kernel::call::Caller;
use serde_json::{Value, json};
use tower_service::Service;

use crate::scene::Scene;
use crate::stand::Raw;

const ALL: [Scope; 3] = [Scope::Call, Scope::Approve, Scope::Admin];

/// Sends the head of a request, and so much of its body as must be there, and waits until its handler wants the rest.
async fn begin(scene: &Scene, start: &str, credential: &str, body: &str) -> Raw {
    let mut raw = scene.stand.open().await;
    let address = scene.stand.address;
    raw.say(&format!(
        "{start} HTTP/1.1\r\nHost: {address}\r\n{credential}\r\nOrigin: http://{address}\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..3]
    ))
    .await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 100 "), "{head}");
    raw
}

/// The person revokes a token, as anybody with the scope may.
async fn revoke(scene: &Scene, name: &str) {
    let path = format!("DELETE /api/host/tokens/{name}");
    assert_eq!(scene.stand.as_of(&scene.person, &path, Value::Null).await.0, 204);
}

/// Everything that a request with a late end could have changed.
async fn state(scene: &Scene, approval: &str) -> (Value, Value, Value) {
    let ask = async |path: &str| scene.stand.as_of(&scene.person, &format!("GET {path}"), Value::Null).await.1;
    let names =
        ask("/api/host/tokens").await["tokens"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    let rules = ask("/api/host/permissions").await["rules"].clone();
    (names, rules, ask(&format!("/api/host/approvals/{approval}")).await["state"].clone())
}

#[tokio::test]
async fn a_token_that_is_revoked_before_the_end_of_its_request_makes_no_tokens_or_rules_and_answers_nothing() {
    let scene = Scene::new();
    let (_, filed) = scene.call_async("/a").await;
    let filed = &filed["approval"];
    let (id, digest) = (filed["id"].as_str().unwrap(), filed["digest"].as_str().unwrap());
    let before = state(&scene, id).await;
    let api = format!("POST /api/host/approvals/{id}");
    let form = format!("POST /approvals/{id}");
    let auth = &scene.stand.parts.auth;
    for (start, body, by_cookie) in [
        ("POST /api/host/tokens", json!({ "name": "back", "scopes": ALL }).to_string(), false),
        ("POST /api/host/permissions/rules", json!({ "list": "allow", "rule": "files.*" }).to_string(), false),
        (&*api, json!({ "digest": digest, "decision": "once" }).to_string(), false),
        (&*form, format!("digest={digest}&decision=once"), true),
    ] {
        let token = scene.stand.add("boss", &ALL);
        let session = auth.sign_in(&auth.offer_sign_in(auth.token(token.as_bytes()).unwrap()).unwrap()).unwrap();
        let cookie = format!("Cookie: {}={session}", auth.cookie_name());
        let bearer = format!("Authorization: Bearer {token}");
        let mut raw = begin(&scene, start, if by_cookie { &cookie } else { &bearer }, &body).await;
        revoke(&scene, "boss").await;
        raw.say(&body[3..]).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{start}: {head}");
        assert_eq!(state(&scene, id).await, before, "{start}");
    }
    assert_eq!(scene.runs(), 0);
    assert_eq!(scene.answer(filed, json!({ "decision": "once" })).await.0, 200, "others still answer it");
}

#[tokio::test]
async fn who_waits_for_the_rest_of_a_request_learns_at_once_that_its_token_is_gone() {
    let scene = Scene::new();
    let token = scene.stand.add("boss", &ALL);
    let bearer = format!("Authorization: Bearer {token}");
    let mut raw = begin(&scene, "POST /api/host/tokens", &bearer, "{\"name\": \"never comes whole").await;
    revoke(&scene, "boss").await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("connection: close"), "{head}");
}

#[tokio::test]
async fn a_request_that_revokes_its_own_token_is_answered_as_it_went() {
    let scene = Scene::new();
    let token = scene.stand.add("boss", &ALL);
    let mut raw = scene.stand.open().await;
    let address = scene.stand.address;
    let head = format!("DELETE /api/host/tokens/boss HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
    raw.say(&format!("{head}Content-Length: 9\r\n\r\n{{}}")).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
}

/// Asks the host's routes as somebody whom the gate let in and whose token was taken back since.
async fn late(scene: &Scene, who: &Principal, start: &str, body: String) -> (u16, String) {
    let (method, path) = start.split_once(' ').unwrap();
    let address = scene.stand.address;
    let caller =
        Caller { principal: who.clone(), client: address, server: address, scheme: "http", request_id: "late".into() };
    let request = http::Request::builder().method(method).uri(path).extension(caller).body(Body::from(body)).unwrap();
    let response = admin::router(scene.stand.parts.clone()).call(request).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

#[tokio::test]
async fn no_change_is_made_for_a_token_that_is_revoked_between_the_gate_and_the_change() {
    let scene = Scene::new();
    let (_, filed) = scene.call_async("/a").await;
    let filed = &filed["approval"];
    let (id, digest) = (filed["id"].as_str().unwrap(), filed["digest"].as_str().unwrap());
    let rule = json!({ "list": "allow", "rule": "files.*" });
    let (status, _) = scene.stand.as_of(&scene.person, "POST /api/host/permissions/rules", rule).await;
    assert_eq!(status, 201);
    let before = state(&scene, id).await;
    let token = scene.stand.add("boss", &ALL);
    let boss = scene.stand.parts.auth.token(token.as_bytes()).unwrap();
    assert_eq!(boss.scopes(), Scopes::ALL);
    revoke(&scene, "boss").await;
    let answer = json!({ "digest": digest, "decision": "always" }).to_string();
    for (start, body) in [
        ("POST /api/host/tokens", json!({ "name": "back", "scopes": ALL }).to_string()),
        ("POST /api/host/permissions/rules", json!({ "list": "allow", "rule": "other.*" }).to_string()),
        ("DELETE /api/host/permissions/rules/1", String::new()),
        (&*format!("POST /api/host/approvals/{id}"), answer),
        (&*format!("POST /approvals/{id}"), format!("digest={digest}&decision=once")),
    ] {
        let (status, text) = late(&scene, &boss, start, body).await;
        assert_eq!(status, 401, "{start}: {text}");
        assert!(text.contains("the token of boss was revoked"), "{start}: {text}");
        assert_eq!(state(&scene, id).await, before, "{start}");
    }
}
