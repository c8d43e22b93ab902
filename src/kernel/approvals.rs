//! Calls that wait for a person: filed, listed, answered, joined, lapsed.
//!
//! An approval is for one call of one principal with these arguments. Its answer comes from another principal, names the
//! digest of the arguments, and lets one call through, once. A caller that leaves takes its approval along, unless its
//! door has a way back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::base::error::{Error, Kind, Result};
use crate::kernel::principal::{Principal, Scope};
use crate::kernel::secret::random_text;

pub use crate::kernel::approval::{Answer, Approval, Question, State, Through};

/// How many events wait for one that listens; who is slower lists anew.
const EVENTS: usize = 1024;

/// How many approvals there may be, and how long each waits.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalLimits {
    /// From the filing to the end.
    pub time: Duration,
    /// At a time; of one caller at most half of it.
    pub number: usize,
}

/// The approvals of one host. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Approvals {
    shared: Arc<Shared>,
}

struct Shared {
    limits: ApprovalLimits,
    /// Clients whose own answers count.
    trusted: Vec<Box<str>>,
    /// Where people answer, without a trailing slash; not set for a host that nobody can reach.
    url: OnceLock<Arc<str>>,
    held: Mutex<Held>,
    events: broadcast::Sender<Approval>,
}

#[derive(Default)]
struct Held {
    open: HashMap<Arc<str>, Entry>,
    /// The last that ended, oldest first, for those who ask how they did.
    ended: VecDeque<Approval>,
}

/// One that has not ended: it waits for an answer, or its answer for the call.
struct Entry {
    approval: Approval,
    until: Instant,
    /// Who waits; nobody where the caller has gone and may come back.
    waiter: Option<oneshot::Sender<Approval>>,
    /// Whether a [`Claim`] is on it: nothing else ends it then.
    claimed: bool,
}

