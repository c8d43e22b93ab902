//! Secrets from the system's random bytes, and the digests that are kept of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::base::error::{Error, Kind, Result};

/// What every token begins with, so that one in a wrong place is recognised.
pub const TOKEN_PREFIX: &str = "plugbay_";

/// A SHA-256.
pub type Digest = [u8; 32];

/// 256 random bits as 43 characters that need no escaping in a URL, a header or a file name.
///
/// # Errors
/// `Internal`: the system gives none.
pub fn random_text() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, format!("the system gives no random bytes: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether `text` has the form of a token: the prefix and 256 bits.
pub fn is_token(text: &str) -> bool {
    let secret = text.strip_prefix(TOKEN_PREFIX).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    secret.is_some_and(|secret| secret.len() == 32)
}

/// The digest of a secret. A fast hash is enough: the secrets have 256 random bits.
pub fn digest_of(secret: &[u8]) -> Digest {
    Sha256::digest(secret).into()
}

/// Whether two digests are one, in a time that does not tell where they differ.
pub fn same(left: &Digest, right: &Digest) -> bool {
    left.ct_eq(right).into()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |number: u8| DIGITS[usize::from(number & 0xf)];
    let text = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect();
    String::from_utf8(text).expect("digits are ASCII")
}

/// A digest written by [`hex`]; `None` for any other text.
pub fn digest_of_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
