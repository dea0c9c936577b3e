//! MQTT 3.1.1 as far as a pair of clients needs it: CONNECT, SUBSCRIBE, PUBLISH with QoS 1, PUBACK.

use crate::scenario::broker::{Heard, Reply};

/// The packet identifier of the only SUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;

/// Bytes of a packet that are accepted.
const PACKET_BYTES_MAX: usize = 1 << 20;

fn topic(client: u32) -> String {
    format!("u/{client}")
}

/// A fixed header with its remaining length (§2.2).
fn header(kind: u8, mut length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            return;
        }
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// CONNECT (clean session, no keep-alive) and SUBSCRIBE to the client's topic with QoS 1.
pub(super) fn hello(client: u32) -> Vec<u8> {
    let mut connect = Vec::new();
    string(b"MQTT", &mut connect);
    connect.extend_from_slice(&[4, 0x02, 0, 0]);
    string(format!("c{client}").as_bytes(), &mut connect);
    let mut subscribe = SUBSCRIBE_ID.to_be_bytes().to_vec();
    string(topic(client).as_bytes(), &mut subscribe);
    subscribe.push(1);
    let mut out = Vec::new();
    header(0x10, connect.len(), &mut out);
    out.extend_from_slice(&connect);
    header(0x82, subscribe.len(), &mut out);
    out.extend_from_slice(&subscribe);
    out
}

/// PUBLISH with QoS 1.
pub(super) fn publish(to: u32, number: u16, text: &[u8], out: &mut Vec<u8>) {
    let topic = topic(to);
    header(0x32, 2 + topic.len() + 2 + text.len(), out);
    string(topic.as_bytes(), out);
    // Zero is no packet identifier, and 1 is the subscription's (§2.3.1).
    out.extend_from_slice(&(number % 60_000 + 2).to_be_bytes());
    out.extend_from_slice(text);
}

/// See [`super::Speech::hear`].
pub(super) fn hear(bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
    // Flags are of PUBLISH alone (§2.2.2).
    if bytes.first().is_some_and(|kind| !matches!(kind, 0x20 | 0x30..=0x3f | 0x40 | 0x90)) {
        return Err(format!("the broker sent a packet that begins with {:#x}", bytes[0]));
    }
    let Some((start, length)) = lengths(bytes)? else { return Ok(None) };
    let end = start + length;
    if bytes.len() < end {
        return Ok(None);
    }
    let body = &bytes[start..end];
    let short = || "the broker sent a packet that is too short".to_owned();
    let heard = match bytes[0] >> 4 {
        // CONNACK; what follows is the answer to SUBSCRIBE.
        2 => match body.get(1) {
            Some(0) => Heard::Nothing,
            code => return Err(format!("the broker refuses the connection: {code:?}")),
        },
        3 => {
            let topic = usize::from(u16::from_be_bytes([
                *body.first().ok_or_else(short)?,
                *body.get(1).ok_or_else(short)?,
            ]));
            let rest = body.get(2 + topic..).ok_or_else(short)?;
            if bytes[0] & 0x06 == 0 {
                Heard::Message(rest, Reply::NONE)
            } else {
                let (id, text) = rest.split_at_checked(2).ok_or_else(short)?;
                Heard::Message(text, Reply::of(&[0x40, 2, id[0], id[1]]))
            }
        }
        4 => Heard::Taken,
        9 if body.get(2) == Some(&0x80) => return Err("the broker refuses the subscription".into()),
        9 => Heard::Ready,
        other => return Err(format!("the broker sent a packet of kind {other}")),
    };
    Ok(Some((heard, end)))
}

/// Where the body begins, and how long it is.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return if length > PACKET_BYTES_MAX {
                Err(format!("the broker sent a packet of {length} bytes"))
            } else {
                Ok(Some((index + 1, length)))
            };
        }
    }
    if bytes.len() > 4 { Err("the broker sent no MQTT".into()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_heard_with_its_acknowledgement() {
        let mut out = Vec::new();
        publish(7, 300, &[b'x'; 200], &mut out);
        for cut in 0..out.len() {
            assert_eq!(hear(&out[..cut]), Ok(None));
        }
        let Ok(Some((Heard::Message(text, reply), used))) = hear(&out) else { panic!("no message") };
        assert_eq!((text, used), (&[b'x'; 200][..], out.len()));
        assert_eq!(reply.as_bytes(), [0x40, 2, 1, 46], "the identifier 302 comes back");
    }

    #[test]
    fn answers_of_the_broker_are_told_apart() {
        assert_eq!(hear(&[0x20, 2, 0, 0]), Ok(Some((Heard::Nothing, 4))));
        assert_eq!(hear(&[0x90, 3, 0, 1, 1]), Ok(Some((Heard::Ready, 5))));
        assert_eq!(hear(&[0x40, 2, 0, 9]), Ok(Some((Heard::Taken, 4))));
        assert!(hear(&[0x20, 2, 0, 5]).is_err() && hear(&[0x90, 3, 0, 1, 0x80]).is_err());
        assert!(hear(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]).is_err() && hear(b"HTTP/1.1 400").is_err());
        assert!(hear(&[0x32, 3, 0, 9, 1]).is_err(), "a topic longer than its packet");
    }

    #[test]
    fn a_client_says_who_it_is_and_what_it_wants() {
        let out = hello(5);
        let (_, connect) = lengths(&out).unwrap().unwrap();
        assert_eq!(&out[2..8], b"\x00\x04MQTT");
        assert_eq!(out[2 + connect], 0x82);
        assert!(out.ends_with(b"\x00\x03u/5\x01"));
    }
}
