//! A provider of text messages: an HTTP server that takes the requests of the webhook gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::PATIENCE;

/// A request that it got.
pub(crate) struct Delivered {
    /// Names of the headers in lower case, with their values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as it came.
    pub(crate) body: String,
}

impl Delivered {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        &found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).1
    }

    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The PIN in the message.
    pub(crate) fn pin(&self) -> String {
        let json = self.json();
        let text = json["text"].as_str().expect("a text");
        text.split(|c: char| !c.is_ascii_digit()).find(|word| word.len() == 5).expect("a PIN").to_owned()
    }
}

/// The provider.
pub(crate) struct Provider {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it answers from now on; 0: nothing.
    status: Arc<AtomicU16>,
    delivered: Mutex<Receiver<Delivered>>,
}

impl Provider {
    /// Starts one. Its thread ends with the process.
    pub(crate) fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, delivered) = channel();
        let status = Arc::new(AtomicU16::new(200));
        let answers = status.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (send, answers) = (send.clone(), answers.clone());
                std::thread::spawn(move || take(stream.unwrap(), &send, &answers));
            }
        });
        Provider { address, status, delivered: Mutex::new(delivered) }
    }

    /// What it answers from now on; 0: nothing at all.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The next request.
    pub(crate) fn next(&self) -> Delivered {
        self.delivered.lock().unwrap().recv_timeout(PATIENCE).expect("a text message is sent")
    }

    /// Whether it got nothing that was not looked at.
    pub(crate) fn is_quiet(&self) -> bool {
        self.delivered.lock().unwrap().try_recv().is_err()
    }
}

fn take(stream: TcpStream, delivered: &Sender<Delivered>, answers: &AtomicU16) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = Vec::new();
        let mut length = 0;
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim().split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            if name == "content-length" {
                length = value.parse().unwrap();
            }
            headers.push((name, value));
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let status = answers.load(Ordering::SeqCst);
        let _ = delivered.send(Delivered { headers, body: String::from_utf8(body).unwrap() });
        if status == 0 {
            // Silence until the client gives up.
            let _ = reader.read(&mut [0; 1]);
            return;
        }
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
