//! Questions to a DNS server (RFC 1035): SRV records and addresses, over UDP, and over TCP when an answer is too long.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime};

use crate::problem::Problem;

/// How long an answer may take; asked twice over UDP.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pointers in one name at most: more are a circle.
const JUMPS_MAX: usize = 64;

/// Bytes of an answer over UDP (no EDNS is asked for).
const DATAGRAM_BYTES: usize = 512;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// A record of kind SRV (RFC 2782). A target of no letters is ".": there is no such service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// A DNS server that answers for everything.
pub(super) struct Resolver(SocketAddr);

impl Resolver {
    /// A known one.
    pub(super) fn at(address: SocketAddr) -> Resolver {
        Resolver(address)
    }

    /// The first one of /etc/resolv.conf.
    pub(super) fn of_system() -> Result<Resolver, Problem> {
        let file = "/etc/resolv.conf";
        let text = std::fs::read_to_string(file).map_err(|error| {
            Problem::new(format!("cannot read {file}: {error}; name a DNS server with --resolver"))
        })?;
        let mut servers =
            text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
        let server: IpAddr = servers
            .next()
            .ok_or_else(|| Problem::new(format!("{file} names no DNS server; name one with --resolver")))?;
        Ok(Resolver(SocketAddr::new(server, 53)))
    }

    /// The SRV records of a name; none when there is no such name.
    pub(super) fn srv(&self, name: &str) -> Result<Vec<Srv>, Problem> {
        let answer = self.ask(name, SRV)?;
        let records = records(&answer, SRV).map_err(|what| self.strange(what))?;
        let srv = |at: usize, length: usize| {
            let word = |offset: usize| {
                Some(u16::from_be_bytes([*answer.get(at + offset)?, *answer.get(at + offset + 1)?]))
            };
            if length < 7 {
                return None;
            }
            let (target, _) = read_name(&answer, at + 6)?;
            Some(Srv { priority: word(0)?, weight: word(2)?, port: word(4)?, target })
        };
        let all: Option<Vec<Srv>> = records.into_iter().map(|(at, length)| srv(at, length)).collect();
        all.ok_or_else(|| self.strange("a damaged record"))
    }

    /// The addresses of a name.
    pub(super) fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Problem> {
        let mut found = Vec::new();
        for kind in [A, AAAA] {
            let answer = self.ask(name, kind)?;
            for (at, length) in records(&answer, kind).map_err(|what| self.strange(what))? {
                let bytes = answer.get(at..at + length).unwrap_or_default();
                if let Ok(four) = <[u8; 4]>::try_from(bytes) {
                    found.push(IpAddr::V4(Ipv4Addr::from(four)));
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
                    found.push(IpAddr::V6(Ipv6Addr::from(sixteen)));
                }
            }
        }
        Ok(found)
    }

    fn strange(&self, what: &str) -> Problem {
        Problem::new(format!("the DNS server {} gives a strange answer: {what}", self.0))
    }

    fn ask(&self, name: &str, kind: u16) -> Result<Vec<u8>, Problem> {
        // Nobody is to be protected from a forged answer here; the number keeps late answers apart.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = (now.subsec_micros() + u32::from(kind)) as u16;
        let question = question(id, name, kind)
            .ok_or_else(|| Problem::new(format!("`{name}` cannot be asked for: it is too long")))?;
        let failed = |error: std::io::Error| {
            Problem::new(format!(
                "the DNS server {} does not answer: {error}; name another one with --resolver",
                self.0
            ))
        };
        let answer = self.over_udp(&question, id).map_err(failed)?;
        // The answer did not fit.
        if answer.get(2).is_some_and(|flags| flags & 2 != 0) {
            return self.over_tcp(&question).map_err(failed);
        }
        Ok(answer)
    }

