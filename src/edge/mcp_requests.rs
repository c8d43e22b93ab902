//! The requests of one session of MCP's old era: which of them run, and what the last ones were answered, for a client that
//! was away when its answer came.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::ServerSseMessage;
use tokio_util::sync::CancellationToken;

/// So long an answer is kept.
pub const KEPT_TIME: Duration = Duration::from_secs(60);
/// So many answers of one session are kept.
const KEPT_ANSWERS: usize = 64;
/// So many bytes of one session's answers are kept: at least one large result.
const KEPT_BYTES: usize = 8 << 20;
/// What a part of an answer takes in memory beside its text, about.
const PART_BYTES: usize = 8;

/// What names an event of a session's streams: its place in its stream, and the stream where that is a request's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The stream of one request; none is that of the session.
    pub stream: Option<u64>,
    index: u64,
}

impl Event {
    /// Reads an id as `rmcp` writes it: `index/stream`, or `index`.
    pub fn parse(id: &str) -> Option<Self> {
        let (index, stream) = match id.split_once('/') {
            Some((index, stream)) => (index, Some(stream.parse().ok()?)),
            None => (id, None),
        };
        Some(Self { stream, index: index.parse().ok()? })
    }
}

/// A request that runs.
#[derive(Clone)]
pub struct Running {
    /// What names it.
    pub id: RequestId,
    /// Tells it from others that have had, and will have, the same id.
    number: u64,
    /// Cancelled when its client gives it up, and when its session ends.
    pub cancelled: CancellationToken,
    /// Cancelled when its answer is there.
    pub answered: CancellationToken,
}

struct Place {
    running: Running,
    /// The stream of its answer; unknown until that has begun.
    stream: Option<u64>,
    /// Whether what works on it has ended.
    is_over: bool,
}

struct Answer {
    event: Event,
    stream: u64,
    message: ServerSseMessage,
    bytes: usize,
    since: Instant,
}

/// The requests of one session.
#[derive(Default)]
pub struct Requests {
    running: HashMap<RequestId, Place>,
    number: u64,
    /// The oldest first.
    answers: VecDeque<Answer>,
    /// Of all of them.
    bytes: usize,
}

impl Requests {
    /// Begins a request; `None` when one of its name runs. A `session` that ends ends it.
    pub fn begin(&mut self, id: &RequestId, session: &CancellationToken) -> Option<Running> {
        if self.running.contains_key(id) {
            return None;
        }
        self.number += 1;
        let (cancelled, answered) = (session.child_token(), CancellationToken::new());
        let running = Running { id: id.clone(), number: self.number, cancelled, answered };
        self.running.insert(id.clone(), Place { running: running.clone(), stream: None, is_over: false });
        Some(running)
    }

    /// A request that was never handed over, or is answered: its id is free.
    pub fn end(&mut self, running: &Running) {
        if self.place(running).is_some() {
            self.running.remove(&running.id);
        }
        running.answered.cancel();
    }

    /// What works on a request has ended. Its answer is on its way, except where it was cancelled: then none comes.
    pub fn over(&mut self, running: &Running) {
        let Some(place) = self.place(running) else { return };
        place.is_over = true;
        if running.cancelled.is_cancelled() {
            self.end(running);
        }
    }

    /// Cancels the request of that name, if it runs.
    pub fn cancel(&mut self, id: &RequestId) {
        let Some(Place { running, is_over, .. }) = self.running.get(id) else { return };
        running.cancelled.cancel();
        if *is_over {
            self.end(&running.clone());
        }
    }

    /// Takes note of what a request's stream brings, before its client gets it; `bytes` is an answer's [`weight`].
    pub fn see(&mut self, running: &Running, message: &ServerSseMessage, bytes: usize) {
        let event = message.event_id.as_deref().and_then(Event::parse);
        let stream = event.and_then(|event| event.stream);
        if !is_answer(message) {
            if let Some(place) = self.place(running) {
                place.stream = place.stream.or(stream);
            }
            return;
        }
        if let (Some(event), Some(stream)) = (event, stream) {
            self.keep(Answer { event, stream, message: message.clone(), bytes, since: Instant::now() });
        }
        self.end(running);
    }

    /// The request whose answer a stream brings.
    pub fn of_stream(&self, stream: u64) -> Option<Running> {
        let place = self.running.values().find(|place| place.stream == Some(stream))?;
        Some(place.running.clone())
    }

    /// Whether a client that has got this event can learn what came after it.
    pub fn is_known(&self, event: Event) -> bool {
        let Some(stream) = event.stream else { return true };
        self.of_stream(stream).is_some() || self.answer(stream).is_some()
    }

    /// The answer that a stream has brought; the inner is `None` for a client that has got it.
    pub fn after(&self, event: Event) -> Option<Option<ServerSseMessage>> {
        let answer = self.answer(event.stream?)?;
        Some((event.index < answer.event.index).then(|| answer.message.clone()))
    }

    /// Lets go of answers that have been kept for long enough; whether others are left.
    pub fn sweep(&mut self) -> bool {
        while self.answers.front().is_some_and(|answer| answer.since.elapsed() >= KEPT_TIME) {
            self.let_go();
        }
        !self.answers.is_empty()
    }

    fn place(&mut self, running: &Running) -> Option<&mut Place> {
        self.running.get_mut(&running.id).filter(|place| place.running.number == running.number)
    }

    fn answer(&self, stream: u64) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.stream == stream && answer.since.elapsed() < KEPT_TIME)
    }

    fn keep(&mut self, answer: Answer) {
        self.bytes += answer.bytes;
        self.answers.push_back(answer);
        self.sweep();
        while self.answers.len() > KEPT_ANSWERS || self.bytes > KEPT_BYTES {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.bytes = self.bytes.saturating_sub(answer.bytes);
        }
    }
}

