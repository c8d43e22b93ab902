//! What MCP asks, answered: lists from the catalogue, calls through the toolbox, resources and prompts from plugins.
//!
//! The protocol itself (messages, eras, streams) is `rmcp`'s.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, CompleteRequestParams, CompleteResult,
    CompletionInfo, CustomRequest, CustomResult, ErrorCode, Extensions, GetPromptRequestParams, GetPromptResponse,
    Implementation, InputRequiredResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    Reference, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::log;
use crate::base::name::ToolName;
use crate::base::shutdown::Shutdown;
use crate::edge::mcp_asking::{self, Manner};
use crate::edge::mcp_catalogue::{Changes, Shelf};
use crate::edge::mcp_content::{self, Era, Promise};
use crate::edge::mcp_plain::{PlainCall, takes_plain_calls};
use crate::edge::mcp_progress::Reporter;
use crate::edge::mcp_prompts;
use crate::edge::mcp_reading::{self, no_prompt};
use crate::edge::mcp_sessions::{self, Sessions, caller_of};
use crate::edge::parts::Parts;
use crate::kernel::approvals::Approval;
use crate::kernel::call::{Arguments, Caller, Door, ToolCall};
use crate::kernel::gate::Patience;
use crate::kernel::readable::Readable;
use crate::kernel::reading::{Asking, Wish};
use crate::kernel::registry::Registry;
use crate::kernel::toolbox::{Ended, Misfit, Toolbox};

/// What a client is told of this server when it connects.
const INSTRUCTIONS: &str = "The tools of this host's plugins. A tool without readOnlyHint changes something: a person may \
                            be asked before it runs, so that its call takes longer, or is refused.";

/// Answers the requests of MCP clients. Cloning is cheap.
#[derive(Clone)]
pub struct Handler {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    toolbox: Toolbox,
    shutdown: Shutdown,
    sessions: Sessions,
    shelf: Shelf,
    config: ServerConfig,
    /// Clients whose own answers count as those of the person before them.
    trusted: Vec<Box<str>>,
    /// So long a call waits for a person when the client cannot be told that it does.
    wait: Duration,
}

