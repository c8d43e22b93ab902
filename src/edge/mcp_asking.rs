//! How a person is asked about a call that came over MCP: at an address that the client shows, or, where the operator
//! trusts that client, in a form within its own session.
//!
//! What comes back with an address counts for nothing: the person answers at that address, as another principal.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction,
    InputRequest, InputRequests, InputRequiredResult,
};
use rmcp::service::{Peer, RoleServer};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::kernel::approvals::{Approval, Through};
use crate::kernel::auth::Principal;
use crate::kernel::call::Progress;
use crate::kernel::gate::{Choice, Gate, Notice};
use crate::kernel::unseen::written_out;

/// The name of our question among those that an answer waits for.
const QUESTION: &str = "approval";

/// Characters of the arguments that a form shows; of longer ones it asks nothing.
const SHOWN: usize = 500;

/// How this client can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Not at all: what it gets is a failure with the address.
    Unasked,
    /// It shows an address.
    Address,
    /// It shows a form, and what is answered there counts, where the form shows all of the call.
    Form,
}

impl Manner {
    /// The best that a client with these capabilities can do.
    pub fn of(capabilities: Option<ClientCapabilities>, is_trusted: bool) -> Self {
        let Some(elicitation) = capabilities.and_then(|capabilities| capabilities.elicitation) else {
            return Self::Unasked;
        };
        // Before addresses there were only forms, which went without saying.
        let has_forms = elicitation.form.is_some() || elicitation.url.is_none();
        match (is_trusted && has_forms, elicitation.url.is_some()) {
            (true, _) => Self::Form,
            (false, true) => Self::Address,
            (false, false) => Self::Unasked,
        }
    }

    fn question(self, approval: &Approval) -> Option<ElicitRequestParams> {
        let question = &approval.question;
        let what = match &question.specifier {
            Some(specifier) => written_out(&format!("{}({})", question.subject.tool, specifier.text)),
            None => question.subject.tool.to_string(),
        };
        match self {
            Self::Unasked => None,
            Self::Address => Some(ElicitRequestParams::UrlElicitationParams {
                meta: None,
                message: format!("{what} needs leave: see what it would do, and answer"),
                url: approval.url.to_string(),
                elicitation_id: approval.id.to_string(),
            }),
            Self::Form => {
                let (message, schema) = match shown_whole(approval) {
                    Some(arguments) => (
                        format!("{what} needs leave, because {}. Its arguments: {arguments}", question.reason.1),
                        json!({
                            "type": "object",
                            "properties": { "allow": { "type": "boolean", "title": "Let this call run, once" } },
                            "required": ["allow"],
                        }),
                    ),
                    // Not every client that has forms shows an address: a form that asks nothing says it.
                    None => (
                        format!(
                            "{} needs leave, because {}. It is too long to be shown here: see what it would do, and answer \
                             at {}",
                            question.subject.tool, question.reason.1, approval.url
                        ),
                        json!({ "type": "object", "properties": {} }),
                    ),
                };
                let requested_schema = serde_json::from_value(schema).ok()?;
                Some(ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema })
            }
        }
    }
}

/// The arguments as a form shows them; `None` where it would not show all of them.
fn shown_whole(approval: &Approval) -> Option<String> {
    let arguments = written_out(&approval.question.arguments.to_string());
    (arguments.chars().count() <= SHOWN).then_some(arguments)
}

/// Who hears that a person is asked: the client's progress, and whoever reads the channel.
pub fn notice(progress: Option<Progress>) -> (Notice, mpsc::Receiver<Approval>) {
    let (filed, asked) = mpsc::channel(1);
    let notice: Notice = Arc::new(move |approval: &Approval| {
        if let Some(progress) = &progress {
            progress(0.0, &format!("waiting for a person's leave: {}", approval.url));
        }
        // A call asks once.
        let _ = filed.try_send(approval.clone());
    });
    (notice, asked)
}

/// Asks within a session of the old era, and gives a trusted client's answer to the gate. Resolves never: the call that
/// waits is told by the gate.
pub async fn ask(peer: &Peer<RoleServer>, gate: &Gate, manner: Manner, mut asked: mpsc::Receiver<Approval>) {
    if let Some(approval) = asked.recv().await
        && let Some(question) = manner.question(&approval)
        && let Ok(said) = peer.create_elicitation(question).await
        && manner == Manner::Form
    {
        answer(gate, &approval, &approval.question.caller, &said);
    }
    std::future::pending::<()>().await;
}

/// The question as an answer of the new era, which the client puts and then comes back with.
pub fn input_required(manner: Manner, approval: &Approval) -> Option<InputRequiredResult> {
    let question = InputRequest::Elicitation(ElicitRequest::new(manner.question(approval)?));
    let questions = InputRequests::from([(QUESTION.to_owned(), question)]);
    // The state is no secret and nothing is believed of it: it only names the approval.
    Some(InputRequiredResult::new(Some(questions), Some(approval.id.to_string())))
}

/// Whether a request comes back from [`input_required`]; what a trusted client's form says is given to the gate.
pub fn comes_back(gate: &Gate, manner: Manner, principal: &Principal, request: &CallToolRequestParams) -> bool {
    let Some(said) = request.input_responses.as_ref().and_then(|responses| responses.get(QUESTION)) else {
        return false;
    };
    if manner == Manner::Form
        && let Ok(said) = serde_json::from_value::<ElicitResult>(said.clone())
        && let Some(id) = &request.request_state
        && let Ok(approval) = gate.approvals().find(id, principal)
    {
        answer(gate, &approval, principal, &said);
    }
    true
}

fn answer(gate: &Gate, approval: &Approval, principal: &Principal, said: &ElicitResult) {
    // Nobody was asked in the form, whatever comes back from it.
    if shown_whole(approval).is_none() {
        return;
    }
    let allowed = said.content.as_ref().and_then(|content| content.get("allow")).and_then(Value::as_bool);
    let choice = match (&said.action, allowed) {
        (ElicitationAction::Accept, Some(true)) => Choice::Once,
        (ElicitationAction::Accept, Some(false)) | (ElicitationAction::Decline, _) => Choice::Deny,
        // Put aside: somebody else may answer.
        _ => return,
    };
    let digest = approval.question.digest.to_string();
    let who = (principal, Through::CallersSession);
    if let Err(error) = gate.answer(&approval.id, &digest, who, (&choice, None)) {
        tracing::info!(
            tool = &*approval.question.subject.tool,
            "an answer in the agent's session did not count: {error}"
        );
    }
}
