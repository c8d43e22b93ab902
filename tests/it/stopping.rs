//! How the server drains.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::served::{PATIENCE, Served};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_idle_connections_and_sockets_and_refuses_new_ones() {
    let served = Served::usual();
    let mut idle = served.connect().await;
    idle.send(served.get("/hello")).await;
    assert_eq!(idle.answer().await.expect("an answer").status, 200);
    let mut silent = served.connect().await;
    let mut request =
        format!("ws://{}/api/plugins/demo/socket", served.address).into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {}", served.token).parse().expect("a value"));
    let stream = TcpStream::connect(served.address).await.expect("a connection");
    let (mut socket, _) = client_async(request, stream).await.expect("a handshake");

    served.parts.shutdown.stop();
    assert!(idle.answer().await.is_none());
    assert!(silent.answer().await.is_none());
    let last = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time");
    let Some(Ok(Message::Close(Some(frame)))) = last else { panic!("no close frame: {last:?}") };
    assert_eq!(u16::from(frame.code), 1001);
    while socket.next().await.is_some() {}
    drop(socket);
    tokio::time::timeout(PATIENCE, served.serving.drained()).await.expect("drained");
    assert!(TcpStream::connect(served.address).await.is_err());
    assert!(served.parts.shutdown.finished(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_being_answered_ends_before_the_stop_does() {
    let served = Served::usual();
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 6\r\n\r\nabc", served.head("POST", "/length"))).await;
    let mut other = served.connect().await;
    other.send(served.get("/hello")).await;
    other.answer().await.expect("an answer: the first request was accepted before this one");
    served.parts.shutdown.stop();
    assert!(other.answer().await.is_none());
    client.send("def").await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.text(), answer.header("connection")), ("6", Some("close")));
    tokio::time::timeout(PATIENCE, served.serving.drained()).await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_the_drain_time_is_cut() {
    let mut served = Served::with(|settings| settings.limits.drain_time = Duration::from_millis(200));
    let mut client = served.connect().await;
    client.send(served.get("/never")).await;
    assert_eq!(served.hear().await, "begun");
    let mut quiet = served.connect().await;
    quiet.send(served.get("/quiet")).await;
    assert_eq!(quiet.answer_head().await.expect("a head").status, 200);
    let began = Instant::now();
    served.parts.shutdown.stop();
    assert!(client.answer().await.is_none());
    assert_eq!(served.hear().await, "cancelled");
    tokio::time::timeout(PATIENCE, served.serving.drained()).await.expect("drained");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(served.parts.shutdown.finished(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_the_stop_comes_under_load() {
    let served = Served::usual();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (address, request) = (served.address, served.get("/hello"));
        clients.spawn(async move {
            let mut client = crate::served::Client::new(TcpStream::connect(address).await.expect("a connection"));
            let mut answered = 0;
            loop {
                client.send(&request).await;
                // A connection closed between two requests is no loss; half an answer would be (and panics).
                let Some(answer) = client.answer().await else { return answered };
                assert_eq!((answer.status, answer.text()), (200, "hello"));
                answered += 1;
                if answer.header("connection") == Some("close") {
                    assert!(client.rest().await.is_empty());
                    return answered;
                }
            }
        });
    }
    while !served.counted().contains("plugbay_request_duration_seconds_bucket") || requests(&served) < 2000 {
        tokio::task::yield_now().await;
    }
    served.parts.shutdown.stop();
    let mut answered = 0_u64;
    while let Some(number) = clients.join_next().await {
        answered += number.expect("a client without a lost answer");
    }
    assert_eq!(answered, requests(&served));
    tokio::time::timeout(PATIENCE, served.serving.drained()).await.expect("drained");
}

fn requests(served: &Served) -> u64 {
    let text = served.counted();
    let line = "plugbay_request_duration_seconds_count ";
    text.lines().find_map(|found| found.strip_prefix(line)?.parse().ok()).unwrap_or_default()
}
