//! The socket itself; what the requests do is tested against the running programs.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::running::socket::{ControlError, SOCKET_NAME};

#[test]
fn the_socket_is_the_owners_alone_and_goes_with_the_server() {
    let data = tempfile::tempdir().unwrap();
    let socket = ControlSocket::bind(data.path()).unwrap();
    let path = data.path().join(SOCKET_NAME);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let data = tempfile::tempdir().unwrap();
    let live = ControlSocket::bind(data.path()).unwrap();
    assert!(matches!(ControlSocket::bind(data.path()), Err(ControlError::InUse(_))));
    let path = data.path().join(SOCKET_NAME);
    drop(live);
    // What a killed server leaves: a socket file on which nobody listens.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    ControlSocket::bind(data.path()).unwrap();
}

#[test]
fn a_file_in_the_sockets_place_is_not_removed() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join(SOCKET_NAME), "mine").unwrap();
    let error = ControlSocket::bind(data.path()).unwrap_err().to_string();
    assert!(error.contains("control.sock"), "{error}");
    assert_eq!(std::fs::read_to_string(data.path().join(SOCKET_NAME)).unwrap(), "mine");
}

#[test]
fn a_path_that_fits_no_socket_address_is_named() {
    let data = tempfile::tempdir().unwrap();
    let long = data.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    assert!(matches!(ControlSocket::bind(&long), Err(ControlError::PathTooLong { .. })));
}

#[test]
fn lines_come_whole_however_they_arrive_and_are_bounded() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(1).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    let mut lines = Lines::new(Slow(b"one\n\ntwo\nrest"));
    for expected in ["one", "", "two"] {
        assert_eq!(lines.next().unwrap(), Some(expected.as_bytes()));
    }
    assert_eq!(lines.next().unwrap(), None);

    let whole = [vec![b'x'; REQUEST_BYTES_MAX - 1], b"\n".to_vec()].concat();
    assert_eq!(Lines::new(&whole[..]).next().unwrap().map(<[u8]>::len), Some(REQUEST_BYTES_MAX - 1));
    let endless = vec![b'x'; REQUEST_BYTES_MAX + 10];
    let error = Lines::new(&endless[..]).next().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}
