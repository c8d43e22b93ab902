//! How the host writes its log: one line an event to standard error, for people or as JSON.
//!
//! What comes from outside is escaped here, once: no value can begin a line or move a terminal's cursor. The id of the
//! request that is being answered stands on every line that is written meanwhile.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::base::error::{Error, Kind, Result};
use crate::base::scribe::{Haste, Scribe};
use crate::base::settings::{LogFormat, Settings};

/// The target of the access log's lines.
pub const ACCESS: &str = "plugbay::access";

/// What libraries log of themselves; `rmcp` would write what clients say, arguments included. The operator may ask for it.
const QUIET: &str = "rmcp=off";

/// A field of this name is a text of several lines, which people read as such.
const TRACEBACK: &str = "traceback";

/// What writes, once the log has begun.
static SCRIBE: OnceLock<Scribe> = OnceLock::new();

thread_local! {
    /// The last second that was written as text: most lines of a busy host share it.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    /// The id of the request that this thread works at.
    static REQUEST: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Begins to log as the operator set it. Only the first call of a process counts.
///
/// # Errors
/// `Invalid`: the filter of levels cannot be read. `Unavailable`: the system gives no thread to write it.
pub fn start(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.log_level)).map_err(|error| {
        let message =
            format!("log level {:?} is not valid ({error}): write it like info,plugbay=debug", settings.log_level);
        Error::new(Kind::Invalid, message)
    })?;
    // The parser of shell lines tells what it reads, and a line may hold secrets.
    let filter = ["expansion", "parse", "tokenize", "arithmetic"]
        .iter()
        .filter_map(|target| format!("{target}=off").parse().ok())
        .fold(filter, EnvFilter::add_directive);
    if SCRIBE.get().is_none() {
        let scribe = Scribe::start().map_err(|error| {
            Error::new(Kind::Unavailable, format!("no thread for the log: {error}")).with_source(error)
        })?;
        // Another thread may have been first; then this one writes nothing.
        let _ = SCRIBE.set(scribe);
    }
    let lines = Lines { format: settings.log_format, color: io::stderr().is_terminal() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Pens).event_format(lines);
    // A second host in one process writes to the log that is there.
    let _ = builder.finish().try_init();
    Ok(())
}

/// Waits until every line that was logged is written, at most `limit`. To be called before the process ends.
pub fn flush(limit: Duration) {
    if let Some(scribe) = SCRIBE.get() {
        scribe.flush(limit);
    }
}

/// Writes a failure, with what lay beneath it, unless it is the caller's own fault. To be called once a failure, where it
/// leaves the host.
pub fn report(error: &Error) {
    let (kind, plugin) = (error.kind().code(), error.plugin().unwrap_or("-"));
    match (error.kind(), error.detail()) {
        (Kind::Plugin | Kind::Internal | Kind::Upstream, Some(traceback)) => {
            tracing::error!(kind, plugin, traceback, "{error}");
        }
        (Kind::Plugin | Kind::Internal | Kind::Upstream, None) => tracing::error!(kind, plugin, "{error}"),
        (Kind::Timeout, _) => tracing::warn!(kind, plugin, "{error}"),
        _ => {}
    }
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

/// Gives each event the pen that its haste asks for.
struct Pens;

struct Pen(Haste);

impl<'a> MakeWriter<'a> for Pens {
    type Writer = Pen;

    fn make_writer(&'a self) -> Pen {
        Pen(Haste::Prompt)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Pen {
        Pen(if metadata.target() == ACCESS { Haste::Leisurely } else { Haste::Prompt })
    }
}

impl io::Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match SCRIBE.get() {
            Some(scribe) => scribe.write(bytes, self.0),
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lines {
    format: LogFormat,
    color: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line =
            Line { text: String::with_capacity(256), traceback: String::new(), format: self.format, own_id: false };
        self.begin(&mut line.text, event.metadata())?;
        event.record(&mut line);
        if !line.own_id {
            REQUEST.with_borrow(|id| id.as_ref().map(|id| line.text("request", id)));
        }
        if self.format == LogFormat::Json {
            line.text.push('}');
        }
        writeln!(writer, "{}{}", line.text, line.traceback)
    }
}

impl Lines {
    fn begin(&self, text: &mut String, about: &Metadata<'_>) -> fmt::Result {
        let now = OffsetDateTime::now_utc();
        let (level, target) = (*about.level(), about.target());
        match self.format {
            LogFormat::Json => {
                text.push_str("{\"at\":\"");
                second(text, now)?;
                let (milliseconds, level) = (now.millisecond(), level.as_str().to_ascii_lowercase());
                write!(text, ".{milliseconds:03}Z\",\"level\":\"{level}\",\"target\":\"{target}\"")
            }
            LogFormat::Human if self.color => {
                text.push_str("\x1b[2m");
                second(text, now)?;
                write!(text, "Z\x1b[0m {}{level:>5}\x1b[0m {target}", color(level))
            }
            LogFormat::Human => {
                second(text, now)?;
                write!(text, "Z {level:>5} {target}")
            }
        }
    }
}

/// Writes a moment without its fraction and zone: `2030-01-31T23:59:58`.
fn second(text: &mut String, now: OffsetDateTime) -> fmt::Result {
    SECOND.with_borrow_mut(|(known, written)| {
        if *known != now.unix_timestamp() {
            *known = now.unix_timestamp();
            written.clear();
            let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
            let (hour, minute, second) = now.to_hms();
            write!(written, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        }
        text.push_str(written);
        Ok(())
    })
}

/// One line while its fields are written.
struct Line {
    text: String,
    /// The lines below it, for people.
    traceback: String,
    format: LogFormat,
    /// Whether the event names its request itself.
    own_id: bool,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), &value);
        } else {
            // JSON has no number for it.
            self.text(field.name(), &value.to_string());
        }
    }
}

impl Line {
    fn text(&mut self, name: &str, value: &str) {
        self.own_id |= name == "request";
        match (self.format, name) {
            (LogFormat::Json, _) => {
                self.name(name);
                json_text(&mut self.text, value);
            }
            (LogFormat::Human, "message") => {
                self.text.push(' ');
                escape(&mut self.text, value);
            }
            (LogFormat::Human, TRACEBACK) => {
                for part in value.lines() {
                    self.traceback.push_str("\n    | ");
                    escape(&mut self.traceback, part);
                }
            }
            (LogFormat::Human, _) => {
                self.name(name);
                escape(&mut self.text, value);
            }
        }
    }

    /// A value that needs no quotes.
    fn plain(&mut self, name: &str, value: &dyn fmt::Display) {
        self.name(name);
        // A String takes everything.
        let _ = write!(self.text, "{value}");
    }

    fn name(&mut self, name: &str) {
        let _ = match self.format {
            LogFormat::Json => write!(self.text, ",\"{name}\":"),
            LogFormat::Human => write!(self.text, " {name}="),
        };
    }
}

/// Writes text as a JSON string (RFC 8259 §7).
fn json_text(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            _ if is_harmless(character) => line.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

/// Writes text that may come from outside: what would end the line or speak to the terminal is escaped.
fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        if is_harmless(character) {
            line.push(character);
        } else {
            line.extend(character.escape_default());
        }
    }
}

/// Neither a control character, nor one that ends a line or turns its direction.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}
