//! Standard input and output for MCP clients that start a command: each message goes on to the `/mcp` of a host, each
//! answer comes back.
//!
//! The protocol is `rmcp`'s, which writes anew what it has read. So a line that would not come through as it is is answered
//! here.

use std::fs::File;
use std::mem;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::RoleClient;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::{Json, is_misread, read, wide_integer};
use crate::engine::mcp::http::HttpClient;
use crate::engine::mcp::lines::LINE_BYTES;
use crate::kernel::call::{misread, too_wide};

/// How long the last message may take.
const GOODBYE_TIME: Duration = Duration::from_secs(2);

/// Passes messages on until the input ends, `stop` is cancelled, or the host takes no more.
///
/// `url` is the host's address without `/mcp`; the two files are where a client writes and reads.
///
/// # Errors
/// `Upstream`: the host does not answer. `Unauthenticated`: it takes the token no more.
pub async fn relay(url: &str, token: Option<String>, streams: (File, File), stop: &CancellationToken) -> Result<()> {
    let scheme = url.split_once(':').map_or("http", |(scheme, _)| scheme);
    let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{url}/mcp"));
    config.auth_header = token;
    let mut host = StreamableHttpClientTransport::with_client(HttpClient::new(scheme)?, config);
    let (mut input, mut output) = (Input::new(streams.0), Output(tokio::fs::File::from_std(streams.1)));
    let mut sending = FuturesUnordered::new();
    let mut has_begun = false;
    let ended = loop {
        tokio::select! {
            line = input.next() => {
                let Some(line) = line else { break Ok(()) };
                let message = match line.map_err(|error| Some(refusal(ErrorCode::INVALID_REQUEST, Value::Null, &error))) {
                    Ok(line) if line.trim_ascii().is_empty() => continue,
                    Ok(line) => message_of(&line),
                    Err(answer) => Err(answer),
                };
                match message {
                    Ok(message) => {
                        has_begun = true;
                        let id = id_of(&message);
                        let sent = Transport::<RoleClient>::send(&mut host, message);
                        sending.push(async move { sent.await.map_err(|why| Refused { id, why }) });
                    }
                    Err(Some(answer)) => output.say(&answer).await,
                    Err(None) => {}
                }
            }
            message = Transport::<RoleClient>::receive(&mut host) => {
                let Some(message) = message else {
                    let mut ended = Err(Error::new(Kind::Upstream, format!("the host at {url} takes no more messages")));
                    // What it has refused last says more.
                    while let Some(Some(sent)) = sending.next().now_or_never() {
                        ended = output.tell(sent, url).await.and(ended);
                    }
                    break ended;
                };
                output.say(&message).await;
            }
            Some(sent) = sending.next() => {
                if let Err(error) = output.tell(sent, url).await {
                    break Err(error);
                }
            }
            () = stop.cancelled() => break Ok(()),
        }
    };
    if has_begun {
        // Ends the session that the host keeps for this client; a host that does not answer ends it by itself.
        let _ = timeout(GOODBYE_TIME, Transport::<RoleClient>::close(&mut host)).await;
    }
    ended
}

/// A message that the host did not take.
struct Refused {
    /// What names it, where it is a request.
    id: Option<RequestId>,
    why: StreamableHttpError<Error>,
}

/// Where the client reads.
struct Output(tokio::fs::File);

impl Output {
    async fn say(&mut self, message: &impl Serialize) {
        let mut line = Json::of(message).as_bytes().to_vec();
        line.push(b'\n');
        // A client that reads no more has gone; its input ends too.
        if self.0.write_all(&line).await.is_ok() {
            let _ = self.0.flush().await;
        }
    }

    /// Answers a request that the host did not take; an error when it will take no other either.
    async fn tell(&mut self, sent: std::result::Result<(), Refused>, url: &str) -> Result<()> {
        let Err(Refused { id, why }) = sent else { return Ok(()) };
        if let Some(id) = id {
            let error = ErrorData::internal_error(format!("the host at {url} did not take it: {why}"), None);
            self.say(&ServerJsonRpcMessage::error(error, Some(id))).await;
        }
        if !matches!(why, StreamableHttpError::AuthRequired(_)) {
            return Ok(());
        }
        let message =
            format!("the host at {url} takes the token no more, which has expired or was taken back: start anew");
        Err(Error::new(Kind::Unauthenticated, message))
    }
}

/// What the client writes, line by line.
struct Input {
    reader: BufReader<tokio::fs::File>,
    line: Vec<u8>,
    /// Whether the line has become too long; the rest of it is skipped.
    is_over: bool,
}

impl Input {
    fn new(file: File) -> Self {
        Self { reader: BufReader::new(tokio::fs::File::from_std(file)), line: Vec::new(), is_over: false }
    }

