//! The account of one request: its counters, and its line in the access log.
//!
//! The query is not logged at all, nor the code of a sign-in link: both may hold secrets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::request::Parts as Head;

use crate::base::log::ACCESS;
use crate::edge::link::Turn;
use crate::edge::metrics::Group;

/// The status of a caller that went away, as nginx writes it; no client ever sees it.
const CANCELLED: u16 = 499;

/// Paths whose last part is a secret.
const SECRET_PATHS: [&str; 1] = ["/sign-in/"];

/// One request from the end of its head to the last byte of its answer.
///
/// It ends when this is dropped; without an answer until then, its caller went away.
pub struct Account {
    turn: Turn,
    started: Instant,
    group: Group,
    status: Option<u16>,
    line: Option<Box<Line>>,
}

struct Line {
    method: Method,
    path: String,
    request: Arc<str>,
    principal: Arc<str>,
}

/// Whether requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Each is one line.
    On,
    /// None is.
    Off,
}

impl Account {
    /// Opens the account of a request whose head is read.
    pub fn open(turn: Turn, log: AccessLog, head: &Head, request: &Arc<str>) -> Self {
        let line = match log {
            AccessLog::Off => None,
            AccessLog::On => Some(Box::new(Line {
                method: head.method.clone(),
                path: shown(head.uri.path()),
                request: request.clone(),
                principal: "-".into(),
            })),
        };
        Self { turn, started: Instant::now(), group: Group::Host, status: None, line }
    }

    /// The request's turn on its connection.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Notes who asks.
    pub fn asked_by(&mut self, principal: &str) {
        if let Some(line) = &mut self.line {
            line.principal = principal.into();
        }
    }

    /// Notes who answers.
    pub fn answered_by(&mut self, group: Group) {
        self.group = group;
    }

    /// Counts the answer, whose head is ready.
    pub fn answered(&mut self, status: u16) {
        self.status = Some(status);
        let link = self.turn.link();
        link.metrics.answered(self.group, status, self.started.elapsed());
        link.pulse.send();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.turn.link().metrics.cancelled(self.group);
        }
        if let Some(line) = &self.line {
            let time = self.started.elapsed();
            tracing::info!(
                target: ACCESS,
                request = &*line.request,
                method = line.method.as_str(),
                path = &*line.path,
                status = self.status.unwrap_or(CANCELLED),
                duration_ms = milliseconds(time),
                principal = &*line.principal,
                client = %self.turn.link().peer.ip(),
            );
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn shown(path: &str) -> String {
    for secret in SECRET_PATHS {
        if path.starts_with(secret) {
            return format!("{secret}…");
        }
    }
    path.to_owned()
}
