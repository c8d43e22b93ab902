//! Topics and outboxes: who hears what, how often it is encoded, what is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::future::poll_fn;
use plugbay::base::error::Kind;
use plugbay::base::frame::ServerFrame;
use plugbay::base::json::Json;
use plugbay::base::settings::Limits;
use plugbay::base::shutdown::Shutdown;
use plugbay::kernel::auth::{Principal, Scopes};
use plugbay::kernel::connection::{Connection, Outbox, OutboxLimits, Outgoing};
use plugbay::kernel::hub::Hub;
use plugbay::kernel::registry::Registry;

use crate::stand::within;

fn hub() -> Hub {
    Hub::new(Registry::new(), Shutdown::new(), Limits::default())
}

fn open(name: &str, frames: usize, bytes: usize) -> (Connection, Outbox) {
    Connection::open(name, Principal::new(name, Scopes::ALL), OutboxLimits { frames, bytes })
}

fn join(hub: &Hub, name: &str) -> (Connection, Outbox) {
    let (connection, outbox) = open(name, 1024, 1 << 20);
    hub.join(&connection);
    (connection, outbox)
}

fn frame(bytes: usize) -> ServerFrame {
    ServerFrame::whole(Json::of(&"x".repeat(bytes - 2)))
}

async fn next(outbox: &mut Outbox) -> Outgoing {
    within(poll_fn(|context| outbox.poll_next(context))).await
}

#[test]
fn a_message_reaches_those_who_hear_its_topic_and_nobody_else() {
    let hub = hub();
    let (one, mut one_outbox) = join(&hub, "one");
    let (two, mut two_outbox) = join(&hub, "two");
    hub.subscribe(&one, "chat").unwrap();
    hub.subscribe(&one, "chat").unwrap();
    hub.subscribe(&two, "chat/room").unwrap();
    assert_eq!(hub.publish("chat", "chat", &Json::NULL), 1);
    let text = one_outbox.next_now().unwrap().into_text();
    assert_eq!(&text[..], br#"{"channel":"chat","event":"message","topic":"chat","data":null}"#);
    assert!(one_outbox.next_now().is_none() && two_outbox.next_now().is_none());
    assert!(hub.unsubscribe(&one, "chat") && !hub.unsubscribe(&one, "chat"));
    assert_eq!(hub.publish("chat", "chat", &Json::NULL), 0);
    assert_eq!(hub.publish("chat", "chat/room", &Json::NULL), 1);
}

#[test]
fn a_broadcast_is_encoded_once_and_its_bytes_are_shared() {
    let hub = hub();
    let mut members: Vec<_> = (0..1000).map(|number| join(&hub, &number.to_string())).collect();
    for (connection, _) in &members {
        hub.subscribe(connection, "news").unwrap();
    }
    assert_eq!(hub.publish("news", "news", &Json::NULL), 1000);
    let texts: Vec<_> = members.iter_mut().map(|(_, outbox)| outbox.next_now().unwrap().into_text()).collect();
    assert!(texts.iter().all(|text| text.as_ptr() == texts[0].as_ptr()));
}

#[test]
fn who_leaves_is_forgotten_and_cannot_subscribe_again() {
    let hub = hub();
    let (connection, _outbox) = join(&hub, "one");
    hub.subscribe(&connection, "chat").unwrap();
    hub.leave(&connection);
    assert_eq!((hub.connections(), hub.topics(), hub.publish("chat", "chat", &Json::NULL)), (0, 0, 0));
    assert_eq!(hub.subscribe(&connection, "chat").unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn a_topic_is_a_channel_and_a_rest_of_at_most_256_bytes() {
    let hub = hub();
    let (connection, _outbox) = join(&hub, "one");
    for topic in ["", "/", "Chat", "no good/x", &format!("chat/{}", "x".repeat(252))] {
        assert_eq!(hub.subscribe(&connection, topic).unwrap_err().kind(), Kind::Invalid, "{topic}");
    }
    hub.subscribe(&connection, &format!("chat/{}", "x".repeat(251))).unwrap();
}

#[test]
fn a_connection_hears_1024_topics_and_not_one_more() {
    let hub = hub();
    let (connection, _outbox) = join(&hub, "one");
    for number in 0..1024 {
        hub.subscribe(&connection, &format!("chat/{number}")).unwrap();
    }
    assert_eq!(hub.subscribe(&connection, "chat/more").unwrap_err().kind(), Kind::Busy);
    hub.subscribe(&connection, "chat/0").unwrap();
    hub.unsubscribe(&connection, "chat/0");
    hub.subscribe(&connection, "chat/more").unwrap();
}

#[test]
fn threads_that_publish_subscribe_and_leave_at_once_leave_nothing_behind() {
    let hub = hub();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let hub = hub.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    let (connection, _outbox) = join(&hub, &format!("{thread}-{round}"));
                    hub.subscribe(&connection, "chat").unwrap();
                    hub.publish("chat", "chat", &Json::NULL);
                    hub.leave(&connection);
                }
            });
        }
    });
    assert_eq!((hub.connections(), hub.topics()), (0, 0));
}

