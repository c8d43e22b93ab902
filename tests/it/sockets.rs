//! WebSockets of a plugin's own route.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::served::{PATIENCE, Served};

type Socket = WebSocketStream<TcpStream>;

async fn open(served: &Served, protocols: &str) -> (Socket, Option<String>) {
    let mut request =
        format!("ws://{}/api/plugins/demo/socket", served.address).into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {}", served.token).parse().expect("a value"));
    if !protocols.is_empty() {
        headers.insert("sec-websocket-protocol", protocols.parse().expect("a value"));
    }
    let stream = TcpStream::connect(served.address).await.expect("a connection");
    let (socket, response) = client_async(request, stream).await.expect("a handshake");
    assert!(response.headers().get("sec-websocket-extensions").is_none());
    let chosen = response.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
    let chosen = chosen.map(str::to_owned);
    (socket, chosen)
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
    message.expect("a message").expect("a good message")
}

async fn closed_with(socket: &mut Socket) -> (u16, String) {
    loop {
        if let Message::Close(frame) = next(socket).await {
            let frame = frame.expect("a close frame with a code");
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

/// The raw head of a handshake.
fn handshake(served: &Served, more: &str) -> String {
    format!("{}connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n{more}\r\n", served.head("GET", "/socket"))
}

const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "sec-websocket-version: 13\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_and_bytes_come_back_and_the_handler_chooses_the_protocol() {
    let served = Served::usual();
    let (mut socket, chosen) = open(&served, "first, second").await;
    assert_eq!(chosen.as_deref(), Some("first"));
    socket.send(Message::text("grüße")).await.expect("sent");
    assert_eq!(next(&mut socket).await, Message::text("grüße"));
    socket.send(Message::binary(vec![0, 255, 1])).await.expect("sent");
    assert_eq!(next(&mut socket).await, Message::binary(vec![0, 255, 1]));
    socket.send(Message::Ping("sign".into())).await.expect("sent");
    assert_eq!(next(&mut socket).await, Message::Pong("sign".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_is_that_of_the_rfc_and_the_first_message_may_come_with_it() {
    let served = Served::usual();
    let mut client = served.connect().await;
    let mut bytes = handshake(&served, &format!("{KEY}{VERSION}")).into_bytes();
    // "hi", masked with zeros.
    bytes.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    client.send(bytes).await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(client.stream_until("hi").await, [0x81, 2, b'h', b'i']);
    client.send([0x88, 0x82, 0, 0, 0, 0, 3, 232]).await;
    assert_eq!(client.rest().await, [0x88, 2, 3, 232]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_not_one_is_refused() {
    let served = Served::usual();
    let cases = [
        (handshake(&served, VERSION), 400),
        (handshake(&served, KEY), 426),
        (handshake(&served, &format!("{KEY}sec-websocket-version: 12\r\n")), 426),
        (handshake(&served, &format!("sec-websocket-key: short\r\n{VERSION}")), 400),
        (handshake(&served, &format!("{KEY}{KEY}{VERSION}")), 400),
        (handshake(&served, &format!("{KEY}{VERSION}content-length: 1\r\n")), 400),
        (handshake(&served, &format!("{KEY}{VERSION}sec-websocket-protocol: refuse\r\n")), 403),
        (format!("{}upgrade: websocket\r\n{KEY}{VERSION}\r\n", served.head("GET", "/socket")), 426),
        (format!("{}connection: upgrade\r\nupgrade: h2c\r\n\r\n", served.head("GET", "/hello")), 200),
    ];
    for (request, status) in cases {
        let answer = served.ask(&request).await;
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(
            answer.header("sec-websocket-version"),
            (status == 426 || status == 400).then_some("13"),
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_can_close_and_the_other_hears_the_code() {
    let mut served = Served::usual();
    let (mut socket, _) = open(&served, "").await;
    let frame = CloseFrame { code: CloseCode::Library(4321), reason: "bye".into() };
    socket.close(Some(frame)).await.expect("sent");
    assert_eq!(closed_with(&mut socket).await, (4321, "bye".into()));
    assert_eq!(served.hear().await, "closed 4321 bye");

    let (mut socket, _) = open(&served, "").await;
    socket.send(Message::text("stop")).await.expect("sent");
    assert_eq!(closed_with(&mut socket).await, (4000, "asked to".into()));

    let (mut socket, _) = open(&served, "").await;
    socket.send(Message::text("drop")).await.expect("sent");
    assert_eq!(closed_with(&mut socket).await.0, 1011);

    let (socket, _) = open(&served, "").await;
    drop(socket);
    assert_eq!(served.hear().await, "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_at_the_limit_passes_and_one_byte_more_closes_with_1009() {
    let mut served = Served::with(|settings| settings.limits.frame_bytes = 100_000);
    let (mut socket, _) = open(&served, "").await;
    socket.send(Message::binary(vec![7; 100_000])).await.expect("sent");
    assert_eq!(next(&mut socket).await.len(), 100_000);
    socket.send(Message::binary(vec![7; 100_001])).await.expect("sent");
    assert_eq!(closed_with(&mut socket).await.0, 1009);
    assert_eq!(served.hear().await, "closed 1009 a message has at most 100000 bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_close_with_the_code_of_the_rfc() {
    let served = Served::usual();
    let cases: [(&str, &[u8], u16); 5] = [
        ("text that is not UTF-8", &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("a frame without a mask", &[0x81, 1, b'a'], 1002),
        ("a reserved bit", &[0xc1, 0x81, 0, 0, 0, 0, b'a'], 1002),
        ("a reserved opcode", &[0x83, 0x81, 0, 0, 0, 0, b'a'], 1002),
        ("a control frame in pieces", &[0x09, 0x80, 0, 0, 0, 0], 1002),
    ];
    for (name, frame, code) in cases {
        let mut client = served.connect().await;
        client.send(handshake(&served, &format!("{KEY}{VERSION}"))).await;
        assert_eq!(client.answer().await.expect("an answer").status, 101);
        client.send(frame).await;
        let rest = client.rest().await;
        assert_eq!(rest.first(), Some(&0x88), "{name}: {rest:?}");
        assert_eq!(u16::from_be_bytes([rest[2], rest[3]]), code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_much_before_it_reads_gets_everything_in_order() {
    let served = Served::usual();
    let (socket, _) = open(&served, "").await;
    let (mut sink, mut stream) = socket.split();
    // More than the buffers of both ends hold, so that the echo must wait for the client.
    let send = async {
        for number in 0..200_u32 {
            let mut message = number.to_be_bytes().to_vec();
            message.resize(200_000, 0);
            sink.send(Message::binary(message)).await.expect("sent");
        }
    };
    let receive = async {
        for number in 0..200_u32 {
            let message = stream.next().await.expect("a message").expect("a good message").into_data();
            assert_eq!(message[..4], number.to_be_bytes());
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("no deadlock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_back_closes_its_sockets_with_1008() {
    let served = Served::usual();
    let (mut socket, _) = open(&served, "").await;
    let auth = served.parts.auth.clone();
    tokio::task::spawn_blocking(move || auth.revoke("owner").expect("revoked")).await.expect("no panic");
    assert_eq!(closed_with(&mut socket).await.0, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 35 seconds"]
async fn a_client_that_answers_no_ping_is_gone_within_35_seconds() {
    let mut served = Served::usual();
    let mut client = served.connect().await;
    client.send(handshake(&served, &format!("{KEY}{VERSION}"))).await;
    assert_eq!(client.answer().await.expect("an answer").status, 101);
    let began = std::time::Instant::now();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest).await.expect("the end");
    let took = began.elapsed().as_secs();
    assert!((34..=37).contains(&took), "{took} s");
    assert_eq!(rest, [0x89, 0], "a ping and nothing else");
    assert_eq!(served.said.recv().await.as_deref(), Some("gone"));
}
