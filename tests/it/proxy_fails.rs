//! What a client of `/api/plugins/{id}/rpc/…` gets when the server, or its own connection, fails.

use std::time::Duration;

use plugbay::base::error::Kind;
use plugbay::kernel::auth::{Scope, Scopes};
use tokio::time::timeout;

use crate::proxied::{Known, Peer, Proxied, Say, upstream};
use crate::proxy::once;
use crate::served::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_has_its_own_status_and_names_the_plugin() {
    let garbage = once("SSH-2.0-OpenSSH\r\n").await;
    let silent = once("").await;
    let switching = once("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    for host in [&garbage, &silent, &switching] {
        let answered = host.served.ask(host.get("/x")).await;
        assert_eq!((answered.status, answered.code()), (502, "upstream".into()));
        assert!(answered.text().contains("\"plugin\":\"clock\""), "{}", answered.text());
        assert!(!answered.text().contains("s3cret"));
    }
    let host = silent;
    let ask = async |known| {
        host.servers.set("clock", known);
        host.served.ask(host.get("/x")).await
    };
    let refused = ask(Known::Runs(upstream("clock", closed_port().await, 9))).await;
    assert_eq!((refused.status, refused.code()), (502, "upstream".into()));
    let disabled = ask(Known::Disabled).await;
    assert_eq!((disabled.status, disabled.code()), (503, "unavailable".into()));
    assert!(disabled.header("retry-after").is_some());
    let slow = ask(Known::Fails(Kind::Busy, "not ready within 10 s")).await;
    assert_eq!((slow.status, slow.code()), (503, "busy".into()));
    assert!(slow.header("retry-after").is_some());
    let unknown = host.served.ask(format!("{}\r\n", host.served.head_at("GET", "/api/plugins/nobody/rpc/x"))).await;
    assert_eq!((unknown.status, unknown.code()), (404, "not_found".into()));
    // `rpc` is the plugin's own path where it has no server.
    let own = host.served.ask(host.served.get("/rpc/x")).await;
    assert_eq!((own.status, own.text()), (404, "mine"));
}

