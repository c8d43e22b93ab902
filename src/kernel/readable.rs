//! What rules and records call that which is read over MCP: each resource is a call of `mcp.resource`, each prompt one of
//! `mcp.prompt`. No plugin may offer tools of these names.

use crate::kernel::specifier::Template;

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// A resource; its specifier is its uri.
    Resource,
    /// A prompt; its specifier is its name.
    Prompt,
}

impl Readable {
    /// Everything that can be read.
    pub const ALL: [Self; 2] = [Self::Resource, Self::Prompt];

    /// The one of that name among rules and records.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|readable| readable.as_str() == name)
    }

    /// Its name among rules and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "mcp.resource",
            Self::Prompt => "mcp.prompt",
        }
    }

    /// How the specifier of such a call is made.
    pub fn template(self) -> Template {
        match self {
            Self::Resource => Template::of_uri("uri"),
            Self::Prompt => Template::of_text("name"),
        }
    }
}