impl Handler {
    /// A handler for the tools of `parts`.
    pub fn new(parts: &Parts, sessions: Sessions) -> Self {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_completions()
            .build();
        let config = ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("plugbay", env!("CARGO_PKG_VERSION")).with_title("Plugbay"))
            .with_instructions(INSTRUCTIONS);
        let shared = Shared {
            registry: parts.registry.clone(),
            toolbox: parts.toolbox.clone(),
            shutdown: parts.shutdown.clone(),
            sessions,
            shelf: Shelf::new(parts.registry.clone()),
            config,
            trusted: parts.settings.permissions.trusted_clients.clone(),
            wait: parts.settings.limits.pending_time,
        };
        Self { shared: Arc::new(shared) }
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let era = era_of(context.protocol_version());
        let caller = asking(&context.extensions)?;
        let tool = ToolName::parse(&request.name).map_err(|error| self.misfit(caller, &request.name, error))?;
        let promise = self.promise(&tool);
        let reporter = context.meta.get_progress_token().map(|token| Reporter::new(context.peer.clone(), token));
        let progress = reporter.as_ref().map(Reporter::progress);
        let manner = self.manner(caller, context.client_capabilities());
        let gate = self.shared.toolbox.gate();
        let comes_back = mcp_asking::comes_back(gate, manner, &caller.principal, &request);
        let (notice, asked) = mcp_asking::notice(progress.clone());
        let most = match (manner, era) {
            // The question is the answer; the client puts it and comes back.
            (Manner::Form | Manner::Address, Era::Modern) if !comes_back => Some(Duration::ZERO),
            (Manner::Form | Manner::Address, Era::Legacy) => None,
            _ if progress.is_some() && !comes_back => None,
            _ => Some(self.shared.wait),
        };
        let patience = Patience { most, notice: Some(notice) };
        let arguments = Arguments::of(request.arguments.unwrap_or_default());
        let call = ToolCall {
            tool,
            arguments: arguments.map_err(|error| self.misfit(caller, &request.name, error))?,
            principal: caller.principal.clone(),
            door: Door::Mcp,
            progress,
        };
        let run = Box::pin(async {
            let mut run = std::pin::pin!(self.shared.toolbox.run_patiently(call, &patience));
            if era == Era::Modern || manner == Manner::Unasked {
                return run.await;
            }
            let ask = mcp_asking::ask(&context.peer, gate, manner, asked);
            tokio::select! {
                ended = &mut run => ended,
                () = ask => Err(Error::new(Kind::Internal, "asking a person has ended")),
            }
        });
        let outcome = match reporter {
            None => self.until(&context, run).await,
            // What the tool has said is sent before its result: nothing may follow that.
            Some(reporter) => self.until(&context, reporter.report_while(run)).await,
        };
        told(outcome, promise, era, |approval| {
            mcp_asking::input_required(manner, approval).filter(|_| most == Some(Duration::ZERO))
        })
    }

    /// Answers a call in its plainest form, of a client that hears of no progress; `None` when the tool's schema puts
    /// arguments into headers.
    pub async fn call_plainly(&self, call: PlainCall, caller: &Caller) -> Option<Result<CallToolResponse, ErrorData>> {
        let PlainCall { name, arguments, capabilities, .. } = call;
        let tool = ToolName::parse(&name).ok()?;
        let snapshot = self.shared.registry.snapshot();
        if snapshot.tool(tool.as_str()).is_ok_and(|tool| !takes_plain_calls(tool.parameters.text())) {
            return None;
        }
        tracing::debug!("a plain call of {tool}");
        let promise = self.promise(&tool);
        let manner = self.manner(caller, Some(capabilities));
        let is_asked = manner != Manner::Unasked;
        let most = Some(if is_asked { Duration::ZERO } else { self.shared.wait });
        let principal = caller.principal.clone();
        let call = ToolCall { tool, arguments, principal, door: Door::Mcp, progress: None };
        let outcome = self.shared.toolbox.run_patiently(call, &Patience { most, notice: None }).await;
        Some(told(outcome, promise, Era::Modern, |approval| {
            mcp_asking::input_required(manner, approval).filter(|_| is_asked)
        }))
    }

    /// Whether a tool says what its result looks like.
    fn promise(&self, tool: &ToolName) -> Promise {
        match self.shared.shelf.now().tool(tool.as_str()) {
            Some(Tool { output_schema: Some(_), .. }) => Promise::Made,
            _ => Promise::None,
        }
    }

    fn manner(&self, caller: &Caller, capabilities: Option<ClientCapabilities>) -> Manner {
        let is_trusted = self.shared.trusted.iter().any(|name| **name == *caller.principal.name());
        Manner::of(capabilities, is_trusted)
    }

    /// Records a call that cannot be handed over, and says why.
    fn misfit(&self, caller: &Caller, tool: &str, error: Error) -> ErrorData {
        refused(&self.shared.toolbox.refuse(&Misfit { door: Door::Mcp, principal: &caller.principal, tool }, error))
    }

    async fn read(&self, uri: &str, context: &RequestContext<RoleServer>) -> Result<ReadResourceResponse, ErrorData> {
        let found = mcp_reading::resource(&self.shared.registry.snapshot(), uri);
        let (found, mime_type) = found.map_or_else(|error| (Err(error), None), |(found, kind)| (Ok(found), kind));
        let content = self.reach(context, |asking| Wish::of_resource(uri, asking, found)).await;
        let content = content.map_err(|error| match error.code {
            ErrorCode::INVALID_PARAMS => {
                ErrorData::resource_not_found(error.message, Some(serde_json::json!({ "uri": uri })))
            }
            _ => error,
        });
        Ok(mcp_content::resource(&content?, uri, mime_type.as_deref()).into())
    }

    async fn render(
        &self,
        request: &GetPromptRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let found = mcp_reading::prompt(&self.shared.registry.snapshot(), request);
        let (found, description) =
            found.map_or_else(|error| (Err(error), None), |(found, text)| (Ok(found), Some(text)));
        let plugin = found.as_ref().ok().map(|found| found.plugin().manifest.id.shared());
        let given = request.arguments.clone().unwrap_or_default();
        let content = self.reach(context, |asking| Wish::of_prompt(&request.name, &given, asking, found)).await?;
        let prompt = mcp_content::prompt(&content, description.as_deref().unwrap_or_default());
        let blame = |error: Error| plugin.map_or(error.clone(), |plugin| error.blame(plugin));
        Ok(prompt.map_err(blame).map_err(|error| failed(&error))?.into())
    }

    /// Reads something of a plugin. Who hears of progress is told that a person is asked, and waits to the end.
    async fn reach(
        &self,
        context: &RequestContext<RoleServer>,
        wish: impl FnOnce(Asking) -> Result<Wish>,
    ) -> Result<Json, ErrorData> {
        let principal = asking(&context.extensions)?.principal.clone();
        let reporter = context.meta.get_progress_token().map(|token| Reporter::new(context.peer.clone(), token));
        let progress = reporter.as_ref().map(Reporter::progress);
        let (notice, _asked) = mcp_asking::notice(progress.clone());
        let most = if progress.is_some() { None } else { Some(self.shared.wait) };
        let patience = Patience { most, notice: Some(notice) };
        let wish = wish(Asking { principal, progress }).map_err(|error| failed(&error))?;
        let run = Box::pin(self.shared.toolbox.read(wish, &patience));
        let outcome = match reporter {
            None => self.until(context, run).await,
            Some(reporter) => self.until(context, reporter.report_while(run)).await,
        };
        match outcome.map_err(|error| failed(&error))? {
            Ended::Done(content) => Ok(content),
            Ended::Pending(approval) => {
                let data = serde_json::json!({ "code": "approval_pending", "url": &*approval.url });
                Err(ErrorData::internal_error(waits(&approval), Some(data)))
            }
        }
    }

    /// Waits for an outcome, but no longer than the client does, nor than its session lasts: `rmcp` hears of both only when
    /// it has sent what was before, and gives the calls of a session that is closed five seconds more.
    async fn until<T>(
        &self,
        context: &RequestContext<RoleServer>,
        outcome: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let why = tokio::select! {
            biased;
            outcome = outcome => return outcome,
            () = context.ct.cancelled() => "the call was cancelled",
            why = mcp_sessions::ended(&context.extensions) => why,
        };
        Err(Error::new(Kind::Cancelled, why))
    }

    /// Tells `told` which lists have changed, at each commit, until it says no more or `ended` resolves.
    async fn watch<F, T>(&self, ended: impl Future<Output = ()>, told: F)
    where
        F: Fn(Changes) -> T,
        T: Future<Output = bool>,
    {
        let mut commits = self.shared.registry.changes();
        let mut known = self.shared.shelf.now();
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return,
                () = self.shared.shutdown.stopping() => return,
                changed = commits.changed() => if changed.is_err() { return },
            }
            let now = self.shared.shelf.now();
            let changes = known.changes(&now);
            known = now;
            if !told(changes).await {
                return;
            }
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.shared.config.clone()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.shelf.now().tool(name).cloned()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let (tools, next) =
            self.shared.shelf.now().tools(cursor(request.as_ref()), era_of(context.protocol_version()))?;
        let mut result = ListToolsResult::with_all_items(tools);
        result.next_cursor = next;
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(request, context).await
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let (resources, next) = self.shared.shelf.now().resources(cursor(request.as_ref()))?;
        let mut result = ListResourcesResult::with_all_items(resources);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let (templates, next) = self.shared.shelf.now().templates(cursor(request.as_ref()))?;
        let mut result = ListResourceTemplatesResult::with_all_items(templates);
        result.next_cursor = next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.read(&request.uri, &context).await
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let (prompts, next) = self.shared.shelf.now().prompts(cursor(request.as_ref()))?;
        let mut result = ListPromptsResult::with_all_items(prompts);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.render(&request, &context).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let Reference::Prompt(prompt) = &request.r#ref else { return Ok(CompleteResult::default()) };
        let snapshot = self.shared.registry.snapshot();
        let mut prompts = snapshot.plugins().iter().flat_map(|plugin| &plugin.offers.prompts);
        let found =
            prompts.find(|offered| *offered.name == prompt.name).ok_or_else(|| refused(&no_prompt(&prompt.name)))?;
        let values = mcp_prompts::completions(found, &request.argument);
        Ok(CompleteResult::new(CompletionInfo::with_all_values(values).unwrap_or_default()))
    }

    /// A request that fits none of the protocol's forms; a call among them is refused, and recorded as one.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let Some(named) = named_in(&request.method, request.params.as_ref()) else {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None));
        };
        let message = format!("the parameters of {} are an object with a name and arguments", request.method);
        Err(self.misfit(asking(&context.extensions)?, named, Error::new(Kind::Invalid, message)))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        // What a resource holds is the plugin's, which has no way to say that it changed.
        accepted.resource_subscriptions = None;
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let sink = context.sink();
        let told = async |changes: Changes| {
            let accepted = sink.accepted();
            (!changes.tools
                || accepted.tools_list_changed != Some(true)
                || sink.notify_tool_list_changed().await.is_ok())
                && (!changes.prompts
                    || accepted.prompts_list_changed != Some(true)
                    || sink.notify_prompt_list_changed().await.is_ok())
                && (!changes.resources
                    || accepted.resources_list_changed != Some(true)
                    || sink.notify_resource_list_changed().await.is_ok())
        };
        self.watch(context.cancelled(), told).await;
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let Some(ended) = self.shared.sessions.end_of(&context.extensions) else { return };
        let (handler, peer) = (self.clone(), context.peer);
        self.shared.shutdown.spawn("mcp-session", async move {
            handler.watch(ended.cancelled(), |changes| announce(peer.clone(), changes)).await;
        });
    }
}

