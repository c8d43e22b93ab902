//! The arguments of prompts: what they are, whether those of a request fit, and what an argument may become.

use rmcp::model::{ArgumentInfo, CompletionInfo, PromptArgument};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::contribution::Prompt;

/// One argument, as its plugin says.
#[derive(Deserialize)]
struct Argument {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    required: bool,
    /// The texts that it may be, where they are known.
    #[serde(default)]
    choices: Vec<String>,
}

/// The arguments of a prompt in the words of MCP.
pub fn described(prompt: &Prompt) -> Vec<PromptArgument> {
    let describe = |argument: Argument| {
        let described = PromptArgument::new(argument.name).with_required(argument.required);
        if argument.description.is_empty() { described } else { described.with_description(argument.description) }
    };
    arguments(prompt).into_iter().map(describe).collect()
}

/// Checks what a request gives.
///
/// # Errors
/// `Invalid`: an argument is missing, is not known, or is no text.
pub fn check(prompt: &Prompt, given: &Map<String, Value>) -> Result<()> {
    let invalid = |what: String| Err(Error::new(Kind::Invalid, format!("prompt {:?} {what}", prompt.name)));
    let known = arguments(prompt);
    for (name, value) in given {
        if !known.iter().any(|argument| argument.name == *name) {
            return invalid(format!("has no argument {name:?}"));
        }
        if !value.is_string() {
            return invalid(format!("wants a text as argument {name:?}"));
        }
    }
    match known.iter().find(|argument| argument.required && !given.contains_key(&argument.name)) {
        Some(missing) => invalid(format!("needs the argument {:?}", missing.name)),
        None => Ok(()),
    }
}

/// What an argument that is half written may become.
pub fn completions(prompt: &Prompt, begun: &ArgumentInfo) -> Vec<String> {
    let argument = arguments(prompt).into_iter().find(|argument| argument.name == begun.name);
    let choices = argument.map(|argument| argument.choices).unwrap_or_default();
    choices.into_iter().filter(|choice| choice.starts_with(&begun.value)).take(CompletionInfo::MAX_VALUES).collect()
}

fn arguments(prompt: &Prompt) -> Vec<Argument> {
    serde_json::from_slice(prompt.arguments.as_bytes()).unwrap_or_default()
}
