//! A library that shares no code with ours reads what ours writes, and the same out of what a client sends.

use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use super::messages::{Sent, sent};
use super::{Heard, whole};
use crate::{Code, Control, encode};

/// Bytes to be read; what is written is thrown away.
struct Given(Cursor<Vec<u8>>);

impl Read for Given {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Given {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that the library reads until it finds nothing more.
fn read(role: Role, bytes: &[u8]) -> Vec<Message> {
    let mut socket = WebSocket::from_raw_socket(Given(Cursor::new(bytes.to_vec())), role, None);
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(message),
            Err(Error::ConnectionClosed | Error::Protocol(_)) => return messages,
            Err(error) => panic!("{error}"),
        }
    }
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .filter(|message| message.is_text())
        .map(|message| message.to_text().unwrap().to_owned())
        .collect()
}

fn controls(messages: &[Message]) -> Vec<(Control, Vec<u8>)> {
    let control = |message: &Message| match message {
        Message::Ping(payload) => Some((Control::Ping, payload.to_vec())),
        Message::Pong(payload) => Some((Control::Pong, payload.to_vec())),
        _ => None,
    };
    messages.iter().filter_map(control).collect()
}

proptest! {
    #[test]
    fn it_reads_the_same_as_we_do(sent in sent()) {
        let bytes: Vec<u8> = sent.iter().flat_map(Sent::bytes).collect();
        let theirs = read(Role::Server, &bytes);
        let ours: Heard = whole(&bytes);
        prop_assert_eq!(ours.messages(), texts(&theirs));
        prop_assert_eq!(ours.controls, controls(&theirs));
    }

    #[test]
    fn it_reads_what_we_write(parts in proptest::collection::vec("[a-z€]{0,150}", 0..5), pong: [u8; 7]) {
        let mut out = Vec::new();
        for part in &parts {
            encode::text(part.as_bytes(), &mut out);
        }
        encode::pong(&pong, &mut out);
        encode::close(Code::NORMAL, &mut out);
        let theirs = read(Role::Client, &out);
        prop_assert_eq!(texts(&theirs), parts);
        prop_assert_eq!(controls(&theirs), vec![(Control::Pong, pong.to_vec())]);
        let closed = matches!(theirs.last(), Some(Message::Close(Some(close))) if u16::from(close.code) == 1000);
        prop_assert!(closed, "{:?}", theirs.last());
    }
}

#[test]
fn it_reads_what_we_write_at_the_borders_of_the_forms_of_a_length() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
        let mut out = Vec::new();
        encode::text(&vec![b'x'; length], &mut out);
        let theirs = texts(&read(Role::Client, &out));
        assert_eq!(theirs.iter().map(String::len).collect::<Vec<_>>(), [length]);
    }
}