#[tokio::test]
async fn an_outbox_takes_its_number_of_frames_and_the_next_closes_it() {
    let (connection, mut outbox) = open("one", 3, 1000);
    for _ in 0..3 {
        connection.send(frame(10)).unwrap();
    }
    assert_eq!(connection.send(frame(10)).unwrap_err().kind(), Kind::Busy);
    assert_eq!(connection.send(frame(10)).unwrap_err().kind(), Kind::Cancelled);
    let Outgoing::Close(reason) = next(&mut outbox).await else { panic!("it is closed") };
    assert_eq!((reason.code, reason.flush), (1013, false));
    assert!(outbox.next_now().is_none(), "what waited is dropped");
}

#[test]
fn an_outbox_takes_its_number_of_bytes_and_the_next_byte_closes_it() {
    let (connection, _outbox) = open("one", 100, 100);
    connection.send(frame(50)).unwrap();
    connection.send(frame(50)).unwrap();
    assert_eq!(connection.send(frame(2)).unwrap_err().kind(), Kind::Busy);
}

#[test]
fn one_frame_larger_than_the_outbox_passes_when_nothing_else_waits() {
    let (connection, mut outbox) = open("one", 100, 100);
    connection.send(frame(500)).unwrap();
    assert!(outbox.next_now().is_some());
    connection.send(frame(500)).unwrap();
    assert_eq!(connection.send(frame(2)).unwrap_err().kind(), Kind::Busy);
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_writer_is_woken_by_what_it_waits_for_and_not_while_it_is_at_work() {
    let (connection, mut outbox) = open("one", 100, 1000);
    let wakes = Arc::new(Wakes::default());
    let count = || wakes.0.load(Ordering::SeqCst);
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    connection.send(frame(10)).unwrap();
    assert!(outbox.poll_next(&mut context).is_ready() && outbox.poll_next(&mut context).is_pending());
    connection.send(frame(10)).unwrap();
    connection.send(frame(10)).unwrap();
    assert_eq!(count(), 1, "the second finds the writer awake");
    while outbox.poll_next(&mut context).is_ready() {}
    outbox.attend();
    connection.send(frame(10)).unwrap();
    assert_eq!(count(), 1, "it is at work");
    assert!(outbox.poll_close(&mut context).is_pending());
    connection.send(frame(10)).unwrap();
    assert_eq!(count(), 1, "its socket takes nothing, so only the close is of use to it");
    connection.close(1000, "");
    assert_eq!(count(), 2);
    assert!(outbox.poll_close(&mut context).is_ready());
}

#[tokio::test]
async fn the_first_close_decides_and_codes_that_may_not_be_sent_become_1000() {
    let (connection, mut outbox) = open("one", 100, 1000);
    connection.send(frame(10)).unwrap();
    connection.close(1006, &"é".repeat(100));
    connection.close_at_once(1008, "later");
    let Outgoing::Close(reason) = next(&mut outbox).await else { panic!("it is closed") };
    assert_eq!((reason.code, reason.reason.len(), reason.flush), (1000, 122, true));
    assert!(outbox.next_now().is_some(), "what waited is still there");
}

#[test]
fn a_handle_that_outlives_its_socket_keeps_nothing_and_says_so() {
    let (connection, outbox) = open("one", 100, 1000);
    connection.send(frame(10)).unwrap();
    drop(outbox);
    assert!(connection.is_closed());
    assert_eq!(connection.send(frame(10)).unwrap_err().kind(), Kind::Cancelled);
}
