//! Tools as model providers want them: names without dots, one JSON object a tool.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::contribution::Tool;
use crate::kernel::registry::Snapshot;

/// Providers take names of at most so many bytes.
const NAME_BYTES: usize = 64;

/// In whose words tools are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A `tools` entry of OpenAI's chat API.
    OpenAi,
    /// A `tools` entry of Anthropic's messages API.
    Anthropic,
    /// A tool of the Model Context Protocol.
    Mcp,
}

impl Format {
    /// Reads `openai`, `anthropic` or `mcp`.
    ///
    /// # Errors
    /// `Invalid`: it is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "openai" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "mcp" => Ok(Self::Mcp),
            _ => {
                let shown: String = text.chars().take(40).collect();
                let message = format!("format {shown:?} is not known: use \"openai\", \"anthropic\" or \"mcp\"");
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }

    /// One tool in this format, under its provider name.
    pub fn describe(self, name: &str, tool: &Tool) -> Value {
        let (description, parameters) = (&tool.description, tool.parameters.value());
        match self {
            Self::OpenAi => json!({
                "type": "function",
                "function": { "name": name, "description": description, "parameters": parameters },
            }),
            Self::Anthropic => json!({ "name": name, "description": description, "input_schema": parameters }),
            Self::Mcp => {
                let mut entry = json!({
                    "name": name,
                    "description": description,
                    "inputSchema": parameters,
                    "annotations": { "readOnlyHint": !tool.side_effect },
                });
                if let Some(output) = &tool.output {
                    entry["outputSchema"] = output.value().clone();
                }
                entry
            }
        }
    }
}

/// Every tool of `snapshot` in a format, by the tool's own name.
pub fn describe_all(format: Format, snapshot: &Snapshot) -> Vec<Value> {
    let names = provider_names(snapshot);
    snapshot.tools().map(|tool| format.describe(&names[tool.name.as_str()], tool)).collect()
}

/// The provider name of each tool, by the tool's own name.
///
/// `.` becomes `__` and what is longer than 64 bytes is cut. A tool whose name needs no change keeps it; of the others
/// the first by name has the plain form and each further one the next free number: `a__b`, `a__b_2`. So the names
/// depend on the set of tools alone, not on the order in which they came.
pub fn provider_names(snapshot: &Snapshot) -> BTreeMap<Arc<str>, String> {
    names_of(snapshot.tools().map(|tool| tool.name.shared()))
}

fn names_of(tools: impl Iterator<Item = Arc<str>>) -> BTreeMap<Arc<str>, String> {
    let tools: BTreeMap<Arc<str>, String> = tools.map(|tool| (tool.clone(), plain(&tool))).collect();
    let mut taken: HashSet<String> =
        tools.iter().filter(|(tool, name)| ***tool == **name).map(|(_, name)| name.clone()).collect();
    let mut free = |tool: &str, name: String| {
        if *tool == *name || taken.insert(name.clone()) {
            return name;
        }
        let numbered = (2_u32..).map(|number| {
            let suffix = format!("_{number}");
            format!("{}{suffix}", &name[..name.len().min(NAME_BYTES - suffix.len())])
        });
        let mut numbered = numbered.filter(|name| taken.insert(name.clone()));
        numbered.next().unwrap_or_default()
    };
    tools.into_iter().map(|(tool, name)| (tool.clone(), free(&tool, name))).collect()
}

/// A tool name is ASCII, so it may be cut anywhere.
fn plain(tool: &str) -> String {
    let mut name = tool.replace('.', "__");
    name.truncate(NAME_BYTES);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tools: &[&str]) -> Vec<(String, String)> {
        let tools = tools.iter().map(|tool| Arc::from(*tool));
        names_of(tools).into_iter().map(|(tool, name)| (tool.to_string(), name)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(tool, name)| ((*tool).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn dots_become_two_underscores() {
        assert_eq!(names(&["files.read", "ping"]), pairs(&[("files.read", "files__read"), ("ping", "ping")]));
    }

    #[test]
    fn names_that_clash_are_numbered_whatever_their_order() {
        let expected = pairs(&[("a.b.c", "a__b__c"), ("a.b__c", "a__b__c_2"), ("a__b.c", "a__b__c_3")]);
        assert_eq!(names(&["a__b.c", "a.b.c", "a.b__c"]), expected);
        assert_eq!(names(&["a.b.c", "a.b__c", "a__b.c"]), expected);
    }

    #[test]
    fn a_name_that_needs_no_change_is_never_taken_by_another() {
        assert_eq!(
            names(&["a.b", "a__b", "a__b_2"]),
            pairs(&[("a.b", "a__b_3"), ("a__b", "a__b"), ("a__b_2", "a__b_2")])
        );
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let (one, two) = (format!("{}.x", "l".repeat(100)), format!("{}.y", "l".repeat(100)));
        let found = names(&[&one, &two]);
        assert!(found.iter().all(|(_, name)| name.len() <= NAME_BYTES));
        assert_ne!(found[0].1, found[1].1);
    }
}
