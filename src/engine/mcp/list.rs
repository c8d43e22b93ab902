//! The list of a server's tools, as long as it is not too long.

use std::io;

use rmcp::ServiceError;
use rmcp::model::{ClientRequest, ListToolsRequest, ListToolsResult, PaginatedRequestParams, ServerResult, Tool};

use crate::base::error::{Error, Kind, Result};
use crate::engine::mcp::failure::of_question;
use crate::engine::mcp::question::{Line, Question};

/// So many tools a server may have, in so many pages, of so many bytes in all: as many as one message may have.
const TOOLS: usize = 10_000;
const PAGES: usize = 1000;
const BYTES: usize = 16 << 20;

/// All tools of a server, page by page.
///
/// # Errors
/// `Upstream`: the server gives no list, or one that is too long.
pub async fn listed(line: &Line) -> Result<Vec<Tool>> {
    let (mut tools, mut bytes) = (Vec::new(), Bytes(0));
    let mut cursor = None;
    for _ in 0..PAGES {
        let page = page(line, cursor).await.map_err(|error| {
            let why = of_question(&error);
            Error::new(Kind::Upstream, format!("the MCP server gives no list of its tools: {}", why.message()))
        })?;
        // It fails when there are too many.
        if page.tools.iter().any(|tool| serde_json::to_writer(&mut bytes, tool).is_err()) {
            let message = format!("the MCP server's list of tools has more than {} MiB", BYTES >> 20);
            return Err(Error::new(Kind::Upstream, message));
        }
        tools.extend(page.tools);
        cursor = page.next_cursor;
        if tools.len() > TOOLS {
            break;
        }
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    let message = format!("the MCP server's list of tools has more than {TOOLS} tools or {PAGES} pages");
    Err(Error::new(Kind::Upstream, message))
}

/// One page. `rmcp`'s own question would answer from what it remembers, also for a server that is gone.
async fn page(line: &Line, cursor: Option<String>) -> std::result::Result<ListToolsResult, ServiceError> {
    let asked = ListToolsRequest::with_param(PaginatedRequestParams::default().with_cursor(cursor));
    let mut question = Question::ask(line, ClientRequest::ListToolsRequest(asked)).await?;
    match question.answer().await? {
        ServerResult::ListToolsResult(page) => Ok(page),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

/// Counts what is written, and takes no more than [`BYTES`].
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > BYTES { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
