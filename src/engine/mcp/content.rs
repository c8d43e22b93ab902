//! What an outside server's tool answers, as the JSON value that every door gives.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::base::json::{Json, read};

/// A result's value: its structured content; else its text, read as JSON where it is an object or a list; else its
/// blocks as `{"content": […]}`, which `/mcp` passes on as they are. Of a tool that does not promise what its result
/// looks like, blocks that are more than text stay beside the structured content.
///
/// # Errors
/// `Upstream`: the server says that the call failed; the message is its text.
pub fn value(result: &CallToolResult, is_promised: bool) -> Result<Json> {
    if result.is_error == Some(true) {
        let text = texts(&result.content).join("\n");
        let text = if text.is_empty() { "the tool failed and does not say why".to_owned() } else { text };
        return Err(Error::new(Kind::Upstream, text));
    }
    if let Some(value) = &result.structured_content {
        let blocks = &result.content;
        if !is_promised && blocks.iter().any(|block| block.as_text().is_none()) {
            return Json::written(&json!({ "content": blocks, "structuredContent": value })).map_err(upstream);
        }
        return Json::written(value).map_err(upstream);
    }
    match &result.content[..] {
        [ContentBlock::Text(block)] => Ok(match read(block.text.as_bytes()) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => Json::of(&value),
            _ => Json::of(&block.text),
        }),
        [] => Ok(Json::NULL),
        blocks => Json::written(&json!({ "content": blocks })).map_err(upstream),
    }
}

fn upstream(error: Error) -> Error {
    Error::new(Kind::Upstream, format!("the server's answer is not taken: {}", error.message()))
}

fn texts(blocks: &[ContentBlock]) -> Vec<&str> {
    blocks.iter().filter_map(|block| block.as_text().map(|text| &*text.text)).collect()
}
