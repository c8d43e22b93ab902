//! The ready line: `{"ready": true, "port": N}` somewhere in what a child first writes to its standard output.
//!
//! As tolerant as the hosts that such plugins were written for: noise before it, spaces around it, further keys, a line
//! in pieces or without its end. The first line with a truthy `ready` and a number as `port` counts; later ones never do.

use serde_json::Value;

/// So much of a child's output is looked at, in bytes.
pub const LOOKED_AT_BYTES: usize = 64 << 10;

/// What has been heard so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// No ready line yet.
    Nothing,
    /// It listens at this port, as it says.
    Ready(u16),
    /// There will be none: the text says what came instead.
    Never(String),
}

/// Looks for the ready line in what comes. After an answer other than `Nothing` it is of no more use.
#[derive(Default)]
pub struct Ear {
    /// The line that has begun.
    line: Vec<u8>,
    seen_bytes: usize,
    /// A line that was almost one.
    almost: Option<String>,
}

impl Ear {
    /// Listens to more.
    pub fn hear(&mut self, more: &[u8]) -> Heard {
        let left = LOOKED_AT_BYTES.saturating_sub(self.seen_bytes);
        let more = &more[..more.len().min(left)];
        self.seen_bytes += more.len();
        let mut pieces = more.split(|byte| *byte == b'\n');
        self.line.extend_from_slice(pieces.next().unwrap_or_default());
        for piece in pieces {
            if let Some(heard) = self.look() {
                return heard;
            }
            self.line.clear();
            self.line.extend_from_slice(piece);
        }
        // A line without an end may be whole: only one that ends like an object is worth a look at each piece.
        if self.line.trim_ascii_end().ends_with(b"}")
            && let Some(heard) = self.look()
        {
            return heard;
        }
        if self.seen_bytes >= LOOKED_AT_BYTES {
            return Heard::Never(format!(
                "it wrote {} KiB without a ready line: write {{\"ready\": true, \"port\": N}} before other output",
                LOOKED_AT_BYTES >> 10
            ));
        }
        Heard::Nothing
    }

    /// A line that was almost the ready line, and what it lacks.
    pub fn almost(&self) -> Option<&str> {
        self.almost.as_deref()
    }

    fn look(&mut self) -> Option<Heard> {
        let line = self.line.trim_ascii();
        if !line.starts_with(b"{") {
            return None;
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(line) else { return None };
        if !fields.get("ready").is_some_and(is_truthy) {
            return None;
        }
        let port = fields.get("port").unwrap_or(&Value::Null);
        if !port.is_number() {
            let shown: String = port.to_string().chars().take(40).collect();
            self.almost = Some(format!("its ready line has the port {shown}, which is no number"));
            return None;
        }
        let valid = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Some(valid.map_or_else(
            || Heard::Never(format!("its ready line has the port {port}: expected a whole number from 1 to 65535")),
            Heard::Ready,
        ))
    }
}

/// Whether JavaScript would take it as true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
