//! From where a request may come, and who it is: the gate in front of every route.

use plugbay::base::settings::AuthMode;
use plugbay::kernel::auth::{Scope, Scopes};
use serde_json::json;

use crate::support::Host;

/// `{}` is the port of the host.
const HOSTILE_ORIGINS: [&str; 33] = [
    "null",
    "",
    "http://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "https://127.0.0.1:{}",
    "http://127.0.0.1:{}.evil.example",
    "http://127.0.0.1.evil.example:{}",
    "http://127.0.0.1:{}@evil.example",
    "http://user@127.0.0.1:{}",
    "http://user:pass@127.0.0.1:{}",
    "http://evil.example#127.0.0.1:{}",
    "http://evil.example/127.0.0.1:{}",
    "http://127.0.0.1:{}/",
    "http://127.0.0.1:{}/path",
    "http://127.0.0.1:{}?x",
    "http://127.0.0.1:{} http://evil.example",
    "http://127.0.0.1:{},http://evil.example",
    "http://localhost.:{}",
    "http://localhost.evil.example:{}",
    "http://evillocalhost:{}",
    "http://evil-localhost:{}",
    "HTTP://LOCALHOST:{}",
    "http://127.1:{}",
    "http://2130706433:{}",
    "http://0x7f000001:{}",
    "http://0177.0.0.1:{}",
    "http://[::ffff:127.0.0.1]:{}",
    "http://[::ffff:7f00:1]:{}",
    "http://[::1]:{}",
    "file://",
    "ws://127.0.0.1:{}",
    "https://app.example.com.evil.com",
];

const HOSTILE_HOSTS: [&str; 32] = [
    "evil.example",
    "evil.example:{}",
    "localhost.evil.example:{}",
    "evillocalhost:{}",
    "localhost.:{}",
    "localhost..:{}",
    ".localhost:{}",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.1:",
    "127.0.0.1:{}0",
    "127.0.0.1:+{}",
    "127.0.0.1:{}@evil.example",
    "evil.example@127.0.0.1:{}",
    "127.0.0.1:{}/",
    "127.0.0.1:{}.evil.example",
    "127.0.0.1.evil.example:{}",
    "127.0.0.1:{},evil.example",
    "127.0.0.1:{} evil.example",
    "127.1:{}",
    "2130706433:{}",
    "0x7f.0.0.1:{}",
    "0177.0.0.1:{}",
    "127.0.0.1.:{}",
    "0.0.0.0:{}",
    "8.8.8.8:{}",
    "[::ffff:127.0.0.1]:{}",
    "[::]:{}",
    "[::1:{}",
    "::1:{}",
    "[fe80::1%25lo]:{}",
    "",
];

#[tokio::test]
async fn hostile_origins_are_refused_with_a_token_and_without_on_every_path() {
    let host = Host::start_with(|settings| {
        settings.allow_origins = vec!["https://app.example.com".parse().unwrap()];
    })
    .await;
    for origin in HOSTILE_ORIGINS {
        let line = format!("Origin: {}", origin.replace("{}", &host.address.port().to_string()));
        for path in ["/healthz", "/api/demo", "/ws", "/mcp", "/api/host/plugins"] {
            let reply = host.get(path, &[&line, &host.owner()]).await;
            assert_eq!((reply.status, reply.json()["code"].clone()), (403, json!("denied")), "{line} {path}");
            let reply = host.get(path, &[&line, &host.owner(), "Connection: upgrade", "Upgrade: websocket"]).await;
            assert_eq!(reply.status, 403, "{line} {path} as a WebSocket");
        }
        let preflight = host.ask("OPTIONS /api/demo", &[&line, "Access-Control-Request-Method: POST"], "").await;
        assert_eq!(preflight.status, 403, "{line}");
        assert_eq!(preflight.header("access-control-allow-origin"), None);
    }
    let own = format!("Origin: http://{}", host.address);
    let twice = host.get("/healthz", &[&own, &own]).await;
    assert_eq!(twice.status, 403);
}