/// Tells a client of the old era which lists have changed; whether it is still there.
async fn announce(peer: Peer<RoleServer>, changes: Changes) -> bool {
    (!changes.tools || peer.notify_tool_list_changed().await.is_ok())
        && (!changes.prompts || peer.notify_prompt_list_changed().await.is_ok())
        && (!changes.resources || peer.notify_resource_list_changed().await.is_ok())
}

/// What a client is told of how its call has ended; `asking` is the question to it where it can put one.
fn told(
    outcome: Result<Ended>,
    promise: Promise,
    era: Era,
    asking: impl FnOnce(&Approval) -> Option<InputRequiredResult>,
) -> Result<CallToolResponse, ErrorData> {
    match outcome {
        Ok(Ended::Done(result)) => Ok(mcp_content::result(&result, promise, era).into()),
        Ok(Ended::Pending(approval)) => {
            Ok(asking(&approval).map_or_else(|| pending(&approval, promise).into(), Into::into))
        }
        Err(error) => {
            log::report(&error);
            match error.kind() {
                Kind::NotFound | Kind::Internal | Kind::Cancelled => Err(refused(&error)),
                _ => Ok(mcp_content::failure(&error, promise).into()),
            }
        }
    }
}

/// The name under which a record speaks of what a request calls; `None` when it calls nothing.
pub fn named_in<'a>(method: &str, params: Option<&'a Value>) -> Option<&'a str> {
    match method {
        "tools/call" => params?.get("name")?.as_str(),
        "resources/read" => Some(Readable::Resource.as_str()),
        "prompts/get" => Some(Readable::Prompt.as_str()),
        _ => None,
    }
}

