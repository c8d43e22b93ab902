//! HTTP/2 by prior knowledge and, with TLS, by ALPN.
#![expect(clippy::disallowed_methods, reason = "a task of a test ends with its runtime")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plugbay::base::settings::Settings;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::served::{Client, Served};

type Sender = http2::SendRequest<Full<Bytes>>;

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("an HTTP/2 handshake");
    tokio::spawn(connection);
    sender
}

fn request(served: &Served, scheme: &str, method: &str, path: &str) -> http::request::Builder {
    http::Request::builder()
        .method(method)
        .uri(format!("{scheme}://{}/api/plugins/demo{path}", served.address))
        .header("authorization", format!("Bearer {}", served.token))
}

async fn text(response: http::Response<hyper::body::Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_by_prior_knowledge_answers_many_streams_of_one_connection() {
    let served = Served::usual();
    let mut sender = http2(TcpStream::connect(served.address).await.expect("a connection")).await;
    let mut answers = Vec::new();
    for number in 0..50 {
        let body = Full::new(Bytes::from(format!("body {number}")));
        let request = request(&served, "http", "POST", "/echo").body(body).expect("a request");
        sender.ready().await.expect("a connection that takes more");
        answers.push((number, sender.send_request(request)));
    }
    for (number, answer) in answers {
        let answer = answer.await.expect("an answer");
        assert!(answer.headers().contains_key("x-request-id"));
        assert_eq!(text(answer).await, (200, format!("body {number}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preface_that_comes_in_pieces_is_still_http2_and_a_false_one_is_not() {
    let served = Served::usual();
    let mut client = served.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    client.send("\r\nSM\r\n\r\n").await;
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut first = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut first).await.expect("a frame");
    assert_eq!(first[3], 4, "the first frame is SETTINGS");
    let mut client = served.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(client.answer().await.is_none_or(|answer| answer.status == 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_keeps_the_limits_of_bodies_heads_and_time() {
    let mut served = Served::with(|settings| {
        settings.limits.body_bytes = 1000;
        settings.limits.call_time = Duration::from_millis(100);
    });
    let mut sender = http2(TcpStream::connect(served.address).await.expect("a connection")).await;
    for (bytes, status) in [(1000, 200), (1001, 413)] {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        let request = request(&served, "http", "POST", "/length").body(body).expect("a request");
        assert_eq!(text(sender.send_request(request).await.expect("an answer")).await.0, status, "{bytes}");
    }
    let late = request(&served, "http", "GET", "/never").body(Full::default()).expect("a request");
    assert_eq!(text(sender.send_request(late).await.expect("an answer")).await.0, 504);
    assert_eq!((served.hear().await, served.hear().await), ("begun".into(), "cancelled".into()));
    let large = request(&served, "http", "GET", "/hello")
        .header("x-filler", "x".repeat(served.parts.settings.limits.head_bytes))
        .body(Full::default())
        .expect("a request");
    assert_eq!(sender.send_request(large).await.map_or(431, |answer| answer.status().as_u16()), 431);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_stream_that_is_reset_cancels_its_handler() {
    let mut served = Served::usual();
    let mut sender = http2(TcpStream::connect(served.address).await.expect("a connection")).await;
    let never = request(&served, "http", "GET", "/never").body(Full::default()).expect("a request");
    let answer = tokio::spawn(sender.send_request(never));
    assert_eq!(served.hear().await, "begun");
    answer.abort();
    assert_eq!(served.hear().await, "cancelled");
    let hello = request(&served, "http", "GET", "/hello").body(Full::default()).expect("a request");
    assert_eq!(text(sender.send_request(hello).await.expect("an answer")).await, (200, "hello".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_http2_connection_and_one_that_takes_nothing_are_ended() {
    let served = Served::with(|settings| {
        settings.limits.idle_time = Duration::from_millis(150);
        settings.limits.stall_time = Duration::from_millis(150);
    });
    let (mut sender, connection) = http2::handshake::<_, _, Empty<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(TcpStream::connect(served.address).await.expect("a connection")),
    )
    .await
    .expect("an HTTP/2 handshake");
    let ended = tokio::spawn(connection);
    let hello = request(&served, "http", "GET", "/hello").body(Empty::new()).expect("a request");
    assert_eq!(text(sender.send_request(hello).await.expect("an answer")).await, (200, "hello".into()));
    tokio::time::timeout(crate::served::PATIENCE, ended)
        .await
        .expect("the end of an idle connection")
        .expect("no panic")
        .ok();

    let mut sender = http2(TcpStream::connect(served.address).await.expect("a connection")).await;
    let flood = request(&served, "http", "GET", "/flood").body(Full::default()).expect("a request");
    let answer = sender.send_request(flood).await.expect("an answer");
    let cut = async {
        while served.serving.metrics.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::served::PATIENCE, cut).await.expect("a client that takes nothing is cut");
    drop(answer);
}

/// A server with a certificate of its own, and a client that trusts it.
fn with_tls(change: impl FnOnce(&mut Settings)) -> (Served, ClientConfig) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, pair.cert.pem()).expect("a file");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("a file");
    let served = Served::with(|settings| {
        settings.tls = Some((chain, key));
        change(settings);
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pair.cert.der().to_vec())).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (served, config)
}

async fn secure(served: &Served, mut config: ClientConfig, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(served.address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a TLS handshake")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_speaks_http2_or_http1_as_the_client_prefers() {
    let (served, config) = with_tls(|_| {});
    let stream = secure(&served, config.clone(), &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2(stream).await;
    let hello = request(&served, "https", "GET", "/hello").body(Full::default()).expect("a request");
    assert_eq!(text(sender.send_request(hello).await.expect("an answer")).await, (200, "hello".into()));

    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let mut client = Client::new(secure(&served, config.clone(), protocols).await);
        client.send(served.get("/hello")).await;
        assert_eq!(client.answer().await.expect("an answer").text(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_begins_tls_and_says_no_more_is_closed() {
    let (served, _) = with_tls(|settings| settings.limits.silent_time = Duration::from_millis(150));
    let mut client = served.connect().await;
    client.send([0x16, 3, 1]).await;
    assert!(client.rest().await.is_empty());
}

#[test]
fn a_certificate_that_is_none_is_refused_with_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("none.pem");
    std::fs::write(&file, "not PEM").expect("a file");
    let Err(error) = plugbay::edge::tls::acceptor(&file, &file) else { panic!("accepted") };
    assert_eq!(error.kind().code(), "invalid");
    assert!(error.message().contains("none.pem"));
}
