//! One tool of an outside server as a contribution: its name, its schemas, whether it changes anything, and its call.

use std::sync::Arc;

use futures_util::StreamExt;
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorCode, ProgressNotificationParam,
    ServerResult, Tool as Described,
};
use serde_json::Value;
use wildmatch::WildMatch;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::mcp_servers::McpServer;
use crate::base::name::ToolName;
use crate::engine::mcp::content;
use crate::engine::mcp::failure::of_question;
use crate::engine::mcp::question::{Line, Question};
use crate::kernel::call::Progress;
use crate::kernel::contribution::{Schema, Tool};
use crate::kernel::gate::Admitted;
use crate::kernel::handler::{Answer, ToolHandler};
use crate::kernel::specifier::Template;

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
    let answer = match Question::ask(&line, request).await {
        Ok(question) => answered(question, &line, progress).await,
        Err(error) => Err(error),
    };
    match answer.map_err(|error| failed(&line, &error))? {
        ServerResult::CallToolResult(result) => Ok(result),
        ServerResult::InputRequiredResult(_) => Err(Error::new(
            Kind::Upstream,
            "the server asks for input before it answers, which this host does not give",
        )),
        _ => Err(of_question(&ServiceError::UnexpectedResponse)),
    }
}

/// Waits for the answer; what the server reports meanwhile goes to `progress`.
async fn answered(
    mut question: Question,
    line: &Line,
    progress: Option<Progress>,
) -> std::result::Result<ServerResult, ServiceError> {
    let Some(progress) = progress else { return question.answer().await };
    let mut reports = line.progress.subscribe(question.token.clone()).await;
    loop {
        tokio::select! {
            biased;
            Some(report) = reports.next() => {
                progress(fraction(&report), report.message.as_deref().unwrap_or_default());
            }
            answer = question.answer() => return answer,
        }
    }
}

/// How far a call is, from 0 to 1. Where nobody says how much there is in all, it grows with each report and never ends.
fn fraction(report: &ProgressNotificationParam) -> f64 {
    match report.total {
        Some(total) if total > 0.0 => (report.progress / total).clamp(0.0, 1.0),
        _ => 1.0 - 1.0 / (1.0 + report.progress.max(0.0)),
    }
}

/// Why a call has no answer. A server that is not there, or does not know a tool that it has listed, is asked for its list:
/// over HTTP nothing else tells that it has gone, or come back with other tools.
fn failed(line: &Line, error: &ServiceError) -> Error {
    let failure = of_question(error);
    let is_unknown = matches!(error, ServiceError::McpError(error) if error.code == ErrorCode::INVALID_PARAMS);
    if is_unknown || failure.kind() == Kind::Unavailable {
        line.changed.notify_one();
    }
    failure
}
