//! A connection to a server, over the standard streams of a child or over HTTP, and what the server says unasked.

use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion, SubscriptionFilter};
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, RoleClient, RunningService, serve_client_with_lifecycle,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;
use url::Url;

use crate::base::error::{Error, Kind, Result};
use crate::base::mcp_servers::{McpServer, Way};
use crate::engine::mcp::child::{self, Ward, Wish};
use crate::engine::mcp::failure::of_start;
use crate::engine::mcp::http::{HttpClient, RESTS};
use crate::engine::mcp::lines::Overrun;
use crate::engine::mcp::ordered::Ordered;
use crate::engine::mcp::question::{Line, UNWRITTEN};
use crate::engine::process::equipment::Equipment;

/// So many questions to a server over HTTP are under way at once: more than the host's own limits let through, so that
/// none waits for others, and the list of tools for none.
const QUESTIONS: usize = 1 << 16;

/// A server that is there.
pub struct Connection {
    /// Ends the connection when it is dropped.
    pub service: RunningService<RoleClient, Ear>,
    /// What is asked over.
    pub line: Line,
    /// Whether it tells of changes only those who ask for it.
    pub must_listen: bool,
    /// What is to be dropped with the connection, and ends the child.
    pub ward: Option<Ward>,
    /// What ends it early.
    pub overrun: Overrun,
}

/// Hears what a server says unasked.
#[derive(Clone, Default)]
pub struct Ear {
    progress: ProgressDispatcher,
    changed: Arc<Notify>,
}

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        let host = Implementation::new("plugbay", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), host)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// Connects in the old era, and in the new one to a server that knows no other.
///
/// # Errors
/// `Unavailable`: the program cannot be started. `Upstream`: the server refuses. `Invalid`: a header cannot be sent.
pub async fn connect(server: &McpServer, equipment: &Arc<Equipment>) -> Result<Connection> {
    let old = connect_as(server, equipment, ClientLifecycleMode::Initialize).await;
    let Err(refused) = old else { return old };
    if refused.kind() != Kind::Upstream {
        return Err(refused);
    }
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    connect_as(server, equipment, modern).await.map_err(|_| refused)
}

async fn connect_as(
    server: &McpServer,
    equipment: &Arc<Equipment>,
    lifecycle: ClientLifecycleMode,
) -> Result<Connection> {
    let must_listen = !matches!(lifecycle, ClientLifecycleMode::Initialize);
    let ear = Ear::default();
    let mut places = None;
    let (service, ward, overrun) = match &server.way {
        Way::Command { program, arguments, environment, folder } => {
            let wish = Wish { program, arguments, environment, folder };
            let child = child::start(server, &wish, equipment).await?;
            // What is too long ends what is read before this would leave it out without a word.
            let transport = AsyncRwTransport::new(child.output, child.input).with_max_line_length(usize::MAX);
            places = Some(Arc::new(Semaphore::new(UNWRITTEN)));
            (begun(&ear, transport, &child.overrun, lifecycle).await?, Some(child.ward), child.overrun)
        }
        Way::Http { url, headers } => {
            let client = HttpClient::new(url.scheme())?.telling(ear.changed.clone());
            let transport = StreamableHttpClientTransport::with_client(client, http_config(url, headers)?);
            let overrun = Overrun::default();
            (begun(&ear, transport, &overrun, lifecycle).await?, None, overrun)
        }
    };
    let (peer, shutdown) = (service.peer().clone(), equipment.shutdown.clone());
    let line = Line { peer, progress: ear.progress, changed: ear.changed, shutdown, places };
    Ok(Connection { service, line, must_listen, ward, overrun })
}

/// Says hello over a transport.
async fn begun<T: Transport<RoleClient> + 'static>(
    ear: &Ear,
    transport: T,
    overrun: &Overrun,
    lifecycle: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, Ear>> {
    let transport = Ordered::new(transport, ear.progress.clone(), overrun.clone());
    let begun = serve_client_with_lifecycle(ear.clone(), transport, lifecycle).await;
    begun.map_err(|error| overrun.error().unwrap_or_else(|| of_start(&error)))
}

fn http_config(url: &Url, headers: &[(String, String)]) -> Result<StreamableHttpClientTransportConfig> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    for (name, value) in headers {
        let bad = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Invalid, format!("header {name:?} of the MCP server cannot be sent: {error}"))
        };
        let name = name.parse().map_err(|error: http::header::InvalidHeaderName| bad(&error))?;
        let value = value.parse().map_err(|error: http::header::InvalidHeaderValue| bad(&error))?;
        config.custom_headers.insert(name, value);
    }
    config.max_concurrent_requests = QUESTIONS;
    // Behind a new session is perhaps another server: a session that has ended is the end of the connection.
    config.reinit_on_expired_session = false;
    let mut rests = ExponentialBackoff::default();
    (rests.base_duration, rests.max_delay) = (RESTS.0, Some(RESTS.1));
    config.retry_config = Arc::new(rests);
    Ok(config)
}

/// In the new era a server says that its list has changed to those who listen. Who is no longer heard may be gone, and may
/// have said something meanwhile. Resolves never.
pub async fn listen(line: &Line) {
    let mut rest = RESTS.0;
    let wish = SubscriptionFilter::builder().tools_list_changed().build();
    while let Ok(mut subscription) = line.peer.listen(wish.clone()).await {
        line.changed.notify_one();
        while let Ok(Some(_)) = subscription.next().await {
            line.changed.notify_one();
        }
        line.changed.notify_one();
        sleep(rest).await;
        rest = RESTS.1.min(rest * 2);
    }
    std::future::pending::<()>().await;
}
