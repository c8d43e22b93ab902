//! The record of every call: who asked what, what was decided, and how it ended.
//!
//! A call takes its place in the log before anything of it runs, so that its record is never lost for want of room: when
//! none is free the call is `busy`. One task appends the records in batches. A call with a side effect is answered when
//! its record is on the disk. Nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as threads};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{Notify, OnceCell, Semaphore, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::{Keeping, Settings};
use crate::base::shutdown::Shutdown;
use crate::kernel::database::{Database, Place};
use crate::kernel::journal::{Journal, Wish};
use crate::kernel::record::{Record, Text};
use crate::kernel::retention::Retention;

/// So long a record of no urgency waits for others, so that many are appended at once.
const LINGER: Duration = Duration::from_millis(100);
/// At most so many records are appended at once.
const BATCH: usize = 1024;
/// The pause after a failure, and the longest one after many.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// So long a reader waits for the latest records to be appended.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The log of calls. Cloning is cheap.
#[derive(Clone)]
pub struct Audit {
    /// None where no host keeps anything.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    queue: mpsc::Sender<Message>,
    /// The other end, until the writer takes it.
    writer: Mutex<Option<mpsc::Receiver<Message>>>,
    room: usize,
    wait: Duration,
    keeping: Keeping,
    place: Place,
    journal: OnceCell<Journal>,
    /// Why the last batch could not be appended; none when it was.
    trouble: Mutex<Option<Error>>,
    /// Told when records must not wait for others.
    hurry: Notify,
    closing: CancellationToken,
    /// Told when the writer has ended.
    ended: CancellationToken,
    /// The id of the latest record that was appended.
    latest: watch::Sender<i64>,
    /// What names the calls of this run of the host: this and a number.
    run: Box<str>,
    calls: AtomicU64,
}

enum Message {
    /// A record, and who waits until it is on the disk.
    Record(Box<Record>, Option<oneshot::Sender<()>>),
    /// Dropped when everything before it is on the disk.
    Flush(Box<dyn Send>),
}

impl Audit {
    /// A log that keeps nothing: there is no host, and so no place to keep it.
    pub fn none() -> Self {
        Self { shared: None }
    }

