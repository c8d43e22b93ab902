//! The record of every call: who asked what, what was decided, and how it ended.
//!
//! A call takes its place in the log before anything of it runs, so that its record is never lost for want of room: when
//! none is free the call is `busy`. One task appends the records in batches. A call with a side effect is answered when
//! its record is on the disk. Nothing here decides anything.

use std::sync::{Arc, Mutex, PoisonError, mpsc as threads};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::{Keeping, Settings};
use crate::base::shutdown::Shutdown;
use crate::kernel::database::Place;
use crate::kernel::entry::{Entry, Message, Queue};
use crate::kernel::journal::Wish;
use crate::kernel::keeper::Keeper;
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
    queue: Arc<Queue>,
    /// The other end, until the writer takes it.
    writer: Mutex<Option<mpsc::Receiver<Message>>>,
    keeper: Arc<Keeper>,
    closing: CancellationToken,
    /// Told when the writer has ended.
    ended: CancellationToken,
    /// The id of the latest record that was appended.
    latest: watch::Sender<i64>,
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
        let (sender, receiver) = mpsc::channel(room);
        let mut run = [0; 6];
        getrandom::fill(&mut run)
            .map_err(|error| Error::new(Kind::Internal, "the system gives no random bytes").with_source(error))?;
        let run = run.iter().map(|byte| format!("{byte:02x}")).collect();
        let keeper = Arc::new(Keeper::new(place));
        let queue = Queue::new((sender, room), settings.audit, settings.limits.audit_time, keeper.clone(), run);
        let shared = Shared {
            queue: Arc::new(queue),
            writer: Mutex::new(Some(receiver)),
            keeper,
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            latest: watch::Sender::new(0),
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
                retention: Retention::new(shared.queue.keeping()),
            };
            shutdown.spawn("audit", writer.write());
        }
    }

    /// What is kept.
    pub fn keeping(&self) -> Option<Keeping> {
        self.shared.as_ref().map(|shared| shared.queue.keeping())
    }

    /// Whether other hosts may write to the same log, of whose records nobody tells this one.
    pub fn is_shared(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.keeper.place().is_shared())
    }

    /// Opens the database if there is one, so that what is wrong with it is known before the first call. It is tried again
    /// until it can be opened.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be used; the message has the cure.
    pub async fn look(&self) -> Result<()> {
        match &self.shared {
            Some(shared) if shared.keeper.place().exists() => {
                shared.keeper.open().await.map(drop).inspect_err(|error| {
                    shared.keeper.stumble(error.clone());
                    // Where there is no room for it there are records to be appended, which is as good.
                    shared.queue.flush_now(());
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes a place in the log for a call that is asked now. Waits for a free one, at most `limits.audit_time`.
    ///
    /// # Errors
    /// `Busy`: none became free. `Unavailable`: the host is at its end.
    pub async fn enter(&self, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        match &self.shared {
            Some(shared) => shared.queue.enter(door, principal, tool).await,
            None => Ok(Entry::none()),
        }
    }

    /// The same for a call that is refused at once: it waits for no place.
    ///
    /// # Errors
    /// `Busy`: none is free. `Unavailable`: the host is at its end.
    pub fn enter_now(&self, door: &'static str, principal: Text, tool: Text) -> Result<Entry> {
        match &self.shared {
            Some(shared) => shared.queue.enter_now(door, principal, tool),
            None => Ok(Entry::none()),
        }
    }

    /// Whether a side effect can be recorded now. While it is known that it cannot, it says so at once.
    ///
    /// # Errors
    /// `Unavailable`: the database cannot be used, or its last write failed; the message has the cure.
    pub async fn ready(&self) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let opened = match shared.keeper.trouble() {
            Some(trouble) => Err(trouble),
            None => shared.keeper.open_within(shared.queue.patience()).await.map(drop),
        };
        opened.map_err(|trouble| {
            let message = format!("nothing with a side effect runs while calls cannot be recorded: {trouble}");
            Error::new(Kind::Unavailable, message)
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
        if shared.keeper.trouble().is_none() {
            let _ = timeout(FLUSH_TIME, self.flush()).await;
        }
        shared.keeper.open_within(shared.queue.patience()).await?.read(wish).await
    }

    /// Waits until this host has appended a record with an id beyond `after`, and gives the latest id; `None` when it will
    /// append none.
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
        if shared.queue.flush(flushed).await {
            // Nothing is ever sent: it ends when the other end is dropped.
            let _ = wait.await;
        }
    }

    /// The same for a thread that is not of a runtime, at most `limit`.
    pub fn flush_within(&self, limit: Duration) {
        let Some(shared) = &self.shared else { return };
        let (flushed, wait) = threads::channel::<()>();
        if shared.queue.flush_now(flushed) {
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
                () = sleep_until(self.retention.due_at().into()), if self.shared.keeper.current().is_some() => {
                    self.tidy().await;
                    continue;
                }
            };
            let Some(message) = message else { break };
            self.batch.put(message);
            tokio::select! {
                () = sleep(LINGER) => {}
                () = self.shared.queue.hurried() => {}
                () = closing.cancelled() => {}
            }
            while let Ok(message) = self.receiver.try_recv() {
                self.batch.put(message);
                if self.batch.records.len() >= BATCH {
                    // There may be more of them in the queue that must not wait.
                    self.shared.queue.hurry();
                    break;
                }
            }
            self.append().await;
            if self.retention.is_due() {
                self.tidy().await;
            }
        }
        self.shared.keeper.close().await;
    }

    /// Appends the batch, and tries again until it is on the disk; at the end of the host once.
    async fn append(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut pause, longest) = PAUSES;
        while let Err(error) = self.shared.keeper.append(&mut batch.records).await {
            let is_news = self.shared.keeper.stumble(error.clone());
            if self.shared.closing.is_cancelled() {
                let number = batch.records.len();
                if number > 0 {
                    tracing::error!("the records of {number} calls are lost, since the host ends: {error}");
                }
                return;
            }
            if is_news {
                tracing::error!("calls cannot be recorded, and those with side effects are refused: {error}");
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shared.closing.cancelled() => {}
            }
            pause = (pause * 2).min(longest);
        }
        if self.shared.keeper.recover() {
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
        let Some(journal) = self.shared.keeper.current() else { return };
        loop {
            match self.retention.let_go(&journal).await {
                // A turn for those that wait, then the rest.
                Ok(true) if self.receiver.is_empty() => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!("old records of calls could not be let go: {error}"),
            }
        }
    }
}
