//! What is said of a server that could not be asked: `rmcp`'s own texts name its types.

use rmcp::ServiceError;
use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use crate::base::error::{Error, Kind};

/// Of a question without an answer. `Unavailable`: the server is not there; else `Upstream`.
pub fn of_question(error: &ServiceError) -> Error {
    match error {
        ServiceError::TransportSend(error) => of_transport(error),
        ServiceError::TransportClosed => Error::new(Kind::Unavailable, "the MCP server does not answer: it is gone"),
        error => Error::new(Kind::Upstream, format!("the MCP server failed: {error}")),
    }
}

/// Of a connection that does not begin: `Upstream`.
pub fn of_start(error: &ClientInitializeError) -> Error {
    let text = match error {
        ClientInitializeError::TransportError { error, .. } => of_transport(error).message().to_owned(),
        // Their own texts show all that the server has said.
        ClientInitializeError::ExpectedInitResponse(_) | ClientInitializeError::ExpectedInitResult(_) => {
            "the MCP server does not answer the first message as MCP has it".to_owned()
        }
        error => format!("the MCP server refuses: {error}"),
    };
    Error::new(Kind::Upstream, text)
}

fn of_transport(error: &DynamicTransportError) -> Error {
    let upstream = |text: String| Error::new(Kind::Upstream, text);
    match error.error.downcast_ref::<StreamableHttpError<Error>>() {
        Some(StreamableHttpError::Client(error)) => {
            Error::new(Kind::Unavailable, format!("the MCP server cannot be asked: {}", error.message()))
        }
        Some(StreamableHttpError::UnexpectedServerResponse(text)) => {
            upstream(format!("the MCP server gives no answer of MCP: {text}"))
        }
        Some(StreamableHttpError::AuthRequired(_)) => {
            upstream("the MCP server wants to know who asks (HTTP 401): give it its credential in headers".to_owned())
        }
        Some(StreamableHttpError::SessionExpired) => {
            let text = "the MCP server has ended the session, and a new one is begun: ask again";
            Error::new(Kind::Unavailable, text)
        }
        None | Some(StreamableHttpError::TransportChannelClosed) => {
            Error::new(Kind::Unavailable, format!("the MCP server does not answer: {}", error.error))
        }
        Some(error) => upstream(format!("the MCP server failed: {error}")),
    }
}
