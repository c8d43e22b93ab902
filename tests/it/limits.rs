//! Each limit, at its end and one beyond.

use std::time::Instant;

use crate::served::Served;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_at_the_limit_passes_and_one_byte_more_is_413() {
    const LIMIT: usize = 100_000;
    let served = Served::with(|settings| settings.limits.body_bytes = LIMIT);
    for (extra, status) in [(0, 200), (1, 413)] {
        let body = "x".repeat(LIMIT + extra);
        let announced = format!("{}content-length: {}\r\n\r\n{body}", served.head("POST", "/length"), body.len());
        assert_eq!(served.ask(announced).await.status, status, "announced, {extra} beyond");
        let (first, second) = body.split_at(LIMIT / 2);
        let head = format!("{}transfer-encoding: chunked\r\n\r\n", served.head("POST", "/length"));
        let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
        let answer = served.ask(head + &chunks).await;
        assert_eq!(answer.status, status, "in chunks, {extra} beyond");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_far_beyond_the_limit_is_answered_while_it_is_still_sent() {
    let served = Served::usual();
    let bytes = served.parts.settings.limits.body_bytes + 1;
    let mut client = served.connect().await;
    client.send(format!("{}content-length: {bytes}\r\n\r\n", served.head("POST", "/length"))).await;
    client.send(vec![b'x'; bytes]).await;
    let answer = client.answer().await.expect("a refusal that no reset destroys");
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_at_the_limit_passes_and_one_byte_more_is_431() {
    let served = Served::usual();
    let limit = served.parts.settings.limits.head_bytes;
    let plain = format!("{}x-filler: \r\n\r\n", served.head("GET", "/hello"));
    for (extra, status) in [(0, 200), (1, 431)] {
        let filler = "x".repeat(limit - plain.len() + extra);
        let request = format!("{}x-filler: {filler}\r\n\r\n", served.head("GET", "/hello"));
        assert_eq!(request.len(), limit + extra);
        assert_eq!(served.ask(request).await.status, status, "{extra} beyond");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_headers_pass_and_one_more_is_431() {
    let served = Served::usual();
    let own = served.head("GET", "/hello").lines().count() - 1;
    for (extra, status) in [(0, 200), (1, 431)] {
        let many: String = (0..100 - own + extra).map(|number| format!("x-{number}: v\r\n")).collect();
        let answer = served.ask(format!("{}{many}\r\n", served.head("GET", "/hello"))).await;
        assert_eq!(answer.status, status, "{extra} beyond");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_connection_limit_the_answer_is_503_and_health_is_still_told() {
    let served = Served::with(|settings| settings.limits.connections = 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = served.connect().await;
        client.send(served.get("/hello")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        held.push(client);
    }
    let began = Instant::now();
    let mut refused = served.connect().await;
    refused.send(served.get("/hello")).await;
    let answer = refused.answer().await.expect("a refusal");
    let took = began.elapsed();
    assert_eq!((answer.status, answer.code().as_str()), (503, "busy"));
    assert!(answer.header("retry-after").is_some());
    assert!(refused.rest().await.is_empty());
    assert!(took.as_millis() < 500, "{took:?}");
    let mut silent = served.connect().await;
    assert_eq!(silent.answer().await.expect("a refusal without a request").status, 503);
    let health = served.ask(format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", served.address)).await;
    assert_eq!((health.status, health.header("connection")), (200, Some("close")));
    drop(held);
    loop {
        let mut client = served.connect().await;
        client.send(served.get("/hello")).await;
        if client.answer().await.expect("an answer").status == 200 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_gives_no_answer_in_time_is_a_504_and_is_cancelled() {
    let mut served = Served::with(|settings| settings.limits.call_time = std::time::Duration::from_millis(100));
    let mut client = served.connect().await;
    client.send(served.get("/never")).await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (504, "timeout"));
    assert!(answer.text().contains("\"plugin\":\"demo\""));
    assert_eq!((served.hear().await, served.hear().await), ("begun".into(), "cancelled".into()));
    client.send(served.get("/hello")).await;
    assert_eq!(client.answer().await.expect("the connection is kept").text(), "hello");
}
