//! The WebSocket load: many sockets from one thread, and how many messages came back.
//!
//! `bench-load echo|fanout --url ws://… --connections N --seconds S --send TEXT --expect TEXT [--token T] [--hello N]
//! [--open TEXT] [--flight N]`
//!
//! `echo`: each socket sends `--send`, waits for one frame, sends again. `fanout`: the first socket sends `--send`, `--flight`
//! times at first, and once more whenever every socket has had one more frame. Each frame must hold `--expect`. `--hello` frames are skipped on each new socket; `--open` is
//! sent on each before the start, and one frame waited for. The first tenth of the time, at least half a second, is not
//! counted. Prints one JSON object: `{"messages", "seconds"}`; and the line `counting` when the count begins.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

type Failure = Box<dyn Error>;
type Socket = WebSocketStream<TcpStream>;

/// What the command line asked for.
struct Options {
    url: String,
    connections: usize,
    seconds: f64,
    send: Utf8Bytes,
    expect: Rc<str>,
    token: Option<String>,
    hello: usize,
    open: Option<Utf8Bytes>,
    flight: usize,
}

impl Options {
    fn read(words: &[String]) -> Result<Self, Failure> {
        let mut given: HashMap<&str, &str> = HashMap::new();
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0]).into()) };
            given.insert(name.strip_prefix("--").ok_or_else(|| format!("{name} is no option"))?, value);
        }
        let need = |name: &str| given.get(name).copied().ok_or_else(|| format!("--{name} is missing"));
        Ok(Self {
            url: need("url")?.to_owned(),
            connections: need("connections")?.parse()?,
            seconds: need("seconds")?.parse()?,
            send: need("send")?.into(),
            expect: need("expect")?.into(),
            token: given.get("token").map(|token| (*token).to_owned()),
            hello: given.get("hello").unwrap_or(&"0").parse()?,
            open: given.get("open").map(|text| (*text).into()),
            flight: given.get("flight").unwrap_or(&"1").parse()?,
        })
    }
}

/// Opens one socket and brings it to where the load begins.
async fn open(options: &Options) -> Result<Socket, Failure> {
    let mut request = options.url.as_str().into_client_request()?;
    if let Some(token) = &options.token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let address = options.url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).ok_or("a ws:// URL")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await?;
    for _ in 0..options.hello {
        next_text(&mut socket).await?;
    }
    if let Some(text) = &options.open {
        socket.send(Message::Text(text.clone())).await?;
        next_text(&mut socket).await?;
    }
    Ok(socket)
}

async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, Failure> {
    loop {
        match socket.next().await.ok_or("the server closed the socket")?? {
            Message::Text(text) => return Ok(text),
            Message::Close(frame) => return Err(format!("the server closed the socket: {frame:?}").into()),
            _ => {}
        }
    }
}

/// What all sockets count together.
struct Count {
    /// What a frame must hold.
    expect: Rc<str>,
    messages: AtomicU64,
    stopping: AtomicBool,
    /// How many messages the speaker may send: one more for each that every socket has had.
    round: Semaphore,
}

impl Count {
    /// Counts one frame; how many there are now.
    fn add(&self, text: &str) -> Result<u64, Failure> {
        if !text.contains(&*self.expect) {
            return Err(format!("expected a frame with {}, found {text}", self.expect).into());
        }
        Ok(self.messages.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Sends, waits, sends again.
async fn echo(mut socket: Socket, send: Utf8Bytes, count: Rc<Count>) -> Result<(), Failure> {
    while !count.stopping.load(Ordering::Relaxed) {
        socket.send(Message::Text(send.clone())).await?;
        count.add(&next_text(&mut socket).await?)?;
    }
    Ok(())
}

/// Takes what is broadcast.
async fn listen(
    mut socket: futures_util::stream::SplitStream<Socket>,
    listeners: u64,
    count: Rc<Count>,
) -> Result<(), Failure> {
    while !count.stopping.load(Ordering::Relaxed) {
        match socket.next().await.ok_or("the server closed the socket")?? {
            Message::Text(text) if count.add(&text)?.is_multiple_of(listeners) => count.round.add_permits(1),
            Message::Close(frame) => return Err(format!("the server closed the socket: {frame:?}").into()),
            _ => {}
        }
    }
    Ok(())
}

/// Starts the fan-out on every socket; the first one also speaks.
fn start_fan_out(sockets: Vec<Socket>, send: Utf8Bytes, count: &Rc<Count>, tasks: &mut Tasks) {
    let listeners = sockets.len() as u64;
    let mut speaker = None;
    for socket in sockets {
        let (write, read) = socket.split();
        tasks.push(tokio::task::spawn_local(listen(read, listeners, count.clone())));
        // The others' writing halves are dropped; the reading half keeps the socket open.
        speaker.get_or_insert(write);
    }
    let (mut speaker, count) = (speaker.expect("at least one connection was asked for"), count.clone());
    tasks.push(tokio::task::spawn_local(async move {
        while !count.stopping.load(Ordering::Relaxed) {
            count.round.acquire().await?.forget();
            speaker.send(Message::Text(send.clone())).await?;
        }
        Ok(())
    }));
}

type Tasks = Vec<tokio::task::JoinHandle<Result<(), Failure>>>;

async fn run(kind: &str, options: Options) -> Result<(), Failure> {
    let mut sockets = Vec::with_capacity(options.connections);
    for _ in 0..options.connections.max(1) {
        sockets.push(open(&options).await?);
    }
    let count = Rc::new(Count {
        expect: options.expect.clone(),
        messages: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        round: Semaphore::new(options.flight),
    });
    let mut tasks = Tasks::new();
    match kind {
        "echo" => {
            for socket in sockets {
                tasks.push(tokio::task::spawn_local(echo(socket, options.send.clone(), count.clone())));
            }
        }
        "fanout" => start_fan_out(sockets, options.send, &count, &mut tasks),
        other => return Err(format!("{other:?} is neither echo nor fanout").into()),
    }
    tokio::time::sleep(Duration::from_secs_f64((options.seconds / 10.0).max(0.5))).await;
    println!("counting");
    let (before, start) = (count.messages.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let (after, seconds) = (count.messages.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    count.stopping.store(true, Ordering::Relaxed);
    println!("{}", serde_json::json!({ "messages": after - before, "seconds": seconds }));
    for task in tasks {
        if task.is_finished() {
            task.await??;
        } else {
            task.abort();
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (kind, rest) = words.split_first().ok_or("usage: bench-load echo|fanout --url ws://… …")?;
    LocalSet::new().run_until(run(kind, Options::read(rest)?)).await
}