async fn closed_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_given_up_and_one_that_streams_is_not() {
    let host = Proxied::with(
        |settings| settings.limits.call_time = Duration::from_millis(300),
        |mut peer: Peer, say: Say| async move {
            let head = peer.head().await.unwrap_or_default();
            if head.starts_with("POST /stream") {
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
            }
            peer.ended().await;
            let _ = say.send("left alone".into());
        },
    )
    .await;
    let mut host = host;
    let posts = [("", ""), ("content-length: 5\r\n", "abcde"), ("transfer-encoding: chunked\r\n", "1\r\na\r\n")];
    for (framing, body) in posts {
        let answered = host.served.ask(format!("{}{framing}\r\n{body}", host.head("POST", "/x"))).await;
        assert_eq!((answered.status, answered.code()), (504, "timeout".into()), "{framing}");
        assert_eq!(host.hear().await, "left alone");
    }
    let mut client = host.served.connect().await;
    client.send(format!("{}\r\n", host.head("POST", "/stream"))).await;
    client.stream_until("\r\na\r\n").await;
    let more = timeout(Duration::from_millis(600), host.hear()).await;
    assert!(more.is_err(), "a stream was cut off: {more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_request_at_the_server() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        let head = peer.head().await.unwrap_or_default();
        if head.starts_with("GET /begun") {
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").await;
        }
        let _ = say.send("asked".into());
        peer.ended().await;
        let _ = say.send("left".into());
    })
    .await;
    for path in ["/waiting", "/begun"] {
        let mut client = host.served.connect().await;
        client.send(host.get(path)).await;
        assert_eq!(host.hear().await, "asked");
        if path == "/begun" {
            client.stream_until("begun").await;
        }
        drop(client);
        assert_eq!(host.hear().await, "left", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_its_answer_resets_the_client() {
    for (version, framing) in
        [("1.1", "content-length: 100\r\n"), ("1.1", "transfer-encoding: chunked\r\n"), ("1.0", "")]
    {
        let host = Proxied::to(move |mut peer: Peer, _: Say| async move {
            peer.head().await;
            let bytes = if framing.contains("chunked") { "4\r\nhalf\r\n" } else { "half" };
            let framing = if framing.is_empty() { "content-length: 100\r\n" } else { framing };
            peer.say(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{bytes}")).await;
            let _ = peer.stream.set_zero_linger();
        })
        .await;
        let mut client = host.served.connect().await;
        let request = host.get("/x").replace("HTTP/1.1", &format!("HTTP/{version}"));
        client.send(request).await;
        let mut seen = Vec::new();
        let read = timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut seen)).await;
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(read.expect("the end in time").is_err(), "no reset after {seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_can_be_read_in_two_ways_is_none() {
    let lines = [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: -3\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "a: b\r\n content-length: 3\r\n",
        "a: b\0c\r\ncontent-length: 3\r\n",
        "content-length : 3\r\n",
    ];
    for lines in lines {
        let host = Proxied::to(move |mut peer: Peer, _: Say| async move {
            while peer.head().await.is_some() {
                peer.say(format!("HTTP/1.1 200 OK\r\n{lines}\r\nabc")).await;
            }
        })
        .await;
        let mut client = host.served.connect().await;
        // The client's connection goes on, with an answer of the host's own each time.
        for _ in 0..2 {
            client.send(host.get("/x")).await;
            let answered = client.answer().await.expect("an answer");
            assert_eq!((answered.status, answered.code()), (502, "upstream".into()), "{lines:?}");
        }
    }
    let long = Proxied::to(|mut peer: Peer, _: Say| async move {
        peer.head().await;
        peer.say(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(1 << 20))).await;
    })
    .await;
    assert_eq!(long.served.ask(long.get("/x")).await.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_as_its_framing_says_does_not_look_whole() {
    for wrong in ["zz\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", "-3\r\n", "3\nabc\r\n0\r\n\r\n"] {
        let host = Proxied::to(move |mut peer: Peer, _: Say| async move {
            peer.head().await;
            peer.say(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n{wrong}")).await;
            // It stays: the end of the answer is the host's own doing.
            peer.ended().await;
        })
        .await;
        let mut client = host.served.connect().await;
        client.send(host.get("/x")).await;
        let mut seen = Vec::new();
        let read = timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut seen)).await;
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(read.expect("the end in time").is_err(), "{wrong:?}: no reset after {seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{wrong:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_an_answer_is_not_the_next_one() {
    let host =
        once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged").await;
    for _ in 0..3 {
        assert_eq!(host.served.ask(host.get("/x")).await.text(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_the_port_of_a_dead_server_is_told_nothing() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        let _ = say.send(format!("{:?}", peer.head().await));
    })
    .await;
    let Some(Known::Runs(now)) = host.servers.get("clock") else { panic!("it runs") };
    host.servers.set("clock", Known::Dies(now.clone()));
    let answered = host.served.ask(host.get("/x")).await;
    assert_eq!((answered.status, answered.code()), (503, "unavailable".into()));
    assert_eq!(host.hear().await, "None");
    host.servers.set("clock", Known::Dies(now));
    let head = host.served.head_at("GET", "/plugin-ws/clock");
    let wish = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut client = host.served.connect().await;
    client.send(format!("{head}{wish}")).await;
    assert_eq!(client.answer_head().await.expect("an answer").status, 101);
    let close = client.exact(4).await;
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4502));
    assert_eq!(host.hear().await, "None");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_call_reaches_no_server() {
    let mut host = Proxied::to(|_: Peer, say: Say| async move {
        let _ = say.send("connected".into());
    })
    .await;
    let address = host.served.address;
    let (token, _) = host.served.parts.auth.add("clerk", Scopes::of(&[Scope::Approve]), None).unwrap();
    let start = format!("GET /api/plugins/clock/rpc/x HTTP/1.1\r\nhost: {address}\r\n");
    let table = [
        (format!("{start}\r\n"), 401),
        (format!("{start}authorization: Bearer wrong\r\n\r\n"), 401),
        (format!("{start}authorization: Bearer {token}\r\n\r\n"), 403),
        (format!("{}origin: http://elsewhere\r\n\r\n", host.head("GET", "/x")), 403),
        (host.get("/x").replace(&format!("host: {address}"), "host: elsewhere"), 421),
    ];
    for (request, status) in table {
        assert_eq!(host.served.ask(&request).await.status, status, "{request}");
    }
    assert!(host.heard.try_recv().is_err());
}