#[tokio::test]
async fn hostile_hosts_are_misdirected() {
    let host = Host::start().await;
    for name in HOSTILE_HOSTS {
        let line = format!("Host: {}", name.replace("{}", &host.address.port().to_string()));
        for path in ["/healthz", "/api/demo", "/ws"] {
            let reply = host.get(path, &[&line, &host.owner()]).await;
            assert_eq!(reply.status, 421, "{line}: {}", reply.text());
        }
    }
    for good in ["127.0.0.1:{}", "localhost:{}", "LocalHost:{}", "[::1]:{}"] {
        let line = format!("Host: {}", good.replace("{}", &host.address.port().to_string()));
        assert_eq!(host.get("/healthz", &[&line]).await.status, 200, "{line}");
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let host = Host::start().await;
    let line = format!("Host: {}", host.address);
    assert_eq!(host.get("/healthz", &[&line, &line]).await.status, 400);
    let none = host.say(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!((none.status, none.json()["code"].clone()), (400, json!("malformed")));
    assert_eq!(host.get("http://evil.example/healthz", &[&line]).await.status, 400);
    assert_eq!(host.get(&format!("http://{}/healthz", host.address), &[&line]).await.status, 200);
}

#[tokio::test]
async fn the_operator_gives_the_host_more_names() {
    let host = Host::start_with(|settings| {
        settings.public_url = Some("https://plugbay.example.com".parse().unwrap());
        settings.allow_hosts = vec!["any.example".into(), "one.example:81".into()];
    })
    .await;
    for (name, status) in [
        ("plugbay.example.com", 200),
        ("plugbay.example.com:443", 200),
        ("any.example", 200),
        ("any.example:4711", 200),
        ("one.example:81", 200),
        ("one.example", 421),
        ("one.example:82", 421),
        ("x.any.example", 421),
    ] {
        assert_eq!(host.get("/healthz", &[&format!("Host: {name}")]).await.status, status, "{name}");
    }
    for (origin, status) in [
        ("https://plugbay.example.com", 200),
        ("http://any.example:4711", 200),
        ("http://plugbay.example.com:81", 403),
        ("http://other.example", 403),
    ] {
        let lines = ["Host: any.example:4711", &format!("Origin: {origin}")];
        assert_eq!(host.get("/healthz", &lines).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn an_allowed_origin_gets_cors_headers_on_answers_errors_and_preflights() {
    let host = Host::start_with(|settings| {
        settings.allow_origins = vec!["https://app.example.com".parse().unwrap()];
    })
    .await;
    let origin = "Origin: https://app.example.com";
    let shared = |reply: &crate::support::Reply| {
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert_eq!(reply.header("vary"), Some("origin"));
    };
    let answer = host.get("/api/demo", &[origin, &host.owner()]).await;
    assert_eq!(answer.status, 200);
    shared(&answer);
    let error = host.get("/api/demo", &[origin]).await;
    assert_eq!(error.status, 401);
    shared(&error);
    let lines =
        [origin, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization, x-custom"];
    let preflight = host.ask("OPTIONS /api/demo", &lines, "").await;
    assert_eq!(preflight.status, 204);
    shared(&preflight);
    assert_eq!(preflight.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization, x-custom"));
    let own = host.get("/healthz", &[&format!("Origin: http://{}", host.address)]).await;
    assert_eq!(own.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn every_path_asks_for_what_it_needs() {
    let host = Host::start().await;
    let auth = &host.parts.auth;
    let token = |name: &str, scope: Scope| {
        format!("Authorization: Bearer {}", auth.add(name, Scopes::of(&[scope]), None).unwrap().0)
    };
    let call = token("caller", Scope::Call);
    let approve = token("approver", Scope::Approve);
    let admin = token("admin", Scope::Admin);
    let revoked = token("gone", Scope::Call);
    auth.revoke("gone").unwrap();
    let owner = host.owner();
    let credentials = ["X-None: 1", "Authorization: Bearer x", revoked.as_str(), &call, &approve, &admin, &owner];
    for (start, expected) in [
        ("GET /healthz", [200, 200, 200, 200, 200, 200, 200]),
        ("GET /readyz", [503, 503, 503, 503, 503, 503, 503]),
        ("GET /", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /docs", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /openapi.json", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /metrics", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /ws", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /api/host/plugins", [401, 401, 401, 200, 200, 200, 200]),
        ("GET /api/host/tools", [401, 401, 401, 200, 200, 200, 200]),
        ("POST /api/host/tools/a", [401, 401, 401, 200, 403, 403, 200]),
        ("GET /api/host/tokens", [401, 401, 401, 403, 403, 200, 200]),
        ("DELETE /api/host/tokens/none", [401, 401, 401, 403, 403, 404, 404]),
        ("GET /api/plugins/a/b", [401, 401, 401, 200, 403, 403, 200]),
        ("GET /api/prefix", [401, 401, 401, 200, 403, 403, 200]),
        ("GET /plugin-ws/a", [401, 401, 401, 200, 403, 403, 200]),
        ("GET /unknown", [401, 401, 401, 200, 200, 200, 200]),
    ] {
        for (credential, status) in credentials.iter().zip(expected) {
            let reply = host.ask(start, &[credential], "").await;
            assert_eq!(reply.status, status, "{start} with {credential}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn without_credentials_everybody_on_this_machine_is_local_but_no_foreign_page_is() {
    let host = Host::start_with(|settings| settings.auth = AuthMode::None).await;
    assert_eq!(host.get("/api/demo", &[]).await.json()["principal"], "local");
    assert_eq!(host.get("/api/demo", &["Authorization: Bearer of-a-plugin"]).await.json()["principal"], "local");
    assert_eq!(host.get("/api/demo", &["Sec-Fetch-Site: none"]).await.json()["principal"], "local");
    assert_eq!(host.owned("GET /api/demo", "").await.json()["principal"], "owner");
    for site in ["cross-site", "same-site"] {
        let reply = host.get("/api/demo", &[&format!("Sec-Fetch-Site: {site}")]).await;
        assert_eq!(reply.status, 403, "{site}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_counts_for_websockets_alone_and_is_seen_by_nobody() {
    let host = Host::start().await;
    let token = host.parts.auth.owner_token();
    let upgrade = ["Connection: upgrade", "Upgrade: websocket"];
    for (path, rest) in [
        (format!("/ws?token={token}"), "/ws"),
        (format!("/ws?a=1&token={token}&b=2"), "/ws?a=1&b=2"),
        (format!("/ws?to%6ben={}", token.replace('_', "%5F")), "/ws"),
        (format!("/ws?token={token}&token=other"), "/ws"),
    ] {
        let reply = host.get(&path, &upgrade).await;
        assert_eq!(reply.json(), json!({"principal": "owner", "client": "127.0.0.1", "scheme": "http", "uri": rest}));
        assert_eq!(host.get(&path, &[]).await.status, 401, "{path}");
        let reply = host.get(&path, &[&host.owner()]).await;
        assert!(!reply.text().contains(&token["plugbay_".len()..]), "{}", reply.text());
    }
    assert_eq!(host.get("/ws?token=wrong", &upgrade).await.status, 401);
    let reply = host.get("/api/demo?token=of-a-plugin", &[&host.owner()]).await;
    assert_eq!(reply.json()["uri"], "/api/demo?token=of-a-plugin");
}

#[tokio::test]
async fn forwarded_headers_are_believed_from_trusted_proxies_alone() {
    let lines = ["X-Forwarded-For: 192.0.2.9, 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: any.example"];
    let host = Host::start_with(|settings| settings.allow_hosts = vec!["any.example".into()]).await;
    let owner = host.owner();
    let reply = host.get("/api/demo", &[lines[0], lines[1], lines[2], &owner]).await;
    assert_eq!((reply.json()["client"].clone(), reply.json()["scheme"].clone()), (json!("127.0.0.1"), json!("http")));

    let host = Host::start_with(|settings| {
        settings.allow_hosts = vec!["any.example".into()];
        settings.trust_proxies = vec!["127.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
    })
    .await;
    let owner = host.owner();
    for lines in [
        vec![lines[0], lines[1], lines[2], "Origin: https://any.example"],
        vec![
            "Forwarded: for=192.0.2.9;proto=https;host=any.example, for=\"192.0.2.1:80\";proto=https;host=\"any.example\"",
        ],
        vec!["Forwarded: for=192.0.2.9, for=192.0.2.1;proto=https"],
        vec!["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https", "Forwarded: for=198.51.100.1;proto=http"],
    ] {
        let asked: Vec<&str> = lines.iter().copied().chain([owner.as_str()]).collect();
        let seen = host.get("/api/demo", &asked).await.json();
        assert_eq!((&seen["client"], &seen["scheme"]), (&json!("192.0.2.9"), &json!("https")), "{lines:?} {seen}");
    }
    let evil = host.get("/api/demo", &["X-Forwarded-Host: evil.example", &owner]).await;
    assert_eq!(evil.status, 421);
    let odd = host.get("/api/demo", &["X-Forwarded-For: 192.0.2.9, what", "X-Forwarded-Proto: gopher", &owner]).await;
    assert_eq!((odd.json()["client"].clone(), odd.json()["scheme"].clone()), (json!("127.0.0.1"), json!("http")));
}

#[tokio::test]
async fn no_byte_in_any_header_or_target_makes_the_gate_panic() {
    let host = Host::start_with(|settings| settings.trust_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let names = [
        "Host",
        "Origin",
        "Authorization",
        "Cookie",
        "Upgrade",
        "Sec-Fetch-Site",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Access-Control-Request-Method",
    ];
    for byte in 0..=255_u8 {
        for name in names {
            let mut bytes = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n".to_vec();
            if name != "Host" {
                bytes.extend_from_slice(format!("Host: {}\r\n", host.address).as_bytes());
            }
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(&[byte, b'a', byte]);
            bytes.extend_from_slice(b"\r\n\r\n");
            host.say(&bytes).await;
        }
        let mut bytes = b"GET /".to_vec();
        bytes.extend_from_slice(&[byte, b'?', byte, b'=', byte]);
        bytes.extend_from_slice(format!(" HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host.address).as_bytes());
        host.say(&bytes).await;
    }
    assert_eq!(host.parts.shutdown.panics(), 0);
    assert_eq!(host.get("/healthz", &[]).await.status, 200);
}