    /// A log in the database at `place`, which is opened when it is first needed. [`Audit::start`] must follow.
    ///
    /// # Errors
    /// `Internal`: the system gives no random bytes.
    pub fn new(settings: &Settings, place: Place) -> Result<Self> {
        let room = settings.limits.audit_records.min(Semaphore::MAX_PERMITS);
        let (queue, receiver) = mpsc::channel(room);
        let mut run = [0; 6];
        getrandom::fill(&mut run)
            .map_err(|error| Error::new(Kind::Internal, "the system gives no random bytes").with_source(error))?;
        let shared = Shared {
            queue,
            writer: Mutex::new(Some(receiver)),
            room,
            wait: settings.limits.audit_time,
            keeping: settings.audit,
            place,
            journal: OnceCell::new(),
            trouble: Mutex::default(),
            hurry: Notify::new(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            latest: watch::Sender::new(0),
            run: run.iter().map(|byte| format!("{byte:02x}")).collect(),
            calls: AtomicU64::new(0),
        };
        Ok(Self { shared: Some(Arc::new(shared)) })
    }

    /// Starts the task that appends. Needs a tokio runtime around the caller.
    pub fn start(&self, shutdown: &Shutdown) {
        let Some(shared) = &self.shared else { return };
        let receiver = shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(receiver) = receiver {
            let writer = Writer {
                shared: shared.clone(),
                receiver,
                batch: Batch::default(),
                retention: Retention::new(shared.keeping),
            };
            shutdown.spawn("audit", writer.write());
        }
    }

    /// What is kept.
    pub fn keeping(&self) -> Option<Keeping> {
        self.shared.as_ref().map(|shared| shared.keeping)
    }

    /// Opens the database if there is one, so that what is wrong with it is known before the first call.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be used; the message has the cure.
    pub async fn look(&self) -> Result<()> {
        match &self.shared {
            Some(shared) if shared.place.exists() => shared.journal().await.map(drop).inspect_err(|error| {
                *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }),
            _ => Ok(()),
        }
    }

    /// Takes a place in the log for a call that is asked now. Waits for a free one, at most `limits.audit_time`.
    ///
    /// # Errors
    /// `Busy`: none became free. `Unavailable`: the host is at its end.
    pub async fn enter(&self, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        let Some(shared) = &self.shared else { return Ok(Entry { open: None }) };
        let place = match shared.reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ended()),
            Err(mpsc::error::TrySendError::Full(queue)) => match timeout(shared.wait, queue.reserve_owned()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Err(ended()),
                Err(_) => return Err(shared.full()),
            },
        };
        Ok(shared.entry(place, door, principal, tool))
    }

    /// The same for a call that is refused at once: it waits for no place.
    ///
    /// # Errors
    /// `Busy`: none is free. `Unavailable`: the host is at its end.
    pub fn enter_now(&self, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        let Some(shared) = &self.shared else { return Ok(Entry { open: None }) };
        match shared.reserve() {
            Ok(place) => Ok(shared.entry(place, door, principal, tool)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(shared.full()),
        }
    }

    /// Whether a side effect can be recorded now.
    ///
    /// # Errors
    /// `Unavailable`: the database cannot be used, or its last write failed; the message has the cure.
    pub async fn ready(&self) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        shared.journal().await?;
        shared.trouble().map_or(Ok(()), |trouble| {
            let message = format!("nothing with a side effect runs while calls cannot be recorded: {trouble}");
            Err(Error::new(Kind::Unavailable, message))
        })
    }

    /// Some of the records, those of calls that have just ended included.
    ///
    /// # Errors
    /// `Unavailable`: the database cannot be used, or no host keeps one.
    pub async fn read(&self, wish: &Wish) -> Result<Vec<Record>> {
        let Some(shared) = &self.shared else {
            return Err(Error::new(Kind::Unavailable, "calls are recorded by a host, and none runs here"));
        };
        // What cannot be appended now is no reason not to show what was.
        if shared.trouble().is_none() {
            let _ = timeout(FLUSH_TIME, self.flush()).await;
        }
        shared.journal().await?.read(wish).await
    }

    /// Waits until a record with an id beyond `after` is appended, and gives the latest id; `None` when none will be.
    pub async fn news(&self, after: i64) -> Option<i64> {
        let shared = self.shared.as_ref()?;
        let mut latest = shared.latest.subscribe();
        tokio::select! {
            latest = latest.wait_for(|latest| *latest > after) => latest.ok().map(|latest| *latest),
            () = shared.closing.cancelled() => None,
        }
    }

    /// Waits until the record of every call that has ended is on the disk.
    pub async fn flush(&self) {
        let Some(shared) = &self.shared else { return };
        let (flushed, wait) = oneshot::channel::<()>();
        if shared.queue.send(Message::Flush(Box::new(flushed))).await.is_ok() {
            shared.hurry.notify_one();
            // Nothing is ever sent: it ends when the other end is dropped.
            let _ = wait.await;
        }
    }

    /// The same for a thread that is not of a runtime, at most `limit`.
    pub fn flush_within(&self, limit: Duration) {
        let Some(shared) = &self.shared else { return };
        let (flushed, wait) = threads::channel::<()>();
        if shared.queue.try_send(Message::Flush(Box::new(flushed))).is_ok() {
            shared.hurry.notify_one();
            let _ = wait.recv_timeout(limit);
        }
    }

    /// Takes no further calls, and waits until the records of all that have ended are on the disk, at most `limit`.
    pub async fn close(&self, limit: Duration) {
        let Some(shared) = &self.shared else { return };
        shared.closing.cancel();
        let started = shared.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if started {
            // What is not on the disk by then is told by the writer.
            let _ = timeout(limit, shared.ended.cancelled()).await;
        }
    }
}

fn ended() -> Error {
    Error::new(Kind::Unavailable, "the host is stopping and takes no further calls")
}

/// That a person was asked: the approval, and the specifier that they were shown.
pub type Asked = OnceLock<(Arc<str>, Option<Text>)>;

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
    shared: Arc<Shared>,
}

impl Entry {
    /// Adds to the record, where one is kept; the first argument says what is kept.
    pub fn note(&mut self, add: impl FnOnce(Keeping, &mut Record)) {
        if let Some(open) = &mut self.open {
            add(open.shared.keeping, &mut open.record);
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
        let (tool, shared) = (open.record.tool.clone(), open.shared.clone());
        open.hand_in(Some(done));
        shared.hurry.notify_one();
        if let Ok(Ok(())) = timeout(shared.wait, wait).await {
            return Ok(());
        }
        let why = shared.trouble().map_or_else(|| "the disk or the server is slow".into(), |error| error.to_string());
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
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        open.record.outcome = "cancelled".into();
        open.record.code = Some(Kind::Cancelled.code().into());
        // Who leaves while a person is asked has denied it, whatever the person would have said.
        if let Some((approval, specifier)) = open.asked.get().filter(|_| open.record.decision.is_none()) {
            open.record.decision = Some("asked_denied".into());
            open.record.reason = Some("caller_left".into());
            open.record.approval = Some(Text::sharing(approval));
            open.record.specifier = specifier.clone();
        }
        let shared = open.shared.clone();
        open.hand_in(None);
        shared.hurry.notify_one();
    }
}

/// When a record is to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Before the call is answered.
    OnDisk,
    /// Soon.
    Later,
}

