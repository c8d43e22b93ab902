//! `/plugin-ws/{id}`: the two handshakes, what passes between client and server, and every way to an end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use plugbay::base::error::Kind;
use plugbay::kernel::auth::{Scope, Scopes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::proxied::{Known, Peer, Proxied, Say, header, upstream};
use crate::proxy::signature;
use crate::served::{Client, PATIENCE, counts};
use crate::stand::masked;

type Socket = WebSocketStream<TcpStream>;

const WISH: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A client of a library.
async fn open(host: &Proxied, path: &str) -> Socket {
    let mut request = format!("ws://{}{path}", host.served.address).into_client_request().unwrap();
    let token = HeaderValue::try_from(format!("Bearer {}", host.served.token)).unwrap();
    request.headers_mut().insert("authorization", token);
    let stream = TcpStream::connect(host.served.address).await.unwrap();
    timeout(PATIENCE, client_async(request, stream)).await.expect("an answer in time").unwrap().0
}

async fn next(socket: &mut Socket) -> Option<Message> {
    timeout(PATIENCE, socket.next()).await.expect("a message in time").and_then(Result::ok)
}

async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        match next(socket).await {
            Some(Message::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
            Some(_) => {}
            None => panic!("it ended without a close frame"),
        }
    }
}

/// A client of raw bytes whose handshake was answered.
async fn raw(host: &Proxied, more: &str) -> (Client, String) {
    let mut client = host.served.connect().await;
    client.send(format!("{}{WISH}{more}\r\n", host.served.head_at("GET", "/plugin-ws/clock"))).await;
    let head = client.answer_head().await.expect("an answer");
    let lines: Vec<String> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
    (client, format!("{}\n{}", head.status, lines.join("\n")))
}

/// Reads the host's handshake and agrees to it.
async fn agree(peer: &mut Peer, more: &str) -> Option<String> {
    let head = peer.head().await?;
    peer.say(agreement(&head, more)).await;
    Some(head)
}

fn agreement(head: &str, more: &str) -> String {
    let accept = derive_accept_key(header(head, "sec-websocket-key").unwrap().as_bytes());
    let start = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n";
    format!("{start}sec-websocket-accept: {accept}\r\n{more}\r\n")
}

