//! What an established, idle TLS session costs in heap bytes, counted by the allocator.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use whimbrel_server::config::Config;
use whimbrel_server::tls::{Acceptor, Tls};

/// Counts the live bytes of this thread while it counts.
struct Counting;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    if COUNTS.get() {
        LIVE.set(LIVE.get() + bytes);
    }
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing, as both cells are constant.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs the server's part and counts what it leaves.
fn counted<T>(server: impl FnOnce() -> T) -> T {
    COUNTS.set(true);
    let result = server();
    COUNTS.set(false);
    result
}

/// Bytes of a session that is established and has said something both ways.
fn session_bytes(acceptor: &Acceptor, config: &Arc<ClientConfig>) -> isize {
    const SESSIONS: isize = 20;
    // Buffers belong to the worker, not to the session.
    let (mut plain, mut wire) = (Vec::with_capacity(65_536), Vec::with_capacity(65_536));
    let mut sessions: Vec<Box<Tls>> = Vec::with_capacity(SESSIONS as usize);
    LIVE.set(0);
    for _ in 0..SESSIONS {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        let mut tls = counted(|| Box::new(acceptor.begin()));
        let mut spoken = false;
        while client.wants_write() || !spoken {
            if !client.is_handshaking() && !spoken {
                std::io::Write::write_all(&mut client.writer(), b"<presence/>").unwrap();
                spoken = true;
            }
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            plain.clear();
            wire.clear();
            counted(|| {
                // Cut in two, so that a partial record has been kept and given back.
                let (first, second) = sent.split_at(sent.len() / 2);
                for part in [first, second] {
                    let progress = tls.open(part, &mut plain, &mut wire).unwrap();
                    if progress.handshake_done_now {
                        drop(tls.channel_bindings());
                    }
                }
                if tls.is_established() {
                    tls.seal(b"<presence/>", &mut wire).unwrap();
                }
            });
            let mut answer = &wire[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(tls.is_established() && plain == b"<presence/>");
        sessions.push(tls);
    }
    let bytes = LIVE.get() / SESSIONS;
    drop(sessions);
    bytes
}

#[test]
fn an_idle_tls_session_costs_a_quarter_of_a_kib() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { data: directory.path().to_owned(), ..Config::default() };
    let acceptor = Acceptor::new(&config.tls_settings()).unwrap();
    let mut roots = RootCertStore::empty();
    let certificate = directory.path().join("tls/self-signed.pem");
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let versions: [&'static SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    for version in versions {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = Arc::new(client);
        session_bytes(&acceptor, &client); // what is made once is there after this
        let bytes = session_bytes(&acceptor, &client);
        println!("{version:?}: {bytes} bytes");
        assert!(bytes >= size_of::<Tls>() as isize, "the count misses something: {bytes} bytes");
        assert!(bytes <= 256, "{version:?}: an idle session costs {bytes} bytes");
    }
}
