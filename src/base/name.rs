//! Names that were checked once and are then trusted.
//!
//! Each type is made only by `parse`, so a value of it is valid everywhere. Cloning is cheap.

use std::fmt;
use std::sync::Arc;

use crate::base::error::{Error, Kind, Result};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:path, $rule:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rule of this kind of name.
            ///
            /// # Errors
            /// `Invalid`: it breaks the rule; the message says which rule, what came, and shows an example.
            pub fn parse(text: &str) -> Result<Self> {
                if $valid(text) {
                    return Ok(Self(text.into()));
                }
                let shown: String = text.chars().take(80).collect();
                Err(Error::new(
                    Kind::Invalid,
                    format!(concat!($what, " {:?} is not valid: ", $rule, ", for example {}"), shown, $example),
                ))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as shared text.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The id of a plugin; ids that are equal but for case clash.
    PluginId,
    "plugin id",
    is_plugin_id,
    "use 1 to 64 lower-case letters, digits, \"_\" and \"-\", beginning with a letter or digit",
    "weather-map"
);
name!(
    /// The name of a tool: words joined by dots.
    ToolName,
    "tool name",
    is_tool_name,
    "use letters, digits, \"_\" and \"-\" in words joined by \".\", at most 128 characters",
    "files.read"
);
name!(
    /// The name of a channel on `/ws`.
    ChannelName,
    "channel name",
    is_channel_name,
    "use 1 to 64 lower-case letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit",
    "chat"
);
name!(
    /// The name of a facade on `dash`: a Python identifier.
    FacadeName,
    "facade name",
    is_facade_name,
    "use letters, digits and \"_\", beginning with a letter, at most 64 characters",
    "weather"
);
name!(
    /// Where a plugin's routes stand below `/api`: one or more path segments.
    Prefix,
    "prefix",
    is_prefix,
    "use segments of letters, digits, \"_\", \"-\" and \".\" joined by \"/\", at most 128 characters, the first of them neither \"host\" nor \"plugins\"",
    "weather/v2"
);

impl PluginId {
    /// Checks the id of a plugin that is a process of its own: the `name` of its `manifest.json`, as it is.
    ///
    /// # Errors
    /// `Invalid`: it breaks the rule, which is wider than that of [`PluginId::parse`].
    pub fn parse_child(text: &str) -> Result<Self> {
        let alphabet = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(alphabet) {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(80).collect();
        let message = format!(
            "{shown:?} is no name of a plugin: use 1 to 64 letters, digits, \"_\" and \"-\", for example project-stats"
        );
        Err(Error::new(Kind::Invalid, message))
    }
}

/// The channels that belong to the host.
pub const HOST_CHANNELS: [&str; 3] = ["system", "tools", "approvals"];

/// The longest prefix, in bytes.
pub const PREFIX_BYTES: usize = 128;

impl Prefix {
    /// The prefix that a plugin's routes have unless it asks for another: `plugins/<id>`.
    pub fn of_plugin(id: &PluginId) -> Self {
        Self(format!("plugins/{id}").into())
    }
}

fn is_plugin_id(text: &str) -> bool {
    let alphabet = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=64).contains(&text.len())
        && text.bytes().all(|c| alphabet(c) || c == b'_' || c == b'-')
        && text.bytes().next().is_some_and(alphabet)
}

fn is_tool_name(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    text.len() <= 128 && text.split('.').all(word)
}

fn is_channel_name(text: &str) -> bool {
    let alphabet = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=64).contains(&text.len())
        && text.bytes().all(|c| alphabet(c) || matches!(c, b'_' | b'.' | b'-'))
        && text.bytes().next().is_some_and(alphabet)
}

fn is_facade_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && text.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
}

fn is_prefix(text: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
    };
    text.len() <= PREFIX_BYTES
        && text.split('/').all(segment)
        && !matches!(text.split('/').next(), Some("host" | "plugins"))
}