/// Echoes, with a library of its own; says what it was closed with.
async fn echo(peer: Peer, say: Say) {
    let Ok(mut socket) = accept_async(peer.stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Close(close) => {
                let close = close.map(|close| (u16::from(close.code), close.reason.to_string()));
                let _ = say.send(format!("{close:?}"));
            }
            Message::Text(text) if text == "close" => {
                let close = CloseFrame { code: 4002.into(), reason: "as you wish".into() };
                let _ = socket.close(Some(close)).await;
            }
            Message::Text(_) | Message::Binary(_) => _ = socket.send(message).await,
            _ => {}
        }
    }
    let _ = say.send("ended".into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pings_and_close_codes_pass_both_ways() {
    let mut host = Proxied::to(echo).await;
    let mut socket = open(&host, "/plugin-ws/clock").await;
    for message in [Message::text("grüße"), Message::binary(vec![7; 100_000]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(message));
    }
    socket.send(Message::Ping("sign".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong("sign".into())));
    assert!(counts(&host.served.counted(), "plugbay_tunnels 1"));
    socket.close(Some(CloseFrame { code: 4001.into(), reason: "bye".into() })).await.unwrap();
    assert_eq!(closed(&mut socket).await, (4001, "bye".into()));
    assert_eq!((host.hear().await, host.hear().await), ("Some((4001, \"bye\"))".into(), "ended".into()));
    assert_eq!(next(&mut socket).await, None);
    let mut socket = open(&host, "/plugin-ws/clock").await;
    socket.send(Message::text("close")).await.unwrap();
    assert_eq!(closed(&mut socket).await, (4002, "as you wish".into()));
    assert_eq!(next(&mut socket).await, None);
    let gone = async {
        while !counts(&host.served.counted(), "plugbay_tunnels 0") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the tunnels end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_handshake_has_what_the_client_offers_and_who_it_is_and_nothing_else() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        let chosen = "sec-websocket-protocol: b\r\nsec-websocket-extensions: permessage-deflate; server_max_window_bits=10\r\n\
                      set-cookie: a=b\r\n";
        let _ = say.send(agree(&mut peer, chosen).await.unwrap_or_default());
        peer.ended().await;
    })
    .await;
    let own = format!("origin: http://{}\r\n", host.served.address);
    let mut client = host.served.connect().await;
    let target = format!("/plugin-ws/clock?token={}&a=%20", host.served.token);
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: {}\r\n{own}{WISH}cookie: a=b\r\nx-host-user: root\r\nx-plugin-secret-apikey: x\r\n\
         sec-websocket-protocol: a, b\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        host.served.address
    );
    client.send(request).await;
    let answered = client.answer_head().await.expect("an answer");
    assert_eq!(answered.status, 101);
    assert_eq!(answered.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answered.header("sec-websocket-protocol"), Some("b"));
    let extensions = Some("permessage-deflate; server_max_window_bits=10");
    assert_eq!(answered.header("sec-websocket-extensions"), extensions);
    assert_eq!(answered.header("set-cookie"), None);
    let head = host.hear().await;
    assert!(head.starts_with("GET /ws?a=%20 HTTP/1.1\r\n"), "{head}");
    let mut names: Vec<&str> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "connection",
        "host",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "x-host-signature",
        "x-host-time",
        "x-host-user",
    ];
    assert_eq!(names, expected);
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("a, b"));
    assert_eq!(header(&head, "sec-websocket-extensions"), Some("permessage-deflate; client_max_window_bits"));
    assert_ne!(header(&head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(header(&head, "x-host-user"), Some("owner"));
    assert_eq!(header(&head, "x-host-signature"), Some(&*signature(&head)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_as_they_are_and_early_ones_wait_for_the_servers_word() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let mut host = Proxied::to(move |mut peer: Peer, say: Say| {
        let mut gone = gone.clone();
        async move {
            let head = peer.head().await.unwrap();
            let _ = say.send("asked".into());
            gone.wait_for(|go| *go).await.unwrap();
            assert_eq!(peer.early(), b"", "something came before the agreement");
            // The first frame of the server comes with its agreement.
            peer.say([agreement(&head, "").as_bytes(), b"\x81\x05ready"].concat()).await;
            let expected = early();
            let came = peer.exact(expected.len()).await.unwrap();
            let _ = say.send((came == expected).to_string());
            peer.say(later()).await;
            peer.ended().await;
        }
    })
    .await;
    let mut client = host.served.connect().await;
    let request = format!("{}{WISH}\r\n", host.served.head_at("GET", "/plugin-ws/clock"));
    client.send([request.as_bytes(), &early()].concat()).await;
    assert_eq!(host.hear().await, "asked");
    go.send(true).unwrap();
    assert_eq!(client.answer_head().await.expect("an answer").status, 101);
    let expected = [b"\x81\x05ready", &*later()].concat();
    let came = client.exact(expected.len()).await;
    assert_eq!(came, expected);
    assert_eq!(host.hear().await, "true");
}

/// A fragmented text with a ping between its parts, a compressed frame, and one of another opcode.
fn early() -> Vec<u8> {
    let frames =
        [masked(0x01, b"one "), masked(0x89, b"ping"), masked(0x80, b"two"), masked(0xc1, b"zip"), masked(0x8b, b"")];
    frames.concat()
}

fn later() -> Vec<u8> {
    [b"\x01\x03abc".as_slice(), b"\x8a\x04pong", b"\x80\x00", b"\xc2\x7e\x00\x80", &[9; 128]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_server_gets_a_close_code_that_says_why() {
    let host = Proxied::to(|mut peer: Peer, _: Say| async move {
        let Some(head) = peer.head().await else { return };
        let reply = match head.split(' ').nth(1).unwrap() {
            "/ws?plain" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into(),
            "/ws?wrong" => agreement(&head, "").replace("accept: ", "accept: x"),
            "/ws?protocol" => agreement(&head, "sec-websocket-protocol: c\r\n"),
            "/ws?extension" => agreement(&head, "sec-websocket-extensions: permessage-deflate\r\n"),
            "/ws?noise" => "hello\r\n".into(),
            _ => String::new(),
        };
        peer.say(reply).await;
    })
    .await;
    host.servers.set("off", Known::Disabled);
    host.servers.set("slow", Known::Fails(Kind::Busy, "not ready within 10 s"));
    host.servers.set("failed", Known::Fails(Kind::Unavailable, "it failed"));
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    host.servers.set("refused", Known::Runs(upstream("refused", port, 1)));
    let table = [
        ("/plugin-ws", 4400),
        ("/plugin-ws/", 4400),
        ("/plugin-ws/clock/", 4400),
        ("/plugin-ws/%63lock", 4400),
        ("/plugin-ws/a.b", 4400),
        ("/plugin-ws/../clock", 4400),
        ("/plugin-ws/nobody", 4404),
        ("/plugin-ws/off", 4404),
        ("/plugin-ws/slow", 4502),
        ("/plugin-ws/failed", 4502),
        ("/plugin-ws/refused", 4502),
        ("/plugin-ws/clock?plain", 4502),
        ("/plugin-ws/clock?wrong", 4502),
        ("/plugin-ws/clock?protocol", 4502),
        ("/plugin-ws/clock?extension", 4502),
        ("/plugin-ws/clock?noise", 4502),
        ("/plugin-ws/clock?silence", 4502),
    ];
    for (path, code) in table {
        let mut socket = open(&host, path).await;
        let (found, reason) = closed(&mut socket).await;
        assert_eq!(found, code, "{path}: {reason}");
        assert!(!reason.is_empty(), "{path}");
        assert_eq!(next(&mut socket).await, None);
    }
    // A browser wants one of its sub-protocols to be chosen, else it shows no code.
    let mut client = host.served.connect().await;
    let head = host.served.head_at("GET", "/plugin-ws/nobody");
    client.send(format!("{head}{WISH}sec-websocket-protocol: one, two\r\n\r\n")).await;
    assert_eq!(client.answer_head().await.unwrap().header("sec-websocket-protocol"), Some("one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_come_in_or_is_no_handshake_is_refused_before() {
    let host = Proxied::to(echo).await;
    let address = host.served.address;
    let head = host.served.head_at("GET", "/plugin-ws/clock");
    let table = [
        (format!("GET /plugin-ws/clock HTTP/1.1\r\nhost: {address}\r\n{WISH}\r\n"), 401),
        (format!("GET /plugin-ws/clock?token=wrong HTTP/1.1\r\nhost: {address}\r\n{WISH}\r\n"), 401),
        (format!("{head}{WISH}origin: http://elsewhere\r\n\r\n"), 403),
        (format!("{head}\r\n"), 426),
        (format!("{head}{}\r\n", WISH.replace("13", "12")), 426),
        (format!("{head}{}\r\n", WISH.replace("dGhl", "")), 400),
    ];
    for (request, status) in table {
        assert_eq!(host.served.ask(&request).await.status, status, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_said_between_frames_and_cut_within_one() {
    let whole = b"\x01\x03abc".as_slice();
    for (bytes, said) in [(whole, true), (b"".as_slice(), true), (b"\x81\x0aabc".as_slice(), false), (b"\x81", false)] {
        let host = Proxied::to(move |mut peer: Peer, _: Say| async move {
            agree(&mut peer, "").await;
            peer.say(bytes).await;
            // Until the client has said something.
            peer.exact(1).await;
        })
        .await;
        let (mut client, _) = raw(&host, "").await;
        client.send(masked(0x81, b"go")).await;
        let rest = client.rest().await;
        let goodbye = rest.strip_prefix(bytes).expect("what the server said");
        if said {
            assert_eq!(goodbye[..4], [0x88, goodbye.len() as u8 - 2, 0x03, 0xf3], "1011");
        } else {
            assert_eq!(goodbye, b"");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_and_a_token_that_is_taken_back_close_between_two_frames() {
    for (code, stop) in [(1001_u16, true), (1008, false)] {
        let (go, gone) = tokio::sync::watch::channel(false);
        let mut host = Proxied::to(move |mut peer: Peer, say: Say| {
            let mut gone = gone.clone();
            async move {
                agree(&mut peer, "").await;
                peer.say(b"\x82\x0ahalf").await;
                gone.wait_for(|go| *go).await.unwrap();
                peer.say(b"second\x81\x04lost").await;
                let close = peer.exact(8).await.unwrap_or_default();
                let _ = say.send(format!("{:02x?}", &close[..]));
                peer.ended().await;
            }
        })
        .await;
        let parts = host.served.parts.clone();
        let (token, _) = parts.auth.add("guest", Scopes::of(&[Scope::Call]), None).unwrap();
        host.served.token = token.into();
        let (mut client, _) = raw(&host, "").await;
        let mut came = client.stream_until("half").await;
        if stop {
            parts.shutdown.stop();
        } else {
            parts.auth.revoke("guest").unwrap();
        }
        go.send(true).unwrap();
        came.extend(client.rest().await);
        let text = came.strip_prefix(b"\x82\x0ahalfsecond").expect("the whole frame");
        let lost = b"\x81\x04lost";
        let text = text.strip_prefix(lost).unwrap_or(text);
        assert_eq!((text[0], u16::from_be_bytes([text[2], text[3]])), (0x88, code), "{came:?}");
        let [high, low] = code.to_be_bytes();
        let heard = host.hear().await;
        assert!(heard.starts_with("[88, "), "{heard}");
        assert!(heard.ends_with(&format!("00, 00, 00, 00, {high:02x}, {low:02x}]")), "{heard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_server() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        agree(&mut peer, "").await;
        let frame = [b"\x82\x7f\0\0\0\0\0\x01\0\0".as_slice(), &[7; 65536]].concat();
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(Duration::from_millis(500), peer.stream.write_all(&frame)).await {
            sent += frame.len();
        }
        let _ = say.send(sent.to_string());
        // What waits in between arrives all the same.
        peer.ended().await;
    })
    .await;
    let (client, _) = raw(&host, "").await;
    let sent: usize = host.hear().await.parse().unwrap();
    assert!(sent < 32 << 20, "{sent} bytes were swallowed");
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_its_connection_to_the_server_with_it() {
    let mut host = Proxied::to(|mut peer: Peer, say: Say| async move {
        let head = peer.head().await.unwrap_or_default();
        if !head.contains("?never") {
            peer.say(agreement(&head, "")).await;
        }
        let _ = say.send("asked".into());
        peer.ended().await;
        let _ = say.send("left".into());
    })
    .await;
    for query in ["", "?never"] {
        let mut client = host.served.connect().await;
        client.send(format!("{}{WISH}\r\n", host.served.head_at("GET", &format!("/plugin-ws/clock{query}")))).await;
        assert_eq!(host.hear().await, "asked");
        if query.is_empty() {
            assert_eq!(client.answer_head().await.unwrap().status, 101);
        }
        drop(client);
        assert_eq!(host.hear().await, "left", "{query}");
    }
}

#[test]
fn the_key_of_the_examples_is_the_one_of_the_rfc() {
    assert_eq!(STANDARD.encode("the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
}
