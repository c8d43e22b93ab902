//! Standard input and output for MCP clients that start a command: each message goes on to the `/mcp` of a host, each
//! answer comes back.

use std::fs::File;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::{RoleClient, RoleServer};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::engine::mcp::http::HttpClient;

/// How long the last message may take.
const GOODBYE_TIME: Duration = Duration::from_secs(2);

/// Passes messages on until the input ends, `stop` is cancelled, or the host takes no more.
///
/// `url` is the host's address without `/mcp`; the two files are where a client writes and reads.
///
/// # Errors
/// `Upstream`: the host does not answer.
pub async fn relay(url: &str, token: Option<String>, streams: (File, File), stop: &CancellationToken) -> Result<()> {
    let scheme = url.split_once(':').map_or("http", |(scheme, _)| scheme);
    let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{url}/mcp"));
    config.auth_header = token;
    let mut host = StreamableHttpClientTransport::with_client(HttpClient::new(scheme)?, config);
    let (input, output) = (tokio::fs::File::from_std(streams.0), tokio::fs::File::from_std(streams.1));
    let mut client = AsyncRwTransport::<RoleServer, _, _>::new(input, output);
    let mut sending = FuturesUnordered::new();
    let mut has_begun = false;
    let ended = loop {
        tokio::select! {
            message = client.receive() => {
                let Some(message) = message else { break Ok(()) };
                has_begun = true;
                let id = id_of(&message);
                let sent = Transport::<RoleClient>::send(&mut host, message);
                sending.push(async move { sent.await.map_err(|error| (id, error.to_string())) });
            }
            message = Transport::<RoleClient>::receive(&mut host) => {
                let Some(message) = message else {
                    break Err(Error::new(Kind::Upstream, format!("the host at {url} takes no more messages")));
                };
                // A client that reads no more has gone; its input ends too.
                let _ = client.send(message).await;
            }
            Some(sent) = sending.next() => {
                if let Err((Some(id), why)) = sent {
                    let error = ErrorData::internal_error(format!("the host at {url} did not take it: {why}"), None);
                    let _ = client.send(ServerJsonRpcMessage::error(error, Some(id))).await;
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

fn id_of(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}
