//! The place of one call in the log, from the moment at which it is asked until its record is handed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Keeping;
use crate::kernel::keeper::Keeper;
use crate::kernel::record::{Record, Text};

/// What goes to the task that appends.
pub enum Message {
    /// A record, and who waits until it is on the disk.
    Record(Box<Record>, Option<oneshot::Sender<()>>),
    /// Dropped when everything before it is on the disk.
    Flush(Box<dyn Send>),
}

/// The way of records to the task that appends them, with a place for each call that runs.
pub struct Queue {
    sender: mpsc::Sender<Message>,
    room: usize,
    wait: Duration,
    keeping: Keeping,
    keeper: Arc<Keeper>,
    /// Told when records must not wait for others.
    hurry: Notify,
    /// What names the calls of this run of the host: this and a number.
    run: Box<str>,
    calls: AtomicU64,
}

impl Queue {
    /// A queue with that much room whose other end is that of `sender`. What waits for a place or for the disk waits at
    /// most `wait`; `run` begins the name of each call.
    pub fn new(
        (sender, room): (mpsc::Sender<Message>, usize),
        keeping: Keeping,
        wait: Duration,
        keeper: Arc<Keeper>,
        run: Box<str>,
    ) -> Self {
        Self { sender, room, wait, keeping, keeper, hurry: Notify::new(), run, calls: AtomicU64::new(0) }
    }

    /// What is kept.
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// How long one waits for a place, for the disk or for the database.
    pub fn patience(&self) -> Duration {
        self.wait
    }

    /// Has the records that wait for others wait no longer.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until they must not wait.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Takes a place for a call that is asked now, and waits for a free one.
    ///
    /// # Errors
    /// `Busy`: none became free in time. `Unavailable`: the host is at its end.
    pub async fn enter(self: &Arc<Self>, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        let place = match self.reserve() {
            Ok(place) => place,
            Err(TrySendError::Closed(_)) => return Err(ended()),
            Err(TrySendError::Full(queue)) => match timeout(self.wait, queue.reserve_owned()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Err(ended()),
                Err(_) => return Err(self.full()),
            },
        };
        Ok(self.entry(place, door, principal, tool))
    }

    /// The same for a call that waits for no place.
    ///
    /// # Errors
    /// `Busy`: none is free. `Unavailable`: the host is at its end.
    pub fn enter_now(self: &Arc<Self>, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        match self.reserve() {
            Ok(place) => Ok(self.entry(place, door, principal, tool)),
            Err(TrySendError::Closed(_)) => Err(ended()),
            Err(TrySendError::Full(_)) => Err(self.full()),
        }
    }

    /// Sends what is dropped when everything before it is on the disk, once there is room for it. Whether it is heard.
    pub async fn flush(&self, flushed: impl Send + 'static) -> bool {
        let sent = self.sender.send(Message::Flush(Box::new(flushed))).await.is_ok();
        self.hurry();
        sent
    }

    /// The same if there is room for it now.
    pub fn flush_now(&self, flushed: impl Send + 'static) -> bool {
        let sent = self.sender.try_send(Message::Flush(Box::new(flushed))).is_ok();
        self.hurry();
        sent
    }

    /// A place, if one is free.
    fn reserve(&self) -> Result<OwnedPermit<Message>, TrySendError<mpsc::Sender<Message>>> {
        if self.sender.capacity() < self.room / 2 {
            self.hurry();
        }
        self.sender.clone().try_reserve_owned()
    }

    fn entry(self: &Arc<Self>, place: OwnedPermit<Message>, door: &'static str, principal: Text, tool: Text) -> Entry {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let record = Box::new(Record::new(&format!("{}-{number}", self.run), door, principal, tool));
        let open = Open { place, record, begun: Instant::now(), asked: Arc::default(), queue: self.clone() };
        Entry { open: Some(open) }
    }

    fn full(&self) -> Error {
        let why = self.keeper.trouble().map_or_else(String::new, |error| format!(" ({error})"));
        let message = format!("{} calls run or wait for their record{why}: ask again in a moment", self.room);
        Error::new(Kind::Busy, message)
    }
}

fn ended() -> Error {
    Error::new(Kind::Unavailable, "the host is stopping and takes no further calls")
}

/// That a person was asked: the approval, and the specifier that they were shown.
pub type Asked = OnceLock<(Arc<str>, Option<Text>)>;

/// When a record is to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Before the call is answered.
    OnDisk,
    /// Soon.
    Later,
}

/// The place of one call in the log. Dropping it is what a cancelled call does; its record then says so.
pub struct Entry {
    /// None where nothing is kept, and when the record was handed in.
    open: Option<Open>,
}

struct Open {
    place: OwnedPermit<Message>,
    record: Box<Record>,
    begun: Instant,
    /// Filled when a person is asked.
    asked: Arc<Asked>,
    queue: Arc<Queue>,
}

impl Entry {
    /// A place where nothing is kept.
    pub fn none() -> Self {
        Self { open: None }
    }

    /// Adds to the record, where one is kept; the first argument says what is kept.
    pub fn note(&mut self, add: impl FnOnce(Keeping, &mut Record)) {
        if let Some(open) = &mut self.open {
            add(open.queue.keeping, &mut open.record);
        }
    }

    /// Notes that the call was cancelled, as dropping its place does.
    pub fn note_cancelled(&mut self) {
        if let Some(open) = &mut self.open {
            open.note_cancelled();
        }
    }

    /// Where it is to be put that a person was asked; none where nothing is kept.
    pub fn asked(&self) -> Option<Arc<Asked>> {
        self.open.as_ref().map(|open| open.asked.clone())
    }

    /// Hands in the record, which is on the disk soon.
    pub fn close_later(mut self) {
        if let Some(open) = self.open.take() {
            open.hand_in(None);
        }
    }

    /// Hands in the record. With [`Proof::OnDisk`] it waits until it is on the disk, at most `limits.audit_time`.
    ///
    /// # Errors
    /// `Unavailable`: it is not on the disk in time. It stays in memory and is appended when that can be done.
    pub async fn close(mut self, proof: Proof) -> Result<()> {
        if proof == Proof::Later {
            self.close_later();
            return Ok(());
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        let (done, wait) = oneshot::channel();
        let (tool, queue) = (open.record.tool.clone(), open.queue.clone());
        open.hand_in(Some(done));
        queue.hurry();
        if let Ok(Ok(())) = timeout(queue.wait, wait).await {
            return Ok(());
        }
        let trouble = queue.keeper.trouble();
        let why = trouble.map_or_else(|| "the disk or the server is slow".into(), |error| error.to_string());
        let message =
            format!("{} has run, but its record is not on the disk yet: do not repeat it blindly; {why}", &*tool);
        Err(Error::new(Kind::Unavailable, message))
    }
}

impl Open {
    fn hand_in(mut self, waiting: Option<oneshot::Sender<()>>) {
        self.record.duration_us = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.place.send(Message::Record(self.record, waiting));
    }

    fn note_cancelled(&mut self) {
        let record = &mut self.record;
        record.outcome = "cancelled".into();
        record.code = Some(Kind::Cancelled.code().into());
        // Who leaves while a person is asked has denied it, whatever the person would have said.
        if let Some((approval, specifier)) = self.asked.get().filter(|_| record.decision.is_none()) {
            record.decision = Some("asked_denied".into());
            record.reason = Some("caller_left".into());
            record.approval = Some(Text::sharing(approval));
            record.specifier = specifier.clone();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        open.note_cancelled();
        let queue = open.queue.clone();
        open.hand_in(None);
        queue.hurry();
    }
}