impl Approvals {
    /// No approvals yet. Until [`Approvals::open`] nobody can be asked.
    pub fn new(limits: ApprovalLimits, trusted: Vec<Box<str>>) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        Self { shared: Arc::new(Shared { limits, trusted, url: OnceLock::new(), held: Mutex::default(), events }) }
    }

    /// Says where people answer: `http://127.0.0.1:8000`. Once.
    pub fn open(&self, url: &str) {
        let _ = self.shared.url.set(url.trim_end_matches('/').into());
    }

    /// Whether there is a way to ask a person.
    pub fn is_open(&self) -> bool {
        self.shared.url.get().is_some()
    }

    /// Each approval when it is filed and when it ends.
    pub fn events(&self) -> broadcast::Receiver<Approval> {
        self.shared.events.subscribe()
    }

    /// Files an approval, or joins the one that the same principal's same call has left behind, once.
    ///
    /// # Errors
    /// `Denied`: nobody can be asked. `Busy`: too many wait. `Internal`: the system gives no random bytes.
    pub fn file(&self, question: Question) -> Result<Ticket> {
        let Some(url) = self.shared.url.get() else {
            let (tool, why) = (&question.subject.tool, question.reason.1);
            let message = format!(
                "{tool} needs a person's leave, because {why}, and nobody can be asked here: use --mode autonomous, add an \
                 allow rule to [permissions], or call it through a running host"
            );
            return Err(Error::new(Kind::Denied, message));
        };
        let id: Arc<str> = id()?.into();
        let (waiter, receiver) = oneshot::channel();
        let mut held = self.held();
        self.end_lapsed(&mut held);
        let left =
            held.open.values().find(|entry| entry.waiter.is_none() && entry.approval.question.is_same(&question));
        if let Some(left) = left.map(|entry| entry.approval.id.clone()) {
            return Ok(self.join(&mut held, left, waiter, receiver));
        }
        let limits = self.shared.limits;
        let own = held.open.values().filter(|entry| entry.approval.question.caller.name() == question.caller.name());
        if held.open.len() >= limits.number || own.count() >= limits.number.div_ceil(2) {
            let message = "too many calls wait for a person already: answer some, or try again later";
            return Err(Error::new(Kind::Busy, message));
        }
        let filed = OffsetDateTime::now_utc();
        let url: Arc<str> = format!("{url}/approvals/{id}").into();
        let question = Arc::new(question);
        let approval =
            Approval { id: id.clone(), question, filed, lapses: filed + limits.time, state: State::Pending, url };
        let until = Instant::now() + limits.time;
        held.open.insert(id, Entry { approval: approval.clone(), until, waiter: Some(waiter), claimed: false });
        drop(held);
        let tool = &*approval.question.subject.tool;
        tracing::info!(tool, caller = approval.question.caller.name(), "a call waits for a person: {}", approval.url);
        self.tell(&approval);
        Ok(Ticket { approvals: self.clone(), approval, until, receiver: Some(receiver) })
    }

    fn join(
        &self,
        held: &mut Held,
        id: Arc<str>,
        waiter: oneshot::Sender<Approval>,
        receiver: oneshot::Receiver<Approval>,
    ) -> Ticket {
        let entry = held.open.get_mut(&id).expect("it was found under the same lock");
        let (approval, until) = (entry.approval.clone(), entry.until);
        if approval.state == State::Pending {
            entry.waiter = Some(waiter);
        } else {
            held.open.remove(&id);
            held.bury(approval.clone(), self.shared.limits.number);
            // The receiver is in this function's hands.
            let _ = waiter.send(approval.clone());
        }
        Ticket { approvals: self.clone(), approval, until, receiver: Some(receiver) }
    }

    /// Those that wait for an answer, oldest first.
    pub fn pending(&self) -> Vec<Approval> {
        let mut held = self.held();
        self.end_lapsed(&mut held);
        let open = held.open.values().map(|entry| &entry.approval);
        let mut pending: Vec<Approval> = open.filter(|approval| approval.state == State::Pending).cloned().collect();
        pending.sort_by(|left, right| (left.filed, &left.id).cmp(&(right.filed, &right.id)));
        pending
    }

    /// The approval of that id, as far as `who` may see it: those who may answer see all, others what they asked for.
    ///
    /// # Errors
    /// `NotFound`: there is none, or it is another's.
    pub fn find(&self, id: &str, who: &Principal) -> Result<Approval> {
        let mut held = self.held();
        self.end_lapsed(&mut held);
        let open = held.open.get(id).map(|entry| &entry.approval);
        let found = open.or_else(|| held.ended.iter().rev().find(|approval| *approval.id == *id));
        let may_see = |approval: &&Approval| who.has(Scope::Approve) || approval.question.caller.name() == who.name();
        found.filter(may_see).cloned().ok_or_else(not_found)
    }

    /// Whether `who` may answer the approval of that id, which must be of the arguments with this digest.
    ///
    /// # Errors
    /// `NotFound`: there is none, or it is not theirs to see. `Denied`: they may not answer it. `Conflict`: it has been
    /// answered or has lapsed, or the digest is that of other arguments.
    pub fn check(&self, id: &str, digest: &str, who: &Principal, through: Through) -> Result<Approval> {
        let approval = self.find(id, who)?;
        let caller = approval.question.caller.name();
        let refused = |message: String| Err(Error::new(Kind::Denied, message));
        match through {
            Through::CallersSession if caller == who.name() && self.trusts(caller) => {}
            Through::CallersSession if caller == who.name() => {
                return refused(format!(
                    "an answer inside the session of {caller} is no proof of a person: answer at {}, or name {caller} in \
                     [permissions] trusted_clients",
                    approval.url
                ));
            }
            _ if !who.has(Scope::Approve) => {
                return refused(format!("{} may not answer: its token needs the scope \"approve\"", who.name()));
            }
            _ if caller == who.name() => {
                return refused(format!(
                    "{caller} asked for this call itself: another principal with the scope \"approve\" has to answer; make \
                     a token with `plugbay token add NAME --scope approve`, and answer with it: \
                     `PLUGBAY_TOKEN=… plugbay approvals`"
                ));
            }
            _ => {}
        }
        if approval.question.digest.to_string() != digest.to_ascii_lowercase() {
            let message = "the digest is that of other arguments: read the approval again and answer what it says now";
            return Err(Error::new(Kind::Conflict, message));
        }
        if approval.state != State::Pending {
            let message = format!("this approval is {} already: nothing is left to answer", approval.state.as_str());
            return Err(Error::new(Kind::Conflict, message));
        }
        Ok(approval)
    }

    /// Takes an approval to answer it: from here on it neither lapses nor is answered by another, so that what has to be
    /// done before the answer counts is never done for one that does not.
    ///
    /// # Errors
    /// As [`Approvals::check`]. `Conflict`: another answers it at this moment. `Unauthenticated`: the token of `who` was
    /// taken back since the answer began to come.
    pub fn claim(&self, id: &str, digest: &str, who: (&Principal, Through)) -> Result<Claim> {
        let approval = self.check(id, digest, who.0, who.1)?;
        let mut held = self.held();
        who.0.still_counts()?;
        let still = held
            .open
            .get_mut(id)
            .filter(|entry| entry.approval.state == State::Pending && entry.until > Instant::now());
        let Some(entry) = still else {
            return Err(Error::new(Kind::Conflict, "this approval has ended meanwhile: nothing is left to answer"));
        };
        if entry.claimed {
            return Err(Error::new(Kind::Conflict, "another answers this approval at this moment: read it again"));
        }
        entry.claimed = true;
        Ok(Claim { approvals: self.clone(), approval })
    }

    /// Ends those that have lapsed. Called now and then, so that whoever listens is told in time.
    pub fn sweep(&self) {
        let mut held = self.held();
        self.end_lapsed(&mut held);
    }

    /// Ends all that wait: the host is stopping, and nobody can answer any more.
    pub fn close(&self) {
        let mut held = self.held();
        held.open.values_mut().for_each(|entry| entry.until = Instant::now());
        self.end_lapsed(&mut held);
    }

    /// Leaves an approval open for the same call to come back to. False when it has ended.
    fn step_back(&self, id: &str) -> bool {
        let mut held = self.held();
        let Some(entry) = held.open.get_mut(id) else { return false };
        entry.waiter = None;
        true
    }

    /// Takes back what nobody waits for any more. False where a claim is on it, which then ends it.
    fn end(&self, id: &str, state: State) -> bool {
        let mut held = self.held();
        if held.open.get(id).is_some_and(|entry| entry.claimed) {
            return false;
        }
        self.end_now(&mut held, id, state);
        true
    }

    fn end_now(&self, held: &mut Held, id: &str, state: State) {
        let Some(mut entry) = held.open.remove(id) else { return };
        if entry.approval.state == State::Pending {
            entry.approval.state = state;
            self.tell(&entry.approval);
        }
        held.bury(entry.approval, self.shared.limits.number);
    }

    fn end_lapsed(&self, held: &mut Held) {
        let now = Instant::now();
        let late = held.open.values().filter(|entry| entry.until <= now && !entry.claimed);
        let late: Vec<Arc<str>> = late.map(|entry| entry.approval.id.clone()).collect();
        for id in late {
            let Some(mut entry) = held.open.remove(&id) else { continue };
            if entry.approval.state == State::Pending {
                entry.approval.state = State::Lapsed;
                self.tell(&entry.approval);
            }
            if let Some(waiter) = entry.waiter.take() {
                let _ = waiter.send(entry.approval.clone());
            }
            held.bury(entry.approval, self.shared.limits.number);
        }
    }

    fn trusts(&self, client: &str) -> bool {
        self.shared.trusted.iter().any(|name| **name == *client)
    }

    /// Sending never waits; it fails when nobody listens.
    fn tell(&self, approval: &Approval) {
        let _ = self.shared.events.send(approval.clone());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that no command line takes for an option.
fn id() -> Result<String> {
    loop {
        let id = random_text()?;
        if !id.starts_with('-') {
            return Ok(id);
        }
    }
}

impl Held {
    fn bury(&mut self, approval: Approval, limit: usize) {
        if self.ended.len() >= limit {
            self.ended.pop_front();
        }
        self.ended.push_back(approval);
    }
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "there is no such approval: `plugbay approvals` lists those that wait")
}

