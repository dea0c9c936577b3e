//! Asking for a new password on the terminal.

use std::io::{IsTerminal, Read, Write};

use whimbrel_storage::credentials::PASSWORD_BYTES_MAX;
use zeroize::Zeroizing;

use crate::problem::Problem;

/// Whether there is somebody to ask.
pub(crate) fn is_possible() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks twice, because nobody sees what is typed.
///
/// # Errors
/// The two differ, it was given up with Ctrl-C, or the terminal fails.
pub(crate) fn new_password(jid: &str) -> Result<Zeroizing<String>, Problem> {
    let failed = |error: std::io::Error| Problem::new(format!("cannot ask for the password: {error}"));
    // Before anything is shown: what is typed upon the question must not be seen.
    let terminal = terminal::Quiet::new().map_err(failed)?;
    let mut source = std::io::stdin().lock();
    let mut ask = |question: &str| {
        let mut out = std::io::stderr();
        write!(out, "{question}").and_then(|()| out.flush()).map_err(failed)?;
        let line = read_line(&mut source).map_err(failed);
        // The end of the line was not shown either.
        writeln!(out).map_err(failed)?;
        line?.ok_or_else(|| Problem::of_kind("cancelled", "given up; nothing was changed"))
    };
    let first = ask(&format!("Password for {jid}: "))?;
    let second = ask("Again: ")?;
    drop(terminal);
    if *first != *second {
        return Err(Problem::of_kind("cancelled", "the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

/// Reads a line as a terminal gives it key by key. `None` when it is given up (Ctrl-C, or Ctrl-D at the beginning).
fn read_line(source: &mut impl Read) -> std::io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 1));
    let mut byte = [0];
    loop {
        if source.read(&mut byte)? == 0 {
            return Ok(None);
        }
        match byte[0] {
            b'\r' | b'\n' => break,
            3 => return Ok(None),
            4 if line.is_empty() => return Ok(None),
            4 => break,
            // Erase: a character, whatever its length.
            8 | 127 => while line.pop().is_some_and(|last| last & 0xc0 == 0x80) {},
            // Ctrl-U: all of it.
            21 => line.clear(),
            // One byte too many is enough to refuse it.
            _ if line.len() > PASSWORD_BYTES_MAX => {}
            other => line.push(other),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "the terminal does not speak UTF-8")
    })?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// The terminal of standard input, which shows nothing and lets no key end the program while this lives.
#[expect(unsafe_code, reason = "the settings of the terminal")]
mod terminal {
    use std::io;
    use std::mem::MaybeUninit;

    pub(super) struct Quiet(libc::termios);

    impl Quiet {
        pub(super) fn new() -> io::Result<Quiet> {
            let mut before = MaybeUninit::uninit();
            // SAFETY: the system fills the structure, which lives through the call, if it succeeds.
            if unsafe { libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: filled in by the call that succeeded.
            let before = unsafe { before.assume_init() };
            let mut quiet = before;
            quiet.c_lflag &= !(libc::ECHO | libc::ICANON | libc::ISIG);
            quiet.c_cc[libc::VMIN] = 1;
            quiet.c_cc[libc::VTIME] = 0;
            set(&quiet)?;
            Ok(Quiet(before))
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            // A terminal that is gone needs no settings.
            let _ = set(&self.0);
        }
    }

    fn set(settings: &libc::termios) -> io::Result<()> {
        // SAFETY: the system reads the structure, which lives through the call.
        match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, settings) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_key_by_key_with_what_was_erased_left_out() {
        let table: [(&[u8], Option<&str>); 9] = [
            (b"secret\r", Some("secret")),
            (b"secret\nmore", Some("secret")),
            (b"sex\x7fcret\n", Some("secret")),
            ("sé\x7fecret\n".as_bytes(), Some("secret")),
            (b"\x7fsecret\x08t\n", Some("secret")),
            (b"wrong\x15secret\n", Some("secret")),
            (b"secr\x03et\n", None),
            (b"\x04", None),
            (b"secret", None),
        ];
        for (mut keys, expected) in table {
            let shown = keys.escape_ascii().to_string();
            assert_eq!(read_line(&mut keys).unwrap().as_deref().map(String::as_str), expected, "{shown}");
        }
        assert!(read_line(&mut &b"\xff\n"[..]).is_err());
        let long = vec![b'x'; PASSWORD_BYTES_MAX * 2];
        let long = [&long[..], b"\n"].concat();
        assert_eq!(read_line(&mut &long[..]).unwrap().unwrap().len(), PASSWORD_BYTES_MAX + 1);
    }
}