    /// The next line, or that it is too long; `None` when there is no more. Loses nothing when it is dropped half way.
    async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        loop {
            let text = self.reader.fill_buf().await.ok().filter(|text| !text.is_empty())?;
            let end = memchr::memchr(b'\n', text);
            let taken = end.map_or(text.len(), |end| end + 1);
            if self.line.len() + taken > LINE_BYTES {
                (self.line, self.is_over) = (Vec::new(), true);
            }
            if !self.is_over {
                self.line.extend_from_slice(&text[..taken]);
            }
            self.reader.consume(taken);
            if end.is_some() {
                let line = mem::take(&mut self.line);
                let message = format!("a message has at most {} MiB", LINE_BYTES >> 20);
                let is_over = mem::take(&mut self.is_over);
                return Some(if is_over { Err(Error::new(Kind::TooLarge, message)) } else { Ok(line) });
            }
        }
    }
}

/// Reads a line as what is passed on; else what the client is told, where it waits for an answer.
fn message_of(line: &[u8]) -> std::result::Result<ClientJsonRpcMessage, Option<Value>> {
    // Some clients begin with the mark of UTF-8, which readers of JSON may pass over (RFC 8259, §8.1).
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let asked = read(line).map_err(|error| {
        let error = Error::new(Kind::Malformed, format!("the message cannot be read: {error}"));
        Some(refusal(ErrorCode::PARSE_ERROR, Value::Null, &error))
    })?;
    let refuse = |code, error: &Error| Err(name_of(&asked).map(|id| refusal(code, id, error)));
    if let Some(number) = wide_integer(line) {
        return refuse(ErrorCode::INVALID_PARAMS, &too_wide(number));
    }
    if is_misread(line) {
        return refuse(ErrorCode::INVALID_PARAMS, &misread());
    }
    match serde_json::from_slice(line) {
        Ok(message) if asked.is_object() => Ok(message),
        _ => refuse(ErrorCode::INVALID_REQUEST, &Error::new(Kind::Invalid, "the line is no message of JSON-RPC 2.0")),
    }
}

/// What the answer to a message that is refused is named by; `None` when nobody waits for one.
fn name_of(asked: &Value) -> Option<Value> {
    // The id of an answer is the host's; the client would take it for one of its own.
    let is_answer = ["result", "error"].iter().any(|part| asked.get(part).is_some());
    match asked.get("id") {
        None if asked.get("method").is_some_and(Value::is_string) => None,
        Some(id) if !is_answer && (id.is_string() || id.is_i64() || id.is_u64()) => Some(id.clone()),
        _ => Some(Value::Null),
    }
}

fn refusal(code: ErrorCode, id: Value, error: &Error) -> Value {
    let data = json!({ "code": error.kind().code() });
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code.0, "message": error.message(), "data": data } })
}

fn id_of(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_come_through_as_it_is_is_answered_here() {
        let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{}", "[".repeat(200));
        let wide = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"n":99999999999999999999}}}"#;
        let misread =
            r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"$serde_json::private::RawValue":"1"}}"#;
        for (line, code, id) in [
            (wide, ErrorCode::INVALID_PARAMS, json!(7)),
            (misread, ErrorCode::INVALID_PARAMS, json!("b")),
            ("{", ErrorCode::PARSE_ERROR, Value::Null),
            ("hello", ErrorCode::PARSE_ERROR, Value::Null),
            (&deep, ErrorCode::PARSE_ERROR, Value::Null),
            ("[]", ErrorCode::INVALID_REQUEST, Value::Null),
            (r#"["2.0",1,{}]"#, ErrorCode::INVALID_REQUEST, Value::Null),
            (r#"{"id":5}"#, ErrorCode::INVALID_REQUEST, json!(5)),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, ErrorCode::INVALID_REQUEST, Value::Null),
            (r#"{"jsonrpc":"1.0","id":6,"method":"ping"}"#, ErrorCode::INVALID_REQUEST, json!(6)),
            (r#"{"jsonrpc":"2.0","id":5,"result":99999999999999999999}"#, ErrorCode::INVALID_PARAMS, Value::Null),
        ] {
            let answer = message_of(line.as_bytes()).expect_err(line).expect(line);
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code.0), &id), "{line}");
        }
        assert_eq!(message_of(b"\xff").unwrap_err().unwrap()["error"]["data"]["code"], "malformed");
        let notice = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"a":99999999999999999999}}"#;
        assert!(message_of(notice).unwrap_err().is_none(), "nobody waits for an answer");
        for line in [
            &b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n"[..],
            br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}"#,
        ] {
            assert!(message_of(line).is_ok(), "{}", String::from_utf8_lossy(line));
        }
    }
}
