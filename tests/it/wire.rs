//! The handshake and the bytes of `/ws`: what breaks RFC 6455 or a limit, who does not read, who does not answer.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use plugbay::base::json::Json;
use plugbay::base::settings::Limits;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::stand::{Client, Stand, answer, masked, within};

const PING: &[u8] = br#"{"channel":"system","event":"ping"}"#;

fn small() -> Limits {
    Limits { frame_bytes: 1000, ..Limits::default() }
}

/// A system ping whose text has exactly so many bytes.
fn ping_of(bytes: usize) -> Vec<u8> {
    let empty = r#"{"channel":"system","event":"ping","data":""}"#;
    empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len()))).into_bytes()
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_a_problem_that_says_what_is_missing() {
    let stand = Stand::start();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let table = [
        ("Upgrade: websocket\r\n", "Connection: close\r\n", 426),
        ("Connection: Upgrade", "Connection: close", 426),
        ("HTTP/1.1", "HTTP/1.0", 426),
        ("Upgrade: websocket", "Connection: close\r\nUpgrade: h2c", 426),
        ("Sec-WebSocket-Version: 13", "Connection: close\r\nSec-WebSocket-Version: 12", 426),
        ("Sec-WebSocket-Version: 13", "Connection: close", 426),
        (key, "Connection: close\r\n", 400),
        (key, "Connection: close\r\nSec-WebSocket-Key: short==\r\n", 400),
        (key, &format!("Connection: close\r\n{key}{key}"), 400),
    ];
    for (old, new, status) in table {
        let text = stand.handshake(old, new);
        let (head, body) = stand.ask(&text).await;
        let head = head.to_lowercase();
        assert_eq!(&head[9..12], status.to_string(), "{text}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status);
        if status == 426 {
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
            assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn an_offer_of_compression_or_of_a_sub_protocol_is_declined_by_silence() {
    let stand = Stand::start();
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: a, b\r\n\
                  Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade";
    let mut raw = stand.open().await;
    raw.say(&stand.handshake("Upgrade: websocket\r\nConnection: Upgrade", offers)).await;
    let head = raw.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(!head.contains("extensions") && !head.contains("protocol:"), "{head}");
    assert_eq!(raw.text().await["event"], "hello");
}

#[tokio::test]
async fn a_frame_at_the_limit_passes_and_one_byte_more_closes_with_1009() {
    let stand = Stand::with(small());
    let mut raw = stand.raw().await;
    raw.text().await;
    raw.frame(0x81, &ping_of(1000)).await;
    assert_eq!(raw.text().await["event"], "pong");
    raw.frame(0x81, &ping_of(1001)).await;
    assert_eq!(raw.closed().await, 1009);
}

#[tokio::test]
async fn fragments_that_exceed_the_limit_together_close_with_1009() {
    let stand = Stand::with(small());
    let mut raw = stand.raw().await;
    raw.frame(0x01, &[b'x'; 600]).await;
    raw.frame(0x80, &[b'x'; 401]).await;
    assert_eq!(raw.closed().await, 1009);
}

#[tokio::test]
async fn a_client_that_sends_ten_megabytes_before_it_reads_still_gets_its_close_frame() {
    let stand = Stand::start();
    let mut client = stand.connect().await;
    let large = Message::text("x".repeat(10 << 20));
    // Whether all of it could be written depends on when the host's side ended.
    let _ = within(client.socket.send(large)).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn a_header_that_announces_more_than_there_can_be_closes_with_1009_at_once() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    raw.stream.write_all(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(raw.closed().await, 1009);
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    let stand = Stand::start();
    for frames in [
        vec![(0x81, &b"\xff\xfe"[..])],
        vec![(0x81, &b"ok \xed\xa0\x80"[..])],
        vec![(0x01, &b"ok \xce"[..]), (0x80, &b"x"[..])],
        vec![(0x01, &b"ok \xce"[..]), (0x80, &b""[..])],
    ] {
        let mut raw = stand.raw().await;
        for (first, payload) in frames {
            raw.frame(first, payload).await;
        }
        assert_eq!(raw.closed().await, 1007);
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_close_with_1002() {
    let stand = Stand::start();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("not masked", [&[0x81, PING.len() as u8][..], PING].concat()),
        ("a reserved bit", masked(0xc1, PING).to_vec()),
        ("a reserved data opcode", masked(0x83, b"x").to_vec()),
        ("a reserved control opcode", masked(0x8b, b"x").to_vec()),
        ("a control frame in fragments", masked(0x09, b"x").to_vec()),
        ("a control frame of 126 bytes", masked(0x89, &[0; 126]).to_vec()),
        ("a continuation of nothing", masked(0x80, b"x").to_vec()),
        ("a text within a text", [masked(0x01, b"{"), masked(0x81, b"}")].concat()),
        ("a close frame of one byte", masked(0x88, &[3]).to_vec()),
        ("a close code that may not be sent", masked(0x88, &1006_u16.to_be_bytes()).to_vec()),
    ];
    for (what, bytes) in table {
        let mut raw = stand.raw().await;
        raw.stream.write_all(&bytes).await.unwrap();
        assert_eq!(raw.closed().await, 1002, "{what}");
    }
    stand.until_connections(0).await;
}

#[tokio::test]
async fn bad_bytes_of_one_client_never_reach_another() {
    let stand = Stand::start();
    let mut good = stand.connect().await;
    for first in 0..=255_u8 {
        let mut raw = stand.raw().await;
        raw.stream.write_all(&[first, first, first, 0, 0, 0]).await.unwrap();
        drop(raw);
    }
    good.expect_silence().await;
    stand.until_connections(1).await;
    assert_eq!(stand.parts.shutdown.panics(), 0);
}

#[tokio::test]
async fn a_text_in_fragments_is_one_frame_and_pings_between_them_are_answered() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    raw.text().await;
    raw.frame(0x01, &PING[..5]).await;
    raw.frame(0x89, b"alive?").await;
    raw.frame(0x00, &PING[5..9]).await;
    raw.frame(0x80, &PING[9..]).await;
    let mut heard = [raw.hear().await.unwrap(), raw.hear().await.unwrap()];
    heard.sort();
    assert_eq!(heard[1], (0x8a, b"alive?".to_vec()));
    assert_eq!(heard[0].0, 0x81);
}

#[tokio::test]
async fn a_text_that_comes_byte_by_byte_is_one_frame() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    raw.text().await;
    raw.stream.set_nodelay(true).unwrap();
    for byte in masked(0x81, PING) {
        raw.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.text().await["event"], "pong");
}

#[tokio::test]
async fn a_binary_frame_is_answered_malformed_and_the_socket_stays_open() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    raw.text().await;
    raw.frame(0x82, PING).await;
    assert_eq!(raw.text().await["data"]["code"], "malformed");
    raw.frame(0x81, PING).await;
    assert_eq!(raw.text().await["event"], "pong");
}

#[tokio::test]
async fn a_clients_close_is_answered_with_its_code_and_the_end_of_the_stream() {
    let stand = Stand::start();
    for (payload, answered) in
        [(&b""[..], vec![]), (&b"\x03\xe8bye"[..], vec![3, 0xe8]), (&b"\x0f\xa0"[..], vec![0x0f, 0xa0])]
    {
        let mut raw = stand.raw().await;
        raw.text().await;
        raw.frame(0x88, payload).await;
        assert_eq!(raw.hear().await, Some((0x88, answered)));
        assert_eq!(raw.hear().await, None);
    }
}

#[tokio::test]
async fn many_frames_in_one_write_are_all_answered() {
    let stand = Stand::start();
    stand.channel("echo", |message| Box::pin(async move { Ok(message.frame.data) }));
    let mut raw = stand.raw().await;
    assert_eq!(raw.text().await["event"], "hello");
    let mut bytes = Vec::new();
    for number in 0..200 {
        bytes.extend(masked(0x81, format!(r#"{{"channel":"echo","ref":{number},"data":{number}}}"#).as_bytes()));
    }
    raw.stream.write_all(&bytes).await.unwrap();
    for number in 0..200 {
        assert_eq!(raw.text().await, json!({ "channel": "echo", "event": "reply", "ref": number, "data": number }));
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let stand = Stand::start();
    stand.channel("large", |message| {
        answer(&json!("x".repeat(message.frame.data.value().unwrap().as_u64().unwrap() as usize)))
    });
    let mut client = stand.connect().await;
    for bytes in [0, 1, 125, 126, 16 << 10, 65_535, 65_536, 3 << 20] {
        let reply = client.ask(json!({ "channel": "large", "ref": bytes, "data": bytes })).await;
        assert_eq!(reply["data"].as_str().unwrap().len(), bytes);
    }
}

/// A client with a small receive buffer that hears the topic `flood`, and reads no further.
async fn listener(stand: &Stand) -> Client {
    let hub = stand.parts.hub.clone();
    stand.channel("flood", move |message| {
        hub.subscribe(&message.connection, "flood").unwrap();
        answer(&Value::Null)
    });
    let mut narrow = stand.connect_narrow().await;
    narrow.say(json!({ "channel": "flood", "ref": 1 })).await;
    while narrow.hear().await["event"] != "reply" {}
    narrow
}

/// Publishes messages of 64 KiB until the narrow client's socket is closed; returns how many.
async fn flood(stand: &Stand) -> usize {
    let data = Json::of(&"x".repeat(64 << 10));
    let mut published = 0;
    within(async {
        while stand.parts.hub.publish("flood", "flood", &data) > 0 {
            published += 1;
            // The writer gets its turn.
            tokio::task::yield_now().await;
        }
    })
    .await;
    published
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_1013_and_others_hear_all() {
    let stand = Stand::start();
    let mut narrow = listener(&stand).await;
    let mut idle = stand.connect().await;
    let published = flood(&stand).await;
    assert!(published >= 16, "an outbox of 1 MiB holds 16 messages of 64 KiB, took {published}");
    idle.expect_silence().await;
    // It reads at last: what was under way, and then why it was closed.
    assert_eq!(narrow.closed().await.0, 1013);
}

#[tokio::test]
async fn the_close_of_a_client_that_never_reads_waits_five_seconds_and_is_then_cut() {
    let stand = Stand::start();
    let _narrow = listener(&stand).await;
    flood(&stand).await;
    stand.until_connections(0).await;
    tokio::time::pause();
    let start = Instant::now();
    stand.parts.shutdown.stop();
    stand.parts.toolbox.audit().close(Duration::from_secs(60)).await;
    assert_eq!(stand.parts.shutdown.finished(Duration::from_secs(60)).await.len(), 0);
    assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_pinged_every_25_seconds_and_cut_10_seconds_after_a_ping_without_pong() {
    let stand = Stand::start();
    let mut raw = stand.raw().await;
    raw.text().await;
    let start = Instant::now();
    let since = |seconds: u64| start.elapsed().abs_diff(Duration::from_secs(seconds)) < Duration::from_secs(1);
    for round in 1..=3 {
        assert_eq!(raw.hear_patiently().await, Some((0x89, vec![])));
        assert!(since(25 * round), "{round}: {:?}", start.elapsed());
        raw.frame(0x8a, b"").await;
    }
    assert_eq!(raw.hear_patiently().await, Some((0x89, vec![])));
    let (first, payload) = raw.hear_patiently().await.unwrap();
    assert_eq!((first, &payload[..2]), (0x88, &1011_u16.to_be_bytes()[..]));
    assert!(since(110), "{:?}", start.elapsed());
    assert_eq!(raw.hear_patiently().await, None);
}

#[tokio::test]
async fn a_client_that_only_listens_answers_pings_by_its_library() {
    let stand = Stand::start();
    let mut client = stand.connect().await;
    client.socket.send(Message::Ping("a".into())).await.unwrap();
    assert_eq!(within(client.socket.next()).await.unwrap().unwrap(), Message::Pong("a".into()));
}