/// An approval that is being answered. Dropping it leaves the approval as it was.
pub struct Claim {
    approvals: Approvals,
    approval: Approval,
}

impl Claim {
    /// The approval as it was found.
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Answers. The call that waits goes on at once; one that left and may come back finds the answer for as long again as
    /// an approval waits.
    pub fn answer(self, answer: Answer) -> Approval {
        let approval = Approval { state: State::Answered(answer), ..self.approval.clone() };
        let limits = self.approvals.shared.limits;
        let mut held = self.approvals.held();
        // While it is claimed nothing else takes it out.
        if let Some(entry) = held.open.remove(&approval.id) {
            match entry.waiter {
                Some(waiter) => {
                    held.bury(approval.clone(), limits.number);
                    // Who waited may have gone this moment.
                    let _ = waiter.send(approval.clone());
                }
                None => {
                    let until = Instant::now() + limits.time;
                    let kept = Entry { approval: approval.clone(), until, waiter: None, claimed: false };
                    held.open.insert(approval.id.clone(), kept);
                }
            }
        }
        drop(held);
        self.approvals.tell(&approval);
        approval
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.approvals.held();
        // One that was answered is not claimed any more.
        let Some(entry) = held.open.get_mut(&self.approval.id).filter(|entry| entry.claimed) else { return };
        entry.claimed = false;
        // What has ended meanwhile ends now.
        if entry.waiter.as_ref().is_some_and(oneshot::Sender::is_closed) {
            self.approvals.end_now(&mut held, &self.approval.id, State::Left);
        } else {
            self.approvals.end_lapsed(&mut held);
        }
    }
}

