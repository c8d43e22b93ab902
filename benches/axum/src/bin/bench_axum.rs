//! Pure axum on one thread, as the limit: the routes of `benches/apps`, a WebSocket echo and a fan-out.
//!
//! `bench-axum PORT` serves on 127.0.0.1 until it is ended.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[derive(Deserialize, Serialize)]
struct Item {
    name: String,
    price: f64,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Stored {
    id: u64,
    #[serde(flatten)]
    item: Item,
}

/// What is asked of one item.
#[derive(Deserialize)]
struct Search {
    q: String,
    #[serde(default = "ten")]
    limit: u64,
}

#[derive(Serialize)]
struct Found {
    id: u64,
    name: String,
    limit: u64,
    tags: [&'static str; 2],
}

const TAGS: [&str; 2] = ["home", "light"];

fn ten() -> u64 {
    10
}

/// Those who hear each broadcast.
#[derive(Clone, Default)]
struct Listeners(Arc<Mutex<Vec<mpsc::Sender<Utf8Bytes>>>>);

async fn read() -> Json<Stored> {
    let tags = vec!["home".to_owned(), "light".to_owned()];
    Json(Stored { id: 7, item: Item { name: "lamp".to_owned(), price: 12.5, tags } })
}

async fn find(Path(id): Path<u64>, Query(search): Query<Search>) -> Json<Found> {
    Json(Found { id, name: search.q, limit: search.limit, tags: TAGS })
}

async fn hundred() -> Json<Vec<Stored>> {
    let tags = || TAGS.map(str::to_owned).to_vec();
    let item = |id: u64| Item { name: format!("item {id}"), price: id as f64 / 4.0, tags: tags() };
    Json((0..100).map(|id| Stored { id, item: item(id) }).collect())
}

async fn write(Json(item): Json<Item>) -> Json<Stored> {
    Json(Stored { id: 7, item })
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4096).on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn fan_out(upgrade: WebSocketUpgrade, State(listeners): State<Listeners>) -> Response {
    upgrade.read_buffer_size(4096).on_upgrade(|socket| listen(socket, listeners))
}

async fn listen(socket: WebSocket, listeners: Listeners) {
    let (sender, mut outbox) = mpsc::channel(1024);
    listeners.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    let (mut write, mut read) = socket.split();
    tokio::spawn(async move {
        // What waits together is written together.
        let mut waiting = Vec::new();
        while outbox.recv_many(&mut waiting, 64).await > 0 {
            for text in waiting.drain(..) {
                if write.feed(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            if write.flush().await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = read.next().await {
        if let Message::Text(text) = message {
            let mut all = listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|listener| !listener.is_closed());
            for listener in all.iter() {
                // A full outbox loses the message: a slow client pays alone.
                let _ = listener.try_send(text.clone());
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = env::args().nth(1).ok_or("usage: bench-axum PORT")?.parse()?;
    let router = Router::new()
        .route("/api/plugins/bench/item", get(read).post(write))
        .route("/api/plugins/bench/items", post(write))
        .route("/api/plugins/bench/items/{number}", get(find))
        .route("/api/plugins/bench/hundred", get(hundred))
        .route("/ws", any(echo))
        .route("/fanout", any(fan_out))
        .with_state(Listeners::default());
    axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, router).await?;
    Ok(())
}
