//! Standard input and output for MCP clients that start a command: each message goes on to the `/mcp` of a host, each
//! answer comes back.
//!
//! The protocol is `rmcp`'s, which writes anew what it has read. So a line that would not come through as it is is answered
//! here.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::RoleClient;
use rmcp::transport::common::client_side_sse::FixedInterval;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::engine::mcp::asked::{Asked, LIST};
use crate::engine::mcp::http::HttpClient;
use crate::engine::mcp::lines::LINE_BYTES;
use crate::engine::mcp::message::{answered, id_of, is_named, message_of, refusal};
use crate::engine::mcp::opening::{HELLO, Opening, Step};
use crate::engine::mcp::stdio::{Input, Output};

/// How long the last message may take, and the client to read what is left.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// How long what was asked before the end of the input may take.
const ENDING_TIME: Duration = Duration::from_secs(3);
/// How often a stream of events is asked for again that broke off, and the rest between: for a host that is gone, all that
/// runs there is over, and whoever waits for it is told so.
const RESUMES: (usize, Duration) = (3, Duration::from_millis(500));
/// So many requests are under way at once: more than the host lets one caller have, so that none waits for others.
const REQUESTS: usize = 1 << 16;

/// Passes messages on until the input ends, `stop` is cancelled, or the host takes no more.
///
/// `url` is the host's address without `/mcp`; the two files are where a client writes and reads.
///
/// # Errors
/// `Upstream`: the host does not answer. `Unauthenticated`: it takes the token no more.
pub async fn relay(url: &str, token: Option<String>, streams: (File, File), stop: &CancellationToken) -> Result<()> {
    let mut relay = Relay::new(url, token, streams.1)?;
    let ended = relay.run(&mut Input::new(streams.0), stop).await;
    if let Err(error) = &ended {
        relay.give_up(error.message());
    }
    relay.leave().await;
    ended
}

/// A message that the host did not take.
struct Refused {
    /// What names it, where it is a request.
    id: Option<RequestId>,
    why: StreamableHttpError<Error>,
}

type Host = StreamableHttpClientTransport<HttpClient>;

/// One client and its host.
struct Relay<'a> {
    url: &'a str,
    client: HttpClient,
    config: StreamableHttpClientTransportConfig,
    host: Host,
    output: Output,
    opening: Opening,
    asked: Asked,
    sending: FuturesUnordered<BoxFuture<'static, std::result::Result<(), Refused>>>,
    /// Bytes that were read while what they ask for cannot go on.
    ahead: usize,
}

impl<'a> Relay<'a> {
    fn new(url: &'a str, token: Option<String>, output: File) -> Result<Self> {
        let scheme = url.split_once(':').map_or("http", |(scheme, _)| scheme);
        let client = HttpClient::new(scheme)?;
        let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{url}/mcp"));
        config.auth_header = token;
        config.max_concurrent_requests = REQUESTS;
        let mut resumes = FixedInterval::default();
        (resumes.max_times, resumes.duration) = (Some(RESUMES.0), RESUMES.1);
        config.retry_config = Arc::new(resumes);
        let host = Host::with_client(client.clone(), config.clone());
        Ok(Self {
            url,
            client,
            config,
            host,
            output: Output::new(output),
            opening: Opening::default(),
            asked: Asked::default(),
            sending: FuturesUnordered::new(),
            ahead: 0,
        })
    }

