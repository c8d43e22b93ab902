//! Who asks, said to a plugin's server so that it can be believed: three headers, signed with the key that this run of
//! the server got on its standard input.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = HeaderValue::from(now.as_secs());
        let user: Cow<'_, str> = utf8_percent_encode(user, &RESERVED).into();
        let user = HeaderValue::from_str(&user).expect("percent-encoded text fits a header");
        let mut mac = self.keyed.clone();
        for part in [time.as_bytes(), b"\n", user.as_bytes(), b"\n", method.as_bytes(), b"\n", target.as_bytes()] {
            mac.update(part);
        }
        let mut signature = [0; 64];
        for (pair, byte) in signature.chunks_exact_mut(2).zip(mac.finalize().into_bytes()) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let signature = HeaderValue::from_bytes(&signature).expect("hexadecimal digits fit a header");
        headers.insert(TIME, time);
        headers.insert(USER, user);
        headers.insert(SIGNATURE, signature);
    }
}