    fn over_udp(&self, question: &[u8], id: u16) -> std::io::Result<Vec<u8>> {
        let any: IpAddr =
            if self.0.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(self.0)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
        for _ in 0..2 {
            socket.send(question)?;
            loop {
                match socket.recv(&mut buffer) {
                    Ok(bytes) if buffer[..bytes].starts_with(&id.to_be_bytes()) => {
                        return Ok(buffer[..bytes].to_vec());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn over_tcp(&self, question: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.0, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let length = u16::try_from(question.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&length.to_be_bytes(), question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

/// A question with recursion desired; `None` for what is no name.
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::from(id.to_be_bytes());
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0]);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    (bytes.len() <= 12 + 255 + 4).then_some(bytes)
}

/// Where the data of each record of a kind lies in an answer, and its length. None when there is no such name.
fn records(answer: &[u8], kind: u16) -> Result<Vec<(usize, usize)>, &'static str> {
    let word = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let header = answer.get(..12).ok_or("it is too short")?;
    match header[3] & 15 {
        0 => {}
        // There is no such name.
        3 => return Ok(Vec::new()),
        5 => return Err("it refuses the question"),
        _ => return Err("it cannot answer"),
    }
    if header[2] & 0x80 == 0 {
        return Err("it is a question");
    }
    let read = || -> Option<Vec<(usize, usize)>> {
        let mut at = 12;
        for _ in 0..word(4)? {
            at = read_name(answer, at)?.1 + 4;
        }
        let mut found = Vec::new();
        for _ in 0..word(6)? {
            at = read_name(answer, at)?.1;
            let (this, length) = (word(at)?, usize::from(word(at + 8)?));
            at += 10;
            answer.get(at..at + length)?;
            // Aliases (CNAME) on the way are left out: what they lead to is in the same answer.
            if this == kind {
                found.push((at, length));
            }
            at += length;
        }
        Some(found)
    };
    read().ok_or("it is damaged")
}

/// A name with its dots, without the last one, and where it ends; it may lead to earlier parts of the answer.
fn read_name(answer: &[u8], begin: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let (mut at, mut end) = (begin, None);
    for _ in 0..=JUMPS_MAX + 128 {
        let length = usize::from(*answer.get(at)?);
        if length & 0xc0 == 0xc0 {
            end.get_or_insert(at + 2);
            at = (length & 0x3f) << 8 | usize::from(*answer.get(at + 1)?);
            continue;
        }
        at += 1;
        if length == 0 {
            return Some((name, end.unwrap_or(at)));
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(answer.get(at..at + length)?));
        at += length;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_pointers_and_aliases() {
        let mut answer = question(7, "_x._tcp.a.example", SRV).unwrap();
        answer[2] |= 0x80;
        answer[7] = 2;
        // An alias, then the record; both name what was asked for by a pointer.
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, 13, 0, 5, 0, 1, 20, 102]);
        // host. and the pointer to a.example, which begins after _x and _tcp.
        answer.extend([4, b'h', b'o', b's', b't', 0xc0, 12 + 3 + 5]);
        let found = records(&answer, SRV).unwrap();
        assert_eq!(found.len(), 1);
        let (target, end) = read_name(&answer, found[0].0 + 6).unwrap();
        assert_eq!((target.as_str(), end), ("host.a.example", answer.len()));
    }

    #[test]
    fn no_answer_makes_it_run_in_a_circle_or_beyond_its_end() {
        let good = {
            let mut answer = question(7, "a.example", A).unwrap();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
            answer
        };
        assert_eq!(records(&good, A).unwrap(), [(good.len() - 4, 4)]);
        for cut in 0..good.len() {
            assert!(records(&good[..cut], A).is_err(), "{cut}");
        }
        assert_eq!(read_name(&[0xc0, 0], 0), None);
        let mut absent = good.clone();
        absent[3] |= 3;
        assert_eq!(records(&absent, A).unwrap(), []);
        absent[3] = 5;
        records(&absent, A).unwrap_err();
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", "a..b", &"x".repeat(64), &"abcdefgh.".repeat(30)] {
            assert_eq!(question(1, name, A), None, "{name}");
        }
    }
}
