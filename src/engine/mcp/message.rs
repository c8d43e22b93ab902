//! A line of an MCP client, read as what is passed on to a host, and what the client is told instead.

use rmcp::model::{ClientJsonRpcMessage, ErrorCode, RequestId, ServerJsonRpcMessage};
use serde_json::{Value, json};

use crate::base::error::{Error, Kind};
use crate::base::json::{is_misread, read, wide_integer};
use crate::kernel::call::{misread, too_wide};

/// Reads a line as what is passed on; else what the client is told, where it waits for an answer.
///
/// # Errors
/// The answer to a line that would not come through as it is; `None`: nobody waits for one.
pub fn message_of(line: &[u8]) -> Result<ClientJsonRpcMessage, Option<Value>> {
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

/// The answer to a message that is refused.
pub fn refusal(code: ErrorCode, id: Value, error: &Error) -> Value {
    let data = json!({ "code": error.kind().code() });
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code.0, "message": error.message(), "data": data } })
}

/// What names a request of the client.
pub fn id_of(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(&request.id),
        _ => None,
    }
}

/// What names the request that the host answers.
pub fn answered(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ServerJsonRpcMessage::Response(answer) => Some(&answer.id),
        ServerJsonRpcMessage::Error(answer) => answer.id.as_ref(),
        _ => None,
    }
}

/// A request of the relay's own in the era of 2026-07-28. Its answer is not for the client.
pub fn own(id: &str, method: &str, mut params: Value) -> Option<ClientJsonRpcMessage> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "plugbay-stdio", "version": env!("CARGO_PKG_VERSION") },
    });
    serde_json::from_value(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).ok()
}

/// Whether a request is the relay's own one of that name.
pub fn is_named(id: &RequestId, name: &str) -> bool {
    matches!(id, RequestId::String(id) if **id == *name)
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