    async fn run(&mut self, input: &mut Input, stop: &CancellationToken) -> Result<()> {
        let mut end = None;
        loop {
            if end.is_some() && self.asked.is_done() && self.sending.is_empty() {
                return Ok(());
            }
            if self.output.has_room() && !self.opening.is_waiting() {
                self.ahead = 0;
            }
            tokio::select! {
                // What a client that does not read says is read nonetheless, for a while: it may be its end.
                line = input.next(), if end.is_none() && self.ahead < LINE_BYTES => match line {
                    Some(line) => self.take(line),
                    None => end = Some(Instant::now() + ENDING_TIME),
                },
                message = Transport::<RoleClient>::receive(&mut self.host), if self.output.has_room() => match message {
                    Some(message) => self.hear(&message),
                    None => return Err(self.gone()),
                },
                Some(sent) = self.sending.next() => self.sent(sent)?,
                () = self.output.write() => {}
                () = async { sleep_until(end.unwrap_or_else(Instant::now)).await }, if end.is_some() => return Ok(()),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Takes a line of the client.
    fn take(&mut self, line: Result<Vec<u8>>) {
        let read = match line {
            Ok(line) if line.trim_ascii().is_empty() => return,
            Ok(line) => message_of(&line).map(|message| (message, line)),
            Err(error) => Err(Some(refusal(ErrorCode::INVALID_REQUEST, Value::Null, &error))),
        };
        match read {
            Ok((message, line)) => {
                self.ahead += line.len();
                self.asked.note(&message, line);
                let messages = self.opening.accept(message);
                self.send(messages);
            }
            Err(Some(answer)) => self.output.say(&answer),
            Err(None) => {}
        }
    }

    fn send(&mut self, messages: impl IntoIterator<Item = ClientJsonRpcMessage>) {
        for message in messages {
            let id = id_of(&message).cloned();
            let sent = Transport::<RoleClient>::send(&mut self.host, message);
            self.sending.push(async move { sent.await.map_err(|why| Refused { id, why }) }.boxed());
        }
    }

    /// Takes a message of the host.
    fn hear(&mut self, message: &ServerJsonRpcMessage) {
        let step = self.opening.hear(message);
        let id = answered(message);
        if id.is_some_and(|id| is_named(id, LIST)) {
            let messages = self.asked.listed(message);
            self.send(messages);
        } else if let Some(list) = self.asked.lacks_headers(message) {
            self.send(list);
        } else if !id.is_some_and(|id| is_named(id, HELLO)) {
            if let Some(id) = id {
                self.asked.end(id);
            }
            self.output.say(message);
        }
        match step {
            Step::None => {}
            Step::Send(messages) => self.send(messages),
            Step::Refused => self.begin_anew(),
        }
    }

    /// Another connection to the same host: `rmcp`'s takes the next message for something else.
    fn begin_anew(&mut self) {
        self.host = Host::with_client(self.client.clone(), self.config.clone());
        let lost = self.asked.take(|id| self.opening.holds(id));
        self.refuse(lost, "the connection that it was sent over has ended with a refused initialize");
        let messages = self.opening.anew();
        self.send(messages);
    }

    /// Answers a request that the host did not take.
    ///
    /// # Errors
    /// `Unauthenticated`: it will take no other either.
    fn sent(&mut self, sent: std::result::Result<(), Refused>) -> Result<()> {
        let Err(Refused { id, why }) = sent else { return Ok(()) };
        let text = format!("the host at {} did not take it: {why}", self.url);
        match id {
            Some(id) if is_named(&id, LIST) => {
                let messages = self.asked.unlisted();
                self.send(messages);
            }
            Some(id) if is_named(&id, HELLO) => self.give_up(&text),
            Some(id) if self.asked.end(&id) => self.refuse([id], &text),
            _ => {}
        }
        if !matches!(why, StreamableHttpError::AuthRequired(_)) {
            return Ok(());
        }
        let message = format!(
            "the host at {} takes the token no more, which has expired or was taken back: start anew",
            self.url
        );
        Err(Error::new(Kind::Unauthenticated, message))
    }

    /// Why the host takes no more.
    fn gone(&mut self) -> Error {
        // What it has refused last says more.
        while let Some(Some(sent)) = self.sending.next().now_or_never() {
            if let Err(error) = self.sent(sent) {
                return error;
            }
        }
        Error::new(Kind::Upstream, format!("the host at {} takes no more messages", self.url))
    }

    /// Answers all that is waited for.
    fn give_up(&mut self, text: &str) {
        let lost = self.asked.take(|_| false);
        self.refuse(lost, text);
    }

    fn refuse(&mut self, ids: impl IntoIterator<Item = RequestId>, text: &str) {
        for id in ids {
            let error = ErrorData::internal_error(text.to_owned(), None);
            self.output.say(&ServerJsonRpcMessage::error(error, Some(id)));
        }
    }

    /// Ends the session that the host keeps for this client, and writes what is left. A host that does not answer ends it
    /// by itself, and a client that does not read has no use for it.
    async fn leave(&mut self) {
        let (host, opening) = (&mut self.host, &self.opening);
        let leave = async {
            if !opening.has_begun() {
                return;
            }
            if let Some(last) = opening.last() {
                let _ = Transport::<RoleClient>::send(host, last).await;
            }
            host.cancel_token().cancel();
            // It hears of it once its messages are taken.
            while Transport::<RoleClient>::receive(host).await.is_some() {}
            let _ = Transport::<RoleClient>::close(host).await;
        };
        let _ = timeout(GOODBYE_TIME, join(leave, self.output.drain())).await;
    }
}