impl Shared {
    /// A place in the queue, if one is free.
    fn reserve(&self) -> Result<OwnedPermit<Message>, mpsc::error::TrySendError<mpsc::Sender<Message>>> {
        if self.queue.capacity() < self.room / 2 {
            self.hurry.notify_one();
        }
        self.queue.clone().try_reserve_owned()
    }

    fn entry(self: &Arc<Self>, place: OwnedPermit<Message>, door: &'static str, principal: Text, tool: Text) -> Entry {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let record = Box::new(Record::new(&format!("{}-{number}", self.run), door, principal, tool));
        let open = Open { place, record, begun: Instant::now(), asked: Arc::default(), shared: self.clone() };
        Entry { open: Some(open) }
    }

    async fn journal(&self) -> Result<&Journal> {
        self.journal.get_or_try_init(async || Ok(Journal::of(Database::open(&self.place).await?))).await
    }

    async fn append(&self, records: &mut [Record]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.journal().await?.append(records).await
    }

    fn trouble(&self) -> Option<Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn full(&self) -> Error {
        let why = self.trouble().map_or_else(String::new, |error| format!(" ({error})"));
        let message = format!("{} calls run or wait for their record{why}: ask again in a moment", self.room);
        Error::new(Kind::Busy, message)
    }
}

/// What the writer has in hand.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    /// Told when the records are on the disk.
    waiting: Vec<oneshot::Sender<()>>,
    /// Dropped then.
    flushes: Vec<Box<dyn Send>>,
}

impl Batch {
    fn put(&mut self, message: Message) {
        match message {
            Message::Record(record, waiting) => {
                self.records.push(*record);
                self.waiting.extend(waiting);
            }
            Message::Flush(flush) => self.flushes.push(flush),
        }
    }
}

/// The task that appends.
struct Writer {
    shared: Arc<Shared>,
    receiver: mpsc::Receiver<Message>,
    batch: Batch,
    retention: Retention,
}

impl Writer {
    async fn write(mut self) {
        let closing = self.shared.closing.clone();
        let _told = self.shared.ended.clone().drop_guard();
        loop {
            let message = tokio::select! {
                message = self.receiver.recv() => message,
                () = closing.cancelled(), if !self.receiver.is_closed() => {
                    self.receiver.close();
                    continue;
                }
                () = sleep_until(self.retention.due_at().into()), if self.shared.journal.initialized() => {
                    self.tidy().await;
                    continue;
                }
            };
            let Some(message) = message else { break };
            self.batch.put(message);
            tokio::select! {
                () = sleep(LINGER) => {}
                () = self.shared.hurry.notified() => {}
                () = closing.cancelled() => {}
            }
            while let Ok(message) = self.receiver.try_recv() {
                self.batch.put(message);
                if self.batch.records.len() >= BATCH {
                    // There may be more of them in the queue that must not wait.
                    self.shared.hurry.notify_one();
                    break;
                }
            }
            self.append().await;
            if self.retention.is_due() {
                self.tidy().await;
            }
        }
        if let Some(journal) = self.shared.journal.get() {
            journal.close().await;
        }
    }

    /// Appends the batch, and tries again until it is on the disk; at the end of the host once.
    async fn append(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut pause, longest) = PAUSES;
        while let Err(error) = self.shared.append(&mut batch.records).await {
            let known = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).replace(error.clone());
            if self.shared.closing.is_cancelled() {
                let number = batch.records.len();
                tracing::error!("the records of {number} calls are lost, since the host ends: {error}");
                return;
            }
            if known.is_none() {
                tracing::error!("calls cannot be recorded, and those with side effects are refused: {error}");
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shared.closing.cancelled() => {}
            }
            pause = (pause * 2).min(longest);
        }
        if self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("calls are recorded again");
        }
        self.retention.appended(&batch.records);
        if let Some(last) = batch.records.last() {
            self.shared.latest.send_replace(last.id);
        }
        for waiting in batch.waiting {
            // Who has gone needs no word.
            let _ = waiting.send(());
        }
    }

    async fn tidy(&mut self) {
        let Some(journal) = self.shared.journal.get() else { return };
        loop {
            match self.retention.let_go(journal).await {
                // A turn for those that wait, then the rest.
                Ok(true) if self.receiver.is_empty() => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!("old records of calls could not be let go: {error}"),
            }
        }
    }
}
