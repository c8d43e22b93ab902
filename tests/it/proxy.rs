//! `/api/plugins/{id}/rpc/…`: what a plugin's server gets, what the client gets, and what happens when one of them fails.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxied::{KEY, Known, Peer, Proxied, Say, answer, header, upstream};
use crate::served::{PATIENCE, counts};

/// Answers every request with "hello", and says each head.
async fn hello(mut peer: Peer, say: Say) {
    while let Some(head) = peer.head().await {
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let is_chunked = header(&head, "transfer-encoding").is_some();
        let _ = say.send(head);
        peer.exact(length).await;
        // An empty body: none of these tests sends another in chunks.
        peer.exact(if is_chunked { b"0\r\n\r\n".len() } else { 0 }).await;
        peer.say(answer("content-type: text/plain\r\n", "hello")).await;
    }
}

/// A server that answers the first request with these bytes and then ends the connection.
pub async fn once(bytes: &'static str) -> Proxied {
    Proxied::to(move |mut peer: Peer, say: Say| async move {
        if let Some(head) = peer.head().await {
            let _ = say.send(head);
            peer.say(bytes).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_and_query_reach_the_server_byte_for_byte_but_for_the_token() {
    let mut host = Proxied::to(hello).await;
    let table = [
        ("/stats?path=%2Ftmp%20x", "/stats?path=%2Ftmp%20x"),
        ("", "/"),
        ("/", "/"),
        ("?x=1", "/?x=1"),
        ("//double//", "//double//"),
        ("/a%2Fb/%3Finj=1?x=2", "/a%2Fb/%3Finj=1?x=2"),
        ("/%2e%2e/../x", "/%2e%2e/../x"),
        ("/%C3%A9?%zz&&a=b&", "/%C3%A9?%zz&&a=b&"),
        ("/x?a=?&b=/@:", "/x?a=?&b=/@:"),
        ("/x?", "/x?"),
        ("/x?token=abc", "/x"),
        ("/x?a=1&token=abc&b=2", "/x?a=1&b=2"),
        ("/x?%74oken=abc&tokens=1&token", "/x?tokens=1"),
    ];
    for (asked, seen) in table {
        let answered = host.served.ask(host.get(asked)).await;
        assert_eq!((answered.status, answered.text()), (200, "hello"), "{asked}");
        let head = host.hear().await;
        assert_eq!(head.lines().next(), Some(&*format!("GET {seen} HTTP/1.1")), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_and_body_reaches_the_server() {
    let mut host = Proxied::to(hello).await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        let request = format!("{}content-length: 3\r\ncontent-type: a/b\r\n\r\nabc", host.head(method, "/x"));
        assert_eq!(host.served.ask(request).await.status, 200, "{method}");
        let head = host.hear().await;
        assert!(head.starts_with(&format!("{method} /x ")), "{head}");
        assert_eq!((header(&head, "content-length"), header(&head, "content-type")), (Some("3"), Some("a/b")));
    }
    let answered = host.served.ask(format!("{}\r\n", host.head("POST", "/x"))).await;
    assert_eq!(answered.status, 200);
    assert_eq!(header(&host.hear().await, "content-length"), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lets_a_client_in_and_what_only_the_host_says_stops_at_the_host() {
    let mut host = Proxied::to(hello).await;
    let own = format!("origin: http://{}\r\n", host.served.address);
    let request = format!(
        "{}{own}cookie: a=b\r\nreferer: http://x/?token=t\r\nconnection: close, x-mine\r\nx-mine: 1\r\n\
         keep-alive: 1\r\nte: trailers\r\nproxy-authorization: x\r\nupgrade: h2c\r\nx-plugin-secret-apikey: forged\r\n\
         x-plugin-anything: 1\r\nx-host-user: root\r\nx-host-time: 1\r\nX-Host-Signature: 0\r\nx-forwarded-for: 1.2.3.4\r\n\
         forwarded: for=1.2.3.4\r\naccept: a/b\r\nx-custom: kept\r\nx-custom: twice\r\n\r\n",
        host.head("GET", "/x")
    );
    assert_eq!(host.served.ask(request).await.status, 200);
    let head = host.hear().await;
    let mut names: Vec<&str> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "host",
        "x-custom",
        "x-custom",
        "x-host-signature",
        "x-host-time",
        "x-host-user",
        "x-plugin-secret-apikey",
    ];
    assert_eq!(names, expected, "{head}");
    assert_eq!(header(&head, "x-plugin-secret-apikey"), Some("s3cret"));
    assert!(header(&head, "host").unwrap().starts_with("127.0.0.1:"));
    assert!(!head.contains(&*host.served.token), "{head}");
}

/// The signature that a head should carry.
pub fn signature(head: &str) -> String {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (time, user) = (header(head, "x-host-time").unwrap(), header(head, "x-host-user").unwrap());
    let mut mac = Hmac::<Sha256>::new_from_slice(&URL_SAFE_NO_PAD.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{time}\n{user}\n{method}\n{target}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_said_and_signed_for_this_method_and_target() {
    let mut host = Proxied::to(hello).await;
    for path in ["/x?a=%20&token=t", "", "/%2e"] {
        assert_eq!(host.served.ask(host.get(path)).await.status, 200);
        let head = host.hear().await;
        assert_eq!(header(&head, "x-host-user"), Some("owner"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let time: u64 = header(&head, "x-host-time").unwrap().parse().unwrap();
        assert!(now - time < 10, "{time}");
        assert_eq!(header(&head, "x-host-signature"), Some(&*signature(&head)), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_does_not_speak_for_the_host() {
    let mut host = once(
        "HTTP/1.1 201 Made\r\nset-cookie: a=b\r\nset-cookie: c=d\r\naccess-control-allow-origin: *\r\n\
         content-security-policy: default-src *\r\nx-auth-error: x\r\nx-refreshed-token: t\r\nclear-site-data: \"*\"\r\n\
         strict-transport-security: max-age=1\r\nservice-worker-allowed: /\r\nx-plugin-secret-apikey: s\r\n\
         x-host-user: root\r\nconnection: x-hop, close\r\nx-hop: 1\r\nwww-authenticate: Basic\r\nx-own: kept\r\n\
         location: http://elsewhere/\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    )
    .await;
    let answered = host.served.ask(host.get("/x")).await;
    assert_eq!((answered.status, answered.text()), (201, "{}"));
    let mut names: Vec<&str> = answered.headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let expected =
        ["content-length", "content-type", "date", "location", "x-content-type-options", "x-own", "x-request-id"];
    assert_eq!(names, expected);
    assert_eq!(answered.header("location"), Some("http://elsewhere/"));
    host.hear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_may_make_a_document_of_is_sandboxed() {
    let host = Proxied::to(|mut peer: Peer, _: Say| async move {
        while let Some(head) = peer.head().await {
            let media_type = header(&head, "x-as").unwrap_or_default();
            let line = if media_type.is_empty() { String::new() } else { format!("content-type: {media_type}\r\n") };
            peer.say(answer(&line, "<p>")).await;
        }
    })
    .await;
    let table = [
        ("text/html", true),
        ("Text/HTML; charset=utf-8", true),
        ("image/svg+xml", true),
        ("application/xhtml+xml", true),
        ("text/xml", true),
        ("multipart/x-mixed-replace; boundary=a", true),
        ("text/plain, text/html", true),
        ("", true),
        ("json", true),
        ("application/json", false),
        ("text/event-stream", false),
        ("image/png", false),
    ];
    for (media_type, sandboxed) in table {
        let request = format!("{}x-as: {media_type}\r\n\r\n", host.head("GET", "/"));
        let answered = host.served.ask(request).await;
        let policy = answered.header("content-security-policy").unwrap_or_default();
        assert_eq!(policy.starts_with("sandbox"), sandboxed, "{media_type}: {policy}");
        assert_eq!(answered.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_every_framing_pass() {
    let big = "x".repeat(200_000);
    let sent = big.clone();
    let host = Proxied::to(move |mut peer: Peer, _: Say| {
        let big = sent.clone();
        async move {
            while let Some(head) = peer.head().await {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let reply = match &*path {
                    "/chunks" => {
                        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".into()
                    }
                    "/old" => "HTTP/1.0 200 OK\r\n\r\nuntil the end".into(),
                    "/none" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
                    "/same" => "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n".into(),
                    "/hints" => format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{}", answer("", "late")),
                    "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".into(),
                    "/empty" => answer("", ""),
                    "/big" => answer("", &big),
                    _ => answer("", "other"),
                };
                peer.say(reply).await;
                if path == "/old" {
                    return;
                }
            }
        }
    })
    .await;
    let table = [
        ("/chunks", 200, "abcde"),
        ("/old", 200, "until the end"),
        ("/none", 204, ""),
        ("/same", 304, ""),
        ("/hints", 200, "late"),
        ("/empty", 200, ""),
        ("/big", 200, &*big),
    ];
    // On one connection: what is left of an answer would become a part of the next.
    let mut client = host.served.connect().await;
    for (path, status, text) in table {
        client.send(host.get(path)).await;
        let answered = client.answer().await.expect("an answer");
        assert_eq!((answered.status, answered.text()), (status, text), "{path}");
    }
    client.send(format!("{}\r\n", host.head("HEAD", "/head"))).await;
    let answered = client.answer_head().await.expect("an answer");
    assert_eq!((answered.status, answered.header("content-length")), (200, Some("7")));
    client.send(host.get("/empty")).await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_passes_piece_by_piece() {
    let (go, gone) = tokio::sync::watch::channel(0);
    let host = Proxied::to(move |mut peer: Peer, _: Say| {
        let mut gone = gone.clone();
        async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for number in 1..=3 {
                peer.say(format!("9\r\ndata: {number}\n\n\r\n")).await;
                // Until the client has seen this one, the next is not sent.
                gone.wait_for(|seen| *seen >= number).await.unwrap();
            }
            peer.say("0\r\n\r\n").await;
        }
    })
    .await;
    let mut client = host.served.connect().await;
    client.send(host.get("/events")).await;
    for number in 1..=3 {
        client.stream_until(&format!("data: {number}\n\n")).await;
        go.send(number).unwrap();
    }
    client.stream_until("0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beyond_the_hosts_own_limit_passes_and_one_beyond_the_proxys_does_not() {
    let count = |mut peer: Peer, _: Say| async move {
        while let Some(head) = peer.head().await {
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            let mut left = length;
            while left > 0 {
                let step = left.min(1 << 20);
                if peer.exact(step).await.is_none() {
                    return;
                }
                left -= step;
            }
            peer.say(answer("", &length.to_string())).await;
        }
    };
    let body = vec![b'x'; 17 << 20];
    let host = Proxied::to(count).await;
    let mut client = host.served.connect().await;
    client.send(format!("{}content-length: {}\r\n\r\n", host.head("POST", "/"), body.len())).await;
    client.send(&body).await;
    assert_eq!(client.answer().await.expect("an answer").text(), body.len().to_string());
    let host = Proxied::with(|settings| settings.limits.proxy_body_bytes = Some(1000), count).await;
    let request = format!("{}content-length: 1001\r\n\r\n", host.head("POST", "/"));
    let answered = host.served.ask(request).await;
    assert_eq!((answered.status, answered.code()), (413, "too_large".into()));
    assert!(answered.text().contains("1000 bytes"), "{}", answered.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_pieces_arrives_as_one_body() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        let head = peer.head().await.expect("a head");
        assert_eq!((header(&head, "transfer-encoding"), header(&head, "content-length")), (Some("chunked"), None));
        let mut body = Vec::new();
        loop {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.extend(peer.exact(1).await.expect("a size"));
            }
            let size = usize::from_str_radix(std::str::from_utf8(&size).expect("text").trim(), 16).expect("a number");
            body.extend(peer.exact(size).await.expect("a piece"));
            assert_eq!(peer.exact(2).await.expect("its end"), b"\r\n");
            if size == 0 {
                break;
            }
            let _ = say.send(format!("{}", body.len()));
        }
        peer.say(answer("", &body.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string())).await;
    })
    .await;
    let pieces = [vec![b'a'; 3], vec![b'b'; 70_000], vec![b'c'; 1]];
    let mut client = host.served.connect().await;
    client.send(format!("{}transfer-encoding: chunked\r\n\r\n", host.head("POST", "/"))).await;
    let (mut sum, mut bytes) = (0, 0);
    for piece in pieces {
        client.send([format!("{:x}\r\n", piece.len()).into_bytes(), piece.clone(), b"\r\n".to_vec()].concat()).await;
        sum += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        bytes += piece.len();
        // Each is there, to its end, before the next is sent.
        while host.hear().await != bytes.to_string() {}
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").text(), sum.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_read_stops_the_upload() {
    let host = Proxied::to(|mut peer: Peer, _: Say| async move {
        peer.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut client = host.served.connect().await;
    client.send(format!("{}transfer-encoding: chunked\r\n\r\n", host.head("POST", "/"))).await;
    let piece = format!("10000\r\n{}\r\n", "x".repeat(65536));
    let mut sent = 0;
    // Two socket buffers on each side and a little between them: far less than what is offered.
    while let Ok(written) = timeout(Duration::from_millis(500), client.stream.write_all(piece.as_bytes())).await {
        written.unwrap();
        sent += 65536;
        assert!(sent < 64 << 20, "the upload is swallowed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_before_the_body_is_passed_on() {
    let host = once("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig").await;
    let mut client = host.served.connect().await;
    client.send(format!("{}content-length: 1000000\r\n\r\nxxx", host.head("POST", "/"))).await;
    let answered = client.answer().await.expect("an answer");
    assert_eq!((answered.status, answered.text()), (413, "big"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_for_the_next_request_but_not_for_the_next_run() {
    let serve = |mut peer: Peer, say: Say| async move {
        let _ = say.send("connected".into());
        while peer.head().await.is_some() {
            peer.say(answer("", "hello")).await;
        }
        let _ = say.send("ended".into());
    };
    let mut host = Proxied::to(serve).await;
    for _ in 0..5 {
        assert_eq!(host.served.ask(host.get("/x")).await.text(), "hello");
    }
    assert_eq!(host.hear().await, "connected");
    let Some(Known::Runs(now)) = host.servers.get("clock") else { panic!("it runs") };
    host.servers.set("clock", Known::Runs(upstream("clock", now.port, now.run + 1)));
    assert_eq!(host.served.ask(host.get("/x")).await.text(), "hello");
    let mut said = [host.hear().await, host.hear().await];
    said.sort();
    assert_eq!(said, ["connected", "ended"]);
    assert!(now.answered.load(std::sync::atomic::Ordering::Relaxed));
    assert!(
        counts(&host.served.counted(), "plugbay_plugin_calls_total{plugin=\"clock\"} 6"),
        "{}",
        host.served.counted()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_sent_again_only_when_that_is_no_second_one() {
    // Each connection answers once; the second request on it is read and then dropped with it.
    let serve = |mut peer: Peer, say: Say| async move {
        for reply in ["hello", ""] {
            let Some(head) = peer.head().await else { return };
            peer.exact(1).await;
            let _ = say.send(head.split(' ').next().unwrap().into());
            if !reply.is_empty() {
                peer.say(answer("", reply)).await;
            }
        }
    };
    for (method, statuses, seen) in [("GET", [200, 200], 3), ("POST", [200, 502], 2), ("PUT", [200, 200], 3)] {
        let mut host = Proxied::to(serve).await;
        for status in statuses {
            let request = format!("{}content-length: 1\r\n\r\nx", host.head(method, "/x"));
            assert_eq!(host.served.ask(request).await.status, status, "{method}");
        }
        for _ in 0..seen {
            assert_eq!(host.hear().await, method);
        }
        assert!(host.heard.try_recv().is_err(), "{method} was sent once too often");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_has_closed_meanwhile_is_not_used() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        peer.head().await;
        peer.say(answer("", "hello")).await;
        drop(peer);
        let _ = say.send("closed".into());
    })
    .await;
    for _ in 0..20 {
        let request = format!("{}content-length: 1\r\n\r\nx", host.head("POST", "/x"));
        assert_eq!(host.served.ask(request).await.status, 200);
        assert_eq!(host.hear().await, "closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_sees_as_many_requests_as_the_client_meant() {
    let inner = "GET /api/plugins/clock/rpc/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let framings = [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}", inner.len() + 5),
        format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("content-length: 0\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
        format!("content-length: +{}\r\n\r\n{inner}", inner.len()),
        format!("connection: upgrade\r\nupgrade: websocket\r\n\r\n{inner}"),
        format!("connection: content-length\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
    ];
    for framing in framings {
        let mut host = Proxied::to(hello).await;
        let mut client = host.served.connect().await;
        client.send(format!("{}{framing}", host.head("POST", "/meant"))).await;
        let _ = client.stream.shutdown().await;
        client.rest().await;
        while let Ok(head) = host.heard.try_recv() {
            assert!(head.starts_with("POST /meant HTTP/1.1\r\n"), "{framing}: {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http2_is_served_by_a_server_of_http1() {
    let mut host = Proxied::to(hello).await;
    let stream = TokioIo::new(TcpStream::connect(host.served.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let driven = host.served.parts.shutdown.spawn("client", connection);
    for (method, body, length) in [("GET", "", None), ("POST", "abc", Some("3"))] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}/api/plugins/clock/rpc/a%2Fb?x=1&token=t", host.served.address))
            .header("authorization", format!("Bearer {}", host.served.token))
            .header("cookie", "a=b")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
        let head = host.hear().await;
        assert!(head.starts_with(&format!("{method} /a%2Fb?x=1 HTTP/1.1\r\n")), "{head}");
        assert_eq!((header(&head, "content-length"), header(&head, "cookie")), (length, None));
        assert!(header(&head, "host").unwrap().starts_with("127.0.0.1:"));
    }
    drop(sender);
    let _ = timeout(PATIENCE, driven).await;
}
