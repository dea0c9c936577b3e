//! The text protocol of NATS as far as a pair of clients needs it: CONNECT, SUB, PUB, MSG, PING, PONG.

use memchr::memchr;

use crate::scenario::broker::{Heard, Reply};

/// Bytes of a line that are accepted; INFO is the longest.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// CONNECT, SUB for the client's subject, and a PING whose answer says that both are dealt with.
pub(super) fn hello(client: u32) -> Vec<u8> {
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"c{client}\"}}\r\n\
         SUB u.{client} 1\r\nPING\r\n"
    )
    .into_bytes()
}

/// PUB.
pub(super) fn publish(to: u32, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("PUB u.{to} {}\r\n", text.len()).as_bytes());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// See [`super::Speech::hear`].
pub(super) fn hear(bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
    let Some(end) = memchr(b'\n', bytes) else {
        return if bytes.len() > LINE_BYTES_MAX { Err("the broker sent no NATS".into()) } else { Ok(None) };
    };
    let used = end + 1;
    let line = String::from_utf8_lossy(bytes[..end].trim_ascii_end());
    let mut words = line.split_ascii_whitespace();
    match words.next().unwrap_or_default() {
        "MSG" => {
            let length: usize = words
                .last()
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| format!("the broker sent {line:?}"))?;
            let whole = used + length + 2;
            if bytes.len() < whole {
                return Ok(None);
            }
            Ok(Some((Heard::Message(&bytes[used..used + length], Reply::NONE), whole)))
        }
        "PONG" => Ok(Some((Heard::Ready, used))),
        "PING" => Ok(Some((Heard::Asked(Reply::of(b"PONG\r\n")), used))),
        "INFO" | "+OK" => Ok(Some((Heard::Nothing, used))),
        _ => Err(format!("the broker sent {line:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_heard_whole_and_errors_are_errors() {
        let text = b"MSG u.7 1 5\r\nhe\nlo\r\nPING\r\n";
        for cut in 0..20 {
            assert_eq!(hear(&text[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(hear(text), Ok(Some((Heard::Message(b"he\nlo", Reply::NONE), 20))));
        let Ok(Some((Heard::Asked(reply), 6))) = hear(&text[20..]) else { panic!("no ping") };
        assert_eq!(reply.as_bytes(), b"PONG\r\n");
        assert_eq!(hear(b"INFO {}\r\nPONG\r\n"), Ok(Some((Heard::Nothing, 9))));
        assert!(hear(b"-ERR 'maximum connections exceeded'\r\n").unwrap_err().contains("maximum"));
        assert!(hear(b"MSG u.7 1 many\r\n").is_err());
    }

    #[test]
    fn a_message_is_published_with_its_length() {
        let mut out = Vec::new();
        publish(3, b"abc", &mut out);
        assert_eq!(out, b"PUB u.3 3\r\nabc\r\n");
        assert!(hello(3).ends_with(b"SUB u.3 1\r\nPING\r\n"));
    }
}
