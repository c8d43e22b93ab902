//! Requests at fixed times, answered or not (an open loop), and how long each took from when it was due.
//!
//! `bench-arrivals --port N --path PATH --rate N --seconds S --connections N --token T`
//!
//! Each request goes to a connection that is free; when none is, it waits, and the wait counts. The first tenth of the time
//! is not counted. Prints one JSON object: `{"requests", "seconds", "p50_us", "p99_us"}`.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;

type Failure = Box<dyn Error>;

/// What the command line asked for.
struct Options {
    port: u16,
    request: Vec<u8>,
    rate: f64,
    seconds: f64,
    connections: usize,
}

impl Options {
    fn read(words: &[String]) -> Result<Self, Failure> {
        let mut given: HashMap<&str, &str> = HashMap::new();
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0]).into()) };
            given.insert(name.strip_prefix("--").ok_or_else(|| format!("{name} is no option"))?, value);
        }
        let need = |name: &str| given.get(name).copied().ok_or_else(|| format!("--{name} is missing"));
        let port: u16 = need("port")?.parse()?;
        let (path, token) = (need("path")?, need("token")?);
        let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n\r\n");
        Ok(Self {
            port,
            request: head.into_bytes(),
            rate: need("rate")?.parse()?,
            seconds: need("seconds")?.parse()?,
            connections: need("connections")?.parse()?,
        })
    }
}

/// Sends one request and reads its answer to the end.
async fn ask(stream: &mut TcpStream, request: &[u8], heard: &mut Vec<u8>) -> Result<(), Failure> {
    stream.write_all(request).await?;
    heard.clear();
    loop {
        if stream.read_buf(heard).await? == 0 {
            return Err("the server closed the connection".into());
        }
        if let Some(whole) = length(heard)?
            && heard.len() >= whole
        {
            return Ok(());
        }
    }
}

/// The length of a whole answer, when its head has come.
fn length(heard: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&heard[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("this is no answer: {head}").into());
    }
    let body: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .ok_or("the answer has no length")?
        .trim()
        .parse()?;
    Ok(Some(end + 4 + body))
}

/// Serves what is due on one connection, for ever; each time goes into `times`.
async fn serve(
    options: Rc<Options>,
    due: Rc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
    times: mpsc::UnboundedSender<Duration>,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", options.port)).await?;
    stream.set_nodelay(true)?;
    let mut heard = Vec::with_capacity(64 << 10);
    loop {
        let next = due.lock().await.recv().await;
        let Some(at) = next else { return Ok(()) };
        ask(&mut stream, &options.request, &mut heard).await?;
        // Nobody listens any more when another connection has failed.
        let _ = times.send(at.elapsed());
    }
}

/// Names each request when it is due; the clock is watched, since timers are a millisecond late.
async fn arrive(options: &Options, due: mpsc::UnboundedSender<Instant>) {
    let start = Instant::now();
    let step = 1.0 / options.rate;
    let mut number = 0.0;
    while number * step < options.seconds {
        let at = start + Duration::from_secs_f64(number * step);
        while Instant::now() < at {
            tokio::task::yield_now().await;
        }
        // The connections have ended only after a failure, which ends the program.
        let _ = due.send(at);
        number += 1.0;
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let options = Rc::new(options);
    let (due, queue) = mpsc::unbounded_channel();
    let (times, mut taken) = mpsc::unbounded_channel();
    let queue = Rc::new(Mutex::new(queue));
    let connections: Vec<_> = (0..options.connections)
        .map(|_| tokio::task::spawn_local(serve(options.clone(), queue.clone(), times.clone())))
        .collect();
    drop(times);
    arrive(&options, due).await;
    for connection in connections {
        connection.await??;
    }
    let mut all = Vec::new();
    while let Some(time) = taken.recv().await {
        all.push(time);
    }
    let mut counted = all.split_off(all.len() / 10);
    counted.sort_unstable();
    let part =
        |share: f64| counted.get((counted.len() as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (p50, p99) = (part(0.5), part(0.99));
    println!(
        r#"{{"requests": {}, "seconds": {}, "p50_us": {p50:.0}, "p99_us": {p99:.0}}}"#,
        all.len() + counted.len(),
        options.seconds
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    LocalSet::new().run_until(run(Options::read(&words)?)).await
}
