//! What a request meets on its way to a plugin and back.

use http::HeaderName;

use crate::served::{Served, counts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_for_the_next_request() {
    let served = Served::usual();
    let mut client = served.connect().await;
    for _ in 0..3 {
        client.send(served.get("/hello")).await;
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_their_order() {
    let served = Served::usual();
    let mut client = served.connect().await;
    let second = format!("{}content-length: 3\r\n\r\nabc", served.head("POST", "/echo"));
    client.send(format!("{}{second}{}", served.get("/hello"), served.get("/nowhere"))).await;
    let first = client.answer().await.expect("the first answer");
    let second = client.answer().await.expect("the second answer");
    let third = client.answer().await.expect("the third answer");
    assert_eq!((first.text(), second.text()), ("hello", "abc"));
    assert_eq!((third.status, third.text()), (404, "mine"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_gets_it_when_the_handler_reads() {
    let served = Served::usual();
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 4\r\nexpect: 100-continue\r\n\r\n", served.head("POST", "/length"))).await;
    assert_eq!(client.answer().await.expect("leave to go on").status, 100);
    client.send("four").await;
    assert_eq!(client.answer().await.expect("an answer").text(), "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_sends_nothing_when_it_is_refused() {
    let served = Served::with(|settings| settings.limits.body_bytes = 10);
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 11\r\nexpect: 100-continue\r\n\r\n", served.head("POST", "/length"))).await;
    let answer = client.answer().await.expect("a refusal");
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_body_that_came_with_its_head_is_whole_and_others_are_streams() {
    let served = Served::usual();
    let small = format!("{}content-length: 3\r\n\r\nabc", served.head("POST", "/whole"));
    assert_eq!(served.ask(small).await.text(), "true");
    let large = format!("{}content-length: 70000\r\n\r\n{}", served.head("POST", "/whole"), "x".repeat(70_000));
    assert_eq!(served.ask(large).await.text(), "false");
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 6\r\n\r\nab", served.head("POST", "/echo"))).await;
    let head = client.answer_head().await.expect("the head of an echo");
    assert_eq!(head.status, 200);
    client.send("cdef").await;
    client.send(served.get("/hello")).await;
    let rest = String::from_utf8(client.stream_until("hello").await).expect("text");
    assert!(rest.starts_with("abcdef"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_answered_without_a_body_and_204_without_a_length() {
    let served = Served::usual();
    let mut client = served.connect().await;
    client.send(format!("{}\r\n", served.head("HEAD", "/hello"))).await;
    let answer = client.answer_head().await.expect("an answer");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("5")));
    client.send(served.get("/none")).await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_and_the_query_reach_the_handler_as_they_came() {
    let served = Served::usual();
    let answer = served.ask(served.get("/head?a=%20b&a=%C3%A9&c")).await;
    let mut lines = answer.text().lines();
    assert_eq!(lines.next(), Some("GET"));
    assert_eq!(lines.next(), Some("/api/plugins/demo/head?a=%20b&a=%C3%A9&c"));
    assert_eq!(lines.next(), Some("/api/plugins/demo"));
    assert_eq!(lines.next(), Some("owner"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_a_request_id_and_a_sane_one_of_the_client_is_kept() {
    let served = Served::usual();
    let first = served.ask(served.get("/hello")).await;
    let second = served.ask(served.get("/hello")).await;
    let (first, second) = (first.header("x-request-id").expect("an id"), second.header("x-request-id").expect("an id"));
    assert_ne!(first, second);
    let kept = served.ask(format!("{}x-request-id: trace-1.A_b\r\n\r\n", served.head("GET", "/head"))).await;
    assert_eq!(kept.header("x-request-id"), Some("trace-1.A_b"));
    assert_eq!(kept.text().lines().nth(4), Some("trace-1.A_b"));
    for bad in ["a b", "\"quoted\"", &"x".repeat(65), "caf\u{e9}"] {
        let answer = served.ask(format!("{}x-request-id: {bad}\r\n\r\n", served.head("GET", "/hello"))).await;
        assert_ne!(answer.header("x-request-id"), Some(bad));
        assert_eq!(answer.status, 200);
    }
    let refused = served.ask(format!("GET /api/plugins/demo/hello HTTP/1.1\r\nhost: {}\r\n\r\n", served.address)).await;
    assert_eq!((refused.status, refused.header("x-request-id").is_some()), (401, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_no_plugin_and_no_route_is_a_problem() {
    let served = Served::usual();
    for path in ["/api/nothing/here", "/api/plugins/other", "/nowhere"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
            served.address, served.token
        );
        let answer = served.ask(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_ten_thousand_segments_costs_no_more_than_another() {
    let served = Served::usual();
    let path = format!("/api{}", "/a".repeat(20_000));
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n", served.address, served.token);
    assert_eq!(served.ask(request).await.code(), "not_found");
    let deep = served.get(&format!("/head{}", "/a".repeat(20_000)));
    assert_eq!(served.ask(deep).await.text(), "mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_are_unavailable_until_all_are_loaded() {
    let mut served = Served::usual();
    served.parts.ready = plugbay::edge::parts::Ready::default();
    let other = served.parts.clone();
    let listener = plugbay::edge::server::bind(&other.settings).expect("a free port");
    let serving = plugbay::edge::server::serve(other, listener, axum::Router::new()).expect("a second server");
    served.address = serving.bound;
    let answer = served.ask(served.get("/hello")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert!(answer.header("retry-after").is_some());
    served.parts.ready.set();
    assert_eq!(served.ask(served.get("/hello")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_500_and_the_connection_and_the_host_go_on() {
    let served = Served::usual();
    let mut client = served.connect().await;
    client.send(served.get("/panic")).await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    client.send(served.get("/hello")).await;
    assert_eq!(client.answer().await.expect("an answer").text(), "hello");
    assert!(counts(&served.counted(), "plugbay_task_panics_total 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_and_an_impossible_answer_are_blamed_on_the_plugin() {
    let served = Served::usual();
    for path in ["/raise", "/wrong-length", "/unasked"] {
        let mut client = served.connect().await;
        client.send(served.get(path)).await;
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (500, "plugin"), "{path}");
        assert!(answer.text().contains("\"plugin\":\"demo\""), "{path}");
        client.send(served.get("/hello")).await;
        assert_eq!(client.answer().await.expect("an answer").text(), "hello", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_with_a_line_break_cannot_be_made() {
    assert!(http::HeaderValue::from_bytes(b"a\r\nset-cookie: b").is_err());
    assert!(HeaderName::from_bytes(b"a\r\nb").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_cancels_its_handler() {
    let mut served = Served::usual();
    let mut client = served.connect().await;
    client.send(served.get("/never")).await;
    assert_eq!(served.hear().await, "begun");
    drop(client);
    assert_eq!(served.hear().await, "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_in_a_path_a_query_and_a_header_is_answered_and_harms_nothing() {
    let served = Served::usual();
    let (host, token) = (served.address, served.token.clone());
    for byte in 0..=u8::MAX {
        for place in ["path", "query", "name", "value", "method"] {
            let at = |here: &str| if place == here { vec![byte] } else { Vec::new() };
            let request = [
                b"GET".to_vec(),
                at("method"),
                b" /api/plugins/demo/head".to_vec(),
                at("path"),
                b"?q=".to_vec(),
                at("query"),
                format!(" HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nx-a").into_bytes(),
                at("name"),
                b": v".to_vec(),
                at("value"),
                b"w\r\nconnection: close\r\n\r\n".to_vec(),
            ]
            .concat();
            let mut client = served.connect().await;
            client.send(request).await;
            let answer = client.answer().await;
            let status = answer.map_or(0, |answer| answer.status);
            assert!(matches!(status, 200 | 400 | 404), "byte {byte:#04x} in the {place}: {status}");
        }
    }
    assert_eq!(served.ask(served.get("/hello")).await.text(), "hello");
    assert_eq!(served.parts.shutdown.panics(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_smuggled_gets_one_answer_and_a_close() {
    let served = Served::usual();
    let inner = served.get("/hello");
    let post = served.head("POST", "/length");
    let cases = [
        ("both lengths", format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
        (
            "both lengths, the other order",
            format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{inner}"),
        ),
        ("two lengths", format!("{post}content-length: 0\r\ncontent-length: {}\r\n\r\n{inner}", inner.len())),
        ("a list of lengths", format!("{post}content-length: 0, 5\r\n\r\n{inner}")),
        ("a signed length", format!("{post}content-length: +0\r\n\r\n{inner}")),
        ("an unknown coding", format!("{post}transfer-encoding: gzip\r\n\r\n{inner}")),
        ("chunked and not last", format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}")),
        (
            "a coding in HTTP/1.0",
            format!("{}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}", post.replace("1.1", "1.0")),
        ),
        ("a space before the colon", format!("{post}content-length : 0\r\n\r\n{inner}")),
        ("a folded line", format!("{post}x-a: b\r\n content-length: 0\r\n\r\n{inner}")),
        (
            "an upgrade that nobody takes",
            format!(
                "{post}connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{inner}"
            ),
        ),
    ];
    for (name, request) in cases {
        let mut client = served.connect().await;
        client.send(request).await;
        let answer = client.answer().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(matches!(answer.status, 200 | 400), "{name}: {answer:?}");
        let rest = client.rest().await;
        assert!(rest.is_empty(), "{name}: a second answer: {}", rest.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_asks_for_a_tunnel_is_refused() {
    let served = Served::usual();
    let request =
        format!("CONNECT {0} HTTP/1.1\r\nhost: {0}\r\nauthorization: Bearer {1}\r\n\r\n", served.address, served.token);
    assert_eq!(served.ask(request).await.code(), "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_counted_by_group_and_class() {
    let served = Served::usual();
    served.ask(served.get("/hello")).await;
    served.ask(served.get("/nowhere")).await;
    let text = served
        .ask(format!(
            "GET /metrics HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
            served.address, served.token
        ))
        .await;
    assert!(text.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    let text = text.text();
    assert!(counts(text, "plugbay_requests_total{group=\"plugin\",class=\"2xx\"} 1"), "{text}");
    assert!(counts(text, "plugbay_requests_total{group=\"plugin\",class=\"4xx\"} 1"), "{text}");
    assert!(counts(text, "plugbay_request_duration_seconds_count 2"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}
