//! How the host writes its log: one line an event to standard error, for people or as JSON.
//!
//! What comes from outside is escaped here, once: no value can begin a line or move a terminal's cursor. The id of the
//! request that is being answered stands on every line that is written meanwhile.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::{LogFormat, Settings};

/// A field of this name is a text of several lines, which people read as such.
const TRACEBACK: &str = "traceback";

thread_local! {
    /// The id of the request that this thread works at.
    static REQUEST: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Begins to log as the operator set it. Only the first call of a process counts.
///
/// # Errors
/// `Invalid`: the filter of levels cannot be read.
pub fn start(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level).map_err(|error| {
        let message =
            format!("log level {:?} is not valid ({error}): write it like info,plugbay=debug", settings.log_level);
        Error::new(Kind::Invalid, message)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = Lines { format: settings.log_format, color: std::io::stderr().is_terminal() };
    // A second host in one process writes to the log that is there.
    let _ = builder.event_format(lines).finish().try_init();
    Ok(())
}

/// Puts the id of a request on every line that this thread writes until the guard is dropped.
#[must_use]
pub fn within_request(id: &Arc<str>) -> Within {
    Within(REQUEST.replace(Some(id.clone())))
}

/// Ends what [`within_request`] began.
pub struct Within(Option<Arc<str>>);

impl Drop for Within {
    fn drop(&mut self) {
        REQUEST.set(self.0.take());
    }
}

/// The id of the request that this thread works at, if it does.
pub fn request_id() -> Option<Arc<str>> {
    REQUEST.with_borrow(Clone::clone)
}

struct Lines {
    format: LogFormat,
    color: bool,
}

/// What an event says, in the order of its fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(id) = request_id()
            && !said.fields.iter().any(|(name, _)| *name == "request")
        {
            said.fields.push(("request", Value::from(&*id)));
        }
        let at = OffsetDateTime::now_utc().format(&Rfc3339).map_err(|_| fmt::Error)?;
        let line = match self.format {
            LogFormat::Json => json_line(at, event, said),
            LogFormat::Human => self.human_line(&at, event, &said)?,
        };
        writer.write_str(&line)
    }
}

impl Lines {
    fn human_line(&self, at: &str, event: &Event<'_>, said: &Said) -> Result<String, fmt::Error> {
        let level = *event.metadata().level();
        let mut line = String::with_capacity(160);
        // Seconds are enough for people: the fraction begins at the 20th character.
        let seconds = at.get(..19).unwrap_or(at);
        match self.color {
            true => write!(line, "\x1b[2m{seconds}Z\x1b[0m {}{level:>5}\x1b[0m ", color(level))?,
            false => write!(line, "{seconds}Z {level:>5} ")?,
        }
        write!(line, "{}", event.metadata().target())?;
        if !said.message.is_empty() {
            line.push(' ');
            escape(&mut line, &said.message);
        }
        for (name, value) in said.fields.iter().filter(|(name, _)| *name != TRACEBACK) {
            write!(line, " {name}=")?;
            match value {
                Value::String(text) => escape(&mut line, text),
                value => write!(line, "{value}")?,
            }
        }
        line.push('\n');
        for (_, value) in said.fields.iter().filter(|(name, _)| *name == TRACEBACK) {
            for part in value.as_str().unwrap_or_default().lines() {
                line.push_str("    | ");
                escape(&mut line, part);
                line.push('\n');
            }
        }
        Ok(line)
    }
}

fn json_line(at: String, event: &Event<'_>, said: Said) -> String {
    let mut object = Map::new();
    object.insert("at".into(), Value::from(at));
    object.insert("level".into(), Value::from(event.metadata().level().as_str().to_ascii_lowercase()));
    object.insert("target".into(), Value::from(event.metadata().target()));
    if !said.message.is_empty() {
        object.insert("message".into(), Value::from(said.message));
    }
    for (name, value) in said.fields {
        object.insert(name.into(), value);
    }
    format!("{}\n", Value::Object(object))
}

/// Writes text that may come from outside: what would end the line or speak to the terminal is escaped.
fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}
