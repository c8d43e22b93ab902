//! A body in chunks (RFC 9112 §7.1), taken apart as strictly as the grammar stands: where two readers could disagree
//! about its end, it has none.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Digits of a size: more do not fit its number.
const DIGITS: u8 = 16;
/// What may stand behind a size.
const EXTENSION_BYTES: usize = 4 << 10;
/// The fields behind the last chunk, and how many of them.
const TRAILER_BYTES: usize = 8 << 10;
const TRAILERS: usize = 32;

/// A body on its way.
#[derive(Debug, Default)]
pub struct Chunks {
    place: Place,
}

/// What comes next.
#[derive(Debug, Default)]
enum Place {
    #[default]
    FirstDigit,
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        bytes: usize,
    },
    SizeEnd(u64),
    Data(u64),
    DataReturn,
    DataEnd,
    Trailers,
    Nothing,
}

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// More bytes are needed.
    Nothing,
    /// Bytes of the body.
    Data(Bytes),
    /// The end, with the fields behind the last chunk.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Takes the next find out of `bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes; nothing more can be found in them.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Found, &'static str> {
        loop {
            self.place = match std::mem::take(&mut self.place) {
                Place::Data(left) => {
                    let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let after = left - here as u64;
                    self.place = if after == 0 { Place::DataReturn } else { Place::Data(after) };
                    if here > 0 {
                        return Ok(Found::Data(bytes.split_to(here).freeze()));
                    }
                    return Ok(Found::Nothing);
                }
                Place::Trailers => return self.trailers(bytes),
                Place::Nothing => {
                    self.place = Place::Nothing;
                    return Ok(Found::End(None));
                }
                place => {
                    if bytes.is_empty() {
                        self.place = place;
                        return Ok(Found::Nothing);
                    }
                    step(place, bytes.get_u8())?
                }
            };
        }
    }

    fn trailers(&mut self, bytes: &mut BytesMut) -> Result<Found, &'static str> {
        if bytes.starts_with(b"\r\n") {
            bytes.advance(2);
            self.place = Place::Nothing;
            return Ok(Found::End(None));
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            self.place = Place::Trailers;
            let full = bytes.len() > TRAILER_BYTES;
            return if full { Err("the fields behind its last chunk are too long") } else { Ok(Found::Nothing) };
        };
        let bytes = bytes.split_to(end + 4);
        let mut room = [httparse::EMPTY_HEADER; TRAILERS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&bytes, &mut room) else {
            return Err("the fields behind its last chunk are none");
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let (name, value) = (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err("the fields behind its last chunk are none");
            };
            trailers.append(name, value);
        }
        self.place = Place::Nothing;
        Ok(Found::End(Some(trailers)))
    }
}

/// Where one byte of what is no data leads.
fn step(place: Place, byte: u8) -> Result<Place, &'static str> {
    const SIZE: &str = "a chunk's size is not a hexadecimal number";
    Ok(match (place, byte) {
        (Place::FirstDigit, byte) => Place::Size { size: digit(byte).ok_or(SIZE)?, digits: 1 },
        (Place::Size { size, .. } | Place::Extension { size, .. }, b'\r') => Place::SizeEnd(size),
        (Place::Size { size, .. }, b';') => Place::Extension { size, bytes: 0 },
        (Place::Size { size, digits }, byte) if digits < DIGITS => {
            Place::Size { size: size << 4 | digit(byte).ok_or(SIZE)?, digits: digits + 1 }
        }
        (Place::Size { .. }, _) => return Err("a chunk's size is too large"),
        (Place::Extension { size, bytes }, byte) => {
            if bytes == EXTENSION_BYTES || (byte < b' ' && byte != b'\t') || byte == 0x7f {
                return Err("what stands behind a chunk's size is too long or no text");
            }
            Place::Extension { size, bytes: bytes + 1 }
        }
        (Place::SizeEnd(0), b'\n') => Place::Trailers,
        (Place::SizeEnd(size), b'\n') => Place::Data(size),
        (Place::DataReturn, b'\r') => Place::DataEnd,
        (Place::DataEnd, b'\n') => Place::FirstDigit,
        _ => return Err("a chunk does not end where its size says"),
    })
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in `bytes` when they come so many at a time: the data, and the number of trailers at the end.
    fn read(bytes: &[u8], at_once: usize) -> Result<(Vec<u8>, Option<usize>), &'static str> {
        let (mut chunks, mut here, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
        let mut coming = bytes.chunks(at_once);
        loop {
            match chunks.next(&mut here)? {
                Found::Data(bytes) => data.extend_from_slice(&bytes),
                Found::End(trailers) => return Ok((data, Some(trailers.map_or(0, |trailers| trailers.len())))),
                Found::Nothing => match coming.next() {
                    Some(more) => here.extend_from_slice(more),
                    None => return Ok((data, None)),
                },
            }
        }
    }

    #[test]
    fn a_body_is_the_same_however_its_bytes_come() {
        let table: [(&[u8], &[u8], Option<usize>); 6] = [
            (b"0\r\n\r\n", b"", Some(0)),
            (b"3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", Some(0)),
            (b"3;name=\"x y\"\r\nabc\r\n000;last\r\nA: 1\r\nb: 2\r\n\r\n", b"abc", Some(2)),
            (b"3\r\n\r\n0\r\n0\r\n\r\n", b"\r\n0", Some(0)),
            (b"3\r\nab", b"ab", None),
            (b"3\r\nabc\r\n0\r\nA: 1\r\n", b"abc", None),
        ];
        for (bytes, data, trailers) in table {
            for at_once in [1, 2, 3, 7, bytes.len()] {
                assert_eq!(read(bytes, at_once), Ok((data.to_vec(), trailers)), "{at_once} of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let long = [b"1;".to_vec(), vec![b'x'; 5000]].concat();
        let trailer = [b"0\r\na: ".to_vec(), vec![b'x'; 9000]].concat();
        let table: [&[u8]; 24] = [
            b"\r\n",
            b";\r\n",
            b"x\r\n",
            b" 3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"3\t\r\nabc\r\n",
            b"+3\r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3_0\r\n",
            b"3,3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\rabc",
            b"3;\nabc\r\n",
            b"3;a\0b\r\nabc",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"3\r\nabc0\r\n",
            b"11111111111111111\r\n",
            b"00000000000000003\r\nabc\r\n",
            b"0\r\na b: 1\r\n\r\n",
            b"0\r\na: 1\r\n b: folded\r\n\r\n",
            &long,
            &trailer,
        ];
        for bytes in table {
            for at_once in [1, bytes.len()] {
                let found = read(bytes, at_once);
                assert!(found.is_err(), "{found:?} in {at_once} of {:?}", String::from_utf8_lossy(bytes));
            }
        }
    }
}
