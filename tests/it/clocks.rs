//! What clients that are slow, silent or gone are answered, and that nobody else notices.
#![expect(clippy::disallowed_methods, reason = "a task of a test ends with its runtime")]

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::served::Served;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_slow_is_answered_408_and_closed() {
    let served = Served::with(|settings| settings.limits.head_time = SHORT);
    let mut client = served.connect().await;
    client.send("GET /heal").await;
    let answer = client.answer().await.expect("a refusal");
    assert_eq!((answer.status, answer.code().as_str()), (408, "timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let served = Served::with(|settings| settings.limits.head_time = SHORT);
    let client = served.connect().await;
    let (mut read, mut write) = client.stream.into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            if write.write_all(b"G").await.is_err() {
                return;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut answer = [0; 12];
    read.read_exact(&mut answer).await.expect("a refusal");
    assert_eq!(&answer, b"HTTP/1.1 408");
    drip.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_a_later_request_has_its_own_clock() {
    let served = Served::with(|settings| settings.limits.head_time = SHORT);
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 3\r\n\r\nabc", served.head("POST", "/echo"))).await;
    assert_eq!(client.answer().await.expect("an answer").text(), "abc");
    client.send("GET /heal").await;
    assert_eq!(client.answer().await.expect("a refusal").status, 408);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_that_says_nothing_is_closed_without_a_word() {
    let served = Served::with(|settings| settings.limits.silent_time = SHORT);
    let mut client = served.connect().await;
    assert!(client.answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_is_closed_when_it_was_idle_too_long() {
    let served = Served::with(|settings| {
        settings.limits.idle_time = SHORT;
        settings.limits.head_time = SHORT * 100;
        settings.limits.silent_time = SHORT * 100;
    });
    let mut client = served.connect().await;
    for _ in 0..3 {
        client.send(format!("{}content-length: 3\r\n\r\nabc", served.head("POST", "/echo"))).await;
        assert_eq!(client.answer().await.expect("an answer").text(), "abc");
    }
    assert!(client.answer().await.is_none());
}

/// Longer than a connection may be idle before it gives its buffers back.
const LONG: Duration = Duration::from_millis(1300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_rested_is_answered_and_is_closed_when_it_was_idle_too_long() {
    let served = Served::with(|settings| {
        settings.limits.silent_time = LONG;
        settings.limits.idle_time = LONG * 3 / 2;
    });
    let (mut client, mut half) = (served.connect().await, served.connect().await);
    let echo = format!("{}content-length: 3\r\n\r\nabc", served.head("POST", "/echo"));
    for _ in 0..2 {
        let mut silent = served.connect().await;
        client.send(echo.clone()).await;
        assert_eq!(client.answer().await.expect("an answer").text(), "abc");
        // The first half of the next request comes with this one, the second after a long while.
        let (first, second) = echo.split_at(10);
        half.send(format!("{echo}{first}")).await;
        assert_eq!(half.answer().await.expect("an answer").text(), "abc");
        assert!(silent.answer().await.is_none(), "what says nothing is closed");
        half.send(second).await;
        assert_eq!(half.answer().await.expect("an answer").text(), "abc");
    }
    let began = std::time::Instant::now();
    client.send(echo).await;
    assert_eq!(client.answer().await.expect("an answer").text(), "abc");
    assert!(client.answer().await.is_none());
    assert!(began.elapsed() >= LONG * 3 / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_rests_ends_at_once_with_the_host() {
    let served = Served::with(|settings| settings.limits.silent_time = LONG);
    let (mut client, mut silent) = (served.connect().await, served.connect().await);
    client.send(served.get("/hello")).await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    assert!(silent.answer().await.is_none(), "what says nothing is closed");
    let began = std::time::Instant::now();
    served.parts.shutdown.stop();
    assert!(client.answer().await.is_none());
    assert!(began.elapsed() < LONG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_response_is_not_cut() {
    let served = Served::with(|settings| {
        settings.limits.idle_time = SHORT;
        settings.limits.head_time = SHORT;
        settings.limits.call_time = SHORT;
        settings.limits.stall_time = SHORT;
    });
    let mut client = served.connect().await;
    client.send(served.get("/quiet")).await;
    assert_eq!(client.answer_head().await.expect("a head").status, 200);
    let end = tokio::time::timeout(SHORT * 6, client.rest()).await;
    assert!(end.is_err(), "the response ended: {end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_which_no_byte_comes_is_answered_408() {
    let served = Served::with(|settings| settings.limits.stall_time = SHORT);
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 100\r\n\r\nsome", served.head("POST", "/length"))).await;
    let answer = client.answer().await.expect("a refusal");
    assert_eq!((answer.status, answer.code().as_str()), (408, "timeout"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_is_answered_408() {
    let served = Served::with(|settings| settings.limits.stall_time = SHORT);
    let mut client = served.connect().await;
    client.send(format!("{}content-length: 1000\r\n\r\n", served.head("POST", "/length"))).await;
    // Each byte comes in time; all together they come too slowly.
    for _ in 0..900 {
        client.stream.try_write(b"x").expect("the connection is open");
        if tokio::time::timeout(SHORT / 8, client.stream.readable()).await.is_ok() {
            break;
        }
    }
    let answer = client.answer().await.expect("a refusal");
    assert_eq!((answer.status, answer.code().as_str()), (408, "timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_of_its_response_is_cut() {
    let served = Served::with(|settings| settings.limits.stall_time = SHORT);
    let mut client = served.connect().await;
    client.send(served.get("/flood")).await;
    assert_eq!(client.answer_head().await.expect("a head").status, 200);
    let metrics = served.serving.metrics.clone();
    let cut = async {
        while metrics.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::served::PATIENCE, cut).await.expect("the connection is cut");
    // What was on its way is still there; then comes the end, though the response has none.
    client.rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_but_steadily_is_served() {
    let served = Served::with(|settings| settings.limits.stall_time = SHORT);
    let mut client = served.connect().await;
    client.send(served.get("/flood")).await;
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..20 {
        client.stream.read_exact(&mut buffer).await.expect("more of an endless response");
        tokio::time::sleep(SHORT / 4).await;
    }
}