fn asking(extensions: &Extensions) -> Result<&Caller, ErrorData> {
    caller_of(extensions).ok_or_else(|| ErrorData::internal_error("the request came without a caller", None))
}

fn era_of(version: Option<ProtocolVersion>) -> Era {
    match version {
        Some(version) if version.as_str() >= ProtocolVersion::V_2026_07_28.as_str() => Era::Modern,
        _ => Era::Legacy,
    }
}

fn cursor(request: Option<&PaginatedRequestParams>) -> Option<&str> {
    request?.cursor.as_deref()
}

/// A call that nobody has answered in time; the same call joins its approval.
fn pending(approval: &Approval, promise: Promise) -> CallToolResult {
    mcp_content::failed("approval_pending", &waits(approval), promise)
}

fn waits(approval: &Approval) -> String {
    let tool = &approval.question.subject.tool;
    let url = &approval.url;
    format!("{tool} waits for a person's leave: let them answer with `plugbay approvals` ({url}), then call it again")
}

/// A failure of a resource or a prompt, logged where it is not the caller's own.
fn failed(error: &Error) -> ErrorData {
    log::report(error);
    refused(error)
}

/// A failure as the protocol has it, with the code that every door gives.
fn refused(error: &Error) -> ErrorData {
    let data = Some(serde_json::json!({ "code": error.kind().code() }));
    match error.kind() {
        Kind::NotFound | Kind::Invalid | Kind::Malformed => ErrorData::invalid_params(error.message().to_owned(), data),
        _ => ErrorData::internal_error(error.message().to_owned(), data),
    }
}
