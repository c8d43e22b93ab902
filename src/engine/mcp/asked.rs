//! What an MCP client waits for, and the list of tools that a call of it may need first.
//!
//! A tool may want some of its arguments as headers, too (`x-mcp-header`). `rmcp` knows which from the lists that it has
//! seen; a client on standard streams knows nothing of headers and may call without a list. So a call that is refused for
//! its headers is sent again after a list.

use std::collections::HashMap;
use std::mem;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, GetMeta, RequestId, ServerJsonRpcMessage,
    ServerResult,
};
use serde_json::json;

use crate::engine::mcp::message::{message_of, own};

/// What names the list that the relay asks for.
pub const LIST: &str = "plugbay-stdio:tools/list";
/// Pages of a list that are asked for at most.
const PAGES: usize = 256;

/// The requests without an answer.
#[derive(Default)]
pub struct Asked {
    waits: HashMap<RequestId, Wait>,
    /// Calls that are sent again after the list.
    again: Vec<(RequestId, Vec<u8>)>,
    /// Pages that may still be asked for; `None` when no list is under way.
    pages: Option<usize>,
}

struct Wait {
    /// The line of a call that may be sent again, once.
    call: Option<Vec<u8>>,
    /// Whether no answer comes before the end.
    is_endless: bool,
}

impl Asked {
    /// Notes a message of the client, which was this line.
    pub fn note(&mut self, message: &ClientJsonRpcMessage, line: Vec<u8>) {
        match message {
            ClientJsonRpcMessage::Request(request) => {
                let is_modern = request.request.get_meta().protocol_version().is_some();
                let is_call = matches!(request.request, ClientRequest::CallToolRequest(_));
                let is_endless = matches!(request.request, ClientRequest::SubscriptionsListenRequest(_));
                let wait = Wait { call: (is_modern && is_call).then_some(line), is_endless };
                self.waits.insert(request.id.clone(), wait);
            }
            ClientJsonRpcMessage::Notification(notice) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notice.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.waits.remove(id);
                }
            }
            _ => {}
        }
    }

    /// A request is answered; whether somebody waited for it.
    pub fn end(&mut self, id: &RequestId) -> bool {
        self.waits.remove(id).is_some()
    }

    /// All that is waited for and is not `kept`; nobody waits for it any more.
    pub fn take(&mut self, kept: impl Fn(&RequestId) -> bool) -> Vec<RequestId> {
        self.waits.extract_if(|id, _| !kept(id)).map(|(id, _)| id).collect()
    }

    /// Whether no answer is to come.
    pub fn is_done(&self) -> bool {
        self.waits.values().all(|wait| wait.is_endless)
    }

    /// Whether an answer refuses a call for its headers that will be sent again; then also what is to be sent now.
    pub fn lacks_headers(&mut self, message: &ServerJsonRpcMessage) -> Option<Option<ClientJsonRpcMessage>> {
        let ServerJsonRpcMessage::Error(refused) = message else { return None };
        let id = refused.id.as_ref().filter(|_| refused.error.code == ErrorCode::HEADER_MISMATCH)?;
        let line = self.waits.get_mut(id)?.call.take()?;
        self.again.push((id.clone(), line));
        if self.pages.is_some() {
            return Some(None);
        }
        self.pages = Some(PAGES);
        Some(own(LIST, "tools/list", json!({})))
    }

    /// A page of the list has come, or an error: what is to be sent now.
    pub fn listed(&mut self, page: &ServerJsonRpcMessage) -> Vec<ClientJsonRpcMessage> {
        if let ServerJsonRpcMessage::Response(page) = page
            && let ServerResult::ListToolsResult(list) = &page.result
            && let Some(cursor) = &list.next_cursor
            && let Some(pages) = self.pages.filter(|pages| *pages > 1)
        {
            self.pages = Some(pages - 1);
            return own(LIST, "tools/list", json!({ "cursor": cursor })).into_iter().collect();
        }
        self.unlisted()
    }

    /// No more of the list comes: what is to be sent now.
    pub fn unlisted(&mut self) -> Vec<ClientJsonRpcMessage> {
        self.pages = None;
        let again = mem::take(&mut self.again).into_iter();
        // A call that was cancelled meanwhile is not wanted any more.
        again.filter(|(id, _)| self.waits.contains_key(id)).filter_map(|(_, line)| message_of(&line).ok()).collect()
    }
}
