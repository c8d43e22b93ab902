//! Where WebSocket frames begin and end in a stream of bytes that passes by (RFC 6455 §5.2), and the one frame that the
//! host may put between two of them. Payloads are not looked at.

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES: usize = 14;
/// The opcode of a close frame.
const CLOSE: u8 = 8;

/// The frames of one direction.
#[derive(Default)]
pub struct Marks {
    /// The bytes of a head that is not whole yet.
    head: [u8; HEAD_BYTES],
    have: usize,
    /// What is still to come of the payload.
    left: u64,
    /// Whether the frame that passes is a close frame.
    is_close: bool,
    closed: bool,
}

impl Marks {
    /// Reads on; returns how many of the bytes come before the last end of a frame among them, if there is one.
    pub fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut end = None;
        while at < bytes.len() {
            if self.left > 0 {
                let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += step;
                self.left -= step as u64;
            } else {
                self.head[self.have] = bytes[at];
                self.have += 1;
                at += 1;
                if self.have < head_bytes(&self.head[..self.have]) {
                    continue;
                }
                self.left = payload_bytes(&self.head);
                self.is_close = self.head[0] & 0x0f == CLOSE;
                self.have = 0;
            }
            if self.left == 0 {
                self.closed |= self.is_close;
                end = Some(at);
            }
        }
        end
    }

    /// Whether everything that passed was whole frames.
    pub fn are_whole(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a close frame has passed.
    pub fn have_closed(&self) -> bool {
        self.closed
    }
}

/// How long the head is, as far as its first bytes say.
fn head_bytes(head: &[u8]) -> usize {
    let Some(second) = head.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

fn payload_bytes(head: &[u8; HEAD_BYTES]) -> u64 {
    match head[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
        127 => u64::from_be_bytes([head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]]),
        short => u64::from(short),
    }
}

/// Who a frame is for: clients get plain ones, servers masked ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A client.
    Client,
    /// A server.
    Server,
}

/// A close frame. `reason` has at most 123 bytes.
pub fn close_frame(reader: Reader, code: u16, reason: &str) -> Vec<u8> {
    let length = 2 + reason.len() as u8;
    let mut frame = match reader {
        Reader::Client => vec![0x88, length],
        // A mask of zeros leaves the payload as it is. It protects proxies on the way, and there is none.
        Reader::Server => vec![0x88, 0x80 | length, 0, 0, 0, 0],
    };
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame
}
