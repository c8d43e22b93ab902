//! What plugins return, in the words of MCP: a tool's result or failure, a resource's content, a prompt's messages.

use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptResult, MetaObject, PromptMessage, ReadResourceResult, ResourceContents,
    Role,
};
use serde_json::{Map, Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::{Json, wide_integer};

/// Where a failure's code stands in a result's `_meta`.
pub const CODE: &str = "plugbay/code";

/// In which era of the protocol an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: structured content is an object.
    Legacy,
    /// Since 2026-07-28: structured content is any JSON value.
    Modern,
}

/// Whether a tool says what its result looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It has an output schema.
    Made,
    /// It has none.
    None,
}

/// A tool's result: the value as structured content, and as text for models that read only that.
///
/// A tool without an output schema may return the blocks themselves, `{"content": [{"type": "image", …}, …]}`; beside
/// them may stand `structuredContent`.
pub fn result(result: &Json, promise: Promise, era: Era) -> CallToolResult {
    let value = match result.value() {
        Ok(value) => value,
        Err(error) => return failure(&error, promise),
    };
    match (wide_integer(result.as_bytes()), promise) {
        (None, _) => {}
        // Only the text has all its digits.
        (Some(_), Promise::None) => return CallToolResult::success(vec![ContentBlock::text(result.as_str())]),
        (Some(number), Promise::Made) => {
            let message = format!("the result holds the integer {number}, which 64 bits do not hold: return a text");
            return failed(Kind::Plugin.code(), &message, promise);
        }
    }
    if promise == Promise::None
        && let Some(blocks) = blocks(&value, era)
    {
        return blocks;
    }
    let text = match &value {
        Value::String(text) => text.clone(),
        _ => result.as_str().to_owned(),
    };
    let mut answer = CallToolResult::success(vec![ContentBlock::text(text)]);
    // A text without a promise is nothing more than its text.
    let is_plain = value.is_string() && promise == Promise::None;
    if value.is_object() || (era == Era::Modern && !is_plain) {
        answer.structured_content = Some(value);
    }
    answer
}

/// The blocks that a result consists of, where it has exactly that form.
fn blocks(value: &Value, era: Era) -> Option<CallToolResult> {
    let object = value.as_object()?;
    let content = object.get("content")?.as_array()?;
    if object.keys().any(|key| key != "content" && key != "structuredContent") {
        return None;
    }
    let content: Vec<ContentBlock> =
        content.iter().map(|block| serde_json::from_value(block.clone()).ok()).collect::<Option<_>>()?;
    let mut answer = CallToolResult::success(content);
    // The old era knows objects alone.
    let structured = object.get("structuredContent").filter(|value| era == Era::Modern || value.is_object());
    answer.structured_content = structured.cloned();
    Some(answer)
}

/// A call that failed: a result that says so, with the code that every door gives.
pub fn failure(error: &Error, promise: Promise) -> CallToolResult {
    let (code, message) = (error.kind().code(), error.message());
    failed(code, message, promise)
}

/// The same with a code of its own, of a call that may yet succeed.
pub fn failed(code: &str, message: &str, promise: Promise) -> CallToolResult {
    let mut answer = CallToolResult::error(vec![ContentBlock::text(format!("{code}: {message}"))]);
    // Clients check structured content against the output schema, also when it is an error's.
    if promise == Promise::None {
        answer.structured_content = Some(json!({ "error": message, "code": code }));
    }
    answer.with_meta(Some(MetaObject(Map::from_iter([(CODE.to_owned(), code.into())]))))
}

/// A resource's content: a text, `{"blob": BASE64}` (what bytes become), or any other JSON value as its text.
pub fn resource(content: &Json, uri: &str, mime_type: Option<&str>) -> ReadResourceResult {
    let value = content.value().unwrap_or_default();
    let (contents, usual) = match &value {
        Value::String(text) => (ResourceContents::text(text, uri), "text/plain"),
        Value::Object(object) if object.len() == 1 && object.get("blob").is_some_and(Value::is_string) => {
            (ResourceContents::blob(object["blob"].as_str().unwrap_or_default(), uri), "application/octet-stream")
        }
        _ => (ResourceContents::text(content.as_str(), uri), "application/json"),
    };
    ReadResourceResult::new(vec![contents.with_mime_type(mime_type.unwrap_or(usual))])
}

/// A prompt's messages: a text is one message of the user; a list holds texts and `{"role", "content"}`, whose content
/// is a text or an MCP content block.
///
/// # Errors
/// `Plugin`: it is none of these.
pub fn prompt(content: &Json, description: &str) -> Result<GetPromptResult> {
    let messages = match content.value()? {
        Value::Array(list) => list.iter().map(message).collect::<Option<Vec<_>>>(),
        one => message(&one).map(|message| vec![message]),
    };
    let messages = messages.ok_or_else(|| {
        let example = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
        Error::new(Kind::Plugin, format!("the prompt returned neither a text nor messages like {example}"))
    })?;
    let mut answer = GetPromptResult::new(messages);
    answer.description = (!description.is_empty()).then(|| description.to_owned());
    Ok(answer)
}

fn message(value: &Value) -> Option<PromptMessage> {
    if let Value::String(text) = value {
        return Some(PromptMessage::new_text(Role::User, text));
    }
    let role = match value.get("role").map_or(Some("user"), Value::as_str)? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return None,
    };
    match value.get("content")? {
        Value::String(text) => Some(PromptMessage::new_text(role, text)),
        block => Some(PromptMessage::new(role, serde_json::from_value(block.clone()).ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(value: &Value, promise: Promise, era: Era) -> Value {
        serde_json::to_value(result(&Json::of(value), promise, era)).unwrap_or_default()
    }

    #[test]
    fn an_object_is_structured_content_in_both_eras() {
        for era in [Era::Legacy, Era::Modern] {
            let answer = answered(&json!({ "a": 1 }), Promise::None, era);
            assert_eq!(answer["structuredContent"], json!({ "a": 1 }));
            assert_eq!(answer["content"][0]["text"], "{\"a\":1}");
        }
    }

    #[test]
    fn what_is_no_object_is_structured_content_only_in_the_new_era() {
        assert_eq!(answered(&json!([1]), Promise::None, Era::Legacy).get("structuredContent"), None);
        assert_eq!(answered(&json!([1]), Promise::None, Era::Modern)["structuredContent"], json!([1]));
    }

    #[test]
    fn a_text_is_text_without_quotes() {
        let answer = answered(&json!("hi"), Promise::None, Era::Modern);
        assert_eq!(answer["content"][0]["text"], "hi");
        assert_eq!(answer.get("structuredContent"), None);
    }

    #[test]
    fn blocks_pass_only_in_their_exact_form() {
        let image = json!({ "content": [{ "type": "image", "data": "AAAA", "mimeType": "image/png" }] });
        assert_eq!(answered(&image, Promise::None, Era::Legacy)["content"][0]["type"], "image");
        assert_eq!(answered(&image, Promise::Made, Era::Legacy)["content"][0]["type"], "text");
        let other = json!({ "content": [{ "type": "photo" }] });
        assert_eq!(answered(&other, Promise::None, Era::Legacy)["content"][0]["type"], "text");
    }
}