/// Whether a message is the last of its stream.
fn is_answer(message: &ServerSseMessage) -> bool {
    let message = message.message.as_deref();
    matches!(message, Some(ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)))
}

/// What an answer takes in memory, about: the bytes of its text, and something for each part that is written by itself.
pub fn weight(message: &ServerSseMessage) -> usize {
    struct Scales(usize);
    impl Write for Scales {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0 += part.len() + PART_BYTES;
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut scales = Scales(0);
    if let Some(answer) = message.message.as_deref().filter(|_| is_answer(message)) {
        // What cannot be written is not sent either.
        let _ = serde_json::to_writer(&mut scales, answer);
    }
    scales.0
}

/// A message of a stream that the host itself makes.
pub fn event(message: ServerJsonRpcMessage) -> ServerSseMessage {
    let mut event = ServerSseMessage::default();
    event.message = Some(Arc::new(message));
    event
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ErrorData, NumberOrString};

    use super::*;

    fn id(number: i64) -> RequestId {
        NumberOrString::Number(number)
    }

    fn answer(of: &RequestId, event_id: &str, text: &str) -> ServerSseMessage {
        let error = ErrorData::internal_error(text.to_owned(), None);
        let mut answer = event(ServerJsonRpcMessage::error(error, Some(of.clone())));
        answer.event_id = Some(event_id.to_owned());
        answer
    }

    fn see(requests: &mut Requests, running: &Running, message: &ServerSseMessage) {
        requests.see(running, message, weight(message));
    }

    fn known(requests: &Requests, event: &str) -> bool {
        requests.is_known(Event::parse(event).expect("it is an event"))
    }

    fn after(requests: &Requests, event: &str) -> Option<Option<String>> {
        let answer = requests.after(Event::parse(event).expect("it is an event"))?;
        Some(answer.and_then(|message| message.event_id))
    }

    #[test]
    fn an_event_is_read_as_it_is_written() {
        assert_eq!(Event::parse("3/7"), Some(Event { stream: Some(7), index: 3 }));
        assert_eq!(Event::parse("0"), Some(Event { stream: None, index: 0 }));
        for wrong in ["", "/", "1/", "/1", "a", "1/2/3", "-1/2", "1/99999999999999999999"] {
            assert_eq!(Event::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_is_taken_until_its_request_is_answered() {
        let (mut requests, session) = (Requests::default(), CancellationToken::new());
        let first = requests.begin(&id(1), &session).expect("the id is free");
        assert!(requests.begin(&id(1), &session).is_none());
        requests.over(&first);
        assert!(requests.begin(&id(1), &session).is_none(), "its answer is on its way");
        see(&mut requests, &first, &answer(&id(1), "1/0", "x"));
        assert!(first.answered.is_cancelled());
        let second = requests.begin(&id(1), &session).expect("the id is free again");
        requests.end(&first);
        assert!(requests.begin(&id(1), &session).is_none(), "what has ended before frees nothing");
        session.cancel();
        assert!(second.cancelled.is_cancelled());
    }

    #[test]
    fn the_id_of_a_cancelled_request_is_free_once_nothing_works_on_it() {
        let (mut requests, session) = (Requests::default(), CancellationToken::new());
        for cancelled_first in [true, false] {
            let running = requests.begin(&id(1), &session).expect("the id is free");
            if cancelled_first {
                requests.cancel(&id(1));
                assert!(running.cancelled.is_cancelled());
                assert!(requests.begin(&id(1), &session).is_none());
                requests.over(&running);
            } else {
                requests.over(&running);
                requests.cancel(&id(1));
            }
        }
        assert!(requests.begin(&id(1), &session).is_some());
        assert!(!session.is_cancelled());
    }

    #[test]
    fn an_answer_is_kept_for_who_has_not_got_it() {
        let (mut requests, session) = (Requests::default(), CancellationToken::new());
        let running = requests.begin(&id(1), &session).expect("the id is free");
        assert!(!known(&requests, "0/5"));
        let mut priming = ServerSseMessage::default();
        priming.event_id = Some("0/5".into());
        see(&mut requests, &running, &priming);
        assert!(known(&requests, "0/5") && !known(&requests, "0/4") && known(&requests, "0"));
        assert_eq!(after(&requests, "0/5"), None);
        see(&mut requests, &running, &answer(&id(1), "2/5", "x"));
        assert!(known(&requests, "0/5"));
        assert_eq!(after(&requests, "0/5"), Some(Some("2/5".into())));
        assert_eq!(after(&requests, "2/5"), Some(None));
    }

    #[test]
    fn a_session_keeps_so_many_answers_and_bytes_the_newest_ones() {
        let (mut requests, session) = (Requests::default(), CancellationToken::new());
        let mut give = |stream: usize, bytes: usize| {
            let running = requests.begin(&id(1), &session).expect("the id is free");
            see(&mut requests, &running, &answer(&id(1), &format!("1/{stream}"), &"x".repeat(bytes)));
            let streams = requests.answers.iter().map(|answer| answer.stream).collect::<Vec<_>>();
            assert!(requests.bytes <= KEPT_BYTES);
            streams
        };
        for stream in 0..100 {
            give(stream, 1);
        }
        assert_eq!(give(100, 1), (37..=100).collect::<Vec<_>>());
        assert_eq!(give(101, KEPT_BYTES / 2), (38..=101).collect::<Vec<_>>());
        assert_eq!(give(102, KEPT_BYTES / 2 + 1000), [102]);
        assert!(give(103, KEPT_BYTES).is_empty(), "what is larger than all is not kept");
        assert_eq!(give(104, 1), [104]);
    }
}
