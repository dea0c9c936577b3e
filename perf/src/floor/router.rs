//! The router of `floor`: one thread, one epoll (kqueue), read, look up, write.
//!
//! It takes the very bytes of the generator's messages and sends them on as they are: no XML is checked, no `from` is
//! stamped, nothing is counted. What a server needs beyond it is what XMPP costs; what it needs itself is what the
//! kernel costs. It batches like a good server: everything that one round of events brings is written at the end of
//! the round, one write for each connection.
//!
//! ```text
//! <hello user='userN'/>                        this connection is user N; answered with <hello/>
//! <message ... to='userN@...' ...>...</message> goes to user N
//! <message ... type='groupchat' ...>...</message> goes to every user but the last two: the fan-out of a room
//! </stream:stream>                             ignored; the client closes
//! ```

use std::io::{self, Read, Write};
use std::process::ExitCode;

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::cli::FloorServeArgs;

const TOKEN_LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;
const NOBODY: u32 = u32::MAX;

/// Bytes that may wait for one connection; past it, the connection is closed.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of an unfinished message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Serves until it is killed. The port is printed on the first line of standard output.
pub(crate) fn serve(args: &FloorServeArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "whimbrel-perf floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A connection: what it owns when idle is this and nothing more.
struct Connection {
    socket: TcpStream,
    held: Vec<u8>,
    output: Vec<u8>,
    dirty: bool,
}

struct Router {
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    /// Connection of each user.
    users: Vec<u32>,
    /// Connections with something to write.
    dirty: Vec<u32>,
}

fn run(args: &FloorServeArgs) -> io::Result<()> {
    crate::fleet::worker::raise_descriptor_limit();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("it is an address"))?;
    // The standard backlog of 128 would slow a crowd down.
    socket2::SockRef::from(&listener).listen(4096)?;
    poll.registry().register(&mut listener, TOKEN_LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    io::stdout().flush()?;
    let users = usize::try_from(args.users).unwrap_or(usize::MAX);
    let mut router =
        Router { connections: Vec::new(), free: Vec::new(), users: vec![NOBODY; users], dirty: Vec::new() };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == TOKEN_LISTENER {
                router.accept(&listener, &poll)?;
                continue;
            }
            let number = event.token().0 as u32;
            if (event.is_readable() || event.is_read_closed()) && router.read(number, &mut buffer).is_err() {
                router.close(number);
            } else if event.is_writable() {
                router.mark(number);
            }
        }
        router.write_all();
    }
}

impl Router {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                (self.connections.len() - 1) as u32
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(number as usize), interest)?;
            let connection = Connection { socket, held: Vec::new(), output: Vec::new(), dirty: false };
            self.connections[number as usize] = Some(Box::new(connection));
        }
    }

    fn close(&mut self, number: u32) {
        if self.connections[number as usize].take().is_some() {
            self.free.push(number);
        }
    }

    fn mark(&mut self, number: u32) {
        if let Some(connection) = &mut self.connections[number as usize]
            && !connection.output.is_empty()
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(number);
        }
    }

    fn read(&mut self, number: u32, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(connection) = &mut self.connections[number as usize] else { return Ok(()) };
            let count = match connection.socket.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if connection.held.is_empty() {
                let used = self.route(number, &buffer[..count]);
                if used < count
                    && let Some(connection) = &mut self.connections[number as usize]
                {
                    connection.held.extend_from_slice(&buffer[used..count]);
                }
            } else {
                let mut held = std::mem::take(&mut connection.held);
                held.extend_from_slice(&buffer[..count]);
                let used = self.route(number, &held);
                held.drain(..used);
                if held.len() > MESSAGE_BYTES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if let (false, Some(connection)) = (held.is_empty(), &mut self.connections[number as usize]) {
                    connection.held = held;
                }
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Handles the whole messages in `bytes`; returns how many bytes they were.
    fn route(&mut self, number: u32, bytes: &[u8]) -> usize {
        const END: &[u8] = b"</message>";
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if rest.starts_with(b"<hello") {
                let Some(end) = memchr::memchr(b'>', rest) else { return used };
                if let Some(user) = user_after(&rest[..end], b"user='user")
                    && let Some(slot) = self.users.get_mut(user)
                {
                    *slot = number;
                }
                self.append(number, b"<hello/>");
                used += end + 1;
            } else if rest.starts_with(b"<message") {
                let Some(end) = memmem::find(rest, END) else { return used };
                let message = &rest[..end + END.len()];
                if is_for_all(message) {
                    self.fan_out(message);
                    used += message.len();
                    continue;
                }
                let to = user_after(message, b"to='user").and_then(|user| self.users.get(user).copied());
                if let Some(to) = to.filter(|&to| to != NOBODY) {
                    self.append(to, message);
                }
                used += message.len();
            } else {
                // The end of the stream, or half a tag.
                return if rest.starts_with(b"</") { bytes.len() } else { used };
            }
        }
    }

    /// To all but the two who talk beside the room.
    fn fan_out(&mut self, message: &[u8]) {
        for user in 0..self.users.len().saturating_sub(2) {
            let number = self.users[user];
            if number != NOBODY {
                self.append(number, message);
            }
        }
    }

    fn append(&mut self, number: u32, bytes: &[u8]) {
        if let Some(connection) = &mut self.connections[number as usize] {
            connection.output.extend_from_slice(bytes);
            if !std::mem::replace(&mut connection.dirty, true) {
                self.dirty.push(number);
            }
        }
    }

    fn write_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            let Some(connection) = &mut self.connections[number as usize] else { continue };
            connection.dirty = false;
            match connection.socket.write(&connection.output) {
                Ok(count) if count == connection.output.len() => {
                    connection.output.clear();
                    // An idle connection owns no buffer, but a busy one need not ask for it again each time.
                    if connection.output.capacity() > READ_BYTES {
                        connection.output = Vec::new();
                    }
                }
                Ok(count) => {
                    connection.output.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.close(number);
                    continue;
                }
            }
            if self.connections[number as usize]
                .as_ref()
                .is_some_and(|connection| connection.output.len() > OUTPUT_BYTES_MAX)
            {
                self.close(number);
            }
        }
        self.dirty = dirty;
    }
}

/// Whether a message goes to all.
fn is_for_all(message: &[u8]) -> bool {
    let tag = &message[..memchr::memchr(b'>', message).unwrap_or(message.len())];
    memmem::find(tag, b"type='groupchat'").is_some()
}

/// The number behind `key` in a tag.
fn user_after(tag: &[u8], key: &[u8]) -> Option<usize> {
    let start = memmem::find(tag, key)? + key.len();
    let digits = tag[start..].iter().take_while(|byte| byte.is_ascii_digit()).take(9);
    let mut any = false;
    let number = digits.fold(0, |number, byte| {
        any = true;
        number * 10 + usize::from(byte - b'0')
    });
    any.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_of_a_room_goes_to_all() {
        assert!(is_for_all(b"<message to='r@x' type='groupchat' id='g0'><body>x</body></message>"));
        assert!(!is_for_all(b"<message to='user1@x' type='chat'><body>type='groupchat'</body></message>"));
    }

    #[test]
    fn a_user_number_is_read_where_it_stands() {
        assert_eq!(user_after(b"<message to='user42@localhost/p0'>", b"to='user"), Some(42));
        assert_eq!(user_after(b"<message to='user@x'>", b"to='user"), None);
        assert_eq!(user_after(b"<message>", b"to='user"), None);
    }
}
