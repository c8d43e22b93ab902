//! Who asks, said to a plugin's server so that it can be believed: three headers, signed with the key that this run of
//! the server got on its standard input.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::edge::headers;

/// Unix seconds.
const TIME: HeaderName = HeaderName::from_static("x-host-time");
/// The principal's name, percent-encoded.
const USER: HeaderName = HeaderName::from_static("x-host-user");
/// The signature: 64 hexadecimal digits in lower case.
const SIGNATURE: HeaderName = HeaderName::from_static("x-host-signature");

/// What is percent-encoded in a name: all but the unreserved characters of RFC 3986 §2.3.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Signs for one run of a server. Cloning its state is what makes a signature cheap: the key was hashed once.
pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// A signer with a key as the server got it: base64url text.
    pub fn new(key: &str) -> Self {
        let key = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).unwrap_or_default();
        let keyed = Hmac::new_from_slice(&key).expect("a key of HMAC may have any length");
        Self { keyed }
    }

    /// Puts the three headers on a request: `user` asks now with `method` for `target`, the path and query as they
    /// are sent. Any that stand there are replaced.
    pub fn sign(&self, headers: &mut HeaderMap, user: &str, method: &str, target: &str) {
        let said = self.say(user, method, target.as_bytes());
        let value = |text: &[u8]| HeaderValue::from_bytes(text).expect("digits and percent-encoded text fit a header");
        headers.insert(TIME, value(said.time.as_bytes()));
        headers.insert(USER, value(said.user.as_bytes()));
        headers.insert(SIGNATURE, value(&said.signature));
    }

    /// Writes the same headers as lines of a head.
    pub fn write(&self, into: &mut Vec<u8>, user: &str, method: &str, target: Range<usize>) {
        let said = self.say(user, method, &into[target]);
        headers::put(into, TIME.as_str(), said.time.as_bytes());
        headers::put(into, USER.as_str(), said.user.as_bytes());
        headers::put(into, SIGNATURE.as_str(), &said.signature);
    }

    fn say<'u>(&self, user: &'u str, method: &str, target: &[u8]) -> Said<'u> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = now.as_secs().to_string();
        let user: Cow<'_, str> = utf8_percent_encode(user, &RESERVED).into();
        let mut mac = self.keyed.clone();
        for part in [time.as_bytes(), b"\n", user.as_bytes(), b"\n", method.as_bytes(), b"\n", target] {
            mac.update(part);
        }
        let mut signature = [0; 64];
        for (pair, byte) in signature.chunks_exact_mut(2).zip(mac.finalize().into_bytes()) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Said { time, user, signature }
    }
}

/// The values of the three headers.
struct Said<'u> {
    time: String,
    user: Cow<'u, str>,
    signature: [u8; 64],
}