/// A call's place at an approval. Dropping it is leaving for good: the approval ends.
pub struct Ticket {
    approvals: Approvals,
    approval: Approval,
    until: Instant,
    /// Taken when the caller leaves and may come back.
    receiver: Option<oneshot::Receiver<Approval>>,
}

impl Ticket {
    /// The approval as it was when it was filed or joined.
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Waits for the end, at most `most`; then the approval lives on for the same call to come back to, and `None` is
    /// returned.
    pub async fn ended(mut self, most: Option<Duration>) -> Option<Approval> {
        let receiver = self.receiver.as_mut()?;
        let patience = most.map(|most| Instant::now() + most).filter(|end| *end < self.until);
        match timeout_at(patience.unwrap_or(self.until), receiver).await {
            Ok(Ok(approval)) => Some(approval),
            Ok(Err(_)) => Some(Approval { state: State::Left, ..self.approval.clone() }),
            Err(_) => {
                if patience.is_some() && self.approvals.step_back(&self.approval.id) {
                    self.receiver = None;
                    return None;
                }
                // It may have been answered this moment; and whoever is answering it now began in time.
                let ended = if self.approvals.end(&self.approval.id, State::Lapsed) {
                    self.receiver.as_mut().and_then(|receiver| receiver.try_recv().ok())
                } else {
                    self.receiver.as_mut()?.await.ok()
                };
                Some(ended.unwrap_or_else(|| Approval { state: State::Lapsed, ..self.approval.clone() }))
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.receiver.is_some() {
            // One that has ended is not there any more, and this does nothing.
            self.approvals.end(&self.approval.id, State::Left);
        }
    }
}
