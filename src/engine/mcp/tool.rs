//! One tool of an outside server as a contribution: its name, its schemas, whether it changes anything, and its call.

use std::sync::Arc;

use futures_util::StreamExt;
use rmcp::ServiceError;
use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ServerResult, Tool as Described,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, RoleClient};
use serde_json::Value;
use wildmatch::WildMatch;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::mcp_servers::McpServer;
use crate::base::name::ToolName;
use crate::base::shutdown::Shutdown;
use crate::engine::mcp::content;
use crate::engine::mcp::failure::of_question;
use crate::kernel::call::Progress;
use crate::kernel::contribution::{Schema, Tool};
use crate::kernel::gate::Admitted;
use crate::kernel::handler::{Answer, ToolHandler};
use crate::kernel::specifier::Template;

/// The connection that calls go over. Cloning is cheap.
#[derive(Clone)]
pub struct Line {
    /// The other side.
    pub peer: Peer<RoleClient>,
    /// Where its progress is dealt out.
    pub progress: ProgressDispatcher,
    /// What owns the tasks that say goodbye.
    pub shutdown: Shutdown,
}

/// A tool as this host offers it.
///
/// # Errors
/// `Invalid`: its name or a schema of it cannot be used; the message says which.
pub fn offered(server: &McpServer, described: &Described, line: &Line) -> Result<Tool> {
    let own: String =
        described.name.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' }).collect();
    let name = ToolName::parse(&format!("{}.{own}", server.name))?;
    let parameters = Value::Object((*described.input_schema).clone());
    let output = described.output_schema.as_ref().map(|schema| {
        Schema::compile(&format!("the output schema of tool {name}"), &Value::Object((**schema).clone()))
    });
    let said_read_only =
        described.annotations.as_ref().and_then(|annotations| annotations.read_only_hint) == Some(true);
    let read_only = (server.trust_annotations && said_read_only)
        || server.read_only.iter().any(|pattern| WildMatch::new(pattern).matches(&described.name));
    let template = server.specifiers.iter().find(|(tool, _)| *tool == *described.name);
    let description = described.description.as_deref().or(described.title.as_deref()).unwrap_or_default();
    Ok(Tool {
        parameters: Schema::compile(&format!("the argument schema of tool {name}"), &parameters)?,
        output: output.transpose()?,
        name,
        description: description.into(),
        side_effect: !read_only,
        specifier_template: template.map(|(_, template)| Template::parse(template)).transpose()?,
        group: Some(server.name.shared()),
        timeout: server.call_time,
        concurrency: None,
        handler: Arc::new(Outside {
            name: described.name.to_string(),
            is_promised: described.output_schema.is_some(),
            line: line.clone(),
        }),
    })
}

/// A tool on the other side.
struct Outside {
    /// Its own name there.
    name: String,
    /// Whether it says what its result looks like.
    is_promised: bool,
    line: Line,
}

impl ToolHandler for Outside {
    fn run(&self, call: Admitted) -> Answer<Json> {
        let call = call.into_call();
        let mut params = CallToolRequestParams::new(self.name.clone());
        // Nothing else of the call leaves the host: neither who asks nor with which credential.
        params.arguments = call.arguments.value().as_object().cloned();
        let (line, is_promised) = (self.line.clone(), self.is_promised);
        Box::pin(async move { content::value(&ask(line, params, call.progress).await?, is_promised) })
    }
}

async fn ask(line: Line, params: CallToolRequestParams, progress: Option<Progress>) -> Result<CallToolResult> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let sent = line.peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
    let mut asked = Asked { handle: Some(sent.map_err(|error| of_question(&error))?), shutdown: line.shutdown.clone() };
    let answer = match (&mut asked.handle, progress) {
        (None, _) => Err(ServiceError::UnexpectedResponse),
        (Some(handle), None) => (&mut handle.rx).await.unwrap_or(Err(ServiceError::TransportClosed)),
        (Some(handle), Some(progress)) => {
            let mut reports = line.progress.subscribe(handle.progress_token.clone()).await;
            loop {
                tokio::select! {
                    biased;
                    Some(report) = reports.next() => {
                        let fraction = report.total.filter(|total| *total > 0.0).map_or(0.0, |total| report.progress / total);
                        progress(fraction.clamp(0.0, 1.0), report.message.as_deref().unwrap_or_default());
                    }
                    answer = &mut handle.rx => break answer.unwrap_or(Err(ServiceError::TransportClosed)),
                }
            }
        }
    };
    asked.handle = None;
    match answer.map_err(|error| of_question(&error))? {
        ServerResult::CallToolResult(result) => Ok(result),
        ServerResult::InputRequiredResult(_) => Err(Error::new(
            Kind::Upstream,
            "the server asks for input before it answers, which this host does not give",
        )),
        _ => Err(of_question(&ServiceError::UnexpectedResponse)),
    }
}

/// A question under way. Dropped before its answer, it tells the server that nobody waits.
struct Asked {
    handle: Option<RequestHandle<RoleClient>>,
    shutdown: Shutdown,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.shutdown.spawn("mcp-cancel", handle.cancel(Some("nobody waits for the result".to_owned())));
        }
    }
}
