//! What a tool says while it runs, on its way to an MCP client that asked for it.

use std::future::Future;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RoleServer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::kernel::call::Progress;

/// So many reports wait for a client; what it has no room for is left out.
const WAITING: usize = 64;

/// So long a client may take for the reports that came before the outcome.
const LAST_TIME: Duration = Duration::from_secs(1);

/// Sends what one call reports.
pub struct Reporter {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    sender: mpsc::Sender<(f64, Box<str>)>,
    reports: mpsc::Receiver<(f64, Box<str>)>,
}

impl Reporter {
    /// A reporter for the call that `peer` named `token`.
    pub fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        let (sender, reports) = mpsc::channel(WAITING);
        Self { peer, token, sender, reports }
    }

    /// Where the call's reports go.
    pub fn progress(&self) -> Progress {
        let sender = self.sender.clone();
        Arc::new(move |fraction, message| {
            // A client that is slow misses some; what it gets is still in order.
            let _ = sender.try_send((fraction, message.into()));
        })
    }

    /// Sends reports until `outcome` is there, and then those that came before it.
    pub async fn report_while<T>(mut self, outcome: impl Future<Output = T>) -> T {
        let mut outcome = std::pin::pin!(outcome);
        let mut last = None;
        let value = loop {
            let report = tokio::select! {
                biased;
                Some(report) = self.reports.recv() => report,
                value = &mut outcome => break value,
            };
            // A client that does not read holds up its reports, and never the call: its limits and its record go on.
            let mut sent = std::pin::pin!(self.send(report, &mut last));
            tokio::select! {
                biased;
                () = &mut sent => {}
                value = &mut outcome => {
                    let _ = timeout(LAST_TIME, sent).await;
                    break value;
                }
            }
        };
        let rest = async {
            while let Ok(report) = self.reports.try_recv() {
                self.send(report, &mut last).await;
            }
        };
        let _ = timeout(LAST_TIME, rest).await;
        value
    }

    /// Sends a report, unless it says no more than the last: the protocol wants progress to grow.
    async fn send(&self, (fraction, message): (f64, Box<str>), last: &mut Option<f64>) {
        if last.is_some_and(|last| fraction <= last) {
            return;
        }
        *last = Some(fraction);
        let mut report = ProgressNotificationParam::new(self.token.clone(), fraction).with_total(1.0);
        report.message = (!message.is_empty()).then(|| message.into());
        // A client that is gone needs none.
        let _ = self.peer.notify_progress(report).await;
    }
}
